//! The `tributary` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc's own header, which the bindings leave out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // Memory goes back to the system at once. By default it is kept for a while, and batches that
    // pass from thread to thread leave a few hundred megabytes behind.
    // SAFETY: an option of the allocator is set before there is another thread.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) }
    tributary::run()
}
