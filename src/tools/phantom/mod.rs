//! `unet phantom`: a synthetic dataset, in memory and as files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::{PhantomArgs, PhantomLayout};
use crate::error::UsageError;

mod classes;
mod dataset;
mod field;
mod folders;
mod picture;
mod stacks;
mod stains;
mod tissue;

pub use dataset::generate;
use dataset::{Variety, pieces};

/// Writes a dataset into `args.out`.
///
/// Errors: files that are there already, without `--overwrite`; channels that the layout cannot hold; a folder that
/// cannot be written to.
pub fn phantom(args: &PhantomArgs) -> Result<()> {
    let [slices, size, channels] = [args.slices, args.size, args.channels].map(|number| number as usize);
    check_channels(args.layout, channels)?;
    // At most 6.
    let variety = Variety { classes: args.classes as u8, channels };
    if args.layout == PhantomLayout::Stacks {
        claim(&args.out, stacks::NAMES.map(|name| args.out.join(name)), args.overwrite)?;
        return stacks::write(&args.out, pieces(slices, size, args.seed, variety), variety.classes);
    }
    let plan = folders::plan(args.layout, slices, variety.channels);
    claim(&args.out, plan.paths(&args.out), args.overwrite)?;
    plan.write(&args.out, pieces(slices, size, args.seed, variety), variety.classes)
}

/// Refuses more channels than the files of a layout hold.
fn check_channels(layout: PhantomLayout, channels: usize) -> Result<(), UsageError> {
    let (name, held, other) = match layout {
        PhantomLayout::Folders => ("folders", &[1, 3][..], "nnunet takes 1 to 4"),
        PhantomLayout::Stacks | PhantomLayout::Nnunet => return Ok(()),
    };
    if held.contains(&channels) {
        return Ok(());
    }
    let held: Vec<String> = held.iter().map(usize::to_string).collect();
    let held = held.join(" or ");
    let message = format!("--channels {channels} does not fit --layout {name}, which takes {held}; --layout {other}");
    Err(UsageError::new(message))
}

/// Makes the folder, after a look for files that would be replaced.
fn claim(out: &Path, paths: impl IntoIterator<Item = PathBuf>, overwrite: bool) -> Result<()> {
    if let (Some(path), false) = (paths.into_iter().find(|path| path.exists()), overwrite) {
        bail!("'{}' is there already; use --overwrite to replace it, or another --out", path.display());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make folder '{}'", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_refuses_channels_that_its_files_do_not_hold() {
        let held = |layout| -> Vec<usize> { (1..=4).filter(|&n| check_channels(layout, n).is_ok()).collect() };
        assert_eq!(held(PhantomLayout::Stacks), [1, 2, 3, 4]);
        assert_eq!(held(PhantomLayout::Folders), [1, 3]);
        assert_eq!(held(PhantomLayout::Nnunet), [1, 2, 3, 4]);
        let message = check_channels(PhantomLayout::Folders, 2).unwrap_err().to_string();
        assert_eq!(
            message,
            "--channels 2 does not fit --layout folders, which takes 1 or 3; --layout nnunet takes 1 to 4"
        );
    }
}
