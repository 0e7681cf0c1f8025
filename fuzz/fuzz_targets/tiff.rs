//! The TIFF reader: any bytes give pages or an error.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

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

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut stack) = tiff::StackReader::new(Cursor::new(bytes), Path::new("fuzz.tif")) else { return };
    let [pages, height, width] = stack.size();
    let channels = stack.channels();
    assert!((1..=16).contains(&channels));
    // What all in order gives, the last page by its index gives too.
    let last = stack.page(pages - 1);
    let last_is_read = last.is_ok_and(|page| count(page.samples()) == height * width * channels);
    let mut seen = 0;
    let read = stack.for_each_page(|index, page| {
        assert_eq!(index, seen);
        seen += 1;
        assert_eq!(count(page), height * width * channels);
    });
    assert_eq!(read.is_ok(), seen == pages);
    assert!(last_is_read || read.is_err());
});

fn count(samples: tiff::Samples) -> usize {
    match samples {
        tiff::Samples::U8(samples) => samples.len(),
        tiff::Samples::U16(samples) => samples.len(),
        tiff::Samples::F32(samples) => samples.len(),
    }
}
