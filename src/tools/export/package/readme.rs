//! `README.md` of a package: what the network is for, how images become its input, and how well it did.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::description::{Description, HALO, sides};
use crate::data::spec::{GreyScaling, Recipe};
use crate::files::read_json;
use crate::recipe::preprocessing::{MARGIN, OUTPUT_SIDE};
use crate::recipe::tiles::EDGE;
use crate::tools::export::spec::ExportSpec;

/// The page. `scores` is the path of the run's `eval.json`, which need not be there.
///
/// Errors: scores that cannot be read.
pub fn readme(about: &Description<'_>, spec: &ExportSpec, scores: &Path) -> Result<String> {
    let mut page = String::new();
    let (smallest, step) = sides(spec);
    let version = env!("CARGO_PKG_VERSION");
    writeln!(page, "# {}\n\n{}.\n", about.name, about.description.trim_end_matches('.'))?;
    writeln!(page, "Licence: {}. Made by unet {version}.\n", about.license)?;
    writeln!(page, "## Input and output")?;
    writeln!(page, "- **Input** `{}`: {} channel(s), as images are stored.", ExportSpec::INPUT, spec.data.channels)?;
    writeln!(page, "- **Grey levels:** {}", grey_levels(spec))?;
    writeln!(page, "- **Sides:** {smallest} pixels and multiples of {step} more.")?;
    let output = if spec.softmax { "softmax probabilities" } else { "logits, without softmax" };
    let classes = spec.data.class_names().join(", ");
    let size = match spec.lost() {
        0 => "It has the size of the input".to_owned(),
        lost => format!("It has {lost} pixels less than the input along each axis"),
    };
    writeln!(page, "- **Output** `{}`: {output} of the classes {classes}. {size}.\n", spec.output_name())?;
    writeln!(page, "## Size and frame\n{}\n", frame(spec))?;
    writeln!(page, "## Validation\n{}", validation(scores)?)?;
    writeln!(
        page,
        "Compare masks with labels of images that the network has not seen, by the overlap of each class (Dice, \
         IoU).\n\nThe test image is synthetic. The cover shows it and the network's output for it."
    )?;
    Ok(page)
}

fn grey_levels(spec: &ExportSpec) -> String {
    let (black, white) = (spec.range.black, spec.range.white);
    let scaled = format!("stored values {black} and {white} become -1 and 1");
    match spec.data.recipe {
        Recipe::Native { grey: GreyScaling::Image } => {
            format!("{scaled}; then each channel of each image gets mean 0 and deviation 1.")
        }
        Recipe::Reference | Recipe::Native { grey: GreyScaling::Range } => {
            format!("{scaled}, values beyond are clipped. Images of another range must be mapped to this one first.")
        }
    }
}

/// What the caller has to do, or need not do, about size and frame.
fn frame(spec: &ExportSpec) -> String {
    let is_framed = spec.padding.is_some();
    match (spec.data.recipe, is_framed) {
        (Recipe::Reference, false) => format!(
            "The network was trained on images resized to {OUTPUT_SIDE}x{OUTPUT_SIDE} pixels (bilinear, half-pixel \
             centres, no antialiasing), with a frame of {MARGIN} pixels of mid-grey on each side. Resize images so, \
             frame them, and resize the result back; the specification has no words for that."
        ),
        (Recipe::Reference, true) => format!(
            "The network was trained on images resized to {OUTPUT_SIDE}x{OUTPUT_SIDE} pixels (bilinear, half-pixel \
             centres, no antialiasing). Resize images so and the result back; the specification has no words for \
             that. Give whole images, not blocks: the network frames its input with mid-grey, as in training."
        ),
        (Recipe::Native { .. }, false) => format!(
            "The network takes images at their stored resolution. It needs {MARGIN} pixels around what it segments; \
             past the edges of an image these are its mirror image. The last {EDGE} rows and columns of an output \
             lack a neighbour and differ slightly from those of a larger input; blocks that begin at multiples of 16 \
             pixels, without these rows and columns, join without seams."
        ),
        (Recipe::Native { .. }, true) => format!(
            "The network takes images at their stored resolution, and mirrors its input past the edges by itself. \
             Programs that work block by block take {HALO} pixels around each block (the halo), so that blocks join \
             without seams."
        ),
    }
}

/// The scores of the run as a table.
fn validation(scores: &Path) -> Result<String> {
    let Some(scores) = read_json(scores)? else {
        return Ok("The run that made these weights was not evaluated.\n".to_owned());
    };
    let mut table =
        "Scores of the run on the slices that it kept for validation:\n\n| score | value |\n|---|---|\n".to_owned();
    let numbers = scores.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_f64()?)));
    for (key, value) in numbers {
        writeln!(table, "| {key} | {value:.4} |")?;
    }
    for class in scores["classes"].as_array().into_iter().flatten() {
        if let (Some(name), Some(dice)) = (class["name"].as_str(), class["dice"].as_f64()) {
            writeln!(table, "| Dice of {name} | {dice:.4} |")?;
        }
    }
    Ok(table)
}
