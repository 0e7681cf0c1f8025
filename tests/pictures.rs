//! Pictures, learning curves and TensorBoard's event files: they are there, other programs read them, and interruptions
//! leave no step in them twice.

mod common;

use std::fs;
use std::io::Cursor;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{TestDir, fails, python, python_with, send, stderr, stdout, text};

const TRAIN: &str = "--base_filters 2 --batch_size 1 --augment --seed 7 --log_every 1";

/// Width and height of a PNG, after decoding all of it.
fn png_size(bytes: &[u8]) -> (u32, u32) {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let first = pixels[..3].to_vec();
    assert!(pixels.chunks(3).any(|pixel| pixel != first), "all pixels are alike");
    (info.width, info.height)
}

/// Step and value of column `column` in the table of losses, where it has a value.
fn losses(dir: &TestDir, column: usize) -> Vec<(u64, f64)> {
    let table = String::from_utf8(dir.read("model/learning_curves.csv")).unwrap();
    let cells = table.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    cells
        .filter(|cells| !cells[column].is_empty())
        .map(|c| (c[0].parse().unwrap(), c[column].parse().unwrap()))
        .collect()
}

#[test]
fn a_run_leaves_learning_curves_and_a_contact_sheet_of_each_kind() {
    let dir = TestDir::new();
    let run =
        dir.run(&format!("{TRAIN} --exec_mode train_and_evaluate --crossvalidation_idx 0 --max_steps 3")).success();
    assert_eq!(stderr(&run), "");
    assert_eq!(png_size(&dir.read("model/learning_curves.png")), (1500, 840));
    // The sheet has two validation slices of 64x64 at four times their size, in four columns.
    assert_eq!(png_size(&dir.read("model/eval.png")), (112 + 4 * 268, 92 + 2 * 268));
    dir.run("--exec_mode predict").success();
    assert_eq!(png_size(&dir.read("model/pred/test-overview.png")), (112 + 3 * 268, 92 + 4 * 268));

    let printed = stdout(&run);
    let scores = dir.json("model/eval.json");
    assert_eq!(losses(&dir, 7), [(3, scores["eval_dice_score"].as_f64().unwrap())]);
    let train = losses(&dir, 1);
    assert_eq!(train.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3]);
    for (step, loss) in train {
        assert!(printed.contains(&format!("step {step}  train_ce_loss {loss:.4}")), "{printed}");
    }
    for name in ["model/learning_curves.png", "model/eval.png"] {
        assert!(printed.contains(name), "{printed}");
    }
}

#[test]
fn pictures_are_replaced_only_when_asked_and_removed_by_overwrite() {
    let dir = TestDir::new();
    let all = "--exec_mode train_and_evaluate --crossvalidation_idx 0 --base_filters 1 --max_steps 1";
    dir.run(all).success();
    dir.run("--exec_mode predict").success();
    fs::remove_file(dir.path("model/eval.json")).unwrap();
    fails(dir.run("--exec_mode evaluate --crossvalidation_idx 0"), 1, &["model/eval.png", "--overwrite"]);
    for mask in ["masks", "probabilities"] {
        fs::remove_file(dir.path(&format!("model/pred/test-{mask}.tif"))).unwrap();
    }
    fails(dir.run("--exec_mode predict"), 1, &["test-overview.png", "--overwrite"]);
    fs::write(dir.path("model/events.out.tfevents.1.other"), "not ours").unwrap();
    let events = event_files(&dir);
    dir.run("--base_filters 1 --max_steps 1 --overwrite").success();
    let files = dir.files("model");
    assert!(
        !files.contains(&"eval.png".to_owned()) && !files.contains(&"pred/test-overview.png".to_owned()),
        "{files:?}"
    );
    assert!(files.contains(&"events.out.tfevents.1.other".to_owned()));
    assert_eq!(event_files(&dir).len(), 1);
    assert_eq!(events.len(), 1);
}

fn event_files(dir: &TestDir) -> Vec<String> {
    dir.files("model").into_iter().filter(|name| name.contains("tfevents") && name.ends_with(".unet")).collect()
}

/// Starts a long run and sends it `signal` once the table of losses has `steps` rows.
fn interrupt(dir: &TestDir, args: &str, signal: &str, steps: usize) {
    let mut run = dir.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while fs::read_to_string(dir.path("model/learning_curves.csv")).unwrap_or_default().lines().count() <= steps {
        assert!(start.elapsed() < Duration::from_secs(120) && run.try_wait().unwrap().is_none(), "no {steps} steps");
        std::thread::sleep(Duration::from_millis(5));
    }
    send(signal, run.id());
    run.wait().unwrap();
}

/// One run is killed, goes back to an earlier checkpoint, and is stopped by a signal on the way.
#[test]
fn interrupted_runs_show_the_curves_of_an_unbroken_one() {
    let (unbroken, dir) = (TestDir::new(), TestDir::new());
    let endless = format!("{TRAIN} --crossvalidation_idx 0 --max_steps 10000");
    interrupt(&dir, &format!("{endless} --checkpoint_every 4"), "-KILL", 6);
    assert!(!dir.path("model/learning_curves.png").exists());
    let killed = losses(&dir, 1).len();
    // A kill in the middle of a row leaves such a table.
    let table = dir.path("model/learning_curves.csv");
    fs::write(&table, [&fs::read(&table).unwrap()[..], b"9999,0.1"].concat()).unwrap();
    interrupt(&dir, &format!("{endless} --resume_training"), "-TERM", killed + 2);
    assert_eq!(png_size(&dir.read("model/learning_curves.png")), (1500, 840));
    // How far each run came is a matter of chance: the unbroken one goes as far as both together.
    let last = losses(&dir, 1).len() as u64 + 2;
    let to_the_end = format!("{TRAIN} --exec_mode train_and_evaluate --crossvalidation_idx 0 --max_steps {last}");
    dir.run(&format!("{to_the_end} --resume_training")).success();
    unbroken.run(&to_the_end).success();
    for column in 1..=3 {
        let (expected, found) = (losses(&unbroken, column), losses(&dir, column));
        assert_eq!(found, expected);
        assert_eq!(found.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    }
    assert_eq!(event_files(&dir).len(), 3);
    check_events(&dir, &format!("list(range(1, {last} + 1))"), last);
}

/// Reads the events with TensorBoard: scalars have these steps, scores and images have the step `last`.
fn check_events(dir: &TestDir, steps: &str, last: u64) {
    let code = format!(
        r#"
import csv, io, sys
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
events = EventAccumulator(sys.argv[1], size_guidance={{'scalars': 0, 'images': 0}})
events.Reload()
steps, last = {steps}, {last}
rows = list(csv.DictReader(open(sys.argv[1] + '/learning_curves.csv')))
for name in ('ce_loss', 'dice_loss', 'total_loss'):
    points = events.Scalars('train/' + name)
    assert [point.step for point in points] == steps, (name, [point.step for point in points])
    expected = [float(row['train_' + name]) for row in rows if row['train_' + name]]
    assert all(abs(point.value - value) < 1e-6 for point, value in zip(points, expected, strict=True))
assert [point.step for point in events.Scalars('train/images_per_second')] == steps
assert all(point.value > 0 for point in events.Scalars('train/images_per_second'))
assert all(abs(point.value - 1e-4) < 1e-9 for point in events.Scalars('train/learning_rate'))
for name in ('ce_loss', 'dice_loss', 'total_loss', 'dice_score'):
    point, = events.Scalars('eval/' + name)
    assert point.step == last and abs(point.value - float(rows[-1]['eval_' + name])) < 1e-6
assert len(events.Tags()['images']) == 2
for tag in events.Tags()['images']:
    image, = events.Images(tag)
    assert tag.startswith('validation/slice_') and image.step == last
    picture = Image.open(io.BytesIO(image.encoded_image_string))
    assert picture.size == (image.width, image.height) == (4 * 256 + 3 * 12, 256), picture.size
content = events.SummaryMetadata('_hparams_/session_start_info').plugin_data.content
hparams = HParamsPluginData.FromString(content).session_start_info.hparams
assert hparams['learning_rate'].number_value == 1e-4 and hparams['base_filters'].number_value == 2
assert hparams['augment'].bool_value and hparams['precision'].string_value == 'float32'
"#
    );
    python_with("tensorboard, PIL", &code, &[&dir.path("model")]);
}

/// A line about each stack from ImageJ itself; `None`, with a message, where there is no Java or no ImageJ.
/// UNET_IMAGEJ_JAR names another ij.jar, such as Fiji's.
fn imagej(dir: &TestDir, stacks: &[String]) -> Option<Vec<String>> {
    let jar = std::env::var("UNET_IMAGEJ_JAR").unwrap_or("/usr/share/java/ij.jar".to_owned());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/imagej/Describe.java");
    let output = Command::new("java")
        .args(["-Djava.awt.headless=true", "-Dfile.encoding=UTF-8", "-cp", &jar, source])
        .args(stacks)
        .current_dir(dir.path(""))
        .output();
    match output {
        Ok(output) if output.status.success() => Some(text(&output.stdout).lines().map(str::to_owned).collect()),
        _ => {
            eprintln!("skipped: no java, or no ImageJ at '{jar}' (Debian: apt-get install imagej)");
            None
        }
    }
}

/// Options that write an input with a voxel size, the unit in the output, and the voxel size that ImageJ shows.
const VOXELS: [(&str, &str, &str); 6] = [
    (
        "imagej=True, resolution=(0.25, 0.2), metadata={'axes': 'ZYX', 'spacing': 50, 'unit': 'nm'}",
        "nm",
        "4.0000x5.0000x50.0000 nm",
    ),
    (
        "imagej=True, resolution=(250, 250), metadata={'axes': 'ZYX', 'unit': 'micron'}",
        "micron",
        "0.0040x0.0040x1.0000 ",
    ),
    ("resolution=(20, 10), resolutionunit=3", "cm", "0.0500x0.1000x1.0000 cm"),
    ("resolution=(4, 4), resolutionunit=2", "inch", "0.2500x0.2500x1.0000 inch"),
    ("resolution=(72, 72), resolutionunit=2", "None", "1.0000x1.0000x1.0000 pixel"),
    ("imagej=True, metadata={'axes': 'ZYX'}", "None", "1.0000x1.0000x1.0000 pixel"),
];

#[test]
fn imagej_shows_predictions_as_stacks_with_range_and_voxel_size() {
    let dir = TestDir::trained("--base_filters 2 --max_steps 1");
    let write = |(number, (options, ..)): (usize, &(&str, &str, &str))| {
        format!(
            "os.mkdir('voxels{number}')\n\
             tifffile.imwrite('voxels{number}/test-volume.tif', stack, photometric='minisblack', {options})\n"
        )
    };
    let writes: String = VOXELS.iter().enumerate().map(write).collect();
    // Two slices are a stack.
    let code = format!(
        "import os, sys, tifffile\nos.chdir(sys.argv[1])\nstack = tifffile.imread('data/test-volume.tif')[:2]\n{writes}"
    );
    if python(&code, &[&dir.path("")]).is_none() {
        return;
    }
    let mut checks = "import os, sys, tifffile\nos.chdir(sys.argv[1])\n".to_owned();
    let mut stacks = Vec::new();
    for (number, (_, unit, _)) in VOXELS.iter().enumerate() {
        dir.run(&format!("--exec_mode predict --overwrite --data_dir voxels{number}")).success();
        fs::rename(dir.path("model/pred"), dir.path(&format!("pred{number}"))).unwrap();
        let predicted = ["masks", "probabilities"].map(|name| format!("pred{number}/test-{name}.tif"));
        checks += &format!(
            r#"
source, masks, probabilities = map(tifffile.TiffFile, ('voxels{number}/test-volume.tif', '{}', '{}'))
for stack, high in ((masks, 255.0), (probabilities, 1.0)):
    meta = stack.imagej_metadata
    assert meta['images'] == meta['slices'] == 2 and meta['min'] == 0.0 and meta['max'] == high, meta
    assert str(meta.get('unit')) == '{unit}', meta
    assert meta.get('spacing') == (source.imagej_metadata or {{}}).get('spacing'), meta
    for tag in ('XResolution', 'YResolution', 'ResolutionUnit'):
        assert stack.pages[0].tags[tag].value == source.pages[0].tags[tag].value, (tag, '{unit}')
"#,
            predicted[0], predicted[1]
        );
        stacks.extend(predicted);
    }
    python(&checks, &[&dir.path("")]).unwrap();
    let Some(shown) = imagej(&dir, &stacks) else { return };
    assert_eq!(shown.len(), stacks.len(), "{shown:?}");
    for ((options, _, voxel), lines) in VOXELS.iter().zip(shown.chunks(2)) {
        assert!(lines[0].starts_with("8-bit slices=2 64x64 display=0.0..255.0 "), "{lines:?}");
        assert!(lines[1].starts_with("32-bit slices=2 64x64 display=0.0..1.0 "), "{lines:?}");
        for line in lines {
            assert!(line.contains(&format!("voxel={voxel}")), "{options}: {line}");
        }
    }
}
