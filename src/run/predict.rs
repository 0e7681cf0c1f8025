//! `--exec_mode predict` and the second half of `train_and_predict` for the challenge's test stack: masks and
//! probabilities of all of its pages. Other images are predicted by `predict_files.rs`.
//!
//! Shapes: H, W pixels, P planes of probabilities (`inference.rs`).

use anyhow::Result;
use tch::{Device, IndexOp, Kind, Tensor};

use super::context::{Compute, Journal};
use super::inference::{self, PredictionOptions, SlicePredictor, constant_output, planes};
use super::masks::{MaskPages, ProbabilityPages};
use super::sheets::{self, Slides};
use crate::data::labels::LabelValue;
use crate::data::slices::SliceSet;
use crate::data::spec::DataSpec;
use crate::files::create_parent;
use crate::model::unet::Predictor;
use crate::output::html::Part;
use crate::output::model_dir::ModelDir;
use crate::output::pictures::sheet;

/// Writes `pred/test-masks.tif` and `pred/test-probabilities.tif`, both with the pages and the size of the stack. Pages
/// are written as they come.
///
/// Masks are 0 and 255 for the reference's two classes, else the stored values of the classes. Probabilities are f32:
/// of the second of two classes (0 = membrane, 1 = not membrane), else of each class as a channel.
///
/// Batches are dealt out to the ranks; in each round rank 0 collects one of each and writes them in order.
pub fn predict(
    compute: &Compute,
    journal: &mut Journal,
    nets: &[Predictor],
    stack: &SliceSet,
    spec: &DataSpec,
    batch_size: usize,
    options: PredictionOptions,
) -> Result<()> {
    let world = &compute.world;
    let predictor = SlicePredictor::new(compute, nets, spec, batch_size, options)?;
    let Journal { model_dir, logger, tracker } = journal;
    let mut files = world.is_main().then(|| Files::create(model_dir, stack, spec)).transpose()?;
    let (pages, [height, width]) = (stack.len(), stack.size(0).map(|side| side as i64));
    let slices: Vec<usize> = (0..pages).collect();
    let shown = sheet::choose(&slices);
    let mut sheet = sheets::of_file(&stack.cases[0].images[0], shown.len(), &format!("{pages} slices"), spec);
    let mut slides = Slides::new(spec, pages, world.is_main());
    let batches: Vec<&[usize]> = slices.chunks(batch_size).collect();
    logger.start_bar("predict", pages as u64, 0);
    for (number, round) in batches.chunks(world.size).enumerate() {
        let coming = batches[number * world.size..].iter().skip(world.rank).step_by(world.size);
        stack.expect(coming.take(2).copied().flatten().copied());
        let own = match round.get(world.rank) {
            Some(slices) => Tensor::stack(&predictor.predict(&stack.select(slices)?)?, 0).to_device(world.device),
            None => Tensor::zeros([0, planes(spec.classes()), height, width], (Kind::Float, world.device)),
        };
        // All ranks send the same shape: the last round may have smaller batches, or none for some.
        let missing = round[0].len() as i64 - own.size()[0];
        let own = if missing > 0 { own.constant_pad_nd([0, 0, 0, 0, 0, 0, 0, missing]) } else { own };
        for (slices, probabilities) in round.iter().zip(world.gather(&own)?) {
            let probabilities = probabilities.to_device(Device::Cpu).contiguous();
            for (index, &slice) in slices.iter().enumerate() {
                if let Some(files) = &mut files {
                    let planes = probabilities.i(index as i64);
                    let classes = inference::classes(&planes);
                    files.write(&planes, &classes)?;
                    if slides.wants(slice, None) {
                        slides.add(slice, format!("slice {slice}"), None, &stack.get(slice)?, &planes);
                    }
                    if shown.contains(&slice) {
                        sheets::add(&mut sheet, format!("slice {slice}"), &stack.get(slice)?, &planes);
                    }
                }
                logger.advance(slice as u64 + 1);
            }
        }
    }
    logger.end_bar();
    let Some(Files { masks, probabilities, pixels }) = files else { return Ok(()) };
    masks.finish()?;
    probabilities.finish()?;
    if let Some(warning) = constant_output(&pixels, spec) {
        logger.warn(&warning);
    }
    logger.result(&format!("masks: {}", model_dir.masks().display()));
    logger.note(&format!("probabilities: {}", model_dir.probabilities().display()));
    tracker.draw_sheet(&sheet, &model_dir.prediction_sheet(), logger);
    tracker.view(Part::Prediction, slides.finish(&stack.cases[0].images[0], pages), logger);
    Ok(())
}

/// The two stacks while they are written.
struct Files {
    masks: MaskPages,
    probabilities: ProbabilityPages,
    /// Pixels of each class so far.
    pixels: Vec<u64>,
}

impl Files {
    fn create(model_dir: &ModelDir, stack: &SliceSet, spec: &DataSpec) -> Result<Self> {
        let ([height, width], pages) = (stack.size(0), stack.len());
        create_parent(&model_dir.masks())?;
        // The reference writes 0 and 255 whatever the labels were stored as.
        let values = match &spec.map {
            Some(map) if !map.is_plain_pair() => map.written_values(),
            _ => vec![LabelValue::Grey(0), LabelValue::Grey(255)],
        };
        let (size, resolution) = ([pages, height, width], stack.resolution.as_ref());
        Ok(Self {
            masks: MaskPages::create(&model_dir.masks(), size, &values, resolution)?,
            probabilities: ProbabilityPages::create(
                &model_dir.probabilities(),
                size,
                planes(spec.classes()),
                resolution,
            )?,
            pixels: vec![0; spec.classes()],
        })
    }

    /// `planes` is `[P, H, W]` f32, `classes` `[H, W]` u8.
    fn write(&mut self, planes: &Tensor, classes: &Tensor) -> Result<()> {
        let classes = Vec::<u8>::try_from(classes.contiguous().view([-1]))?;
        count(&mut self.pixels, &classes);
        self.masks.write(&classes)?;
        self.probabilities.write(planes)
    }
}

/// Adds the pixels of each class.
pub fn count(pixels: &mut [u64], classes: &[u8]) {
    classes.iter().for_each(|&class| pixels[usize::from(class)] += 1);
}
