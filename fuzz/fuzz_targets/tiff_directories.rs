//! The TIFF reader on files that are sound but for some fields: pages of all kinds that are read, with changed fields
//! and texts of other programs. A file without changes must give the samples that were put into it.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "tiff_directories/file.rs"]
mod file;
#[path = "../../src/files.rs"]
mod files;
#[path = "../../src/data/samples.rs"]
mod samples;
#[path = "../../src/data/tiff/mod.rs"]
mod tiff;
mod data {
    pub(crate) use crate::samples;
}

use std::io::Cursor;
use std::path::Path;

use file::File;
use libfuzzer_sys::fuzz_target;
use tiff::Samples;

fn values(samples: Samples<'_>) -> Vec<f32> {
    match samples {
        Samples::U8(values) => values.iter().map(|&value| value.into()).collect(),
        Samples::U16(values) => values.iter().map(|&value| value.into()).collect(),
        Samples::F32(values) => values.to_vec(),
    }
}

fuzz_target!(|file: File| {
    let bytes = file.write();
    let mut stack = match tiff::StackReader::new(Cursor::new(&bytes[..]), Path::new("fuzz.tif")) {
        Ok(stack) => stack,
        Err(error) => {
            assert!(file.is_changed(), "a sound file is refused: {error}");
            return;
        }
    };
    let [pages, height, width] = stack.size();
    let channels = stack.channels();
    if !file.is_changed() {
        assert_eq!(([pages, height, width], channels), (file.size(), file.channels()[0]));
    }
    let last = stack.page(pages - 1).map(|page| values(page.samples()));
    let mut seen = 0;
    let read = stack.for_each_page(|index, page| {
        let page = values(page);
        assert_eq!((index, page.len()), (seen, height * width * channels));
        seen += 1;
        if !file.is_changed() {
            for (at, value) in page.iter().enumerate() {
                let (pixel, channel) = (at / channels, at % channels);
                assert_eq!(*value, f32::from(file.value(index, pixel / width, pixel % width, channel)));
            }
        }
        if let (true, Ok(last)) = (seen == pages, &last) {
            assert_eq!(last, &page);
        }
    });
    assert_eq!(read.is_ok(), seen == pages);
    assert!(last.is_ok() || read.is_err());
    assert!(file.is_changed() || read.is_ok());
});
