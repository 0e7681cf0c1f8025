//! `--exec_mode predict` and the second half of `train_and_predict`: masks and probabilities of the test stack.

use std::path::Path;

use anyhow::Result;
use tch::{Device, IndexOp, Kind, Tensor};

use super::context::{Compute, Journal};
use super::inference::{background_probability, constant_output};
use crate::data::stack::ImageStack;
use crate::data::tiff::{SampleKind, StackWriter};
use crate::files::create_parent;
use crate::model::unet::Predictor;
use crate::output::model_dir::ModelDir;
use crate::output::pictures::sheet::{self, Sheet};
use crate::recipe::batches::preprocessed_images;
use crate::recipe::preprocessing::resize;

/// Writes `pred/test-masks.tif` (u8, 0 or 255) and `pred/test-probabilities.tif` (f32, 0 = membrane,
/// 1 = not membrane), both with the pages and the size of `stack`. Pages are written as they come.
///
/// Batches are dealt out to the ranks; in each round rank 0 collects one of each and writes them in order.
pub fn predict(
    compute: &Compute,
    journal: &mut Journal,
    net: &Predictor,
    stack: &ImageStack,
    batch_size: usize,
) -> Result<()> {
    let (mut runner, world) = (compute.step_runner()?, &compute.world);
    let Journal { model_dir, logger, tracker } = journal;
    let mut files = world.is_main().then(|| Files::create(model_dir, stack)).transpose()?;
    let [pages, height, width] = stack.size();
    let slices: Vec<usize> = (0..pages as usize).collect();
    let shown = sheet::choose(&slices);
    let mut sheet = Sheet::new(&stack.path, shown.len(), &format!("{pages} slices"));
    let batches: Vec<&[usize]> = slices.chunks(batch_size).collect();
    logger.start_bar("predict", pages as u64, 0);
    for round in batches.chunks(world.size) {
        let own = match round.get(world.rank) {
            Some(slices) => background_probability(&mut runner, net, &preprocessed_images(stack, slices))
                .map(|background| resize(&background, height, width))?,
            None => Tensor::zeros([0, 1, height, width], (Kind::Float, world.device)),
        };
        // All ranks send the same shape: the last round may have smaller batches, or none for some.
        let missing = round[0].len() as i64 - own.size()[0];
        let own = if missing > 0 { own.constant_pad_nd([0, 0, 0, 0, 0, 0, 0, missing]) } else { own };
        for (slices, background) in round.iter().zip(world.gather(&own)?) {
            let background = background.to_device(Device::Cpu).contiguous();
            for (index, &slice) in slices.iter().enumerate() {
                if let Some(files) = &mut files {
                    let background = background.i((index as i64, 0));
                    files.write(&background)?;
                    if shown.contains(&slice) {
                        sheet.add(slice, &stack.select(&[slice]).i(0), stack.stored_range(), &background, None);
                    }
                }
                logger.advance(slice as u64 + 1);
            }
        }
    }
    logger.end_bar();
    let Some(Files { masks, probabilities, background, .. }) = files else { return Ok(()) };
    masks.finish()?;
    probabilities.finish()?;
    if let Some(warning) = constant_output(background as f64 / (pages * height * width) as f64) {
        logger.warn(&warning);
    }
    logger.note(&format!("masks: {}", model_dir.masks().display()));
    logger.note(&format!("probabilities: {}", model_dir.probabilities().display()));
    tracker.draw_sheet(&sheet, &model_dir.prediction_sheet(), logger);
    Ok(())
}

/// The two stacks while they are written, and a page of each.
struct Files {
    masks: StackWriter,
    probabilities: StackWriter,
    mask: Vec<u8>,
    probability: Vec<f32>,
    /// Pixels that were masked as background so far.
    background: u64,
}

impl Files {
    fn create(model_dir: &ModelDir, stack: &ImageStack) -> Result<Self> {
        let [pages, height, width] = stack.size().map(|side| side as usize);
        create_parent(&model_dir.masks())?;
        let create =
            |path: &Path, kind| StackWriter::create(path, pages, height, width, kind, stack.resolution.clone());
        Ok(Self {
            masks: create(&model_dir.masks(), SampleKind::U8)?,
            probabilities: create(&model_dir.probabilities(), SampleKind::F32)?,
            mask: vec![0; height * width],
            probability: vec![0.0; height * width],
            background: 0,
        })
    }

    /// `background` is `[H, W]` f32.
    fn write(&mut self, background: &Tensor) -> Result<()> {
        let pixels = self.probability.len();
        background.copy_data(&mut self.probability, pixels);
        for (mask, &probability) in self.mask.iter_mut().zip(&self.probability) {
            *mask = if probability > 0.5 { 255 } else { 0 };
            self.background += u64::from(*mask == 255);
        }
        self.masks.write_u8(&self.mask)?;
        Ok(self.probabilities.write_f32(&self.probability)?)
    }
}
