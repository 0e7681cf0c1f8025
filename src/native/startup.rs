//! Answers that need no libtorch, given before its constructors run: they take 0.3 s and 90 MB.
//!
//! The loader maps all libraries, calls the functions in the program's section `.preinit_array`, then the constructors
//! of the libraries, then `main`. In `.preinit_array` libc and Rust do not yet know the arguments and the environment.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// Calls `$answer` with the program's arguments before any constructor. It answers and ends the process, or returns and
/// leaves the work to `main`. It must not start a thread or use `thread::current`, which Rust sets up for `main`.
///
/// Unit tests leave it out: their program has a command line of its own.
macro_rules! before_constructors {
    ($answer:path) => {
        #[allow(unsafe_code)]
        const _: () = {
            use std::ffi::{c_char, c_int};

            extern "C" fn call(count: c_int, arguments: *const *const c_char, environment: *const *const c_char) {
                // SAFETY: the loader calls this, once, with what the kernel gave to the process.
                $answer(unsafe { $crate::native::startup::prepare(count, arguments, environment) });
            }

            #[used]
            #[cfg_attr(not(test), unsafe(link_section = ".preinit_array"))]
            static CALL: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = call;
        };
    };
}
pub(crate) use before_constructors;

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Sets up what the command line needs and libc and Rust set up later. The result is the arguments.
///
/// # Safety
/// For a function in `.preinit_array`, with its arguments: `count` strings, and a list of strings that ends with NULL.
pub unsafe fn prepare(
    count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Vec<OsString> {
    // SAFETY: no other thread runs yet. libc sets the variable to the same list later; Rust ignores SIGPIPE later, too.
    unsafe {
        environ = environment;
        nix::libc::signal(nix::libc::SIGPIPE, nix::libc::SIG_IGN);
    }
    // SAFETY: the kernel's strings end with NUL and stay where they are.
    let argument = |index| unsafe { CStr::from_ptr(*arguments.add(index)) };
    (0..count as usize).map(|index| OsStr::from_bytes(argument(index).to_bytes()).to_owned()).collect()
}
