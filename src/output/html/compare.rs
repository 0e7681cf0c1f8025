//! Several runs side by side: their scores with mean and deviation, and the settings that differ.

use serde::Serialize;
use serde_json::Value;

use super::run::Run;

/// What a report of several runs shows beside their curves.
#[derive(Debug, PartialEq, Serialize)]
pub struct Comparison {
    scores: Vec<ScoreRow>,
    classes: Vec<ClassRow>,
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

/// A score of a class, by the class's name, in each run.
#[derive(Debug, PartialEq, Serialize)]
struct ClassRow {
    class: String,
    #[serde(flatten)]
    score: ScoreRow,
}

/// The scores of a class that are compared.
const OF_CLASSES: [&str; 4] = ["dice", "iou", "precision", "recall"];

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
        let classes = class_rows(&scores);
        let scores = rows(&scores).into_iter().filter(|(key, _)| !key.ends_with("_threshold"));
        let scores = scores.filter_map(|(key, values)| ScoreRow::new(key, &values));
        // A run without config.json says nothing of its settings.
        let differ = |values: &[Value]| {
            let known: Vec<&Value> =
                values.iter().zip(&settings).filter_map(|(value, run)| run.and(Some(value))).collect();
            known.windows(2).any(|pair| pair[0] != pair[1])
        };
        let settings = rows(&settings).into_iter().filter(|(_, values)| differ(values));
        let settings = settings.map(|(key, values)| SettingRow { key, values }).collect();
        Self { scores: scores.collect(), classes, settings }
    }
}

impl ScoreRow {
    /// `None` where no run has this number.
    fn new(key: String, values: &[Value]) -> Option<Self> {
        let values: Vec<Option<f64>> = values.iter().map(Value::as_f64).collect();
        let complete: Option<Vec<f64>> = values.iter().copied().collect();
        let (mean, deviation) = (complete.as_deref().map(mean), complete.as_deref().and_then(deviation));
        values.iter().any(Option::is_some).then_some(Self { key, values, mean, deviation })
    }
}

/// The scores of each class that some run has, in the order of the first that has it. Runs whose classes have other
/// names have other classes.
fn class_rows(scores: &[Option<&Value>]) -> Vec<ClassRow> {
    let by_name = scores.iter().map(|scores| {
        let classes = scores.and_then(|scores| scores.get("classes")?.as_array());
        let named = classes.into_iter().flatten().filter_map(|class| Some((class["name"].as_str()?, class)));
        Value::Object(named.map(|(name, class)| (name.to_owned(), class.clone())).collect())
    });
    let by_name: Vec<Value> = by_name.collect();
    let by_name: Vec<Option<&Value>> = by_name.iter().map(Some).collect();
    let of_class = |(class, values): (String, Vec<Value>)| {
        OF_CLASSES.into_iter().filter_map(move |key| {
            let values: Vec<Value> = values.iter().map(|value| value[key].clone()).collect();
            Some(ClassRow { class: class.clone(), score: ScoreRow::new(key.to_owned(), &values)? })
        })
    };
    rows(&by_name).into_iter().flat_map(of_class).collect()
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
        Run { name: String::new(), page: None, facts: Vec::new(), settings, scores, curves: BTreeMap::new() }
    }

    #[test]
    fn scores_that_all_runs_have_get_mean_and_deviation() {
        let runs = [
            run(None, Some(json!({"dice": 1.0, "dice_threshold": 0.5, "iou": 0.5, "classes": []}))),
            run(None, Some(json!({"dice": 2.0, "iou": null, "mean_dice": 0.25}))),
            run(None, Some(json!({"dice": 3.0}))),
        ];
        let Comparison { scores, settings, .. } = Comparison::new(&runs);
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
    fn classes_are_compared_by_their_names() {
        let class = |name: &str, dice: f64| json!({"name": name, "dice": dice, "iou": null, "support": 5});
        let runs = [
            run(None, Some(json!({"classes": [class("cell", 0.5), class("wall", 0.75)]}))),
            run(None, Some(json!({"classes": [class("wall", 0.25), class("cell", 1.0)]}))),
            run(None, None),
        ];
        let row = |class: &str, values: &[Option<f64>], mean, deviation| {
            let (key, values) = ("dice".to_owned(), values.to_vec());
            ClassRow { class: class.to_owned(), score: ScoreRow { key, values, mean, deviation } }
        };
        let without = |values: [f64; 2]| [Some(values[0]), Some(values[1]), None];
        let expected = [row("cell", &without([0.5, 1.0]), None, None), row("wall", &without([0.75, 0.25]), None, None)];
        assert_eq!(Comparison::new(&runs).classes, expected);
        // Deviations -0.25 and 0.25 from the mean 0.75: sqrt(0.125).
        let both = Comparison::new(&runs[..2]).classes;
        assert_eq!(both[0], row("cell", &[Some(0.5), Some(1.0)], Some(0.75), Some(0.125f64.sqrt())));
        let written = serde_json::to_value(&both[1]).unwrap();
        assert_eq!(
            (&written["class"], &written["key"], &written["values"]),
            (&json!("wall"), &json!("dice"), &json!([0.75, 0.25]))
        );
    }

    #[test]
    fn only_settings_that_differ_are_shown() {
        let runs = [
            run(Some(json!({"seed": 0, "batch_size": 8, "slices": [1, 2]})), None),
            run(None, None),
            run(Some(json!({"seed": 1, "batch_size": 8, "slices": [1, 2], "ema": 0.9})), None),
        ];
        let Comparison { scores, settings, .. } = Comparison::new(&runs);
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
