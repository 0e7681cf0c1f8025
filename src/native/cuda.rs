//! CUDA devices: loading libtorch's CUDA library, options of the process, copies and memory.

use anyhow::Result;
use tch::{Device, Tensor};
use torch_sys::C_tensor;

use super::ffi::{check, new_tensor};

unsafe extern "C" {
    fn unet_load_cuda() -> i32;
    fn unet_cuda_use_device(device: i32, own_stream: i32) -> i32;
    fn unet_allow_tf32(allow: i32) -> i32;
    fn unet_require_deterministic(require: i32) -> i32;
    fn unet_copy_to_gpu(out: *mut *mut C_tensor, host: *const C_tensor, device: i32) -> i32;
    fn unet_cuda_peak_bytes(device: i32, allocated: *mut i64, reserved: *mut i64) -> i32;
    #[cfg(test)]
    fn unet_tf32_is_allowed(allowed: *mut i32) -> i32;
}

/// Loads libtorch's CUDA kernels. Must come before libtorch is asked for a GPU, or it will not find one.
///
/// Errors: no CUDA driver, or a libtorch without CUDA.
pub fn load() -> Result<()> {
    // SAFETY: loads shared libraries; called before other threads start.
    check(unsafe { unet_load_cuda() })
}

/// Makes this CUDA device the current one, with `own_stream` on a stream that can be captured. Must come before any
/// other work on the device, on the thread that does that work.
pub fn use_device(device: usize, own_stream: bool) -> Result<()> {
    // SAFETY: sets what is current on this thread.
    check(unsafe { unet_cuda_use_device(device as i32, i32::from(own_stream)) })
}

/// Whether convolutions may round the factors of f32 products to TF32, for the whole process.
pub fn allow_tf32(allow: bool) -> Result<()> {
    // SAFETY: sets options of libtorch.
    check(unsafe { unet_allow_tf32(i32::from(allow)) })
}

/// Whether cuDNN may only use kernels that give the same bits each time, for the whole process.
pub fn require_deterministic(require: bool) -> Result<()> {
    // SAFETY: sets options of libtorch.
    check(unsafe { unet_require_deterministic(i32::from(require)) })
}

/// `host` on `device`, without waiting for a GPU: for the few numbers that a step needs from the host.
///
/// Panics where libtorch fails, as the operations of `tch` do.
pub fn copy_to_device(host: Tensor, device: Device) -> Tensor {
    let Device::Cuda(index) = device else { return host.to_device(device) };
    // SAFETY: `host` lives for the call; `new_tensor` owns the result.
    new_tensor(|out| unsafe { unet_copy_to_gpu(out, host.as_ptr(), index as i32) })
        .unwrap_or_else(|error| panic!("cannot copy to {device:?}: {error}"))
}

/// The most bytes that libtorch has held on CUDA device `index` at a time.
pub fn peak_bytes(index: usize) -> Result<u64> {
    let mut reserved = 0;
    // SAFETY: the C++ side writes to the two places, which live for the call.
    check(unsafe { unet_cuda_peak_bytes(index as i32, &mut 0, &mut reserved) })?;
    Ok(reserved as u64)
}

#[cfg(test)]
pub fn tf32_is_allowed() -> Result<bool> {
    let mut allowed = 0;
    // SAFETY: writes one integer of ours.
    check(unsafe { unet_tf32_is_allowed(&mut allowed) })?;
    Ok(allowed != 0)
}
