//! `unet report`: mean and deviation of the scores over folds (reference `utils/parse_results.py`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The figures that are averaged, with the words for the table.
const FIGURES: [(&str, &str); 4] = [
    ("eval_dice_score", "Dice"),
    ("eval_ce_loss", "cross entropy"),
    ("v_rand_thin", "V_Rand"),
    ("v_info_thin", "V_Info"),
];
/// The first of them are in every evaluation; the others are not in those of the reference and of PyTorch.
const REQUIRED: usize = 2;

type Row = [Option<f64>; FIGURES.len()];

/// Prints one line per file and the mean and deviation over all, of the figures that all files have.
///
/// Errors: a file that cannot be read or holds no evaluation.
pub fn report(logs: &[PathBuf]) -> Result<()> {
    let rows = logs.iter().map(|path| read(path)).collect::<Result<Vec<Row>>>()?;
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
    println!("mean of {}: {}", logs.len(), words(&over_all(mean)));
    if logs.len() > 1 {
        println!("standard deviation: {}", words(&over_all(deviation)));
    }
    Ok(())
}

fn words(row: &Row) -> String {
    let cells =
        FIGURES.iter().zip(row).filter_map(|((_, words), value)| value.map(|value| format!("{words} {value:.4}")));
    cells.collect::<Vec<_>>().join("  ")
}

fn read(path: &Path) -> Result<Row> {
    let text = fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let row = FIGURES.map(|(key, _)| last_figure(&text, key));
    match FIGURES.iter().zip(row).take(REQUIRED).find(|(_, value)| value.is_none()) {
        None => Ok(row),
        Some(((key, _), _)) => {
            bail!("no {key} in '{}'; give the output, log.json or eval.json of a run that evaluated", path.display())
        }
    }
}

/// The number behind the last `key` in captured output or JSON.
fn last_figure(text: &str, key: &str) -> Option<f64> {
    text.rmatch_indices(key).find_map(|(start, _)| {
        let rest = text[start + key.len()..].trim_start_matches(['"', ':', '=', ' ', '\t']);
        let end = rest.find(|c: char| !(c.is_ascii_digit() || ".+-eE".contains(c))).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the sample, with n - 1; the folds stand for more folds.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_output_log_and_json_and_the_last_counts() {
        let output =
            "step 10  train_ce_loss 0.3\neval_ce_loss 0.1000  eval_dice_score 0.5000\neval_dice_score 0.9125\n";
        assert_eq!(last_figure(output, "eval_dice_score"), Some(0.9125));
        let log = r#"DLLL {"data": {"eval_ce_loss":1.5e-1,"eval_dice_score":0.75}}"#;
        assert_eq!(last_figure(log, "eval_ce_loss"), Some(0.15));
        assert_eq!(last_figure("{\n  \"eval_dice_score\": 0.25\n}", "eval_dice_score"), Some(0.25));
        assert_eq!(last_figure("eval_dice_score: none", "eval_dice_score"), None);
        let scores = r#"{"v_rand_thin": 0.5, "v_rand_thin_threshold": 0.2}"#;
        assert_eq!(last_figure(scores, "v_rand_thin"), Some(0.5));
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        // Deviations -1, 0, 1 from the mean 2: sqrt(2 / 2).
        assert_eq!(deviation(&[1.0, 2.0, 3.0]), 1.0);
    }
}
