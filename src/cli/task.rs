//! What a command line asks for, once it is found to be sound.

use std::ffi::OsString;
use std::io::{self, Write};

use super::config::Config;
use super::{Command, Parsed, parse};
use crate::error::{EXIT_USAGE, UsageError};

/// What the command line asks for.
pub enum Task {
    Tool(Box<Command>),
    Run(Box<Config>),
    /// Nothing: the program's name stands alone, which [`introduce`] answers.
    Nothing,
}

/// What `unet` alone prints.
const INTRODUCTION: &str = concat!(
    "unet ",
    env!("CARGO_PKG_VERSION"),
    " trains, evaluates and runs the U-Net of Ronneberger et al. (2015) for biomedical image segmentation.\n",
    "  look at your data:  unet inspect --data_dir DATA    (none yet: unet phantom --out DATA makes some)\n",
    "  train on it:        unet --data_dir DATA --model_dir RUN --augment\n",
    "  segment images:     unet --exec_mode predict --input IMAGES --output MASKS --model_dir RUN\n",
    "All flags: unet --help; those of a command: unet inspect --help.\n",
    "The manual: unet man | man -l - in a terminal; README.md and docs/ of the source, with examples.\n",
);

/// Tells a newcomer what the program does. The result is the exit code: that of a bad command line, since a script that
/// has lost its flags must notice that nothing was done.
pub fn introduce() -> u8 {
    let _ = io::stderr().write_all(INTRODUCTION.as_bytes());
    EXIT_USAGE
}

/// Parses `args` and checks what they mean together; help and version are printed and end the process.
///
/// Errors: one line for anything that is not a sound command line.
pub fn task(args: impl IntoIterator<Item = OsString>) -> Result<Task, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.len() <= 1 {
        return Ok(Task::Nothing);
    }
    let Parsed { cli, given } = parse(args)?;
    Ok(match cli.command {
        Some(command) => Task::Tool(Box::new(command)),
        None => Task::Run(Box::new(Config::new(cli.run, &given)?)),
    })
}
