//! `--exec_mode predict` and the second half of `train_and_predict`: masks and probabilities of the test stack.

use anyhow::Result;
use tch::{IndexOp, Kind, Tensor};

use crate::amp::Precision;
use crate::data::preprocess::{BACKGROUND, resize};
use crate::data::stack::ImageStack;
use crate::data::tiff::{SampleKind, StackWriter};
use crate::execution::Execution;
use crate::model::unet::Predictor;
use crate::model_dir::create_parent;
use crate::run::Run;

/// Writes `pred/test-masks.tif` (u8, 0 or 255) and `pred/test-probabilities.tif` (f32, 0 = membrane,
/// 1 = not membrane), both with the pages and the size of `stack`. Pages are written as they come.
pub fn predict(run: &mut Run<'_>, net: &Predictor, stack: &ImageStack) -> Result<()> {
    let mut execution = run.execution()?;
    let Run { config, model_dir, precision, logger, .. } = run;
    let [pages, height, width] = stack.size().map(|side| side as usize);
    create_parent(&model_dir.masks())?;
    let mut masks =
        StackWriter::create(&model_dir.masks(), pages, height, width, SampleKind::U8, stack.resolution.clone())?;
    let mut probabilities = StackWriter::create(
        &model_dir.probabilities(),
        pages,
        height,
        width,
        SampleKind::F32,
        stack.resolution.clone(),
    )?;

    let slices: Vec<usize> = (0..pages).collect();
    let mut mask = vec![0u8; height * width];
    let mut probability = vec![0f32; height * width];
    logger.start_bar("predict", pages as u64, 0);
    for batch in slices.chunks(config.batch_size) {
        let background = background_probability(&mut execution, net, &stack.preprocessed(batch), *precision)?;
        let background = resize(&background, height as i64, width as i64).to_device(tch::Device::Cpu).contiguous();
        for (index, &slice) in batch.iter().enumerate() {
            background.i((index as i64, 0)).copy_data(&mut probability, height * width);
            for (mask, &probability) in mask.iter_mut().zip(&probability) {
                *mask = if probability > 0.5 { 255 } else { 0 };
            }
            masks.write_u8(&mask)?;
            probabilities.write_f32(&probability)?;
            logger.advance(slice as u64 + 1);
        }
    }
    logger.end_bar();
    masks.finish()?;
    probabilities.finish()?;
    logger.note(&format!("masks: {}", model_dir.masks().display()));
    logger.note(&format!("probabilities: {}", model_dir.probabilities().display()));
    Ok(())
}

/// Softmax probability of background, `[N, 388, 388]` f32, for `images` `[N, 1, 572, 572]` f32.
pub fn background_probability(
    execution: &mut Execution,
    net: &Predictor,
    images: &Tensor,
    precision: Precision,
) -> Result<Tensor> {
    let work = |[images]: [&Tensor; 1]| {
        let logits = net.forward(&images.to_kind(precision.0))?;
        Ok([logits.to_kind(Kind::Float).softmax(1, Kind::Float).i((.., BACKGROUND))])
    };
    let [background] = tch::no_grad(|| execution.run([images], work))?;
    Ok(background)
}
