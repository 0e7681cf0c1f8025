//! The command line: any words, one per line, give a configuration or a message.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "../../src/cli/mod.rs"]
mod cli;
#[path = "../../src/error.rs"]
mod error;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.split(|byte| *byte == b'\n').map(|word| OsStr::from_bytes(word).to_owned());
    match cli::parse::try_parse(std::iter::once("unet".into()).chain(words)) {
        Ok(cli::Parsed { cli, given }) => {
            if let Ok(config) = cli::config::Config::new(cli.run, &given) {
                assert!(config.batch_size > 0 && config.training.max_steps > 0);
            }
        }
        Err(error) => assert!(!error.render().to_string().is_empty()),
    }
});
