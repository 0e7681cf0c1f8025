//! `unet` trains, evaluates and runs the U-Net of Ronneberger et al. (2015).
//!
//! This file is the table of contents: parse the command line, check it, carry it out, print the error.

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Result;

use cli::{Command, Parsed};
use config::Config;
use distributed::{Role, environment, launch};
use error::{LostRanks, UsageError};

mod amp;
mod atomic;
mod benchmark;
mod check;
mod checkpoint;
mod cli;
mod config;
mod data;
mod device;
mod distributed;
mod error;
mod evaluate;
mod execution;
mod export;
mod failure;
mod history;
mod inspect;
mod layer_benchmark;
mod logger;
mod loss;
mod manual;
mod model;
mod model_dir;
mod monitor;
mod native;
mod optimizer;
mod phantom;
mod pictures;
mod predict;
mod record;
mod report;
mod run;
mod score;
mod stop;
mod tensorboard;
#[cfg(test)]
mod testing;
mod train;
mod trainer;

/// The command line asks for something impossible; nothing was done.
const EXIT_USAGE: u8 = 2;
/// The work could not be done.
const EXIT_FAILURE: u8 = 1;
/// Another process of the run went away; it has the error.
const EXIT_LOST_RANKS: u8 = 3;

native::startup::before_constructors!(answer_without_libtorch);

/// Help, the version, shell completions, man pages and errors of usage.
fn answer_without_libtorch(args: Vec<OsString>) {
    let answer = match cli::parse(args) {
        Ok(Parsed { cli, given }) => match cli.command {
            Some(command @ (Command::Completions(_) | Command::Man(_))) => side_program(&command).map(|()| 0),
            Some(_) => return,
            None => match Config::new(cli.run, &given) {
                Ok(_) => return,
                Err(error) => Err(error.into()),
            },
        },
        Err(error) => Err(error.into()),
    };
    end(answer)
}

fn main() {
    end(carry_out())
}

fn end(result: Result<u8>) -> ! {
    let error = match result {
        Ok(code) => native::exit(code),
        Err(error) => error,
    };
    // Not `eprintln!`, which panics where stderr is closed.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    native::exit(match error {
        _ if error.is::<UsageError>() => EXIT_USAGE,
        _ if error.is::<LostRanks>() => EXIT_LOST_RANKS,
        _ => EXIT_FAILURE,
    })
}

/// The exit code, which a launcher takes from its workers.
fn carry_out() -> Result<u8> {
    let Parsed { cli, given } = cli::parse(std::env::args_os())?;
    if let Some(command) = cli.command {
        return failure::catch(|| side_program(&command)).map(|()| 0);
    }
    let config = Config::new(cli.run, &given)?;
    match distributed::role(config.nproc_per_node, environment::place()?)? {
        Role::Launcher(workers) => launch::launch(workers),
        Role::Worker(place) => {
            launch::follow_launcher()?;
            native::keep_freed_memory();
            run::run(&config, place.as_ref())
        }
    }
}

fn side_program(command: &Command) -> Result<()> {
    match command {
        Command::Phantom(args) => phantom::phantom(args),
        Command::Inspect(args) => inspect::inspect(&args.data_dir),
        Command::Report(args) => report::report(&args.logs),
        Command::Score(args) => score::score(args),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => manual::completions(args.shell),
        Command::Man(args) => manual::man(args.command.as_deref()),
        Command::Export(args) => {
            native::keep_freed_memory();
            export::export(args)
        }
        Command::Layers(args) => {
            native::keep_freed_memory();
            layer_benchmark::run(args)
        }
    }
}
