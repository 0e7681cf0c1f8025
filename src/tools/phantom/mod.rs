//! `unet phantom`: writes the synthetic dataset of `tissue.rs` as TIFF stacks.

use anyhow::{Context, Result, bail};
use ndarray::Array3;

use crate::cli::PhantomArgs;
use crate::data::stack::{TEST_LABELS, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME};
use crate::data::tiff::{SampleKind, StackWriter};

mod tissue;

pub use tissue::generate;

/// Writes the four stacks into `args.out`.
///
/// Errors: stacks that are there already, without `--overwrite`; a folder that cannot be written to.
pub fn phantom(args: &PhantomArgs) -> Result<()> {
    let paths = [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME, TEST_LABELS].map(|name| args.out.join(name));
    if let (Some(path), false) = (paths.iter().find(|path| path.exists()), args.overwrite) {
        bail!("'{}' is there already; use --overwrite to replace it, or another --out", path.display());
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make folder '{}'", args.out.display()))?;

    let phantom = generate(args.slices as usize, args.size as usize, args.seed);
    let stacks = [&phantom.train_volume, &phantom.train_labels, &phantom.test_volume, &phantom.test_labels];
    for (path, stack) in paths.iter().zip(stacks) {
        write(path, stack)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn write(path: &std::path::Path, stack: &Array3<u8>) -> Result<()> {
    let (pages, height, width) = stack.dim();
    let mut writer = StackWriter::create(path, pages, height, width, SampleKind::U8, None)?;
    for page in stack.outer_iter() {
        writer.write_u8(&page.iter().copied().collect::<Vec<u8>>())?;
    }
    Ok(writer.finish()?)
}
