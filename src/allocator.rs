//! How glibc's allocator treats large blocks.

/// A larger block is mapped by itself, and the system has it back as soon as it is freed. Left alone, glibc raises this
/// limit to the largest block that was freed: files under construction and long messages then leave 15 to 90 MB of holes
/// in its heaps. Above an answer to a fetch (8 MB), which comes too often to be mapped each time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 9 << 20;

/// Before there are threads, whose heaps would not know it.
pub(crate) fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes two numbers and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}
