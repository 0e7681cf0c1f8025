//! `unet report`: mean and deviation of the scores over folds (reference `utils/parse_results.py`), and a page that
//! shows runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::checkpoint;
use crate::cli::ReportArgs;
use crate::files;
use crate::output::html;
use crate::output::html::compare::{deviation, mean};
use crate::output::html::run::Run;
use crate::output::model_dir::ModelDir;

/// The figures that are averaged, with the words for the table.
const FIGURES: [(&str, &str); 6] = [
    ("eval_dice_score", "Dice"),
    ("eval_ce_loss", "cross entropy"),
    ("v_rand_thin", "V_Rand"),
    ("v_info_thin", "V_Info"),
    ("mean_dice", "mean Dice"),
    ("mean_iou", "mean IoU"),
];
/// The first of them are in every evaluation; the others are not in those of the reference and of PyTorch.
const REQUIRED: usize = 2;

type FileScores = [Option<f64>; FIGURES.len()];

/// Prints one line per file or model folder, and the mean and deviation over all of the figures that all have; writes
/// the page where one is asked for.
///
/// Errors: a file that cannot be read or holds no evaluation, and a page that is there already.
pub fn report(args: &ReportArgs) -> Result<()> {
    let Some(page) = &args.html else { return table(&args.logs) };
    if page.exists() && !args.overwrite {
        bail!("'{}' is there already; use --overwrite to replace it, or another --html", page.display());
    }
    let runs = args.logs.iter().map(|path| Ok(run(path)?.linked(page, &folder(path)))).collect::<Result<Vec<Run>>>()?;
    // Runs that have trained alone have curves to show, and nothing to average.
    let evaluated: Vec<PathBuf> = args.logs.iter().filter(|path| evaluation(path).is_file()).cloned().collect();
    if !evaluated.is_empty() {
        table(&evaluated)?;
    }
    html::write_comparison(page, &runs)?;
    println!("report: {}", page.display());
    Ok(())
}

/// The file with the scores of a run: in its model folder, or what is given itself.
fn evaluation(path: &Path) -> PathBuf {
    if path.is_dir() { ModelDir::new(path).scores() } else { path.to_owned() }
}

/// The model folder of a run: what is given, or where the given file is.
fn folder(path: &Path) -> ModelDir {
    ModelDir::new(if path.is_dir() { path } else { files::folder(path) })
}

/// What the page shows of a model folder, or of a file: the figures that it records.
fn run(path: &Path) -> Result<Run> {
    let name = path.display().to_string();
    if path.is_dir() {
        let run = Run::of_folder(name, &ModelDir::new(path))?;
        if run.is_empty() {
            bail!(
                "no config.json, eval.json or learning_curves.csv in '{}'; give the --model_dir of a run",
                path.display()
            );
        }
        return Ok(run);
    }
    let figures = FIGURES.iter().zip(read(path)?);
    let scores: Map<String, Value> =
        figures.filter_map(|((key, _), value)| Some(((*key).to_owned(), json!(value?)))).collect();
    Ok(Run::of_scores(name, scores))
}

fn table(logs: &[PathBuf]) -> Result<()> {
    let rows = logs.iter().map(|path| read(path)).collect::<Result<Vec<FileScores>>>()?;
    for (row, path) in rows.iter().zip(logs) {
        println!("{}  {}", words(row), path.display());
    }
    let columns: [Vec<f64>; FIGURES.len()] =
        std::array::from_fn(|figure| rows.iter().filter_map(|row| row[figure]).collect());
    for (column, (key, _)) in columns.iter().zip(FIGURES) {
        if !column.is_empty() && column.len() < logs.len() {
            eprintln!("warning: {key} is in {} of {} files, and not averaged", column.len(), logs.len());
        }
    }
    let over_all = |statistic: fn(&[f64]) -> f64| {
        columns.each_ref().map(|column| (column.len() == logs.len()).then(|| statistic(column)))
    };
    sameness(&logs.iter().map(|path| evaluation(path)).collect::<Vec<_>>())
        .iter()
        .for_each(|warning| eprintln!("warning: {warning}"));
    println!("mean of {}: {}", logs.len(), words(&over_all(mean)));
    if logs.len() > 1 {
        println!("standard deviation: {}", words(&over_all(|values| deviation(values).unwrap_or(0.0))));
    }
    Ok(())
}

/// Warnings of runs that are no folds of a cross-validation: those that validate the same slices, and those with the
/// same weights. What a run is is found in `config.json` and `model.safetensors` beside its file, or in `log.json`.
fn sameness(logs: &[PathBuf]) -> Vec<String> {
    let slices = groups(logs, validated);
    let weights = groups(logs, |path| {
        let file = ModelDir::new(path.parent().filter(|folder| !folder.as_os_str().is_empty())?).weights();
        checkpoint::tensor_checksum(&file).ok()
    });
    let of_slices = slices.into_iter().map(|group| {
        format!("{group} validate the same slices: their mean and deviation are not those of a cross-validation")
    });
    let of_weights = weights.into_iter().map(|group| format!("{group} are of the same weights: they are one run"));
    of_slices.chain(of_weights).collect()
}

/// The names of files that share a key, a text for each group of several.
fn groups(logs: &[PathBuf], key: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in logs {
        if let Some(key) = key(path) {
            by_key.entry(key).or_default().push(format!("'{}'", path.display()));
        }
    }
    by_key.into_values().filter(|names| names.len() > 1).map(|names| names.join(", ")).collect()
}

/// Validation slices and data of a run, as a text; `None` where its record does not tell.
fn validated(path: &Path) -> Option<String> {
    let beside = fs::read(path.with_file_name("config.json")).ok();
    let beside = beside.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let text = || String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let own = || records(&text()).into_iter().rev().find(|record| record.get("validation_slices").is_some());
    let record = own().or(beside)?;
    let slices: Vec<u64> = record.get("validation_slices")?.as_array()?.iter().filter_map(Value::as_u64).collect();
    let slices: BTreeSet<u64> = slices.into_iter().collect();
    let data = record.pointer("/datasets/0/sha256").and_then(Value::as_str).unwrap_or_default();
    (!slices.is_empty()).then(|| format!("{slices:?} {data}"))
}

fn words(row: &FileScores) -> String {
    let cells =
        FIGURES.iter().zip(row).filter_map(|((_, words), value)| value.map(|value| format!("{words} {value:.4}")));
    cells.collect::<Vec<_>>().join("  ")
}

fn read(path: &Path) -> Result<FileScores> {
    let (given, path) = (path, &evaluation(path));
    if given.is_dir() && !path.exists() {
        bail!(
            "no scores in '{}' ('{}'): evaluate the run first (--exec_mode evaluate --crossvalidation_idx FOLD)",
            given.display(),
            path.display()
        );
    }
    let text = fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let records = records(&text);
    let row = FIGURES.map(|(key, _)| match &records[..] {
        [] => last_in_text(&text, key),
        records => last_in_records(records, key),
    });
    match FIGURES.iter().zip(row).take(REQUIRED).find(|(_, value)| value.is_none()) {
        None => Ok(row),
        Some(((key, _), _)) => {
            bail!("no {key} in '{}'; give the output, log.json or eval.json of a run that evaluated", path.display())
        }
    }
}

/// What a file records as JSON: eval.json one object, log.json the `data` of each DLLogger line. Captured output
/// records nothing. A last line that was cut short is left out.
fn records(text: &str) -> Vec<Value> {
    if let Ok(scores @ Value::Object(_)) = serde_json::from_str(text) {
        return vec![scores];
    }
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("DLLL "));
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|mut record| record.get_mut("data").map(Value::take)).collect()
}

/// The number under `key` in the last record that has one.
fn last_in_records(records: &[Value], key: &str) -> Option<f64> {
    records.iter().rev().find_map(|record| record.get(key)?.as_f64())
}

/// The number behind the last `key` in captured output.
fn last_in_text(text: &str, key: &str) -> Option<f64> {
    text.rmatch_indices(key).find_map(|(start, _)| {
        let rest = text[start + key.len()..].trim_start_matches(['"', ':', '=', ' ', '\t']);
        let end = rest.find(|c: char| !(c.is_ascii_digit() || ".+-eE".contains(c))).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_captured_output_and_the_last_counts() {
        let output =
            "step 10  train_ce_loss 0.3\neval_ce_loss 0.1000  eval_dice_score 0.5000\neval_dice_score 0.9125\n";
        assert!(records(output).is_empty());
        assert_eq!(last_in_text(output, "eval_dice_score"), Some(0.9125));
        assert_eq!(last_in_text(output, "eval_ce_loss"), Some(0.1));
        assert_eq!(last_in_text("eval_dice_score: none", "eval_dice_score"), None);
    }

    #[test]
    fn figures_are_read_from_the_records_of_log_and_scores() {
        let log = "DLLL {\"step\": [], \"data\": {\"eval_ce_loss\": 1.5e-1, \"note\": \"eval_ce_loss 9\"}}\n\
                   DLLL {\"step\": [], \"data\": {\"eval_ce_loss\": 0.125}}\n\
                   DLLL {\"type\": \"METADATA\", \"metric\": \"eval_ce_loss\"}\nDLLL {\"data\": {\"eval_ce_l";
        assert_eq!(last_in_records(&records(log), "eval_ce_loss"), Some(0.125));
        let scores = records("{\n  \"v_rand_thin\": 0.5, \"v_rand_thin_threshold\": 0.2\n}");
        assert_eq!(last_in_records(&scores, "v_rand_thin"), Some(0.5));
        assert_eq!(last_in_records(&scores, "v_rand"), None);
    }

    #[test]
    fn runs_on_the_same_slices_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut logs = Vec::new();
        for (name, slices) in [("a", "[1, 2]"), ("b", "[3]"), ("c", "[2, 1]"), ("d", "[]")] {
            let run = folder.path().join(name);
            fs::create_dir(&run).unwrap();
            let record = format!(r#"{{"validation_slices": {slices}, "datasets": [{{"sha256": "x"}}]}}"#);
            fs::write(run.join("config.json"), record).unwrap();
            fs::write(run.join("eval.json"), "{}").unwrap();
            logs.push(run.join("eval.json"));
        }
        let found = sameness(&logs);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("/a/eval.json', '") && found[0].contains("/c/eval.json' validate the same"));
    }
}
