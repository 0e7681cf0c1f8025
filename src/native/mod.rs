//! The Rust side of the C++ in `csrc/`, for what `tch` does not bind: one file per subject, safe functions outside.
//! The one room with `unsafe`. No choices here: which function serves is `model/backend.rs`' and its callers' business.
#![allow(unsafe_code)]

pub mod cpu_layers;
pub mod cuda;
pub mod cuda_graph;
pub mod distributed;
mod ffi;
pub mod gpu_layers;
pub mod memory_plan;
pub mod optimizer;
pub mod process;
pub mod profiler;
pub mod script;
pub mod startup;
