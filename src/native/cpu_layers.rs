//! The layers of the CPU (`csrc/cpu/`): own convolution kernels, with gradients.
//!
//! Shapes: N images, C, O channels, H, W pixels. Activations are f32 or bfloat16, `[N, C, H, W]` in channels-last
//! memory; weights and biases are f32 whatever the activations are.

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::{c_string, check, new_tensor, new_tensor_or_none, or_null, two_new_tensors};

unsafe extern "C" {
    fn unet_cpu_use_isa(name: *const std::ffi::c_char) -> i32;
    fn unet_cpu_isa(name: *mut *const std::ffi::c_char) -> i32;
    fn unet_cpu_multiplies_bf16(has: *mut i32) -> i32;
    fn unet_conv3x3_relu(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        x2: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        input_is_relu: i32,
        output_gradient_is_masked: i32,
    ) -> i32;
    fn unet_upconv_relu(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        input_is_relu: i32,
        output_gradient_is_masked: i32,
    ) -> i32;
    fn unet_pool_and_crop(
        pooled: *mut *mut C_tensor,
        crop: *mut *mut C_tensor,
        x: *const C_tensor,
        height: i64,
        width: i64,
    ) -> i32;
    fn unet_conv3x3_pack(out: *mut *mut C_tensor, weight: *const C_tensor, like: *const C_tensor) -> i32;
    fn unet_conv3x3_relu_packed(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        x2: *const C_tensor,
        packed: *const C_tensor,
        bias: *const C_tensor,
    ) -> i32;
    fn unet_upconv_pack(out: *mut *mut C_tensor, weight: *const C_tensor, like: *const C_tensor) -> i32;
    fn unet_upconv_relu_packed(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        packed: *const C_tensor,
        bias: *const C_tensor,
    ) -> i32;
}

/// Which gradients of ReLUs a layer applies in its backward pass.
#[derive(Debug, Clone, Copy)]
pub struct ReluMasks {
    /// The layer's input comes from a ReLU: the layer applies that ReLU's gradient to what it passes down.
    pub input_is_relu: bool,
    /// Every layer that uses the output applies the gradient of this layer's own ReLU. Wrong gradients if one does not.
    pub output_is_masked: bool,
}

/// Makes the kernels those of an instruction set: `amx`, `avx512`, `avx512-without-bf16`, `avx2` or `generic`.
/// Without a call they are the best of this CPU.
///
/// Errors: an unknown name, or one that this CPU cannot run.
pub fn use_isa(name: &str) -> Result<()> {
    let name = c_string(name)?;
    // SAFETY: the text ends with NUL and lives for the call.
    check(unsafe { unet_cpu_use_isa(name.as_ptr()) })
}

/// The instruction set of the kernels in use, as [`use_isa`] names it.
pub fn isa() -> Result<String> {
    let mut name = std::ptr::null();
    // SAFETY: the callee stores a text that lives as long as the process.
    check(unsafe { unet_cpu_isa(&raw mut name) })?;
    // SAFETY: the same; it ends with NUL.
    Ok(unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

/// Whether these kernels multiply in bfloat16. Else they compute bfloat16 activations in f32.
pub fn multiplies_bf16() -> Result<bool> {
    let mut has = 0;
    // SAFETY: the callee stores a number.
    check(unsafe { unet_cpu_multiplies_bf16(&raw mut has) })?;
    Ok(has != 0)
}

/// ReLU of the unpadded 3x3 convolution of `x`, or of `x` and `x2` as if concatenated: `[N, C, H, W]` to
/// `[N, O, H - 2, W - 2]`. `masks.input_is_relu` is about `x` alone.
pub fn conv3x3_relu(
    x: &Tensor,
    x2: Option<&Tensor>,
    weight: &Tensor,
    bias: &Tensor,
    masks: ReluMasks,
) -> Result<Tensor> {
    // SAFETY: the inputs are borrowed for the call; `new_tensor` owns the result.
    new_tensor(|out| unsafe {
        unet_conv3x3_relu(
            out,
            x.as_ptr(),
            or_null(x2),
            weight.as_ptr(),
            bias.as_ptr(),
            i32::from(masks.input_is_relu),
            i32::from(masks.output_is_masked),
        )
    })
}

/// ReLU of the 3x3 transposed convolution with stride 2: `[N, C, H, W]` to `[N, O, 2H, 2W]`, `weight` `[C, O, 3, 3]`.
pub fn upconv_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, masks: ReluMasks) -> Result<Tensor> {
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe {
        unet_upconv_relu(
            out,
            x.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            i32::from(masks.input_is_relu),
            i32::from(masks.output_is_masked),
        )
    })
}

/// 2x2 max pooling and the centre `height` x `width` of `x`, the output of a ReLU whose gradient is applied here.
pub fn pool_and_crop(x: &Tensor, height: i64, width: i64) -> Result<(Tensor, Tensor)> {
    // SAFETY: as in `conv3x3_relu`.
    two_new_tensors(|pooled, crop| unsafe { unet_pool_and_crop(pooled, crop, x.as_ptr(), height, width) })
}

/// A layer's weights in the order in which the kernels read them, for inputs of one dtype.
#[derive(Debug)]
pub struct PackedFilters(Tensor);

/// Packs the `weight` `[O, C, 3, 3]` of a convolution for many predictions from inputs like `like`. `None` where that
/// saves nothing.
pub fn pack_conv3x3(weight: &Tensor, like: &Tensor) -> Result<Option<PackedFilters>> {
    // SAFETY: as in `conv3x3_relu`.
    let packed = new_tensor_or_none(|out| unsafe { unet_conv3x3_pack(out, weight.as_ptr(), like.as_ptr()) })?;
    Ok(packed.map(PackedFilters))
}

/// `conv3x3_relu` without gradients, with filters from `pack_conv3x3`.
///
/// Errors: inputs of other channels or of another dtype than the filters were packed for.
pub fn conv3x3_relu_packed(x: &Tensor, x2: Option<&Tensor>, packed: &PackedFilters, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe {
        unet_conv3x3_relu_packed(out, x.as_ptr(), or_null(x2), packed.0.as_ptr(), bias.as_ptr())
    })
}

/// `pack_conv3x3` for the `weight` `[C, O, 3, 3]` of a transposed convolution.
pub fn pack_upconv(weight: &Tensor, like: &Tensor) -> Result<Option<PackedFilters>> {
    // SAFETY: as in `conv3x3_relu`.
    let packed = new_tensor_or_none(|out| unsafe { unet_upconv_pack(out, weight.as_ptr(), like.as_ptr()) })?;
    Ok(packed.map(PackedFilters))
}

/// `upconv_relu` without gradients, with filters from `pack_upconv`. Errors: as `conv3x3_relu_packed`.
pub fn upconv_relu_packed(x: &Tensor, packed: &PackedFilters, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe { unet_upconv_relu_packed(out, x.as_ptr(), packed.0.as_ptr(), bias.as_ptr()) })
}
