//! TorchScript files.

use std::ffi::c_char;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::{c_string, check};

unsafe extern "C" {
    fn unet_save_script(
        path: *const c_char,
        program: *const c_char,
        count: usize,
        names: *const *const c_char,
        parameters: *const *mut C_tensor,
        extra_name: *const c_char,
        extra_text: *const c_char,
    ) -> i32;
}

/// Writes a TorchScript module to `path`: `parameters` under their names, in which dots separate modules; `program`,
/// the source of its method `forward`; and `extra`, name and content of a text file that goes with it.
///
/// Errors: a program that does not compile, a file that cannot be written.
pub fn save(path: &Path, program: &str, parameters: &[(String, Tensor)], extra: (&str, &str)) -> Result<()> {
    let path = c_string(path.as_os_str().as_bytes())?;
    let (program, extra_name, extra_text) = (c_string(program)?, c_string(extra.0)?, c_string(extra.1)?);
    let names = parameters.iter().map(|(name, _)| c_string(name.as_str())).collect::<Result<Vec<_>>>()?;
    let name_pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let tensors: Vec<*mut C_tensor> = parameters.iter().map(|(_, tensor)| tensor.as_ptr().cast_mut()).collect();
    // SAFETY: the texts end with NUL and live for the call, as do the tensors, of which the C++ side changes nothing.
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
