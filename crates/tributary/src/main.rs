//! The `tributary` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's settings, which it reads from this symbol: memory that one partition has freed
/// goes back to the system before the next one has grown. With the default of ten seconds, and
/// four arenas a core, a copy of four million small documents peaked 40 % above one of a million.
#[cfg(target_os = "linux")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8; 56] = b"percpu_arena:percpu,dirty_decay_ms:200,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    tributary::run()
}
