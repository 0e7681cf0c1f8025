//! TensorBoard's event files: scalars, images and hyperparameters of a run, as records that TensorBoard reads.
//!
//! A record is its length, the length's checksum, an `Event` message and its checksum (TensorFlow's `record_writer.h`);
//! checksums are CRC-32C, masked. A run that goes on begins a new file, which sorts after the earlier ones, with a
//! `SessionLog` that takes back what those hold of later steps. `messages.rs` has the messages. Not here: what is
//! written when (`monitor`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde_json::Value as Json;

use crate::output::pictures::Canvas;
use messages::{
    Event, Hyperparameter, HyperparameterValue, HyperparametersData, Image, PluginData, START, SessionLog,
    SessionStart, Summary, SummaryMetadata, SummaryValue, Tensor, Value, What,
};

mod messages;

/// TensorBoard takes every file with `tfevents` in its name; the rest tells ours from others, and their order.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".unet";

/// An event file being written. Each event is one write, so that a killed run leaves at most the last one unfinished.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

/// The event files of this program in `folder`, oldest first. An absent folder has none.
pub fn event_files(folder: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(ours).collect();
    found.sort_unstable();
    found
}

impl EventFile {
    /// Begins a file in `folder` that TensorBoard reads after those that are there.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let number =
            |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok();
        let newest: Option<u64> = event_files(folder).iter().filter_map(number).max();
        let seconds = (now() as u64).max(newest.map_or(0, |newest| newest + 1));
        let path = folder.join(format!("{PREFIX}{seconds:010}{SUFFIX}"));
        let mut events = Self { file: OpenOptions::new().create_new(true).append(true).open(path)? };
        events.write(0, What::FileVersion("brain.Event:2".to_owned()))?;
        Ok(events)
    }

    /// What earlier files hold of the steps from `step` on does not count.
    pub fn start(&mut self, step: u64) -> io::Result<()> {
        self.write(step, What::SessionLog(SessionLog { status: START }))
    }

    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let value = |(tag, value): &(String, f64)| SummaryValue {
            tag: tag.clone(),
            metadata: None,
            value: Some(Value::Scalar(*value as f32)),
        };
        self.write(step, What::Summary(Summary { value: scalars.iter().map(value).collect() }))
    }

    /// `png` is that of `picture`.
    pub fn image(&mut self, step: u64, tag: String, picture: &Canvas, png: Vec<u8>) -> io::Result<()> {
        let image = Image { height: picture.height as i32, width: picture.width as i32, colorspace: 3, encoded: png };
        let value = SummaryValue { tag, metadata: None, value: Some(Value::Image(image)) };
        self.write(step, What::Summary(Summary { value: vec![value] }))
    }

    /// The numbers, texts and switches of `settings`, a JSON object, for the tab "HParams".
    pub fn hyperparameters(&mut self, settings: &Json) -> io::Result<()> {
        let value = |json: &Json| {
            let value = match json {
                Json::Bool(value) => HyperparameterValue::Bool(*value),
                Json::Number(value) => HyperparameterValue::Number(value.as_f64()?),
                Json::String(value) => HyperparameterValue::Text(value.clone()),
                Json::Null | Json::Array(_) | Json::Object(_) => return None,
            };
            Some(Hyperparameter { value: Some(value) })
        };
        let named =
            settings.as_object().into_iter().flatten().filter_map(|(name, json)| Some((name.clone(), value(json)?)));
        let session = SessionStart { hyperparameters: named.collect(), start_time: now() };
        let content = HyperparametersData { session_start: Some(session) }.encode_to_vec();
        let metadata = SummaryMetadata { plugin_data: Some(PluginData { plugin_name: "hparams".to_owned(), content }) };
        let tag = "_hparams_/session_start_info".to_owned();
        let value = SummaryValue { tag, metadata: Some(metadata), value: Some(Value::Tensor(Tensor::empty())) };
        self.write(0, What::Summary(Summary { value: vec![value] }))
    }

    fn write(&mut self, step: u64, what: What) -> io::Result<()> {
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) };
        self.file.write_all(&record(&event.encode_to_vec()))
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

fn checksum(data: &[u8]) -> [u8; 4] {
    const MASK: u32 = 0xa282_ead8;
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
