//! The layers of `native/gpu/`, for CUDA: libtorch's convolutions and own passes over memory in between. They compute the
//! same, more slowly, on the CPU. Shapes as in the functions of `native`; `weight` and `bias` f32 or of x's dtype.

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use super::{OutputMask, ReluGradient, check, new_tensor, or_null};

unsafe extern "C" {
    fn unet_gpu_has_kernels(x: *const C_tensor, has: *mut i32) -> i32;
    fn unet_gpu_conv3x3_relu(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        cast_bias: *const C_tensor,
        masked_above: i32,
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

/// Whether the own CUDA kernels run on the device and in the dtype of `x`; compiles them at the first question.
pub fn has_kernels(x: &Tensor) -> Result<bool> {
    let mut has = 0;
    // SAFETY: writes one integer of ours.
    check(unsafe { unet_gpu_has_kernels(x.as_ptr(), &mut has) })?;
    Ok(has != 0)
}

/// ReLU of the unpadded 3x3 convolution of `x`, with gradients. `cast_bias`, if given, is `bias` in x's dtype, and spares a cast.
pub fn conv3x3_relu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    cast_bias: Option<&Tensor>,
    gradient: ReluGradient,
) -> Result<Tensor> {
    let masked_above = i32::from(matches!(gradient.output_mask, OutputMask::Pooling | OutputMask::Head));
    // SAFETY: as in `native::conv3x3_relu`.
    new_tensor(|out| unsafe {
        unet_gpu_conv3x3_relu(out, x.as_ptr(), weight.as_ptr(), bias.as_ptr(), or_null(cast_bias), masked_above)
    })
}

/// ReLU of the 3x3 transposed convolution of `x`, with `skip` concatenated behind it, with gradients.
pub fn upconv_relu_join(x: &Tensor, skip: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `native::conv3x3_relu`.
    new_tensor(|out| unsafe {
        unet_gpu_upconv_relu_join(out, x.as_ptr(), skip.as_ptr(), weight.as_ptr(), bias.as_ptr())
    })
}

/// The 1x1 convolution of `x`, with gradients; applies the gradient of the ReLU that `x` comes from.
pub fn head(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `native::conv3x3_relu`.
    new_tensor(|out| unsafe { unet_gpu_head(out, x.as_ptr(), weight.as_ptr(), bias.as_ptr()) })
}

/// Cross entropy and 1 - soft Dice of two classes, each `[]` f32, with gradients, as in `loss::losses`; where `has_kernels(logits)`.
pub fn losses(logits: &Tensor, labels: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let mut dice_loss = std::ptr::null_mut();
    // SAFETY: as in `native::conv3x3_relu`.
    let cross_entropy =
        new_tensor(|out| unsafe { unet_gpu_losses(out, &mut dice_loss, logits.as_ptr(), labels.as_ptr(), epsilon) })?;
    // SAFETY: the call succeeded, so this is a new tensor too, ours to free.
    Ok((cross_entropy, unsafe { Tensor::from_ptr(dice_loss) }))
}

/// 2x2 max pooling and the centre of `x`, a view, with gradients; applies the gradient of the ReLU that `x` comes from.
pub fn pool_and_crop(x: &Tensor, height: i64, width: i64) -> Result<(Tensor, Tensor)> {
    let mut crop = std::ptr::null_mut();
    // SAFETY: as in `native::conv3x3_relu`.
    let pooled = new_tensor(|out| unsafe { unet_gpu_pool_and_crop(out, &mut crop, x.as_ptr(), height, width) })?;
    // SAFETY: the call succeeded, so this is a new tensor too, ours to free.
    Ok((pooled, unsafe { Tensor::from_ptr(crop) }))
}

/// Compiles the CUDA kernels for a compute capability such as 90, which needs no GPU. `false` where NVRTC is absent.
#[cfg(test)]
pub fn compile_kernels(capability: i32) -> Result<bool> {
    let mut compiled = 0;
    // SAFETY: writes one integer of ours.
    check(unsafe { unet_gpu_compile_kernels(capability, &mut compiled) })?;
    Ok(compiled != 0)
}
