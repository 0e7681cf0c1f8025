//! The last line of a run: what to do next, with the command for it.

use std::ffi::OsString;
use std::path::Path;

use crate::cli::config::{Config, Source};
use crate::cli::{DeviceChoice, WeightsChoice};
use crate::data::layout::Layout;

/// What to do after a run that has come to its end. `report` is the page that it has written, where it has one.
pub fn after(config: &Config, program: &str, report: Option<&Path>) -> Option<String> {
    let look = report.map(|page| format!("open {} in a browser", quoted([page.display().to_string()])));
    let predict = (!config.exec_mode.predicts()).then(|| format!("predict with: {}", prediction(config, program)));
    let steps: Vec<String> = look.into_iter().chain(predict).collect();
    (!steps.is_empty()).then(|| format!("next: {}", steps.join("; ")))
}

/// What to do after a training that a signal has stopped. `command_line` is that of the run, in the program's own
/// spelling.
pub fn after_stop(command_line: &[OsString]) -> String {
    const RESUME: &str = "--resume_training";
    // A run that begins anew would lose what was done.
    let kept = command_line.iter().filter(|word| *word != "--overwrite" && *word != RESUME);
    let words = kept.map(|word| word.to_string_lossy().into_owned()).chain([RESUME.to_owned()]);
    format!("next: go on with: {}", quoted(words))
}

/// The command that predicts the images of the dataset, or where it has none those of a folder that is to be named.
fn prediction(config: &Config, program: &str) -> String {
    let mut words = vec![program.to_owned(), "--exec_mode".to_owned(), "predict".to_owned()];
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    match &config.source {
        Source::Dataset(folder) if Layout::find(folder).is_ok_and(|layout| !layout.test.is_empty()) => {
            add("--data_dir", folder.display().to_string());
        }
        _ => {
            add("--input", "IMAGES".to_owned());
            add("--output", "MASKS".to_owned());
        }
    }
    add("--model_dir", config.model_dir.display().to_string());
    match config.device {
        DeviceChoice::Auto => {}
        DeviceChoice::Cpu => add("--device", "cpu".to_owned()),
        DeviceChoice::Cuda => add("--device", "cuda".to_owned()),
    }
    if config.weights == WeightsChoice::Best {
        add("--weights", "best".to_owned());
    }
    if config.amp {
        words.push("--amp".to_owned());
    }
    quoted(words)
}

/// Words as a shell takes them.
fn quoted(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().collect();
    // A word with a byte of 0, which no command line has, stays as it is.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn config(line: &str) -> Config {
        let args = std::iter::once("unet").chain(line.split(' ')).map(|word| OsString::from(word.replace('~', " ")));
        let parsed = cli::parse(args).unwrap();
        Config::new(parsed.cli.run, &parsed.given).unwrap()
    }

    #[test]
    fn a_training_is_followed_by_its_prediction() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        for name in ["train-volume.tif", "train-labels.tif"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let page = Some(Path::new("my run/report.html"));
        let own = config(&format!("--data_dir {data} --model_dir my~run --device cpu --amp"));
        let open = "next: open 'my run/report.html' in a browser; predict with: unet --exec_mode predict";
        let rest = "--model_dir 'my run' --device cpu --amp";
        assert_eq!(after(&own, "unet", page).unwrap(), format!("{open} --input IMAGES --output MASKS {rest}"));
        std::fs::write(folder.path().join("test-volume.tif"), "").unwrap();
        assert_eq!(after(&own, "unet", page).unwrap(), format!("{open} --data_dir {data} {rest}"));
        let predicted = config(&format!("--data_dir {data} --exec_mode predict"));
        assert_eq!(after(&predicted, "unet", page).unwrap(), "next: open 'my run/report.html' in a browser");
        assert_eq!(after(&predicted, "unet", None), None);
    }

    #[test]
    fn a_stopped_training_goes_on_by_its_own_command_line() {
        let words = |line: &str| line.split(' ').map(|word| word.replace('~', " ").into()).collect::<Vec<OsString>>();
        let line = after_stop(&words("./unet --data_dir a~b --overwrite --max_steps 10"));
        assert_eq!(line, "next: go on with: ./unet --data_dir 'a b' --max_steps 10 --resume_training");
        let again = after_stop(&words("unet --data_dir a --resume_training --seed 1"));
        assert_eq!(again, "next: go on with: unet --data_dir a --seed 1 --resume_training");
    }
}
