//! `config.json`: all that one needs to know to repeat a run, written before it starts, and what later runs ask of it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model_dir::ModelDir;
use crate::data::values::GreyRange;

/// One file of the data: its content and how its values are read.
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
    pub fn new(path: &Path, [pages, height, width]: [i64; 3], sha256: &str, grey_range: Option<GreyRange>) -> Self {
        Self { file: path.display().to_string(), pages, height, width, sha256: sha256.to_owned(), grey_range }
    }
}

/// The content of `config.json`: the settings of a run and its data.
pub fn manifest(mut settings: Map<String, Value>, datasets: &[DatasetRecord]) -> Value {
    settings.insert("datasets".to_owned(), json!(datasets));
    Value::Object(settings)
}

/// The slices that the run in `model_dir` trains on; `None` where its record does not tell.
pub fn train_slices(model_dir: &ModelDir) -> Option<Vec<usize>> {
    Vec::deserialize(&read(model_dir)?["train_slices"]).ok()
}

/// How the images were mapped that the run in `model_dir` trained on; `None` where its record does not tell.
pub fn grey_range(model_dir: &ModelDir) -> Option<GreyRange> {
    GreyRange::deserialize(&read(model_dir)?["datasets"][0]["grey_range"]).ok()
}

fn read(model_dir: &ModelDir) -> Option<Value> {
    serde_json::from_slice(&fs::read(model_dir.config()).ok()?).ok()
}
