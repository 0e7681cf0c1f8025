//! What a report tells of a run besides its slices, from the files in its model folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::words;
use crate::files::{folder, read_json};
use crate::output::loss_table;
use crate::output::model_dir::ModelDir;

/// Points of a curve; longer ones are thinned.
const MOST_POINTS: usize = 1000;

/// What is known of a run without computing anything.
#[derive(Debug, Serialize)]
pub struct Run {
    pub name: String,
    /// Path of the run's own report, from the page that shows several runs; `None` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
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
        let facts = words::facts(settings.as_ref(), scores.as_ref());
        Ok(Self { name, page: None, facts, settings, scores, curves })
    }

    /// Whether its folder has nothing to show.
    pub fn is_empty(&self) -> bool {
        self.settings.is_none() && self.scores.is_none() && self.curves.is_empty()
    }

    /// A run of which only scores are known.
    pub fn of_scores(name: String, scores: Map<String, Value>) -> Self {
        let (scores, curves) = (Some(Value::Object(scores)), BTreeMap::new());
        Self { name, page: None, facts: Vec::new(), settings: None, scores, curves }
    }

    /// The run with a link from the page at `from` to its own report in `model_dir`, where there is one.
    pub fn linked(self, from: &Path, model_dir: &ModelDir) -> Self {
        Self { page: relative(from, &model_dir.report()), ..self }
    }
}

/// The path from the folder of the file `from` to the file `to`, so that both may be moved together. `None` where one
/// of them is not there, or its path is not text.
fn relative(from: &Path, to: &Path) -> Option<String> {
    let (folder, to) = (fs::canonicalize(folder(from)).ok()?, fs::canonicalize(to).ok()?);
    let shared = folder.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = folder.components().skip(shared).map(|_| "..".to_owned());
    let down = to.components().skip(shared).map(|part| Some(part.as_os_str().to_str()?.to_owned()));
    let parts: Option<Vec<String>> = up.map(Some).chain(down).collect();
    parts.map(|parts| parts.join("/"))
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
    fn links_are_relative_to_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for run in ["runs/a", "runs/b c", "pages"] {
            fs::create_dir_all(path(run)).unwrap();
            fs::write(path(run).join("report.html"), "").unwrap();
        }
        let link = |from: &str, to: &str| relative(&path(from), &path(to));
        assert_eq!(link("both.html", "runs/a/report.html").as_deref(), Some("runs/a/report.html"));
        assert_eq!(link("pages/both.html", "runs/b c/report.html").as_deref(), Some("../runs/b c/report.html"));
        assert_eq!(link("runs/a/both.html", "runs/a/report.html").as_deref(), Some("report.html"));
        assert_eq!(link("both.html", "runs/none/report.html"), None);
        assert_eq!(link("none/both.html", "runs/a/report.html"), None);
    }

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
