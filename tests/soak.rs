//! A short form of the long test `scripts/check/soak.py`: kills of trainings with everything on, in one process and in
//! two, and of predictions of a folder.

use std::process::Command;

#[test]
fn killed_trainings_and_predictions_end_with_the_bytes_of_unbroken_ones() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/check/soak.py");
    let kills = ["--kills", "9", "--pair_kills", "3", "--folder_kills", "4", "--seed", "5"];
    let Ok(output) = Command::new("python3").arg(script).arg(env!("CARGO_BIN_EXE_unet")).args(kills).output() else {
        eprintln!("skipped: there is no python3");
        return;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{printed}{told}");
    assert!(printed.contains("all ends equal unbroken runs"), "{printed}");
    for name in ["one process", "two processes", "prediction"] {
        assert!(printed.contains(&format!("{name}, SIG")), "no kill of {name}: {printed}");
    }
}
