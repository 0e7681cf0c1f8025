//! Safe calls into `src/native/`, for what `tch` does not bind. The one module with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

use anyhow::{Result, anyhow};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn unet_take_error(text: *mut c_char, size: usize);
    fn unet_fused_adam(
        count: usize,
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        exp_avg_sqs: *const *mut C_tensor,
        step: *const C_tensor,
        found_inf: *const C_tensor,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
    ) -> i32;
    fn unet_unscale(
        count: usize,
        grads: *const *mut C_tensor,
        found_inf: *mut C_tensor,
        inverse_scale: *const C_tensor,
    ) -> i32;
    fn unet_clear_grad(param: *mut C_tensor) -> i32;
    fn unet_keep_freed_memory();
}

/// Hyper-parameters of Adam (Kingma and Ba, 2015) with L2 added to the gradient.
#[derive(Debug, Clone, Copy)]
pub struct AdamOptions {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

/// One Adam step in place on `params` and its two moments, with gradients `grads` (same order and shapes).
///
/// `step` is the 1-based step number, `[]` f32; if `found_inf` (`[1]` f32) is not 0 nothing changes.
/// Does not wait for the device.
pub fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    step: &Tensor,
    found_inf: &Tensor,
    options: AdamOptions,
) -> Result<()> {
    let [params, grads, exp_avgs, exp_avg_sqs] = [params, grads, exp_avgs, exp_avg_sqs].map(pointers);
    // SAFETY: the four lists have one length and live tensors, borrowed for the call; the shim
    // changes their storage, never the handles, and keeps none of them.
    let status = unsafe {
        unet_fused_adam(
            params.len(),
            params.as_ptr(),
            grads.as_ptr(),
            exp_avgs.as_ptr(),
            exp_avg_sqs.as_ptr(),
            step.as_ptr(),
            found_inf.as_ptr(),
            options.learning_rate,
            options.beta1,
            options.beta2,
            options.epsilon,
            options.weight_decay,
        )
    };
    check(status)
}

/// Multiplies `grads` by `inverse_scale` (`[]` f32) in place; sets `found_inf` (`[1]` f32) to 1 where any is
/// not finite, and leaves it otherwise. Does not wait for the device.
pub fn unscale(grads: &[Tensor], found_inf: &mut Tensor, inverse_scale: &Tensor) -> Result<()> {
    let grads = pointers(grads);
    // SAFETY: as in `fused_adam`.
    check(unsafe { unet_unscale(grads.len(), grads.as_ptr(), found_inf.as_mut_ptr(), inverse_scale.as_ptr()) })
}

/// Drops the gradient of `param`, so that the next backward pass writes it instead of adding to it.
pub fn clear_grad(param: &mut Tensor) -> Result<()> {
    // SAFETY: the tensor is ours for the call.
    check(unsafe { unet_clear_grad(param.as_mut_ptr()) })
}

/// Tells the allocator to keep freed memory: paging activations in anew costs a sixth of a CPU step.
pub fn keep_freed_memory() {
    // SAFETY: sets options of the allocator; called once before other threads start.
    unsafe { unet_keep_freed_memory() }
}

fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

fn check(status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let mut text = [0 as c_char; 2048];
    // SAFETY: the buffer is ours, and the shim ends the text with NUL within its size.
    let message = unsafe {
        unet_take_error(text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr())
    };
    Err(anyhow!("libtorch: {}", message.to_string_lossy()))
}
