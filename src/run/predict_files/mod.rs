//! Prediction of files: each image gets a mask under its own name, read, computed and written as a stream.
//!
//! A thread reads ahead and another writes, both bounded, so that memory does not depend on the number of files. A mask
//! appears whole or not at all, and one that is there is kept: a stopped run goes on where it was. A file that cannot
//! be read costs itself alone. With several processes each takes every so-manieth file.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Result, anyhow, bail};
use tch::{Device, Tensor};

use super::context::{Compute, Journal};
use super::inference::{self, SlicePredictor, constant_output};
use super::sheets::{self, Slides};
use crate::data::slices::Slice;
use crate::data::spec::DataSpec;
use crate::model::unet::Predictor;
use crate::output::html::Part;
use crate::output::pictures::sheet::{self, Sheet};
use folder::OutputFolder;
use job::stem;
pub use job::{Job, Record};
use reader::{Item, Page};
use writer::{Finished, Writer};

mod folder;
mod job;
mod reader;
mod writer;

/// Pages that wait to be computed, or to be written, beside a batch.
const PAGES_WAITING: usize = 4;

/// What became of the files.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    predicted: f64,
    kept: f64,
    failed: f64,
}

/// Predicts the files of `job` that have no mask yet.
///
/// Errors: an output folder that cannot be written to or holds the masks of another network; at the end, files that
/// could not be predicted.
pub fn predict_files(
    compute: &Compute,
    journal: &mut Journal,
    nets: &[Predictor],
    spec: &DataSpec,
    job: &Job<'_>,
) -> Result<()> {
    let world = &compute.world;
    let folder = OutputFolder::open(world, job)?;
    let own: Vec<usize> = (0..job.cases.len()).skip(world.rank).step_by(world.size).collect();
    let (done, missing): (Vec<usize>, Vec<usize>) =
        own.into_iter().partition(|&index| !job.overwrite && folder.has(&job.cases[index]));
    let mut counts = Counts { kept: done.len() as f64, ..Counts::default() };
    let mut pixels = vec![0; spec.classes()];

    let logger = &mut journal.logger;
    logger.start_bar("predict", missing.len() as u64, 0);
    let mut shown = Shown::new(job, spec, &missing, world.is_main());
    let predictor = SlicePredictor::new(compute, nets, spec, job.batch_size, job.options)?;
    let outcome = thread::scope(|scope| {
        let waiting = PAGES_WAITING + job.batch_size;
        let (to_main, items) = sync_channel(waiting);
        let (to_writer, pages) = sync_channel(waiting);
        let (cases, missing) = (job.cases, &missing);
        let reader = scope.spawn(move || reader::read(cases, missing, spec, &to_main));
        let mut files = Writer::new(&folder, job, spec);
        let writer = scope.spawn(move || files.run(&pages));
        let advance = |files: u64| logger.advance(files);
        let computed = compute_pages(
            compute,
            &predictor,
            job.batch_size,
            &items,
            &mut |result| match result {
                Computed::Page { page, slice, prediction } => {
                    let planes = prediction.to_device(Device::Cpu);
                    let classes = inference::classes(&planes);
                    shown.add(&page, &slice, &planes);
                    to_writer.send(writer::Message::Page { page, planes, classes }).is_ok()
                }
                Computed::Failed { case, problem } => to_writer.send(writer::Message::Failed { case, problem }).is_ok(),
            },
            &advance,
        );
        drop(to_writer);
        // The reader ends when nobody listens.
        drop(items);
        // Each process tells of its own files: the log of others than rank 0 is silent.
        let warnings = reader.join().unwrap_or_default();
        warnings.iter().for_each(|text| if world.is_main() { logger.warn(text) } else { eprintln!("warning: {text}") });
        let written = writer.join().unwrap_or_else(|_| Err(anyhow!("writing ended in a panic, which is told above")));
        // What stopped the writer is the cause of what stopped the rest.
        written.and_then(|finished| computed.map(|()| finished))
    });
    logger.end_bar();
    let Finished { predicted, failed, pixels: found } = outcome?;
    (counts.predicted, counts.failed) = (predicted as f64, failed as f64);
    pixels.iter_mut().zip(found).for_each(|(sum, pixels)| *sum += pixels);

    let mut numbers = vec![counts.predicted, counts.kept, counts.failed];
    numbers.extend(pixels.iter().map(|&pixels| pixels as f64));
    let numbers = world.sum(&numbers)?;
    let pixels: Vec<u64> = numbers[3..].iter().map(|&pixels| pixels as u64).collect();
    let counts = Counts { predicted: numbers[0], kept: numbers[1], failed: numbers[2] };
    if world.is_main() {
        report(journal, job, spec, counts, &pixels);
        journal.tracker.draw_sheet(&shown.sheet, &folder.overview(), &journal.logger);
        journal.tracker.view(Part::Prediction, shown.slides.finish(&job.output, shown.seen), &journal.logger);
    }
    if counts.failed > 0.0 {
        bail!(
            "{} of {} files could not be predicted, named above; the masks of the others are in '{}'",
            counts.failed,
            job.cases.len(),
            job.output.display()
        );
    }
    if world.is_main() { folder.end(job) } else { Ok(()) }
}

/// The pages that people are shown: some on a contact sheet, more of them in the report.
struct Shown<'a> {
    job: &'a Job<'a>,
    /// Cases whose first page is on the sheet; none on other ranks than 0.
    on_sheet: Vec<usize>,
    sheet: Sheet,
    slides: Slides,
    /// Pages predicted so far.
    seen: usize,
}

impl<'a> Shown<'a> {
    fn new(job: &'a Job<'a>, spec: &DataSpec, missing: &[usize], is_main: bool) -> Self {
        let on_sheet = sheet::choose(missing);
        let sheet = sheets::of_file(&job.output, on_sheet.len(), &format!("{} images", missing.len()), spec);
        let on_sheet = if is_main { on_sheet } else { Vec::new() };
        // How many pages the files have is known when they are read: at least one each.
        let slides = Slides::new(spec, missing.len().max(30), is_main);
        Self { job, on_sheet, sheet, slides, seen: 0 }
    }

    fn add(&mut self, page: &Page, slice: &Slice, planes: &Tensor) {
        let name = stem(&self.job.cases[page.case]).display().to_string();
        if page.number == 0 && self.on_sheet.contains(&page.case) {
            sheets::add(&mut self.sheet, name.clone(), slice, planes);
        }
        if self.slides.wants(self.seen, None) {
            let caption = if page.size[0] == 1 { name } else { format!("{name} page {}", page.number) };
            self.slides.add(self.seen, caption, None, slice, planes);
        }
        self.seen += 1;
    }
}

fn report(journal: &Journal, job: &Job<'_>, spec: &DataSpec, counts: Counts, pixels: &[u64]) {
    let logger = &journal.logger;
    if counts.kept > 0.0 {
        logger.note(&format!("kept: {} masks that were there already (--overwrite replaces them)", counts.kept));
    }
    if counts.predicted > 0.0
        && let Some(warning) = constant_output(pixels, spec)
    {
        logger.warn(&warning);
    }
    logger.result(&format!("masks: {} in {}", counts.predicted, job.output.display()));
}

/// What computing has made of an item.
enum Computed {
    /// Probabilities `[P, H, W]` of a page.
    Page {
        page: Page,
        slice: Slice,
        prediction: Tensor,
    },
    Failed {
        case: usize,
        problem: String,
    },
}

/// Computes the pages of `items` in batches, and hands each to `take`, in order, until that gives `false`.
fn compute_pages(
    compute: &Compute,
    predictor: &SlicePredictor<'_>,
    batch_size: usize,
    items: &Receiver<Item>,
    take: &mut dyn FnMut(Computed) -> bool,
    advance: &dyn Fn(u64),
) -> Result<()> {
    let mut batch: Vec<(Page, Slice)> = Vec::with_capacity(batch_size);
    let mut files = 0;
    loop {
        let item = items.recv().ok();
        let (is_last, failure) = match item {
            Some(Item::Page { page, raw }) => {
                let slice = Slice::new(*raw, page.range, None).to_device(compute.device);
                batch.push((page, slice));
                (false, None)
            }
            Some(Item::Failed { case, problem }) => (false, Some(Computed::Failed { case, problem })),
            None => (true, None),
        };
        // A failure goes behind the pages before it, so that the writer meets the files one after the other.
        if batch.len() == batch_size || is_last || failure.is_some() {
            files += batch.iter().filter(|(page, _)| page.is_last).count() as u64 + u64::from(failure.is_some());
            if !compute_batch(predictor, &mut batch, take)? {
                return Ok(());
            }
            advance(files);
        }
        if failure.is_some_and(|failure| !take(failure)) || is_last {
            return Ok(());
        }
    }
}

/// Computes a batch and empties it; `false` where nobody takes its results.
fn compute_batch(
    predictor: &SlicePredictor<'_>,
    batch: &mut Vec<(Page, Slice)>,
    take: &mut dyn FnMut(Computed) -> bool,
) -> Result<bool> {
    if batch.is_empty() {
        return Ok(true);
    }
    let (pages, slices): (Vec<Page>, Vec<Slice>) = batch.drain(..).unzip();
    let predicted = predictor.predict(&slices)?;
    for ((page, slice), prediction) in pages.into_iter().zip(slices).zip(predicted) {
        if !take(Computed::Page { page, slice, prediction }) {
            return Ok(false);
        }
    }
    Ok(true)
}
