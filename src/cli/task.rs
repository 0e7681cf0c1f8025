//! What a command line asks for, once it is found to be sound.

use std::ffi::OsString;

use super::config::Config;
use super::{Command, Parsed, parse};
use crate::error::UsageError;

/// What the command line asks for.
pub enum Task {
    Tool(Command),
    Run(Box<Config>),
}

/// Parses `args` and checks what they mean together; help and version are printed and end the process.
///
/// Errors: one line for anything that is not a sound command line.
pub fn task(args: impl IntoIterator<Item = OsString>) -> Result<Task, UsageError> {
    let Parsed { cli, given } = parse(args)?;
    Ok(match cli.command {
        Some(command) => Task::Tool(command),
        None => Task::Run(Box::new(Config::new(cli.run, &given)?)),
    })
}
