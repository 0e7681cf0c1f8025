//! `unet completions` and `unet man`: what a shell and `man` are told about the command line, made from `cli/` by
//! clap's own generators.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::ValueHint;
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::cli::{self, Shell};
use crate::error::UsageError;

/// How fish's script of clap_complete 4.6 looks whether a command is given. It fails while the last flag still wants
/// its value, and the values of no flag are offered then (tests/manual.rs has such a line); so that flag is left out
/// the second time.
const FISH_PARSE: &str = "    argparse -s (__fish_unet_global_optspecs) -- $cmd 2>/dev/null\n";
const FISH_PARSE_WITHOUT_LAST: &str = "    argparse -s (__fish_unet_global_optspecs) -- $cmd 2>/dev/null\n    \
                                       or argparse -s (__fish_unet_global_optspecs) -- $cmd[1..-2] 2>/dev/null\n";

/// Prints the completion script for `shell`.
pub fn completions(shell: Shell) -> Result<()> {
    // So that the shell offers folders where a folder is meant.
    fn with_folders(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| {
            let takes_folder = arg.get_value_names().is_some_and(|names| names == ["DIR"]);
            if takes_folder { arg.value_hint(ValueHint::DirPath) } else { arg }
        })
    }
    let mut command = with_folders(cli::command()).mut_subcommands(with_folders);
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut command, "unet", &mut script),
        Shell::Zsh => generate(Zsh, &mut command, "unet", &mut script),
        Shell::Fish => {
            generate(Fish, &mut command, "unet", &mut script);
            script = String::from_utf8(script)?.replacen(FISH_PARSE, FISH_PARSE_WITHOUT_LAST, 1).into_bytes();
        }
    }
    print(&script)
}

/// In place of a line with every flag, which their sections have.
const SYNOPSIS: &str = "unet --data_dir <DIR> [OPTIONS]\nunet <COMMAND> [OPTIONS]";
/// What the program's page has besides, as roff: `.TP` is a term and its text, `.nf` begins lines that stay as they
/// are.
const MORE_SECTIONS: &str = r#".SH "EXIT STATUS"
.TP
0
Done.
.TP
1
The work could not be done; a line on standard error says why.
.TP
2
The command line makes no sense; nothing was touched.
.TP
3
This process lost the others of its run, one of which has the error.
.TP
128 + N
Signal N ended training, with a checkpoint.
.SH NOTES
Every flag may be spelled with dashes too (\-\-data\-dir).
Of a repeated flag the last counts.
.SH EXAMPLES
.nf
unet phantom \-\-out data
unet \-\-data_dir data \-\-model_dir results \-\-crossvalidation_idx 0 \-\-augment \e
    \-\-exec_mode train_and_evaluate
unet \-\-data_dir data \-\-model_dir results \-\-exec_mode predict
.fi
"#;

/// Prints the man page of the program, or of one of its subcommands, as roff.
///
/// Errors: no such subcommand.
pub fn man(subcommand: Option<&str>) -> Result<()> {
    let with_all_names = |command: clap::Command| command.mut_args(with_aliases);
    let mut program =
        with_all_names(cli::command()).mut_subcommands(with_all_names).override_usage(SYNOPSIS).after_help(None);
    // Gives subcommands their full names and the flags that all have.
    program.build();
    let command = match subcommand {
        None => program,
        Some(name) => program.find_subcommand(name).cloned().ok_or_else(|| no_such(name, &program))?,
    };
    let source = concat!("unet ", env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command).source(source).manual("User Commands").render(&mut page)?;
    if subcommand.is_none() {
        page.extend_from_slice(MORE_SECTIONS.as_bytes());
    }
    print(&page)
}

fn no_such(name: &str, program: &clap::Command) -> UsageError {
    let names: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
    UsageError::new(format!("unet has no command '{name}'; its commands are {}", names.join(", ")))
}

/// The page's generator leaves the other names of a flag out.
fn with_aliases(arg: clap::Arg) -> clap::Arg {
    let names: Vec<String> =
        arg.get_visible_aliases().unwrap_or_default().iter().map(|name| format!("--{name}")).collect();
    match arg.get_help() {
        Some(help) if !names.is_empty() => {
            let help = format!("{help}; also {}", names.join(", "));
            arg.help(help)
        }
        _ => arg,
    }
}

fn print(text: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).context("cannot write to standard output")
}
