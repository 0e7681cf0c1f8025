//! The subcommands: one file or folder each, and the choice among them.

use anyhow::Result;

use crate::cli::Command;
use crate::native::process::keep_freed_memory;

mod check;
mod export;
mod inspect;
mod layers;
mod manual;
pub mod phantom;
mod preview;
mod report;
mod score;

/// Carries out a subcommand.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Phantom(args) => phantom::phantom(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Preview(args) => preview::preview(args),
        Command::Report(args) => report::report(args),
        Command::Score(args) => score::score(args),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => manual::completions(args.shell),
        Command::Man(args) => manual::man(args.command.as_deref()),
        Command::Export(args) => {
            keep_freed_memory();
            export::export(args)
        }
        Command::Layers(args) => {
            keep_freed_memory();
            layers::run(args)
        }
    }
}

/// Whether a subcommand may need libtorch; the others can answer before it is set up.
pub fn needs_libtorch(command: &Command) -> bool {
    !matches!(command, Command::Completions(_) | Command::Man(_))
}
