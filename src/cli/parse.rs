//! From the words of a command line to flags: every snake_case flag has a kebab-case spelling, and an error is one
//! line.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches};

use super::values::path;
use super::{Cli, spellings};
use crate::error::UsageError;

/// The parsed command line and which flags were given rather than defaulted.
pub struct Parsed {
    pub cli: Cli,
    pub given: Vec<String>,
}

/// Parses `args`; help and version are printed and end the process, as clap does it.
///
/// Errors: one line for anything that is not a valid command line.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    match try_parse(args) {
        Err(error) if !error.use_stderr() => error.exit(),
        parsed => parsed.map_err(|error| UsageError::new(one_line(&error))),
    }
}

/// Errors: clap's, among which are help and version.
pub fn try_parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let command = command();
    let args = spellings::own_spelling(args, &command);
    let matches = command.try_get_matches_from(args)?;
    let given = matches
        .ids()
        .map(|id| id.as_str())
        .filter(|id| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine))
        .map(str::to_owned)
        .collect();
    Ok(Parsed { cli: Cli::from_arg_matches(&matches)?, given })
}

/// The words of this process's command line, with switches in the program's own spelling.
pub fn own_command_line() -> Vec<OsString> {
    spellings::own_spelling(std::env::args_os(), &command())
}

/// The clap command with a kebab-case alias for every snake_case flag, and paths that are checked.
pub fn command() -> clap::Command {
    fn with_kebab_case(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| {
            let names: Vec<String> = arg
                .get_long_and_visible_aliases()
                .unwrap_or_default()
                .into_iter()
                .filter(|name| name.contains('_'))
                .map(|name| name.replace('_', "-"))
                .collect();
            // So that -1 is refused as a value of its flag, not as an unknown flag.
            let takes_value = matches!(arg.get_action(), ArgAction::Set);
            let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let arg = arg.aliases(names).allow_negative_numbers(takes_value);
            if is_path { arg.value_parser(PathBufValueParser::new().try_map(path)) } else { arg }
        })
    }
    with_kebab_case(Cli::command()).mut_subcommands(with_kebab_case)
}

/// clap's message without the usage block: the first paragraph, and its tip where there is one.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let words =
        |lines: &mut dyn Iterator<Item = &str>| lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    let first = words(&mut text.lines().take_while(|line| !line.trim().is_empty()));
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let mut tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let mode = unknown_word(error).and_then(spellings::mode_for);
    match error.kind() {
        ErrorKind::UnknownArgument => tip = spellings::proposal(&message, tip),
        ErrorKind::InvalidSubcommand if mode.is_some() => tip = mode.as_deref(),
        _ => {}
    }
    match tip {
        Some(tip) => format!("{message}; {tip}; see unet --help"),
        None => format!("{message}; see unet --help"),
    }
}

/// The word that was taken for a subcommand and is none.
fn unknown_word(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(word) => Some(word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let args = line.split_whitespace().map(OsString::from);
        parse(std::iter::once("unet".into()).chain(args)).err().unwrap().to_string()
    }

    #[test]
    fn a_mode_in_place_of_a_subcommand_is_told_as_a_flag() {
        for (word, mode) in [("train", "train"), ("predict", "predict"), ("eval", "evaluate"), ("test", "predict")] {
            let told = told(&format!("{word} --data_dir data"));
            assert!(told.contains(&format!("give --exec_mode {mode}")) && !told.contains("preview"), "{told}");
        }
        assert!(told("inspct --data_dir data").contains("'inspect'"));
    }

    #[test]
    fn what_a_shell_has_not_replaced_is_no_path() {
        for line in ["--data_dir=~/data", "--data_dir data --model_dir=~", "phantom --out $HOME/x", "--input a ~/b"] {
            let told = told(line);
            assert!(told.contains("the shell has not replaced") && told.contains("./"), "{told}");
        }
        let args = ["unet", "--data_dir", "./~/data", "--model_dir", "a~/$b", "--log_dir", "~backup"];
        assert!(parse(args.map(OsString::from)).is_ok());
    }
}
