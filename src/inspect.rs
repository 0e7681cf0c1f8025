//! `unet inspect`: what a dataset holds, how it will be mapped, and what is wrong with it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::data::stack::{
    TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, classes, describe, grey_range, label_values, stack_path,
};
use crate::data::tiff::{self, Samples, Stack};

/// Prints a paragraph per stack.
///
/// Errors: a summary when anything would stop a run; the details are printed with their stack.
pub fn inspect(data_dir: &Path) -> Result<()> {
    let mut report = Report { problems: 0 };
    let volume = report.stack(data_dir, TRAIN_VOLUME, describe_images)?;
    let labels = report.stack(data_dir, TRAIN_LABELS, describe_labels)?;
    let test = report.stack(data_dir, TEST_VOLUME, describe_images)?;
    if let (Some(volume), Some(labels)) = (&volume, &labels)
        && size(volume) != size(labels)
    {
        report.problem("images and labels differ in pages or size");
    }
    if let (Some(volume), Some(test)) = (&volume, &test)
        && grey_range(&volume.samples).ok() != grey_range(&test.samples).ok()
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

struct Report {
    problems: usize,
}

impl Report {
    /// Prints what is in one stack; `None` where it cannot be read.
    ///
    /// Errors: no such folder.
    fn stack(
        &mut self,
        data_dir: &Path,
        name: &str,
        describe_samples: fn(&Samples) -> Result<Vec<String>>,
    ) -> Result<Option<Stack>> {
        if !data_dir.is_dir() {
            stack_path(data_dir, name)?;
        }
        println!("{name}");
        let stack = match stack_path(data_dir, name).and_then(|path| Ok(tiff::read_stack(&path)?)) {
            Ok(stack) => stack,
            Err(error) => {
                self.problem(&format!("{error:#}"));
                return Ok(None);
            }
        };
        println!("  {}, {}", describe(size(&stack)), sample_type(&stack.samples));
        match describe_samples(&stack.samples) {
            Ok(lines) => lines.iter().for_each(|line| println!("  {line}")),
            Err(error) => self.problem(&format!("{error:#}")),
        }
        Ok(Some(stack))
    }

    fn problem(&mut self, text: &str) {
        self.problems += 1;
        println!("  problem: {text}");
    }
}

fn size(stack: &Stack) -> [i64; 3] {
    [stack.pages, stack.height, stack.width].map(|side| side as i64)
}

fn sample_type(samples: &Samples) -> &'static str {
    match samples {
        Samples::U8(_) => "8-bit integers",
        Samples::U16(_) => "16-bit integers",
        Samples::F32(_) => "32-bit floats",
    }
}

fn describe_images(samples: &Samples) -> Result<Vec<String>> {
    let (low, high, mean) = match samples {
        Samples::U8(values) => statistics(values.iter().map(|&value| f64::from(value))),
        Samples::U16(values) => statistics(values.iter().map(|&value| f64::from(value))),
        Samples::F32(values) => statistics(values.iter().map(|&value| f64::from(value))),
    };
    let range = grey_range(samples)?;
    Ok(vec![
        format!("values {low} to {high}, mean {mean:.2}"),
        format!("mapping: {} becomes -1, {} becomes 1", range.black, range.white),
    ])
}

fn describe_labels(samples: &Samples) -> Result<Vec<String>> {
    let classes = classes(samples)?;
    let values: Vec<String> = label_values(samples).iter().map(f64::to_string).collect();
    let background = classes.iter().map(|&class| u64::from(class)).sum::<u64>() as f64 / classes.len().max(1) as f64;
    Ok(vec![
        format!("values {}", values.join(" and ")),
        "mapping: 0 is class 0 (membrane), the other value class 1 (background, inside a cell)".to_owned(),
        format!("membrane {:.2} %, background {:.2} %", 100.0 * (1.0 - background), 100.0 * background),
    ])
}

/// Smallest, largest and mean value.
fn statistics(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let (mut low, mut high, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0u64);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
        sum += value;
        count += 1;
    }
    (low, high, sum / count.max(1) as f64)
}
