//! What the optimiser does to lists of tensors. Nothing here waits for the device.

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::{check, pointers};

unsafe extern "C" {
    fn unet_adam(
        count: usize,
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        exp_avg_sqs: *const *mut C_tensor,
        working: *const *mut C_tensor,
        step: *const C_tensor,
        found_inf: *const C_tensor,
        inverse_scale: *const C_tensor,
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

/// What Adam works on, in one order.
pub struct AdamTensors<'a> {
    /// f32.
    pub params: &'a [Tensor],
    /// f32 without loss scale, or of the dtype of `working` and with it.
    pub grads: &'a [Tensor],
    pub exp_avgs: &'a [Tensor],
    pub exp_avg_sqs: &'a [Tensor],
    /// Copies of parameters in the dtype of activations, which get the new values too.
    pub working: &'a [Option<Tensor>],
}

/// One Adam step in place. `step` is the 1-based step number, `[]` f32; `inverse_scale` (`[]` f32) takes the loss scale
/// out of the gradients that have it; if `found_inf` (`[1]` f32) is not 0 nothing changes.
pub fn adam(
    tensors: &AdamTensors,
    step: &Tensor,
    found_inf: &Tensor,
    inverse_scale: &Tensor,
    options: AdamOptions,
) -> Result<()> {
    let AdamTensors { params, grads, exp_avgs, exp_avg_sqs, working } = *tensors;
    let [params, grads, exp_avgs, exp_avg_sqs] = [params, grads, exp_avgs, exp_avg_sqs].map(pointers);
    let pointer = |tensor: &Option<Tensor>| tensor.as_ref().map_or(std::ptr::null_mut(), |t| t.as_ptr().cast_mut());
    let working: Vec<*mut C_tensor> = working.iter().map(pointer).collect();
    // SAFETY: the lists have one length and live tensors, borrowed for the call, or null in the last; the C++ side
    // changes their storage, never the handles, and keeps none of them.
    let status = unsafe {
        unet_adam(
            params.len(),
            params.as_ptr(),
            grads.as_ptr(),
            exp_avgs.as_ptr(),
            exp_avg_sqs.as_ptr(),
            working.as_ptr(),
            step.as_ptr(),
            found_inf.as_ptr(),
            inverse_scale.as_ptr(),
            options.learning_rate,
            options.beta1,
            options.beta2,
            options.epsilon,
            options.weight_decay,
        )
    };
    check(status)
}

/// Multiplies those of `grads` that are not in 16 bits by `inverse_scale` (`[]` f32) in place; sets `found_inf` (`[1]`
/// f32) to 1 where any of all is not finite, and leaves it otherwise.
pub fn unscale(grads: &[Tensor], found_inf: &mut Tensor, inverse_scale: &Tensor) -> Result<()> {
    let grads = pointers(grads);
    // SAFETY: as in `adam`.
    check(unsafe { unet_unscale(grads.len(), grads.as_ptr(), found_inf.as_mut_ptr(), inverse_scale.as_ptr()) })
}

/// Drops the gradient of `param`, so that the next backward pass writes it instead of adding to it.
pub fn clear_grad(param: &mut Tensor) -> Result<()> {
    // SAFETY: the tensor is ours for the call.
    check(unsafe { unet_clear_grad(param.as_mut_ptr()) })
}
