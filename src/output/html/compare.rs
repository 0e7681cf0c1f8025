//! Several runs side by side: their scores with mean and deviation, and the settings that differ.

use serde::Serialize;
use serde_json::Value;

use super::run::Run;

/// What a report of several runs shows beside their curves.
#[derive(Debug, PartialEq, Serialize)]
pub struct Comparison {
    scores: Vec<ScoreRow>,
    settings: Vec<SettingRow>,
}

/// A score of each run; mean and deviation where all have it.
#[derive(Debug, PartialEq, Serialize)]
struct ScoreRow {
    key: String,
    values: Vec<Option<f64>>,
    mean: Option<f64>,
    deviation: Option<f64>,
}

/// A setting of each run; `null` where it has none.
#[derive(Debug, PartialEq, Serialize)]
struct SettingRow {
    key: String,
    values: Vec<Value>,
}

impl Comparison {
    pub fn new(runs: &[Run]) -> Self {
        let scores: Vec<Option<&Value>> = runs.iter().map(|run| run.scores.as_ref()).collect();
        let settings: Vec<Option<&Value>> = runs.iter().map(|run| run.settings.as_ref()).collect();
        let scores = rows(&scores).into_iter().filter_map(|(key, values)| {
            let values: Vec<Option<f64>> = values.iter().map(Value::as_f64).collect();
            let is_score = values.iter().any(Option::is_some) && !key.ends_with("_threshold");
            let complete: Option<Vec<f64>> = values.iter().copied().collect();
            let (mean, deviation) = (complete.as_deref().map(mean), complete.as_deref().and_then(deviation));
            is_score.then_some(ScoreRow { key, values, mean, deviation })
        });
        // A run without config.json says nothing of its settings.
        let differ = |values: &[Value]| {
            let known: Vec<&Value> =
                values.iter().zip(&settings).filter_map(|(value, run)| run.and(Some(value))).collect();
            known.windows(2).any(|pair| pair[0] != pair[1])
        };
        let settings = rows(&settings).into_iter().filter(|(_, values)| differ(values));
        let settings = settings.map(|(key, values)| SettingRow { key, values }).collect();
        Self { scores: scores.collect(), settings }
    }
}

/// The values under each key that some object has, in the order of the first that has it.
fn rows(objects: &[Option<&Value>]) -> Vec<(String, Vec<Value>)> {
    let mut keys: Vec<&String> = Vec::new();
    for key in objects.iter().flatten().filter_map(|object| object.as_object()).flat_map(|object| object.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let value = |object: &Option<&Value>, key: &str| object.map_or(Value::Null, |object| object[key].clone());
    keys.into_iter().map(|key| (key.clone(), objects.iter().map(|object| value(object, key)).collect())).collect()
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The deviation of a sample, with n - 1: the folds stand for more folds. `None` of a single value.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() as f64 - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn run(settings: Option<Value>, scores: Option<Value>) -> Run {
        Run { name: String::new(), facts: Vec::new(), settings, scores, curves: BTreeMap::new() }
    }

    #[test]
    fn scores_that_all_runs_have_get_mean_and_deviation() {
        let runs = [
            run(None, Some(json!({"dice": 1.0, "dice_threshold": 0.5, "iou": 0.5, "classes": []}))),
            run(None, Some(json!({"dice": 2.0, "iou": null, "mean_dice": 0.25}))),
            run(None, Some(json!({"dice": 3.0}))),
        ];
        let Comparison { scores, settings } = Comparison::new(&runs);
        let row = |key: &str, values: [Option<f64>; 3], mean, deviation| ScoreRow {
            key: key.to_owned(),
            values: values.to_vec(),
            mean,
            deviation,
        };
        let expected = [
            // Deviations -1, 0, 1 from the mean 2: sqrt(2 / 2).
            row("dice", [Some(1.0), Some(2.0), Some(3.0)], Some(2.0), Some(1.0)),
            row("iou", [Some(0.5), None, None], None, None),
            row("mean_dice", [None, Some(0.25), None], None, None),
        ];
        assert_eq!(scores, expected);
        assert_eq!(settings, []);
    }

    #[test]
    fn only_settings_that_differ_are_shown() {
        let runs = [
            run(Some(json!({"seed": 0, "batch_size": 8, "slices": [1, 2]})), None),
            run(None, None),
            run(Some(json!({"seed": 1, "batch_size": 8, "slices": [1, 2], "ema": 0.9})), None),
        ];
        let Comparison { scores, settings } = Comparison::new(&runs);
        let row =
            |key: &str, values: Value| SettingRow { key: key.to_owned(), values: values.as_array().unwrap().clone() };
        assert_eq!(settings, [row("seed", json!([0, null, 1])), row("ema", json!([null, null, 0.9]))]);
        assert_eq!(scores, []);
    }

    #[test]
    fn one_run_has_no_deviation() {
        assert_eq!(deviation(&[0.5]), None);
        let alone = Comparison::new(&[run(Some(json!({"seed": 0})), Some(json!({"dice": 0.5})))]);
        assert_eq!((alone.scores[0].mean, alone.scores[0].deviation), (Some(0.5), None));
        assert_eq!(alone.settings, []);
    }
}
