//! PyTorch's profiler.

use std::ffi::{CStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;

use super::ffi::{c_string, check};

type Sink = unsafe extern "C" fn(*mut c_void, *const c_char, i32, u64, u64, u64);

unsafe extern "C" {
    fn unet_profiler_start(with_gpu: i32) -> i32;
    fn unet_profiler_stop(trace: *const c_char, list: *mut c_void, event: Sink) -> i32;
}

/// Something that ran: an operation of libtorch on the CPU, a kernel or copy on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub on_gpu: bool,
    /// The number of the thread, or on a GPU of the stream.
    pub place: u64,
    /// Nanoseconds on the profiler's clock.
    pub start: u64,
    pub end: u64,
}

/// Events of `work`, of this thread and those that compute for it. Also writes them to the file `trace`, for
/// chrome://tracing.
///
/// Errors: those of `work`; a profiler that is running already.
pub fn profile(with_gpu: bool, trace: &Path, work: impl FnOnce() -> Result<()>) -> Result<Vec<Event>> {
    let path = c_string(trace.as_os_str().as_bytes())?;
    // SAFETY: takes no pointers.
    check(unsafe { unet_profiler_start(i32::from(with_gpu)) })?;
    let done = work();
    let mut events: Vec<Event> = Vec::new();
    // SAFETY: the path ends with NUL; `push` gets `events`, which lives for the call, and nothing else uses it
    // meanwhile.
    check(unsafe { unet_profiler_stop(path.as_ptr(), (&raw mut events).cast(), push) })?;
    done.map(|()| events)
}

/// Adds an event to the list that `profile` has given.
unsafe extern "C" fn push(list: *mut c_void, name: *const c_char, on_gpu: i32, place: u64, start: u64, end: u64) {
    // SAFETY: `list` is the vector of `profile`, the name ends with NUL.
    let (events, name) = unsafe { (&mut *list.cast::<Vec<Event>>(), CStr::from_ptr(name)) };
    events.push(Event { name: name.to_string_lossy().into_owned(), on_gpu: on_gpu != 0, place, start, end });
}
