//! `unet inspect`: what a dataset holds, how it will be mapped, and what is wrong with it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::data::stack::{TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, describe, stack_path};
use crate::data::tiff::{SampleFormat, Samples, StackReader};
use crate::data::values::{GreyValues, LabelValues, classes};

/// Prints a paragraph per stack.
///
/// Errors: a summary when anything would stop a run; the details are printed with their stack.
pub fn inspect(data_dir: &Path) -> Result<()> {
    let mut report = Inspection { problems: 0 };
    let volume = report.images(data_dir, TRAIN_VOLUME)?;
    let labels = report.labels(data_dir)?;
    let test = report.images(data_dir, TEST_VOLUME)?;
    if let (Some((size, _)), Some(label_size)) = (&volume, labels)
        && *size != label_size
    {
        report.problem("images and labels differ in pages or size");
    }
    if let (Some((_, volume)), Some((_, test))) = (&volume, &test)
        && volume.range().ok() != test.range().ok()
    {
        report.problem("training and test images are mapped differently; store them with one sample type");
    }
    match report.problems {
        0 => {
            println!("no problem found");
            Ok(())
        }
        count => bail!("{count} problem(s) found in '{}', see above", data_dir.display()),
    }
}

struct Inspection {
    problems: usize,
}

/// Pages, height and width.
type Size = [i64; 3];

impl Inspection {
    /// Prints what is in an image stack; `None` where it cannot be read.
    ///
    /// Errors: no such folder.
    fn images(&mut self, data_dir: &Path, name: &str) -> Result<Option<(Size, GreyValues)>> {
        let Some(stack) = self.open(data_dir, name)? else { return Ok(None) };
        let (size, mut values) = (size(&stack), GreyValues::new(stack.format()));
        if !self.read(stack, |page| values.add(page)) {
            return Ok(None);
        }
        println!("  values {} to {}, mean {:.2}", values.low, values.high, values.mean());
        match values.range() {
            Ok(range) => println!("  mapping: {} becomes -1, {} becomes 1", range.black, range.white),
            Err(error) => self.problem(&format!("{error:#}")),
        }
        Ok(Some((size, values)))
    }

    /// The same of the label stack.
    fn labels(&mut self, data_dir: &Path) -> Result<Option<Size>> {
        let Some(stack) = self.open(data_dir, TRAIN_LABELS)? else { return Ok(None) };
        let (size, mut values, mut background) = (size(&stack), LabelValues::default(), 0);
        let count = |page: Samples<'_>| {
            values.add(page);
            background += classes(page).into_iter().map(u64::from).sum::<u64>();
        };
        if !self.read(stack, count) {
            return Ok(None);
        }
        match values.check() {
            Ok(()) => {
                let found: Vec<String> = values.found().iter().map(f64::to_string).collect();
                println!("  values {}", found.join(" and "));
                println!("  mapping: 0 is class 0 (membrane), the other value class 1 (background, inside a cell)");
                let background = background as f64 / size.iter().product::<i64>() as f64;
                println!("  membrane {:.2} %, background {:.2} %", 100.0 * (1.0 - background), 100.0 * background);
            }
            Err(error) => self.problem(&format!("{error:#}")),
        }
        Ok(Some(size))
    }

    fn open(&mut self, data_dir: &Path, name: &str) -> Result<Option<StackReader>> {
        if !data_dir.is_dir() {
            stack_path(data_dir, name)?;
        }
        println!("{name}");
        match stack_path(data_dir, name).and_then(|path| Ok(StackReader::open(&path)?)) {
            Ok(stack) => {
                let samples = match stack.format() {
                    SampleFormat::U8 => "8-bit integers",
                    SampleFormat::U16 => "16-bit integers",
                    SampleFormat::F32 => "32-bit floats",
                };
                println!("  {}, {samples}", describe(size(&stack)));
                Ok(Some(stack))
            }
            Err(error) => {
                self.problem(&format!("{error:#}"));
                Ok(None)
            }
        }
    }

    /// `false`, with a problem, where a page cannot be read.
    fn read(&mut self, stack: StackReader, mut visit: impl FnMut(Samples<'_>)) -> bool {
        let done = stack.for_each_page(|_, page| visit(page));
        if let Err(error) = &done {
            self.problem(&error.to_string());
        }
        done.is_ok()
    }

    fn problem(&mut self, text: &str) {
        self.problems += 1;
        println!("  problem: {text}");
    }
}

fn size(stack: &StackReader) -> Size {
    stack.size().map(|side| side as i64)
}
