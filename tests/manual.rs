//! The completions and man pages that the program prints, read by the programs that they are for. Programs that are not
//! installed are left out with a message.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{TestDir, fails, stdout, text};

const SUBCOMMANDS: [&str; 10] =
    ["phantom", "inspect", "preview", "report", "score", "check", "layers", "export", "completions", "man"];

/// Runs a program with a text as its input; what it printed to stdout and stderr. `None`, with a message, where it is
/// not installed.
fn run(program: &str, args: &[&str], input: &str) -> Option<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    fs::write(&path, input).unwrap();
    let input = fs::File::open(path).unwrap();
    let mut command = Command::new(program);
    // The width is that of a file: 80 columns, without colours.
    command.args(args).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").env_remove("MANOPT");
    let Ok(output) = command.stdin(Stdio::from(input)).output() else {
        eprintln!("skipped: no '{program}' here");
        return None;
    };
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
    Some((text(&output.stdout), text(&output.stderr)))
}

fn completions(shell: &str) -> String {
    stdout(&TestDir::new().unet(&["completions", shell]).success())
}

#[test]
fn bash_completes_flags_values_and_commands() {
    let cases = [
        ("unet --exec_mode tr", "train train_and_predict train_and_evaluate"),
        ("unet --cross", "--crossvalidation_idx"),
        ("unet --data_dir data --device c", "cpu cuda"),
        ("unet --use_", "--use_amp --use_xla"),
        ("unet ph", "phantom"),
        ("unet phantom --sl", "--slices"),
        ("unet completions z", "zsh"),
    ];
    let completions = completions("bash");
    for (line, expected) in cases {
        // Bash sets these before it calls the function that `complete` named: all words, and which one to complete.
        let call = format!(
            "words=({line}); COMP_WORDS=(\"${{words[@]}}\"); COMP_CWORD=$((${{#words[@]}} - 1))\n\
             handler=$(complete -p unet | sed 's/.* -F \\([^ ]*\\) .*/\\1/')\n\
             \"$handler\" unet \"${{words[COMP_CWORD]}}\" \"${{words[COMP_CWORD - 1]}}\"\n\
             echo \"${{COMPREPLY[*]}}\"\n"
        );
        let script = format!("set -e\n{completions}\n{call}");
        let Some((found, errors)) = run("bash", &["-s"], &script) else { return };
        assert_eq!(found.trim(), expected, "{line}: {errors}");
    }
}

#[test]
fn fish_completes_flags_values_and_commands() {
    let cases = [
        ("unet --exec_mode tr", "train train_and_evaluate train_and_predict"),
        ("unet --cross", "--crossvalidation_idx"),
        ("unet ph", "phantom"),
        ("unet --data_dir data --amp --device c", "cpu cuda"),
        ("unet phantom --sl", "--slices"),
    ];
    let completions = completions("fish");
    for (line, expected) in cases {
        let script = format!("{completions}\ncomplete -C '{line}'\n");
        let Some((found, _)) = run("fish", &["--no-config"], &script) else { return };
        // A tab and a description follow each word.
        let words: Vec<&str> = found.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(words.join(" "), expected, "{line}");
    }
}

/// The functions of zsh's completion system work in its line editor alone; here stand-ins print what they are told.
#[test]
fn zsh_is_told_flags_values_and_commands() {
    let script = format!(
        "compdef() {{ :; }}\n\
         _arguments() {{ print -l -- \"$@\"; return 1; }}\n\
         _describe() {{ print -l -- \"${{(@P)4}}\"; }}\n\
         {}\n\
         words=(unet); CURRENT=2; _unet; _unet_commands\n",
        completions("zsh")
    );
    let Some((told, errors)) = run("zsh", &["-f", "-s"], &script) else { return };
    assert_eq!(errors, "");
    let has = |words: &[&str]| told.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["--exec_mode=", ":(train train_and_predict predict evaluate train_and_evaluate)"]), "{told}");
    assert!(has(&["--data_dir=", "_files -/"]), "{told}");
    for command in SUBCOMMANDS {
        assert!(has(&[&format!("{command}:")]), "no {command} in {told}");
    }
}

#[test]
fn an_unknown_shell_or_page_is_refused() {
    let dir = TestDir::new();
    fails(dir.unet(&["completions", "csh"]), 2, &["csh", "bash, zsh, fish"]);
    fails(dir.unet(&["completions"]), 2, &["SHELL"]);
    fails(dir.unet(&["man", "train"]), 2, &["'train'", "phantom, inspect"]);
}

#[test]
fn man_pages_render_without_a_warning() {
    let dir = TestDir::new();
    for command in [""].into_iter().chain(SUBCOMMANDS) {
        let args: Vec<&str> = ["man"].into_iter().chain(command.split_whitespace()).collect();
        let page = stdout(&dir.unet(&args).success());
        if let Some((_, errors)) = run("groff", &["-man", "-ww", "-Tutf8"], &page) {
            assert_eq!(errors, "", "unet man {command}");
        }
        // mandoc counts long lines as style, below warnings.
        if let Some((found, _)) = run("mandoc", &["-T", "lint", "-W", "error"], &page) {
            assert_eq!(found, "", "unet man {command}");
        }
    }
}

#[test]
fn the_man_page_has_what_help_has_and_more() {
    let dir = TestDir::new();
    let help = stdout(&dir.unet(&["--help"]).success());
    let page = stdout(&dir.unet(&["man"]).success());
    let Some((shown, _)) = run("man", &["-l", "-"], &page) else { return };
    // man may overstrike letters, and breaks words at hyphens.
    let shown = shown.replace('\u{8}', "").replace("\u{2010}\n", "");
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let flags = help.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
    for flag in flags.filter(|word| word.starts_with("--") && word.len() > 2 && !word.contains("data-dir")) {
        assert!(shown.contains(flag), "no {flag} in {shown}");
    }
    for words in [
        "unet --data_dir <DIR> [OPTIONS]",
        "unet <COMMAND> [OPTIONS]",
        "DEVICE AND PRECISION",
        "[default: 0.0005]",
        "train_and_evaluate",
        "also --use_amp",
        "unet-phantom(1)",
        "EXIT STATUS 0 Done.",
        "unet --data_dir data --model_dir results --exec_mode predict",
        concat!("unet ", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(shown.contains(words), "no '{words}' in {shown}");
    }
}

#[test]
fn a_closed_pipe_behind_the_program_causes_no_panic() {
    let dir = TestDir::new();
    let unet = Path::new(env!("CARGO_BIN_EXE_unet"));
    for args in ["man", "completions bash"] {
        let line = format!("'{}' {args} | true; echo ${{PIPESTATUS[0]}}", unet.display());
        let output = Command::new("bash").args(["-c", &line]).current_dir(dir.path(".")).output().unwrap();
        assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    }
}
