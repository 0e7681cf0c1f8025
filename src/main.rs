//! `unet` trains, evaluates and runs the U-Net of Ronneberger et al. (2015).
//!
//! This file is the table of contents: parse the command line, check it, carry it out, print the error.

use std::io::{self, Write};

use anyhow::Result;

use cli::Parsed;
use cli::config::Config;
use distributed::{Role, environment, launcher};
use native::process;

mod checkpoint;
mod cli;
mod data;
mod distributed;
mod engine;
mod error;
mod files;
mod metrics;
mod model;
mod native;
mod output;
mod recipe;
mod run;
#[cfg(test)]
mod testing;
mod tools;

fn main() {
    let error = match carry_out() {
        Ok(code) => process::exit(code),
        Err(error) => error,
    };
    // Not `eprintln!`, which panics where stderr is closed.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    process::exit(error::exit_code(&error))
}

/// The exit code, which a launcher takes from its workers.
fn carry_out() -> Result<u8> {
    let Parsed { cli, given } = cli::parse(std::env::args_os())?;
    if let Some(command) = cli.command {
        return error::catch(|| tools::run(&command)).map(|()| 0);
    }
    let config = Config::new(cli.run, &given)?;
    match distributed::role(config.nproc_per_node, environment::rank()?)? {
        Role::Launcher(workers) => launcher::launch(workers),
        Role::Worker(rank) => {
            launcher::follow_launcher()?;
            process::keep_freed_memory();
            run::run(&config, rank.as_ref())
        }
    }
}
