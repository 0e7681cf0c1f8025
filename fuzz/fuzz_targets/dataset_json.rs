//! The reader of nnU-Net's `dataset.json`: any bytes give a layout or an error.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "../../src/files.rs"]
mod files;
#[path = "../../src/data"]
mod data {
    pub mod image_file;
    pub mod labels;
    pub mod layout;
    pub mod samples;
    pub mod tiff;
}

use std::cell::OnceCell;
use std::fs;

use data::layout::Layout;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    /// A dataset of two cases, whose description changes.
    static PLACE: OnceCell<TempDir> = const { OnceCell::new() };
}

fn dataset() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    for name in ["imagesTr/a_0000.png", "imagesTr/b_0000.png", "labelsTr/a.png", "labelsTr/b.png"] {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), "").unwrap();
    }
    folder
}

fuzz_target!(|bytes: &[u8]| {
    PLACE.with(|place| {
        let folder = place.get_or_init(dataset).path();
        fs::write(folder.join("dataset.json"), bytes).unwrap();
        if let Ok(layout) = Layout::find(folder) {
            let description = layout.description.as_ref().unwrap();
            assert!(description.map.classes.len() >= 2 && !description.channels.is_empty());
        }
    });
});
