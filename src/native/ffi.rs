//! What every call into the C++ side needs: statuses become errors, stored pointers become owned objects.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use anyhow::{Context, Result, anyhow};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn unet_take_error(text: *mut c_char, size: usize);
}

/// The error behind a status that is not 0.
pub(super) fn check(status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let mut text = [0 as c_char; 2048];
    // SAFETY: the buffer is ours, and the C++ side ends the text with NUL within its size.
    let message = unsafe {
        unet_take_error(text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr())
    };
    Err(anyhow!("libtorch: {}", message.to_string_lossy()))
}

/// The tensor that `make` stores at its argument.
pub(super) fn new_tensor(make: impl FnOnce(*mut *mut C_tensor) -> i32) -> Result<Tensor> {
    new_tensor_or_none(make)?.ok_or_else(|| anyhow!("libtorch: no tensor was made"))
}

/// The tensor that `make` stores at its argument; `None` where it stores a null pointer.
pub(super) fn new_tensor_or_none(make: impl FnOnce(*mut *mut C_tensor) -> i32) -> Result<Option<Tensor>> {
    let mut out = std::ptr::null_mut();
    check(make(&mut out))?;
    // SAFETY: on success the C++ side stores a new tensor or null; the handle made here frees the tensor.
    Ok((!out.is_null()).then(|| unsafe { Tensor::from_ptr(out) }))
}

/// The two tensors that `make` stores at its arguments.
pub(super) fn two_new_tensors(
    make: impl FnOnce(*mut *mut C_tensor, *mut *mut C_tensor) -> i32,
) -> Result<(Tensor, Tensor)> {
    let mut second = std::ptr::null_mut();
    let first = new_tensor(|first| make(first, &mut second))?;
    // SAFETY: the call succeeded, so this is a new tensor too, freed by the handle made here.
    Ok((first, unsafe { Tensor::from_ptr(second) }))
}

/// The object that `make` stores at its argument. Its owner frees it.
pub(super) fn new_handle(make: impl FnOnce(*mut *mut c_void) -> i32) -> Result<NonNull<c_void>> {
    let mut object = std::ptr::null_mut();
    check(make(&mut object))?;
    NonNull::new(object).ok_or_else(|| anyhow!("libtorch: no object was made"))
}

/// A null pointer stands for an absent tensor.
pub(super) fn or_null(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(std::ptr::null(), Tensor::as_ptr)
}

/// Pointers to tensors that the caller keeps alive.
pub(super) fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

/// A text that ends with NUL.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> Result<CString> {
    let bytes = text.into();
    let shown = String::from_utf8_lossy(&bytes).into_owned();
    CString::new(bytes).with_context(|| format!("'{shown}' holds a NUL character"))
}
