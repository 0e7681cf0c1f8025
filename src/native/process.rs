//! The process as a whole: its allocator, how its threads wait, and its end.

use std::io::Write;

use anyhow::Result;

use super::ffi::check;

unsafe extern "C" {
    fn unet_keep_freed_memory();
    fn unet_shorten_waits(on: i32) -> i32;
    fn unet_exit_if_ranks_are_lost(code: i32);
    fn unet_exit(code: i32) -> !;
}

/// Tells the allocator to keep freed memory: paging activations in anew costs a sixth of a CPU step.
pub fn keep_freed_memory() {
    // SAFETY: sets options of the allocator; called once before other threads start.
    unsafe { unet_keep_freed_memory() }
}

/// Whether threads that wait for each other sleep almost at once, or spin for some milliseconds first, as by default.
///
/// Errors: the system allows no more threads.
pub fn shorten_waits(on: bool) -> Result<()> {
    // SAFETY: takes a number, from any thread.
    check(unsafe { unet_shorten_waits(i32::from(on)) })
}

/// Makes a thread of libtorch that ends because ranks are lost, as NCCL's watchdog does, end the process with `code` in
/// place of an abort.
pub fn exit_if_ranks_are_lost(code: u8) {
    // SAFETY: sets a handler of the C++ runtime, which needs nothing of ours.
    unsafe { unet_exit_if_ranks_are_lost(i32::from(code)) }
}

/// Ends the process at once. libtorch's destructors free nothing that the system would not, but page in another 110 MB.
pub fn exit(code: u8) -> ! {
    // Nothing can be done about output that cannot be written now.
    let _ = std::io::stdout().flush();
    // SAFETY: does not return; nothing in the process is used afterwards.
    unsafe { unet_exit(i32::from(code)) }
}
