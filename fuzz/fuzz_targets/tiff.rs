//! The TIFF reader: any bytes give pages or an error.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "../../src/files.rs"]
mod files;
#[path = "../../src/data/tiff/mod.rs"]
mod tiff;

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(stack) = tiff::StackReader::new(Cursor::new(bytes), Path::new("fuzz.tif")) else { return };
    let [pages, height, width] = stack.size();
    let mut seen = 0;
    let read = stack.for_each_page(|index, page| {
        assert_eq!(index, seen);
        seen += 1;
        let samples = match page {
            tiff::Samples::U8(samples) => samples.len(),
            tiff::Samples::U16(samples) => samples.len(),
            tiff::Samples::F32(samples) => samples.len(),
        };
        assert_eq!(samples, height * width);
    });
    assert_eq!(read.is_ok(), seen == pages);
});
