//! Spellings of switches that scripts for other programs have: `--no-augment`, `--augment=True`, `--use_amp false`.
//!
//! Source: argparse's pairs `--augment` and `--no-augment` of earlier versions of the reference, its `type=bool` and
//! `BooleanOptionalAction`. All switches are off unless they are given, so that "off" takes earlier ones away.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Command, ValueEnum};

use super::values::ExecMode;

/// The switches of a command by their names, with `_` between words and without `--`; the value is the first name.
type Switches = BTreeMap<String, String>;

/// `args` in the program's own spelling; what is no switch stays as it is.
pub fn own_spelling(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let args: Vec<OsString> = args.into_iter().collect();
    let word = |at: usize| args.get(at).and_then(|arg| arg.to_str());
    let subcommand = word(1).and_then(|name| command.find_subcommand(name));
    let switches = switches(subcommand.unwrap_or(command));
    let mut kept: Vec<(OsString, Option<String>)> = Vec::new();
    let mut at = 0;
    while at < args.len() {
        let arg = args[at].clone();
        at += 1;
        let text = word(at - 1).unwrap_or_default();
        if text == "--" {
            kept.extend(args[at - 1..].iter().map(|arg| (arg.clone(), None)));
            break;
        }
        let Some(Switch { name, mut is_on, value }) = Switch::read(text, &switches) else {
            kept.push((arg, None));
            continue;
        };
        match value {
            Some(value) => match truth(value) {
                Some(truth) => is_on = is_on == truth,
                // Its error is clap's.
                None => {
                    kept.push((arg, None));
                    continue;
                }
            },
            // A word behind a switch is its value; subcommands have words of their own.
            None => {
                if let Some(truth) = word(at).filter(|_| subcommand.is_none()).and_then(truth) {
                    is_on = is_on == truth;
                    at += 1;
                }
            }
        }
        if is_on {
            kept.push((format!("--{name}").into(), Some(name)));
        } else {
            kept.retain(|(_, switch)| switch.as_ref() != Some(&name));
        }
    }
    kept.into_iter().map(|(arg, _)| arg).collect()
}

fn switches(command: &Command) -> Switches {
    let mut switches = Switches::new();
    for arg in command.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue)) {
        let names = arg.get_long_and_visible_aliases().unwrap_or_default();
        for name in &names {
            switches.insert(name.replace('-', "_"), names[0].to_owned());
        }
    }
    switches
}

struct Switch<'a> {
    name: String,
    is_on: bool,
    /// What follows `=`.
    value: Option<&'a str>,
}

impl<'a> Switch<'a> {
    /// `None`: not a switch, in either spelling.
    fn read(text: &'a str, switches: &Switches) -> Option<Self> {
        let (name, value) = match text.strip_prefix("--")?.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.strip_prefix("--")?, None),
        };
        let name = name.replace('-', "_");
        let of = |name: &str| switches.get(name).cloned();
        if let Some(name) = of(&name) {
            return Some(Self { name, is_on: true, value });
        }
        let negated = match name.strip_prefix("no_") {
            Some(positive) => of(positive),
            None => of(&format!("no_{name}")),
        };
        negated.map(|name| Self { name, is_on: false, value })
    }
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What to propose for an unknown flag in place of clap's `tip`, where that is the opposite, such as `--seed` for
/// `--no-seed`.
pub fn proposal<'a>(message: &str, tip: Option<&'a str>) -> Option<&'a str> {
    let is_negative = |text: &str| text.contains("'--no-") || text.contains("'--no_");
    match (is_negative(message), tip.map(is_negative)) {
        (true, None | Some(false)) => Some("what a flag switches on is off without it, so leave it out"),
        (false, Some(true)) => None,
        _ => tip,
    }
}

/// What to propose where a mode stands in place of a subcommand.
pub fn mode_for(word: &str) -> Option<String> {
    let mode = match word {
        // Other programs' words.
        "eval" | "val" | "validate" => "evaluate",
        "test" | "infer" | "inference" | "segment" => "predict",
        _ => word,
    };
    ExecMode::from_str(mode, true).is_ok().then(|| format!("to do that give --exec_mode {mode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let args = line.split_whitespace().map(OsString::from);
        let own = own_spelling(std::iter::once("unet".into()).chain(args), &super::super::command());
        own[1..].iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn switches_may_be_negated_or_have_a_truth_value() {
        let cases = [
            ("--no-augment --seed 1", "--seed 1"),
            ("--no_augment", ""),
            ("--augment=True", "--augment"),
            ("--augment=0 --xla", "--xla"),
            ("--use_amp true --max_steps 5", "--amp --max_steps 5"),
            ("--use-amp False", ""),
            ("--no-use_amp", ""),
            ("--no-augment=False", "--augment"),
            ("--augment --no-augment", ""),
            ("--no-augment --augment", "--augment"),
            ("--no_tf32", "--no_tf32"),
            ("--tf32", ""),
            ("--no_tf32 --tf32=false", "--no_tf32 --no_tf32"),
            ("--data_dir true --batch_size 1", "--data_dir true --batch_size 1"),
            ("--augment=maybe", "--augment=maybe"),
            ("-- --no-augment", "-- --no-augment"),
            ("score --json=true a.tif b.tif", "score --json a.tif b.tif"),
            ("score --json true b.tif", "score --json true b.tif"),
        ];
        for (line, own) in cases {
            assert_eq!(spelled(line), own, "{line}");
        }
    }

    #[test]
    fn a_proposal_is_never_the_opposite() {
        let (seed, tf32) = ("a similar argument exists: '--seed'", "a similar argument exists: '--no_tf32'");
        let of = |flag: &str, tip| proposal(&format!("unexpected argument '{flag}' found"), tip);
        assert!(of("--no-seeds", Some(seed)).unwrap().contains("leave it out"));
        assert!(of("--no-thing", None).unwrap().contains("leave it out"));
        assert_eq!(of("--sed", Some(seed)), Some(seed));
        assert_eq!(of("--no-tf", Some(tf32)), Some(tf32));
        assert_eq!(of("--tf", Some(tf32)), None);
        assert_eq!(of("--thing", None), None);
    }
}
