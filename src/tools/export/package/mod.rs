//! `unet export --to bioimageio`: a package for the BioImage Model Zoo, a zip archive with the network in both formats,
//! test images and their result, and a description by the zoo's specification, version 0.5.
//!
//! The description is in `description.rs`, the page for people in `readme.rs`, the test images in `test_images.rs`, the
//! picture in `cover.rs`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::check::{Check, ONNX, TORCHSCRIPT, write_checked};
use super::slices::Slices;
use super::spec::ExportSpec;
use crate::cli::ExportArgs;
use crate::files::temporary_folder;
use crate::model::unet::UNet;
use crate::output::model_dir::ModelDir;
use description::{COVER, Description, ONNX_FILE, README, TEST_INPUT, TEST_OUTPUT, TORCHSCRIPT_FILE};
use test_images::TestImages;

mod cover;
mod description;
mod readme;
mod test_images;

/// The description; its name is the one that all tools of the zoo know.
const DESCRIPTION: &str = "rdf.yaml";

/// Writes the package to `file`, once both of its networks are checked.
pub fn write(args: &ExportArgs, spec: &ExportSpec, net: UNet, slices: &Slices, file: &File) -> Result<Vec<Check>> {
    let cannot_write = || format!("cannot write '{}'", args.out.display());
    let folder = temporary_folder(&args.out).with_context(cannot_write)?;
    let path = |name: &str| folder.path().join(name);
    let (onnx, torchscript) = (path(ONNX_FILE), path(TORCHSCRIPT_FILE));
    let files = [(&ONNX, onnx.as_path()), (&TORCHSCRIPT, torchscript.as_path())];
    let (own, checks) = write_checked(net, spec, slices, &files, &args.out)?;

    let test = TestImages::new(&own, spec)?;
    test.input.write_npy(path(TEST_INPUT)).with_context(cannot_write)?;
    test.output.write_npy(path(TEST_OUTPUT)).with_context(cannot_write)?;
    fs::write(path(COVER), cover::cover(&test, spec)?).with_context(cannot_write)?;
    let about = Description::new(&args.package, spec)?;
    let scores = ModelDir::new(&args.model_dir).scores();
    fs::write(path(README), readme::readme(&about, spec, &scores)?).with_context(cannot_write)?;
    let description = about.write(|name| sha256(&path(name)).with_context(cannot_write))?;
    fs::write(path(DESCRIPTION), description).with_context(cannot_write)?;

    let names = [DESCRIPTION, README, COVER, ONNX_FILE, TORCHSCRIPT_FILE, TEST_INPUT, TEST_OUTPUT];
    archive(folder.path(), &names, file).with_context(cannot_write)?;
    Ok(checks)
}

/// SHA-256 of a file, as hexadecimal digits.
fn sha256(path: &Path) -> Result<String> {
    let (mut file, mut hash, mut part) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&part[..count]),
        }
    }
}

/// Files of a folder as an archive. Weights do not compress: they are stored as they are.
fn archive(folder: &Path, names: &[&str], file: &File) -> Result<()> {
    let mut archive = ZipWriter::new(file);
    for name in names {
        let mut content = File::open(folder.join(name))?;
        // The header must say before the content that sizes need 64 bits.
        let is_large = content.metadata()?.len() >= u64::from(u32::MAX);
        let options = FileOptions::default().compression_method(CompressionMethod::Stored).large_file(is_large);
        archive.start_file(*name, options)?;
        std::io::copy(&mut content, &mut archive)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}
