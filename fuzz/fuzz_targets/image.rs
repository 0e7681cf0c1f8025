//! The readers of image files (PNG, JPEG and TIFF): any bytes give pages or an error.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "../../src/files.rs"]
mod files;
#[path = "../../src/data"]
mod data {
    pub mod image_file;
    pub mod samples;
    pub mod tiff;
}

use std::cell::OnceCell;
use std::fs;

use data::image_file::ImageFile;
use data::samples::Samples;
use libfuzzer_sys::fuzz_target;
use tempfile::TempPath;

thread_local! {
    /// Where the bytes are put: the readers want a file.
    static PLACE: OnceCell<TempPath> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    PLACE.with(|place| {
        let path = place.get_or_init(|| tempfile::NamedTempFile::new_in("/dev/shm").unwrap().into_temp_path());
        fs::write(path, bytes).unwrap();
        let Ok(mut file) = ImageFile::open(path) else { return };
        let info = file.info();
        let Ok(image) = file.page(info.pages - 1) else { return };
        let count = match image.samples.samples() {
            Samples::U8(values) => values.len(),
            Samples::U16(values) => values.len(),
            Samples::F32(values) => values.len(),
        };
        assert_eq!(count, info.height * info.width * info.channels);
    });
});
