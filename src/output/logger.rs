//! What a run tells: one line per record on stdout, the same records as DLLogger's JSON lines in
//! `log_dir/log.json`, and the progress between them (`progress.rs`). Formats, never computes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Local};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::progress::Progress;

/// What a record is about, DLLogger's `step`.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The settings of the run.
    Parameters,
    /// Training step number, 1-based.
    Train(u64),
    /// The whole run.
    Summary,
}

/// Writes records to stdout and to the log file.
#[derive(Debug)]
pub struct Logger {
    file: Option<File>,
    /// Whether the last record could not be written to it.
    failing: bool,
    start: Instant,
    progress: Progress,
    volume: Volume,
}

/// How much is told on stdout and stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// Everything.
    Full,
    /// Warnings and final results (`--quiet`).
    Quiet,
    /// Nothing, for the other ranks than 0.
    Silent,
}

impl Logger {
    /// `log_dir` is made if it is absent; an existing log.json is added to.
    pub fn new(log_dir: Option<&Path>, volume: Volume) -> Result<Self> {
        let open = |folder: &Path| -> Result<File> {
            let path = folder.join("log.json");
            fs::create_dir_all(folder)
                .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
                .with_context(|| format!("cannot write to --log_dir '{}'", folder.display()))
        };
        Ok(Self { file: log_dir.map(open).transpose()?, volume, ..Self::silent() })
    }

    /// One that tells nothing, for the other ranks than 0.
    pub fn silent() -> Self {
        let (start, progress) = (Instant::now(), Progress::hidden());
        Self { file: None, failing: false, start, progress, volume: Volume::Silent }
    }

    /// A line for people, not a record.
    pub fn note(&self, text: &str) {
        if self.volume == Volume::Full {
            self.print(text);
        }
    }

    /// A line for people that says where a final result is: `--quiet` keeps it.
    pub fn result(&self, text: &str) {
        if self.volume != Volume::Silent {
            self.print(text);
        }
    }

    fn print(&self, text: &str) {
        // Who no longer listens, as a pipe that was closed, is no reason to stop working.
        let _ = self.progress.suspend(|| writeln!(io::stdout(), "{text}"));
    }

    /// A line about something that may surprise, on stderr.
    pub fn warn(&self, text: &str) {
        if self.volume != Volume::Silent {
            let _ = self.progress.suspend(|| writeln!(io::stderr(), "warning: {text}"));
        }
    }

    /// The unit of a figure, for the log file (DLLogger's metadata).
    pub fn unit(&mut self, metric: &str, unit: &str) {
        self.write(json!({"type": "METADATA", "metric": metric, "metadata": {"unit": unit}}));
    }

    /// The settings of the run, for the log file.
    pub fn parameters(&mut self, data: Value) {
        self.write(json!({"type": "LOG", "step": Step::Parameters.json(), "data": data}));
    }

    /// A record of figures, for stdout and the log file.
    pub fn log(&mut self, step: Step, figures: &[(&str, f64)]) {
        let words = figures.iter().map(|(name, value)| format!("{name} {}", short(*value)));
        let line: Vec<String> = step.prefix().into_iter().chain(words).collect();
        match step {
            Step::Summary => self.result(&line.join("  ")),
            Step::Parameters | Step::Train(_) => self.note(&line.join("  ")),
        }
        let data: Map<String, Value> = figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        self.write(json!({"type": "LOG", "step": step.json(), "data": data}));
    }

    /// Begins to show the progress of `total` steps, of which `done` are made already.
    pub fn start_bar(&mut self, what: &'static str, total: u64, done: u64) {
        if self.volume == Volume::Full {
            self.progress = Progress::start(what, total, done);
        }
    }

    /// Shows `done` steps and `message`.
    pub fn progress(&self, done: u64, message: String) {
        self.advance_with(done, Some(message));
    }

    /// Shows `done` steps.
    pub fn advance(&self, done: u64) {
        self.advance_with(done, None);
    }

    fn advance_with(&self, done: u64, message: Option<String>) {
        if let Some(line) = self.progress.advance(done, message) {
            self.note(&line);
        }
    }

    /// Takes the bar away.
    pub fn end_bar(&mut self) {
        self.progress.end();
    }

    /// A log that cannot be written, as on a full disk, is a warning: the work goes on.
    fn write(&mut self, record: Value) {
        let Some(file) = &mut self.file else { return };
        let line = dllogger_line(Local::now(), self.start.elapsed(), record);
        // What the last failure has left is no whole line.
        let begin = if self.failing { "\n" } else { "" };
        let written = file.write_all(format!("{begin}{line}").as_bytes());
        if let (Err(error), false) = (&written, self.failing) {
            self.warn(&format!(
                "cannot write to log.json in --log_dir: {error}; records are missing there until it can be written"
            ));
        }
        self.failing = written.is_err();
    }
}

/// The progress of reading many files, before there is a log.
pub struct ReadingBar(ProgressBar);

impl ReadingBar {
    /// Shown by rank 0 without `--quiet`, and only where reading takes longer than a moment.
    pub fn new(is_shown: bool) -> Self {
        if !is_shown {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("read {bar:30} {pos}/{len} files  {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style))
    }

    /// `done` of `count` files are read.
    pub fn advance(&self, done: usize, count: usize) {
        const MANY: usize = 50;
        if count >= MANY {
            self.0.set_length(count as u64);
            self.0.set_position(done as u64);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Step {
    fn json(self) -> Value {
        match self {
            Self::Parameters => json!("PARAMETER"),
            Self::Train(step) => json!([step]),
            Self::Summary => json!([]),
        }
    }

    fn prefix(self) -> Option<String> {
        match self {
            Self::Train(step) => Some(format!("step {step}")),
            Self::Parameters | Self::Summary => None,
        }
    }
}

/// DLLogger's JSON line: `DLLL {"timestamp": .., "datetime": .., "elapsedtime": .., ..record}`.
fn dllogger_line(now: DateTime<Local>, elapsed: Duration, record: Value) -> String {
    let mut fields = Map::new();
    fields.insert("timestamp".into(), json!(format!("{}.{:06}", now.timestamp(), now.timestamp_subsec_micros())));
    fields.insert("datetime".into(), json!(now.format("%Y-%m-%d %H:%M:%S%.6f").to_string()));
    fields.insert("elapsedtime".into(), json!(format!("{:.6}", elapsed.as_secs_f64())));
    if let Value::Object(record) = record {
        fields.extend(record);
    }
    format!("DLLL {}\n", Value::Object(fields))
}

/// Four decimals, more digits for small values.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 { format!("{value:.4e}") } else { format!("{value:.4}") }
}
