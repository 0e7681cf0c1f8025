//! The command line: any words, one per line, give a configuration or a message.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "../../src/model/architecture.rs"]
mod architecture;
#[path = "../../src/atomic.rs"]
mod atomic;
#[path = "../../src/cli/mod.rs"]
mod cli;
#[path = "../../src/config.rs"]
mod config;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/data/tiff/mod.rs"]
mod tiff;
#[path = "../../src/data/values.rs"]
mod values;
mod data {
    pub(crate) use crate::values;
}
mod model {
    pub(crate) use crate::architecture;
}

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.split(|byte| *byte == b'\n').map(|word| OsStr::from_bytes(word).to_owned());
    match cli::try_parse(std::iter::once("unet".into()).chain(words)) {
        Ok(cli::Parsed { cli, given }) => {
            if let Ok(config) = config::Config::new(cli.run, &given) {
                assert!(config.batch_size > 0 && config.architecture().check().is_ok());
            }
        }
        Err(error) => assert!(!error.render().to_string().is_empty()),
    }
});
