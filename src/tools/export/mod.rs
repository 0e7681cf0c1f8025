//! `unet export`: the trained network as a file for other programs, ONNX or TorchScript, in place of the reference's
//! `export.py`.
//!
//! Here: the command. What the file says about itself is in `spec.rs`, its check before it appears in `check.rs`. The
//! formats are in `onnx.rs` and `torchscript.rs`; the operations that both write, in `wiring.rs`; a package that holds
//! both, in `package/`. docs/deployment.md shows what to do with the files.
//!
//! Shapes: N images, H, W pixels.

use anyhow::{Context, Result, bail};
use tch::Device;

use crate::checkpoint;
use crate::cli::{ExportArgs, ExportFormat};
use crate::data::spec::DataSpec;
use crate::data::values::GreyRange;
use crate::error::UsageError;
use crate::files::{AtomicFile, create_parent};
use crate::model::architecture::Architecture;
use crate::model::sides::output_side;
use crate::output::manifest;
use crate::output::model_dir::ModelDir;
use crate::recipe::preprocessing::INPUT_SIDE;
use crate::run::weights::WeightFile;

mod check;
mod onnx;
mod onnx_messages;
mod package;
mod slices;
mod spec;
mod torchscript;
mod wiring;

use check::{Check, ONNX, TORCHSCRIPT, write_checked};
use slices::Slices;
use spec::{ExportSpec, Padding};

/// Writes `args.out`, which appears once it has been read back and computes what our own network does.
///
/// Errors: flags or sides that do not fit, no weights, a file that is there already without `--overwrite`, one that
/// fails its check.
pub fn export(args: &ExportArgs) -> Result<()> {
    let sides = sides(args)?;
    match args.to {
        ExportFormat::Bioimageio => args.package.require().map(|_| ())?,
        ExportFormat::Onnx | ExportFormat::Torchscript => args.package.refuse()?,
    }
    if args.out.exists() && !args.overwrite {
        bail!("'{}' is there already; use --overwrite to replace it, or another --out", args.out.display());
    }
    let model_dir = ModelDir::new(&args.model_dir);
    let WeightFile { path: weights, warnings } = WeightFile::find(&model_dir, args.weights)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let net = checkpoint::load_weights(&weights, None, Device::Cpu)?;
    let data = checkpoint::data_spec(&weights)?;
    let slices = match &args.data_dir {
        Some(data_dir) => Slices::read(data_dir, &data)?,
        None => Slices::synthetic(range_of_training(&data, &model_dir), data.channels),
    };
    let (architecture, range) = (net.architecture, slices.range);
    let padding = args.package.same_size.then(|| Padding::of(data.recipe));
    let spec = ExportSpec { architecture, data, sides, half: args.amp, softmax: !args.no_softmax, range, padding };
    create_parent(&args.out)?;
    let file = AtomicFile::create(&args.out).with_context(|| format!("cannot write '{}'", args.out.display()))?;
    let one = |net, format| {
        let files = [(format, file.temporary_path())];
        write_checked(net, &spec, &slices, &files, &args.out).map(|(_, checks)| checks)
    };
    let checks = match args.to {
        ExportFormat::Onnx => one(net, &ONNX)?,
        ExportFormat::Torchscript => one(net, &TORCHSCRIPT)?,
        ExportFormat::Bioimageio => package::write(args, &spec, net, &slices, file.file())?,
    };
    let cannot_write = || format!("cannot write '{}'", args.out.display());
    let bytes = file.file().metadata().with_context(cannot_write)?.len();
    file.commit().with_context(cannot_write)?;
    report(args, &spec, &slices, &checks, bytes);
    Ok(())
}

/// The values that the network of `model_dir` was trained on: of several sample types those of the smallest. Weights of
/// 0.1.0 do not say it, the record of their run does.
fn range_of_training(data: &DataSpec, model_dir: &ModelDir) -> Option<GreyRange> {
    data.grey_ranges.values().next().copied().or_else(|| manifest::grey_range(model_dir))
}

/// The sides of the input; `None` for any that fit.
///
/// Errors: a side that does not fit the network, with the next ones that do, and flags that packages do not take.
fn sides(args: &ExportArgs) -> Result<Option<[i64; 2]>, UsageError> {
    let sides = [("--height", args.height), ("--width", args.width)];
    if args.to == ExportFormat::Bioimageio {
        let given = sides.iter().find(|(_, side)| side.is_some()).map(|(flag, _)| *flag);
        return match given.or(args.amp.then_some("--amp")) {
            None => Ok(None),
            Some(flag) => Err(UsageError::new(format!(
                "{flag} is not for --to bioimageio, whose packages take any sides that fit, in float32; leave it out"
            ))),
        };
    }
    if args.dynamic {
        return Ok(None);
    }
    let fitting = |(flag, side): (&str, Option<u64>)| -> Result<i64, UsageError> {
        let side = side.map_or(INPUT_SIDE, |side| side as i64);
        output_side(side).map_err(|error| UsageError::new(format!("{flag} {side}: {error}")))?;
        Ok(side)
    };
    let [height, width] = sides.map(fitting);
    Ok(Some([height?, width?]))
}

fn report(args: &ExportArgs, spec: &ExportSpec, slices: &Slices, checks: &[Check], bytes: u64) {
    let shape = |channels: i64, sides: Option<[i64; 2]>, free: &str| match sides {
        Some([height, width]) => format!("[N, {channels}, {height}, {width}]"),
        None => format!("[N, {channels}, {free}]"),
    };
    let output = match spec.lost() {
        0 => "H, W".to_owned(),
        lost => format!("H - {lost}, W - {lost}"),
    };
    let Architecture { channels, classes, .. } = spec.architecture;
    println!("{}: {:.1} MB, {}", args.out.display(), bytes as f64 / 1e6, if spec.half { "float16" } else { "float32" });
    println!("  input   {} {}", ExportSpec::INPUT, shape(channels, spec.sides, "H, W"));
    println!("  output  {} {}", spec.output_name(), shape(classes, spec.output_sides(), &output));
    for check in checks {
        println!(
            "  check   {} read back, its output differs from ours by {:.1e} at most (limit {:.1e}) on {}",
            check.format.name,
            check.difference,
            check.limit(spec),
            slices.name
        );
    }
    if args.to == ExportFormat::Bioimageio {
        println!("next: bioimageio test {}    (Python's bioimageio.core)", args.out.display());
    }
}
