//! How glibc keeps freed memory for a daemon: little of it.
//!
//! By default each thread has an arena of its own, up to eight for each core, and what is freed in one stays there; a
//! daemon that once read a host's thousand networks in each of its threads would keep all of those. Two arenas are
//! enough for a writer and the threads beside it, and what is large goes back to the kernel at once.

/// Larger pieces are the kernel's, and return to it when they are freed; glibc's own value, but fixed.
const LARGE: i32 = 128 << 10;

/// Bounds what is kept. To be called before there are threads.
#[expect(unsafe_code, reason = "glibc's settings have no safe interface; the calls read two integers each")]
pub(crate) fn bound() {
    for (setting, value) in [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)] {
        // SAFETY: mallopt takes integers by value, and no other thread allocates yet.
        let done = unsafe { libc::mallopt(setting, value) };
        if done == 0 {
            log::debug!("malloc refuses setting {setting}");
        }
    }
}
