//! The layers and losses of a GPU (`csrc/gpu/`): cuDNN's convolutions, own passes over memory between them, with
//! gradients. They compute the same on the CPU, more slowly, which tests use.
//!
//! Shapes: N images, C, O channels, H, W pixels. `weight` and `bias` are f32, or of the dtype of the activations.

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::{check, new_tensor, or_null, two_new_tensors};

unsafe extern "C" {
    fn unet_gpu_use_kernels(which: i32) -> i32;
    fn unet_gpu_has_kernels(x: *const C_tensor, has: *mut i32) -> i32;
    fn unet_gpu_first_layer(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> i32;
    fn unet_gpu_conv3x3_relu(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        cast_bias: *const C_tensor,
        output_gradient_is_masked: i32,
    ) -> i32;
    fn unet_gpu_upconv_relu_join(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        skip: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> i32;
    fn unet_gpu_head(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> i32;
    fn unet_gpu_losses(
        cross_entropy: *mut *mut C_tensor,
        dice_loss: *mut *mut C_tensor,
        logits: *const C_tensor,
        labels: *const C_tensor,
        epsilon: f64,
    ) -> i32;
    fn unet_gpu_pool_and_crop(
        pooled: *mut *mut C_tensor,
        crop: *mut *mut C_tensor,
        x: *const C_tensor,
        height: i64,
        width: i64,
    ) -> i32;
    #[cfg(test)]
    fn unet_gpu_compile_kernels(capability: i32, compiled: *mut i32) -> i32;
}

/// How much of the work on a GPU own kernels do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuKernels {
    /// All passes; convolution, bias and ReLU in one kernel or in two steps, whichever is faster.
    Own = 0,
    /// As `Own`, always in one kernel where cuDNN has one.
    Fused = 1,
    /// As `Own`, always in two steps.
    Separate = 2,
    /// None: libtorch's operations.
    Aten = 3,
}

/// Sets which kernels serve on GPUs, for the whole process. Without a call `Own` do.
pub fn use_kernels(which: GpuKernels) -> Result<()> {
    // SAFETY: sets an option of the C++ side.
    check(unsafe { unet_gpu_use_kernels(which as i32) })
}

/// Whether the own CUDA kernels run on the device and in the dtype of `x`; compiles them at the first question.
pub fn has_kernels(x: &Tensor) -> Result<bool> {
    let mut has = 0;
    // SAFETY: writes one integer of ours.
    check(unsafe { unet_gpu_has_kernels(x.as_ptr(), &mut has) })?;
    Ok(has != 0)
}

/// ReLU of the unpadded 3x3 convolution of `x`, an image of one channel that has no gradient.
pub fn first_layer(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: the inputs are borrowed for the call; `new_tensor` owns the result.
    new_tensor(|out| unsafe { unet_gpu_first_layer(out, x.as_ptr(), weight.as_ptr(), bias.as_ptr()) })
}

/// ReLU of the unpadded 3x3 convolution of `x`. `cast_bias`, if given, is `bias` in x's dtype, and spares a cast. With
/// `output_is_masked` every layer that uses the output applies the gradient of this ReLU; wrong gradients if one does
/// not.
pub fn conv3x3_relu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    cast_bias: Option<&Tensor>,
    output_is_masked: bool,
) -> Result<Tensor> {
    // SAFETY: as in `first_layer`.
    new_tensor(|out| unsafe {
        let (x, weight, bias) = (x.as_ptr(), weight.as_ptr(), bias.as_ptr());
        unet_gpu_conv3x3_relu(out, x, weight, bias, or_null(cast_bias), i32::from(output_is_masked))
    })
}

/// ReLU of the 3x3 transposed convolution of `x`, with `skip` concatenated behind it.
pub fn upconv_relu_join(x: &Tensor, skip: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `first_layer`.
    new_tensor(|out| unsafe {
        unet_gpu_upconv_relu_join(out, x.as_ptr(), skip.as_ptr(), weight.as_ptr(), bias.as_ptr())
    })
}

/// The 1x1 convolution of `x`; applies the gradient of the ReLU that `x` comes from.
pub fn head(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `first_layer`.
    new_tensor(|out| unsafe { unet_gpu_head(out, x.as_ptr(), weight.as_ptr(), bias.as_ptr()) })
}

/// Cross entropy and 1 - soft Dice of two classes, each `[]` f32, by the formula of `engine/loss.rs`.
///
/// Errors: logits for which `has_kernels` is false, or of other than two classes.
pub fn losses(logits: &Tensor, labels: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    // SAFETY: as in `first_layer`.
    two_new_tensors(|cross_entropy, dice_loss| unsafe {
        unet_gpu_losses(cross_entropy, dice_loss, logits.as_ptr(), labels.as_ptr(), epsilon)
    })
}

/// 2x2 max pooling and the centre `height` x `width` of `x`, a view; applies the gradient of the ReLU that `x` comes
/// from.
pub fn pool_and_crop(x: &Tensor, height: i64, width: i64) -> Result<(Tensor, Tensor)> {
    // SAFETY: as in `first_layer`.
    two_new_tensors(|pooled, crop| unsafe { unet_gpu_pool_and_crop(pooled, crop, x.as_ptr(), height, width) })
}

/// Compiles the CUDA kernels for a compute capability such as 90, which needs no GPU. `false` where NVRTC is absent.
#[cfg(test)]
pub fn compile_kernels(capability: i32) -> Result<bool> {
    let mut compiled = 0;
    // SAFETY: writes one integer of ours.
    check(unsafe { unet_gpu_compile_kernels(capability, &mut compiled) })?;
    Ok(compiled != 0)
}

#[cfg(test)]
mod tests;
