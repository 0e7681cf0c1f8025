//! What people watch a run by: learning curves, contact sheets, the report and TensorBoard's event files, all in the
//! model folder.
//!
//! A run is worth no less where a picture of it cannot be written: failures are warnings. Other ranks than 0 do nothing
//! here.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::html::viewer::Viewer;
use super::html::{self, Part};
use super::logger::Logger;
use super::loss_table::{self, LossRow, LossTable};
use super::model_dir::ModelDir;
use super::pictures::Canvas;
use super::pictures::curves::learning_curves;
use super::pictures::sheet::Sheet;
use super::tensorboard::{self, EventFile};
use crate::files::write_atomically;

/// The losses of the run so far, and where they are shown.
pub struct Tracker {
    model_dir: ModelDir,
    /// `None` on other ranks than 0.
    losses: Option<LossTable>,
    events: Events,
    /// Updates that the weights in use have had; 0 where that is not known.
    step: u64,
    /// Whether the table's last row could not be written.
    behind: bool,
    /// Slices for the report.
    viewers: Vec<(Part, Viewer)>,
    /// Whether anything was recorded that the report does not show yet.
    has_news: bool,
}

/// The event file of this process.
enum Events {
    /// Begun with the first event. `Some`: with a training that goes on from a step, and its settings.
    NotYet(Option<(u64, Value)>),
    Open(EventFile),
    /// It could not be written to.
    GivenUp,
}

impl Tracker {
    /// Watches weights that are there already, until training begins.
    pub fn new(model_dir: &ModelDir, is_main: bool, logger: &Logger) -> Self {
        let mut monitor = Self {
            model_dir: model_dir.clone(),
            losses: None,
            events: Events::NotYet(None),
            step: 0,
            behind: false,
            viewers: Vec::new(),
            has_news: false,
        };
        if is_main {
            monitor.open(u64::MAX, logger);
        }
        monitor
    }

    /// Training begins, after `step` steps of an earlier run; `settings` is a JSON object.
    pub fn begin_training(&mut self, step: u64, settings: Value, logger: &Logger) {
        if self.losses.is_some() {
            self.open(step, logger);
            self.step = step;
            self.events = Events::NotYet(Some((step, settings)));
        }
    }

    /// Takes over what is known up to `step`.
    fn open(&mut self, step: u64, logger: &Logger) {
        let path = self.model_dir.losses();
        let rows = loss_table::read(&path).unwrap_or_else(|error| {
            logger.warn(&format!("{error:#}; learning curves begin anew"));
            Vec::new()
        });
        self.step = rows.iter().map(|row| row.step).max().unwrap_or(0);
        self.losses = Some(LossTable::resume(&path, rows, step));
    }

    /// Records the figures of a training step.
    pub fn trained(&mut self, step: u64, figures: &[(&str, f64)], logger: &Logger) {
        self.step = step;
        self.add("train", figures, logger);
    }

    /// Records the scores of validation slices after a training step.
    pub fn validated(&mut self, step: u64, scores: &[(&str, f64)], logger: &Logger) {
        self.step = step;
        self.add("eval", scores, logger);
    }

    /// Records the scores of validation slices, and writes `eval.png`.
    pub fn evaluated(&mut self, scores: &[(&str, f64)], sheet: &Sheet, logger: &Logger) {
        self.add("eval", scores, logger);
        self.event(logger, |events, step| {
            for (caption, strip) in sheet.strips() {
                let tag = format!("validation/{}", caption.replace(' ', "_"));
                events.image(step, tag, &strip, strip.png()?)?;
            }
            Ok(())
        });
        self.draw_sheet(sheet, &self.model_dir.evaluation_sheet(), logger);
    }

    /// To the table and to the event file.
    fn add(&mut self, group: &str, figures: &[(&str, f64)], logger: &Logger) {
        let Some(losses) = &mut self.losses else { return };
        self.has_news = true;
        let written = losses.add(LossRow::new(self.step, figures));
        if let (Err(error), false) = (&written, self.behind) {
            logger.warn(&format!("{error:#}; the run goes on, and later rows bring the missing ones"));
        }
        self.behind = written.is_err();
        let scalars: Vec<(String, f64)> = figures.iter().map(|(name, value)| (tag(group, name), *value)).collect();
        self.event(logger, |events, step| Ok(events.scalars(step, &scalars)?));
    }

    /// Adds to the event file, which it begins where there is none yet.
    fn event(&mut self, logger: &Logger, write: impl FnOnce(&mut EventFile, u64) -> Result<()>) {
        if self.losses.is_none() {
            return;
        }
        let written = self.event_file().and_then(|events| events.map_or(Ok(()), |(events, step)| write(events, step)));
        if let Err(error) = written {
            let folder = self.model_dir.root().display();
            logger.warn(&format!(
                "cannot write TensorBoard's events to '{folder}': {error:#}; the run goes on without them"
            ));
            self.events = Events::GivenUp;
        }
    }

    fn event_file(&mut self) -> Result<Option<(&mut EventFile, u64)>> {
        if let Events::NotYet(training) = &self.events {
            let folder = self.model_dir.root();
            let is_first = tensorboard::event_files(folder).is_empty();
            let mut events = EventFile::create(folder)?;
            match training {
                Some((_, settings)) if is_first => events.hyperparameters(settings)?,
                Some((step, _)) => events.start(step + 1)?,
                None => {}
            }
            self.events = Events::Open(events);
        }
        Ok(match &mut self.events {
            Events::Open(events) => Some((events, self.step)),
            _ => None,
        })
    }

    /// Writes `learning_curves.png`, for the first time or anew.
    pub fn draw_curves(&self, logger: &Logger) {
        let Some(losses) = &self.losses else { return };
        let path = self.model_dir.learning_curves();
        // Scores are told of by their own lines.
        let is_told = losses.rows.last().is_some_and(|row| row.eval_dice_score.is_some());
        if save(learning_curves(&losses.rows), &path, logger) && !is_told {
            logger.note(&format!("learning curves: {}", path.display()));
        }
    }

    /// Writes a contact sheet.
    pub fn draw_sheet(&self, sheet: &Sheet, path: &Path, logger: &Logger) {
        if self.losses.is_some() && save(sheet.draw(), path, logger) {
            logger.note(&format!("contact sheet: {}", path.display()));
        }
    }

    /// Keeps slices for the report; where they could not be made, that is a warning.
    pub fn view(&mut self, part: Part, viewer: Result<Option<Viewer>>, logger: &Logger) {
        match viewer {
            Ok(None) => {}
            Ok(Some(viewer)) => self.viewers.push((part, viewer)),
            Err(error) => logger.warn(&format!("no slices in the report: {error:#}; all other results are there")),
        }
        self.has_news = true;
    }

    /// Whether slices wait for the report.
    pub fn has_slices(&self) -> bool {
        !self.viewers.is_empty()
    }

    /// Writes the report to `path`, for the first time or anew, where there is something new to show.
    pub fn write_report(&mut self, path: &Path, logger: &Logger) {
        if self.losses.is_none() || !self.has_news {
            return;
        }
        self.has_news = false;
        let viewers = std::mem::take(&mut self.viewers);
        match html::write_run(&self.model_dir, path, &viewers) {
            Ok(()) => logger.note(&format!("report: {}", path.display())),
            Err(error) => logger.warn(&format!("{error:#}; all other results are there")),
        }
    }
}

/// Whether there was a picture and it is written.
fn save(picture: Result<Option<Canvas>>, path: &Path, logger: &Logger) -> bool {
    let write = || -> Result<bool> {
        let Some(picture) = picture.with_context(|| format!("cannot draw '{}'", path.display()))? else {
            return Ok(false);
        };
        write_atomically(path, &picture.png()?)?;
        Ok(true)
    };
    write().unwrap_or_else(|error| {
        logger.warn(&format!("{error:#}; all other results are there"));
        false
    })
}

/// `train/ce_loss` for `train_ce_loss`: TensorBoard groups by what is before the slash.
fn tag(group: &str, name: &str) -> String {
    let own = name.strip_prefix(group).and_then(|rest| rest.strip_prefix('_'));
    format!("{group}/{}", own.unwrap_or(name))
}
