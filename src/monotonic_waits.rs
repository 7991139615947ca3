//! Waits of librdkafka that a jump of the clock of the day neither lengthens nor ends.
//!
//! librdkafka bounds all its waits by C11's `cnd_timedwait`, which knows only the clock of the
//! day: set back by two hours, it keeps every client's main thread, heartbeats and fetches
//! included, in a wait of a second for two hours. The function of that name here takes the place
//! of libc's in this program and waits as long by the monotonic clock. What remains is a jump in
//! the microseconds between librdkafka's look at the clock and ours; supervision ends that.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, timespec};

// Values of threads.h.
const THRD_SUCCESS: c_int = 0;
const THRD_ERROR: c_int = 2;
const THRD_TIMEDOUT: c_int = 4;

const SECOND_NANOS: i128 = 1_000_000_000;

unsafe extern "C" {
    /// Since glibc 2.30; the standard library itself relies on nothing newer than 2.17.
    fn pthread_cond_clockwait(
        condition: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// Like that of C11, by the monotonic clock.
///
/// # Safety
/// As for that: both belong together and are initialised, and the mutex is held.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    // In glibc `cnd_t` and `mtx_t` are these by other names.
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    let until = unsafe { *until };
    let left = nanos(until) - nanos(now(libc::CLOCK_REALTIME));
    let until = timespec_of(nanos(now(libc::CLOCK_MONOTONIC)) + left.max(0));
    // SAFETY: the caller's promise; `until` outlives the call.
    let ended = unsafe { pthread_cond_clockwait(condition, mutex, libc::CLOCK_MONOTONIC, &until) };
    match ended {
        0 => THRD_SUCCESS,
        libc::ETIMEDOUT => THRD_TIMEDOUT,
        _ => THRD_ERROR,
    }
}

fn now(clock: clockid_t) -> timespec {
    let mut now = timespec_of(0);
    // SAFETY: it only writes to `now`; both clocks used here always exist.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now
}

fn nanos(time: timespec) -> i128 {
    i128::from(time.tv_sec) * SECOND_NANOS + i128::from(time.tv_nsec)
}

fn timespec_of(nanos: i128) -> timespec {
    timespec {
        tv_sec: (nanos / SECOND_NANOS)
            .try_into()
            .unwrap_or(libc::time_t::MAX),
        tv_nsec: (nanos % SECOND_NANOS) as libc::c_long,
    }
}
