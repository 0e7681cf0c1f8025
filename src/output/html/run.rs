//! What a report tells of a run besides its slices, from the files in its model folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::words;
use crate::output::loss_table;
use crate::output::model_dir::ModelDir;

/// Points of a curve; longer ones are thinned.
const MOST_POINTS: usize = 1000;

/// What is known of a run without computing anything.
#[derive(Debug, Serialize)]
pub struct Run {
    pub name: String,
    /// Subjects, and what there is to say of each.
    pub facts: Vec<(&'static str, String)>,
    /// `config.json`.
    pub settings: Option<Value>,
    /// `eval.json`.
    pub scores: Option<Value>,
    /// Steps and values of each column of `learning_curves.csv`.
    pub curves: BTreeMap<String, Vec<(u64, f64)>>,
}

impl Run {
    /// The run in a model folder. Files that are not there are left out.
    ///
    /// Errors: a file that cannot be read, or is not what its name says.
    pub fn of_folder(name: String, model_dir: &ModelDir) -> Result<Self> {
        let (settings, scores) = (read_json(&model_dir.config())?, read_json(&model_dir.scores())?);
        let curves = curves(&model_dir.losses())?;
        Ok(Self { name, facts: words::facts(settings.as_ref(), scores.as_ref()), settings, scores, curves })
    }

    /// Whether its folder has nothing to show.
    pub fn is_empty(&self) -> bool {
        self.settings.is_none() && self.scores.is_none() && self.curves.is_empty()
    }

    /// A run of which only scores are known.
    pub fn of_scores(name: String, scores: Map<String, Value>) -> Self {
        Self { name, facts: Vec::new(), settings: None, scores: Some(Value::Object(scores)), curves: BTreeMap::new() }
    }
}

/// A JSON file; `None` where it is absent.
fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.exists() {
        return Ok(None);
    }
    let unusable = || format!("cannot read '{}'", path.display());
    serde_json::from_slice(&fs::read(path).with_context(unusable)?).map(Some).with_context(unusable)
}

/// The columns of a table of losses that have values, each thinned.
fn curves(path: &Path) -> Result<BTreeMap<String, Vec<(u64, f64)>>> {
    let mut curves: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for row in loss_table::read(path)? {
        let Value::Object(columns) = serde_json::to_value(row)? else { continue };
        for (name, value) in columns.iter().filter(|(name, _)| *name != "step") {
            if let Some(value) = value.as_f64() {
                curves.entry(name.clone()).or_default().push((row.step, value));
            }
        }
    }
    curves.values_mut().for_each(thin);
    Ok(curves)
}

/// Keeps points at equal distances, the last among them.
fn thin(points: &mut Vec<(u64, f64)>) {
    let (count, stride) = (points.len(), points.len().div_ceil(MOST_POINTS).max(1));
    let mut left = count;
    points.retain(|_| {
        left -= 1;
        left.is_multiple_of(stride)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_thinned_and_keep_their_end() {
        for count in [1, 1000, 1001, 2500] {
            let mut points: Vec<(u64, f64)> = (1..=count).map(|step| (step, 0.0)).collect();
            thin(&mut points);
            assert!(points.len() <= MOST_POINTS && points.len() as u64 >= count.min(500), "{count}: {}", points.len());
            assert_eq!(points.last().unwrap().0, count);
        }
    }
}
