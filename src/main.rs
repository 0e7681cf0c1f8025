//! `unet` trains, evaluates and runs the U-Net of Ronneberger et al. (2015). This file is the table of contents.

use anyhow::Result;

use cli::task::{Task, introduce, task};
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

native::startup::before_constructors!(answer_without_libtorch);

/// Answers help, version, completions, man pages, errors of usage and an empty command line; leaves everything else to
/// `main`.
fn answer_without_libtorch(args: Vec<std::ffi::OsString>) {
    match task(args) {
        Ok(Task::Tool(command)) if !tools::needs_libtorch(&command) => end(tools::run(&command).map(|()| 0)),
        Ok(Task::Nothing) => end(Ok(introduce())),
        Ok(_) => {}
        Err(error) => end(Err(error.into())),
    }
}

fn main() {
    end(task(std::env::args_os()).map_err(Into::into).and_then(carry_out))
}

/// The exit code, which a launcher takes from its workers.
fn carry_out(task: Task) -> Result<u8> {
    files::fail_beyond_size_limit()?;
    let config = match task {
        Task::Tool(command) => return error::catch(|| tools::run(&command).map(|()| 0)),
        Task::Nothing => return Ok(introduce()),
        Task::Run(config) => config,
    };
    match distributed::role(config.nproc_per_node, environment::rank()?)? {
        Role::Launcher(workers) => launcher::launch(workers),
        Role::Worker(rank) => {
            launcher::follow_launcher()?;
            process::keep_freed_memory();
            run::run(&config, rank.as_ref())
        }
    }
}

fn end(result: Result<u8>) -> ! {
    process::exit(result.unwrap_or_else(|error| error::report(&error)))
}
