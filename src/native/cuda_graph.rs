//! CUDA graphs, which `--xla` uses on a GPU: the kernels of a step, recorded once and launched together.

use std::ffi::c_void;
use std::ptr::NonNull;

use anyhow::Result;

use super::ffi::{check, new_handle};

unsafe extern "C" {
    fn unet_cuda_graph_begin(graph: *mut *mut c_void) -> i32;
    fn unet_cuda_graph_end(graph: *mut c_void) -> i32;
    fn unet_cuda_graph_abandon(graph: *mut c_void);
    fn unet_cuda_graph_replay(graph: *mut c_void) -> i32;
    fn unet_cuda_graph_free(graph: *mut c_void);
}

/// Kernels that are launched together (`csrc/gpu/cuda/`).
#[derive(Debug)]
pub struct CudaGraph(NonNull<c_void>);

impl CudaGraph {
    /// The kernels that `work` launches; they are recorded, not run. What it returns are the tensors that each replay
    /// writes anew, in memory of the graph's own.
    pub fn capture<T>(work: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        // SAFETY: on success the C++ side stores a new graph, which is freed by the handle made here.
        let graph = Self(new_handle(|graph| unsafe { unet_cuda_graph_begin(graph) })?);
        match work() {
            Ok(result) => {
                // SAFETY: the capture began above, on this thread.
                check(unsafe { unet_cuda_graph_end(graph.0.as_ptr()) })?;
                Ok((graph, result))
            }
            Err(error) => {
                // SAFETY: as above.
                unsafe { unet_cuda_graph_abandon(graph.0.as_ptr()) }
                Err(error)
            }
        }
    }

    /// Runs the kernels on what the captured tensors hold now. Does not wait for the device. All tensors that they read
    /// must still be alive.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the graph is ours, and its capture has ended.
        check(unsafe { unet_cuda_graph_replay(self.0.as_ptr()) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: the graph is ours; the C++ side waits for a replay in progress.
        unsafe { unet_cuda_graph_free(self.0.as_ptr()) }
    }
}
