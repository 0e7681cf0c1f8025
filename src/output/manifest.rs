//! `config.json`: all that one needs to know to repeat a run, written before it starts, and what later runs ask of it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model_dir::ModelDir;
use crate::data::layout::LabelFiles;
use crate::data::slices::SliceSet;
use crate::data::values::GreyRange;

/// Images or labels: their content and how their values are read. A stack, or the folder of a dataset with the size of
/// its largest image.
#[derive(Debug, Serialize)]
pub struct DatasetRecord {
    pub file: String,
    pub pages: i64,
    pub height: i64,
    pub width: i64,
    /// SHA-256 of the raw samples, little-endian.
    pub sha256: String,
    /// The stored values that become -1 and 1; `None` for labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grey_range: Option<GreyRange>,
}

impl DatasetRecord {
    /// The records of the images of a set, and of its labels where it has some.
    pub fn of(slices: &SliceSet) -> Vec<Self> {
        let (case, [image_sha256, label_sha256]) = (&slices.cases[0], &slices.sha256);
        let side = |part: usize| slices.infos.iter().map(|info| info.size[part]).max().unwrap_or(0) as i64;
        let folder = |path: &Path| path.parent().unwrap_or(path).to_owned();
        let record = |path: &Path, sha256: &str, grey_range| {
            let path = if slices.cases.len() == 1 { path.to_owned() } else { folder(path) };
            let (pages, height, width) = (slices.len() as i64, side(1), side(2));
            Self { file: path.display().to_string(), pages, height, width, sha256: sha256.to_owned(), grey_range }
        };
        let labels = case.labels.as_ref().map(|labels| match labels {
            LabelFiles::One(path) => record(path, label_sha256, None),
            LabelFiles::Objects(paths) => record(&paths[0], label_sha256, None),
        });
        let images = record(&case.images[0], image_sha256, Some(slices.grey_range()));
        [Some(images), labels].into_iter().flatten().collect()
    }
}

/// The content of `config.json`: the settings of a run and its data.
pub fn manifest(mut settings: Map<String, Value>, datasets: &[DatasetRecord]) -> Value {
    settings.insert("datasets".to_owned(), json!(datasets));
    Value::Object(settings)
}

/// The slices that the run in `model_dir` trains on, if its images have this checksum; `None` where they have not, or
/// where its record does not tell.
pub fn train_slices(model_dir: &ModelDir, sha256: &str) -> Option<Vec<usize>> {
    let record = read(model_dir)?;
    let has_images = record["datasets"][0]["sha256"] == sha256;
    Vec::deserialize(&record["train_slices"]).ok().filter(|_| has_images)
}

/// How the images were mapped that the run in `model_dir` trained on; `None` where its record does not tell.
pub fn grey_range(model_dir: &ModelDir) -> Option<GreyRange> {
    GreyRange::deserialize(&read(model_dir)?["datasets"][0]["grey_range"]).ok()
}

fn read(model_dir: &ModelDir) -> Option<Value> {
    serde_json::from_slice(&fs::read(model_dir.config()).ok()?).ok()
}
