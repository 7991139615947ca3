//! The program's allocator, with a count of allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are those that it asks for; so below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Time and allocations of a piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub elapsed: Duration,
    pub allocations: u64,
}

/// Measures from its start.
pub(crate) struct Meter {
    clock: libc::clockid_t,
    began: Duration,
    allocations: u64,
}

impl Meter {
    /// By the clock.
    pub(crate) fn start() -> Self {
        Self::by(libc::CLOCK_MONOTONIC)
    }

    /// By the CPU time of the thread that calls.
    pub(crate) fn of_thread() -> Self {
        Self::by(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    fn by(clock: libc::clockid_t) -> Self {
        let allocations = ALLOCATIONS.load(Relaxed);
        let began = now(clock);
        Self {
            clock,
            began,
            allocations,
        }
    }

    pub(crate) fn stop(&self) -> Cost {
        Cost {
            elapsed: now(self.clock).saturating_sub(self.began),
            allocations: ALLOCATIONS.load(Relaxed) - self.allocations,
        }
    }

    /// What a piece of work takes.
    pub(crate) fn of(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Cost> {
        work()?;
        Ok(self.stop())
    }
}

fn now(clock: libc::clockid_t) -> Duration {
    // SAFETY: all zeros are a valid timespec; clock_gettime fills it, and knows both clocks.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(clock, &raw mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_counted() {
        let meter = Meter::start();
        let boxes: Vec<Box<u64>> = (0..100).map(Box::new).collect();
        assert!(meter.stop().allocations > boxes.len() as u64);
    }
}
