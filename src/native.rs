//! Safe calls into `src/native/`, for what `tch` does not bind. The one module with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use anyhow::{Result, anyhow};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

pub use distributed::{Address, ProcessGroup, Reducer, Store};
pub use optimizer::{AdamOptions, AdamTensors, adam, clear_grad, unscale};
pub use profiler::{Event, profile};
#[cfg(test)]
pub use replay::Statistics;
pub use replay::{CpuPlan, CudaGraph, use_cuda_device};

mod distributed;
pub mod gpu;
mod optimizer;
mod profiler;
mod replay;
pub mod startup;

unsafe extern "C" {
    fn unet_take_error(text: *mut c_char, size: usize);
    fn unet_conv3x3_relu(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        x2: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        below_is_relu: i32,
        masked_above: i32,
    ) -> i32;
    fn unet_upconv_relu(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        below_is_relu: i32,
        masked_above: i32,
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
    fn unet_require_deterministic(require: i32) -> i32;
    fn unet_keep_freed_memory();
    fn unet_cuda_peak_bytes(device: i32, allocated: *mut i64, reserved: *mut i64) -> i32;
    fn unet_load_cuda() -> i32;
    fn unet_save_script(
        path: *const c_char,
        program: *const c_char,
        count: usize,
        names: *const *const c_char,
        parameters: *const *mut C_tensor,
        extra_name: *const c_char,
        extra_text: *const c_char,
    ) -> i32;
    fn unet_exit(code: i32) -> !;
    fn unet_allow_tf32(allow: i32) -> i32;
    fn unet_copy_to_gpu(out: *mut *mut C_tensor, host: *const C_tensor, device: i32) -> i32;
    #[cfg(test)]
    fn unet_tf32_is_allowed(allowed: *mut i32) -> i32;
}

/// Who multiplies a gradient by that of a ReLU. On its own it costs a pass over memory, so a neighbour that
/// touches the numbers anyway does it where it can.
#[derive(Debug, Clone, Copy)]
pub struct ReluGradient {
    /// The layer's input comes from a ReLU: the layer applies that ReLU's gradient to what it passes down.
    pub input_is_relu: bool,
    /// What applies the gradient of the layer's own ReLU.
    pub output_mask: OutputMask,
}

/// What applies the gradient of a layer's own ReLU. Wrong gradients if it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMask {
    /// The layer itself.
    Itself,
    /// All convolutions that use its output. The GPU's do not, there the layer does it itself.
    Convolutions,
    /// Pooling, which alone uses its output.
    Pooling,
    /// The head, which alone uses its output. The CPU's does not, there the layer does it itself.
    Head,
}

impl ReluGradient {
    /// For the layers of the CPU.
    fn masked_above(self) -> bool {
        matches!(self.output_mask, OutputMask::Convolutions | OutputMask::Pooling)
    }
}

/// ReLU of the unpadded 3x3 convolution of `x`, or of `x` and `x2` as if concatenated, on the CPU, with gradients.
///
/// Shapes: `x` `[N, C1, H, W]`, `x2` `[N, C2, H, W]`, f32 or bfloat16; `weight` `[O, C1 + C2, 3, 3]` and `bias`
/// `[O]` f32; the result `[N, O, H - 2, W - 2]`, x's dtype. `input_is_relu` is about `x` alone.
pub fn conv3x3_relu(
    x: &Tensor,
    x2: Option<&Tensor>,
    weight: &Tensor,
    bias: &Tensor,
    gradient: ReluGradient,
) -> Result<Tensor> {
    // SAFETY: see `new_tensor`; the inputs are borrowed for the call.
    new_tensor(|out| unsafe {
        unet_conv3x3_relu(
            out,
            x.as_ptr(),
            or_null(x2),
            weight.as_ptr(),
            bias.as_ptr(),
            i32::from(gradient.input_is_relu),
            i32::from(gradient.masked_above()),
        )
    })
}

/// ReLU of the 3x3 transposed convolution with stride 2 on the CPU, with gradients: `[N, C, H, W]` to
/// `[N, O, 2H, 2W]`, `weight` `[C, O, 3, 3]`; dtypes as in `conv3x3_relu`.
pub fn upconv_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, gradient: ReluGradient) -> Result<Tensor> {
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe {
        unet_upconv_relu(
            out,
            x.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            i32::from(gradient.input_is_relu),
            i32::from(gradient.masked_above()),
        )
    })
}

/// 2x2 max pooling and the centre `height` x `width` of `x`, on the CPU, with gradients. `x` comes from a ReLU,
/// whose gradient is applied here.
pub fn pool_and_crop(x: &Tensor, height: i64, width: i64) -> Result<(Tensor, Tensor)> {
    let mut crop = std::ptr::null_mut();
    // SAFETY: as in `conv3x3_relu`.
    let pooled = new_tensor(|out| unsafe { unet_pool_and_crop(out, &mut crop, x.as_ptr(), height, width) })?;
    // SAFETY: the call succeeded, so this is a new tensor too, ours to free.
    Ok((pooled, unsafe { Tensor::from_ptr(crop) }))
}

/// A layer's weights in the form that the CPU kernels multiply with, for inputs of one dtype.
#[derive(Debug)]
pub struct PackedFilters(Tensor);

/// Prepares `weight` `[O, C, 3, 3]` f32 of a convolution for many predictions from inputs like `like`. `None` where
/// that saves nothing.
pub fn pack_conv3x3(weight: &Tensor, like: &Tensor) -> Result<Option<PackedFilters>> {
    // SAFETY: as in `conv3x3_relu`.
    let packed = new_tensor(|out| unsafe { unet_conv3x3_pack(out, weight.as_ptr(), like.as_ptr()) })?;
    Ok(packed.defined().then_some(PackedFilters(packed)))
}

/// `conv3x3_relu` without gradients, with filters from `pack_conv3x3`.
///
/// Errors: inputs of other channels or another dtype than these were made for.
pub fn conv3x3_relu_packed(x: &Tensor, x2: Option<&Tensor>, packed: &PackedFilters, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe {
        unet_conv3x3_relu_packed(out, x.as_ptr(), or_null(x2), packed.0.as_ptr(), bias.as_ptr())
    })
}

/// `pack_conv3x3` for the `weight` `[C, O, 3, 3]` of a transposed convolution.
pub fn pack_upconv(weight: &Tensor, like: &Tensor) -> Result<Option<PackedFilters>> {
    // SAFETY: as in `conv3x3_relu`.
    let packed = new_tensor(|out| unsafe { unet_upconv_pack(out, weight.as_ptr(), like.as_ptr()) })?;
    Ok(packed.defined().then_some(PackedFilters(packed)))
}

/// `upconv_relu` without gradients, with filters from `pack_upconv`. Errors as of `conv3x3_relu_packed`.
pub fn upconv_relu_packed(x: &Tensor, packed: &PackedFilters, bias: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe { unet_upconv_relu_packed(out, x.as_ptr(), packed.0.as_ptr(), bias.as_ptr()) })
}

/// Tells the allocator to keep freed memory: paging activations in anew costs a sixth of a CPU step.
pub fn keep_freed_memory() {
    // SAFETY: sets options of the allocator; called once before other threads start.
    unsafe { unet_keep_freed_memory() }
}

/// Writes a TorchScript module to `path`: `parameters` under their names, in which dots part modules, the source of its method
/// `forward`, and a text file that goes with it.
///
/// Errors: a program that is none, a file that cannot be written.
pub fn save_script(path: &Path, program: &str, parameters: &[(String, Tensor)], extra: (&str, &str)) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let [program, extra_name, extra_text] = [program, extra.0, extra.1].map(CString::new);
    let (program, extra_name, extra_text) = (program?, extra_name?, extra_text?);
    let names = parameters.iter().map(|(name, _)| CString::new(name.as_str())).collect::<Result<Vec<_>, _>>()?;
    let name_pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let tensors: Vec<*mut C_tensor> = parameters.iter().map(|(_, tensor)| tensor.as_ptr().cast_mut()).collect();
    // SAFETY: the texts end with NUL and live for the call, as do the tensors, of which the shim changes nothing.
    check(unsafe {
        unet_save_script(
            path.as_ptr(),
            program.as_ptr(),
            names.len(),
            name_pointers.as_ptr(),
            tensors.as_ptr(),
            extra_name.as_ptr(),
            extra_text.as_ptr(),
        )
    })
}

/// Most bytes that libtorch has held on CUDA device `index` at a time.
pub fn peak_cuda_bytes(index: usize) -> Result<u64> {
    let mut reserved = 0;
    // SAFETY: the shim writes to the two places, which live for the call.
    check(unsafe { unet_cuda_peak_bytes(index as i32, &mut 0, &mut reserved) })?;
    Ok(reserved as u64)
}

/// Loads libtorch's CUDA kernels. Must come before libtorch is asked for a GPU, or it will not find one.
///
/// Errors: no CUDA driver, or a libtorch without CUDA.
pub fn load_cuda() -> Result<()> {
    // SAFETY: loads shared libraries; called before other threads start.
    check(unsafe { unet_load_cuda() })
}

/// Ends the process at once. libtorch's destructors free nothing that the system would not, but page in another 110 MB.
pub fn exit(code: u8) -> ! {
    use std::io::Write;
    // Nothing can be done about output that cannot be written now.
    let _ = std::io::stdout().flush();
    // SAFETY: does not return; nothing in the process is used afterwards.
    unsafe { unet_exit(i32::from(code)) }
}

/// `host` on `device`, without waiting for a GPU: for the few numbers that a step needs from the host.
///
/// Panics where libtorch fails, as the operations of `tch` do.
pub fn copy_to_device(host: Tensor, device: Device) -> Tensor {
    let Device::Cuda(index) = device else { return host.to_device(device) };
    // SAFETY: as in `conv3x3_relu`.
    new_tensor(|out| unsafe { unet_copy_to_gpu(out, host.as_ptr(), index as i32) })
        .unwrap_or_else(|error| panic!("cannot copy to {device:?}: {error}"))
}

/// Whether the GPU's convolutions may round the factors of f32 products to TF32. For the whole process.
pub fn allow_tf32(allow: bool) -> Result<()> {
    // SAFETY: sets options of libtorch.
    check(unsafe { unet_allow_tf32(i32::from(allow)) })
}

/// Whether cuDNN may only use kernels that give the same bits each time. For the whole process.
pub fn require_deterministic(require: bool) -> Result<()> {
    // SAFETY: sets options of libtorch.
    check(unsafe { unet_require_deterministic(i32::from(require)) })
}

#[cfg(test)]
pub fn tf32_is_allowed() -> Result<bool> {
    let mut allowed = 0;
    // SAFETY: writes one integer of ours.
    check(unsafe { unet_tf32_is_allowed(&mut allowed) })?;
    Ok(allowed != 0)
}

/// The tensor that `make` puts into its argument.
fn new_tensor(make: impl FnOnce(*mut *mut C_tensor) -> i32) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    check(make(&mut out))?;
    // SAFETY: on success the shim stores a new tensor, which is freed by the handle made here.
    Ok(unsafe { Tensor::from_ptr(out) })
}

fn or_null(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(std::ptr::null(), Tensor::as_ptr)
}

/// The object that `make` puts into its argument.
fn made(make: impl FnOnce(*mut *mut c_void) -> i32) -> Result<NonNull<c_void>> {
    let mut object = std::ptr::null_mut();
    check(make(&mut object))?;
    NonNull::new(object).ok_or_else(|| anyhow!("libtorch: nothing was made"))
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
