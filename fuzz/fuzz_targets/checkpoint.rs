//! The reader of weight files and checkpoints: any bytes give tensors or an error.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the modules are the program's own, and a part of them is used")]

#[path = "../../src/files.rs"]
mod files;
#[path = "../../src/checkpoint/read.rs"]
mod read;
#[path = "../../src/checkpoint/state.rs"]
mod state;
#[path = "../../src/data"]
mod data {
    pub mod labels;
    pub mod samples;
    pub mod scale;
    pub mod spec;
    pub mod values;
}
#[path = "../../src/model"]
mod model {
    pub mod architecture;
}

use std::cell::OnceCell;
use std::fs;

use libfuzzer_sys::fuzz_target;
use tempfile::TempPath;

thread_local! {
    /// Where the bytes are put: the reader wants a file.
    static PLACE: OnceCell<TempPath> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    PLACE.with(|place| {
        let path = place.get_or_init(|| tempfile::NamedTempFile::new_in("/dev/shm").unwrap().into_temp_path());
        fs::write(path, bytes).unwrap();
        let Ok(file) = read::TensorFile::open(path) else { return };
        if let Ok(header) = file.header::<state::WeightsHeader>() {
            let _ = header.architecture.check();
        }
        if let Ok(state) = file.header::<state::TrainingState>() {
            let _ = state.architecture.check();
            let _ = state.require_settings(&serde_json::Map::new());
        }
        for (name, shape) in [("head.bias", &[2][..]), ("model.head.bias", &[2]), ("head.weight", &[2, 1, 1, 1])] {
            if let Ok(tensor) = file.bytes(name, shape) {
                assert_eq!(tensor.len() as i64, 4 * shape.iter().product::<i64>());
            }
        }
    });
});
