//! `unet` trains, evaluates and runs the U-Net of Ronneberger et al. (2015).
//!
//! This file is the table of contents: parse the command line, check it, carry it out, print the error.

use anyhow::Result;

use cli::{Command, Parsed};
use config::Config;
use error::UsageError;

mod amp;
mod atomic;
mod benchmark;
mod checkpoint;
mod cli;
mod config;
mod data;
mod device;
mod error;
mod evaluate;
mod execution;
mod inspect;
mod layer_benchmark;
mod logger;
mod loss;
mod model;
mod model_dir;
mod native;
mod optimizer;
mod phantom;
mod predict;
mod record;
mod report;
mod run;
#[cfg(test)]
mod testing;
mod train;
mod trainer;

/// The command line asks for something impossible; nothing was done.
const EXIT_USAGE: u8 = 2;
/// The work could not be done.
const EXIT_FAILURE: u8 = 1;

fn main() {
    let Err(error) = carry_out() else { native::exit(0) };
    eprintln!("error: {error:#}");
    native::exit(if error.is::<UsageError>() { EXIT_USAGE } else { EXIT_FAILURE })
}

fn carry_out() -> Result<()> {
    let Parsed { cli, given } = cli::parse(std::env::args_os())?;
    match cli.command {
        Some(Command::Phantom(args)) => phantom::phantom(&args),
        Some(Command::Inspect(args)) => inspect::inspect(&args.data_dir),
        Some(Command::Report(args)) => report::report(&args.logs),
        Some(Command::Layers(args)) => {
            native::keep_freed_memory();
            layer_benchmark::run(&args)
        }
        None => {
            let config = Config::new(cli.run, &given)?;
            native::keep_freed_memory();
            run::run(&config)
        }
    }
}
