//! Nobody loses work: runs are killed, interrupted, run out of disk and meet damaged files, and go on to the bit.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Place, fails, send, stderr, stdout, text};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

const TRAIN: &str = "--base_filters 2 --batch_size 2 --augment --seed 7 --log_every 1000";

fn start(place: &Place, args: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_unet"))
        .args(["--data_dir", "data", "--model_dir", "model", "--device", "cpu"])
        .args(args.split_whitespace())
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until `done`, for two minutes at most.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names of the checkpoints, oldest first.
fn checkpoints(place: &Place) -> Vec<String> {
    place.files("model/checkpoints").into_iter().filter(|name| name.starts_with("step-")).collect()
}

fn results(place: &Place) -> Vec<Vec<u8>> {
    let newest = checkpoints(place).pop().unwrap();
    ["model/model.safetensors".to_owned(), format!("model/checkpoints/{newest}")].map(|name| place.read(&name)).into()
}

/// Checkpoints every step, so that many kills fall into the writing of one. `UNET_KILLS=200` makes a soak of it.
#[test]
fn a_run_killed_at_random_moments_ends_with_the_weights_of_an_unbroken_one() {
    let wanted: usize = std::env::var("UNET_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let steps = 3 * wanted;
    let args = format!("{TRAIN} --max_steps {steps} --checkpoint_every 1");
    let done = format!("{steps} steps already");
    let (unbroken, killed) = (Place::new(), Place::new());
    unbroken.run(&args).success();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut kills, mut at_work) = (0, 0);
    while kills < wanted {
        let resume = if checkpoints(&killed).is_empty() { "--overwrite" } else { "--resume_training" };
        let before = checkpoints(&killed);
        let mut run = start(&killed, &format!("{args} {resume}"));
        // Starting takes most of a second; half of the kills wait for a first checkpoint of this run.
        if rng.random_bool(0.5) {
            wait_for("checkpoint", || checkpoints(&killed) != before || run.try_wait().unwrap().is_some());
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..60)));
        at_work += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        let output = run.wait_with_output().unwrap();
        if output.status.success() || text(&output.stderr).contains(&done) {
            break;
        }
        kills += 1;
    }
    println!("{kills} kills, {at_work} of a working process");
    assert!(kills >= wanted / 2 && at_work >= wanted / 2, "{kills} kills, {at_work} of a working process");
    if !text(&start(&killed, &format!("{args} --resume_training")).wait_with_output().unwrap().stderr).contains(&done) {
        assert!(killed.path("model/model.safetensors").exists());
    }
    let newest = |place: &Place| place.read(&format!("model/checkpoints/{}", checkpoints(place).pop().unwrap()));
    assert!(newest(&unbroken) == newest(&killed), "weights, moments and counters");
    let leftovers: Vec<String> = killed.files("model").into_iter().filter(|name| name.contains(".tmp")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn a_signal_ends_a_run_with_a_checkpoint_to_go_on_from() {
    let unbroken = Place::new();
    unbroken.run(&format!("{TRAIN} --max_steps 40")).success();
    for (signal, name, code) in [("-INT", "SIGINT", 130), ("-TERM", "SIGTERM", 143), ("-USR1", "SIGUSR1", 138)] {
        let place = Place::new();
        let run = start(&place, &format!("{TRAIN} --max_steps 40 --checkpoint_every 1"));
        wait_for("checkpoint", || !checkpoints(&place).is_empty());
        send(signal, run.id());
        let output = run.wait_with_output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(&format!("stopped by {name} after step")), "{message}");
        assert!(message.contains("of 40; go on with --resume_training"), "{message}");
        assert!(!place.path("model/model.safetensors").exists());
        place.run(&format!("{TRAIN} --max_steps 40 --resume_training")).success();
        assert!(results(&unbroken) == results(&place), "{name}");
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let place = Place::new();
    // Steps of seconds: both signals come within the second one, apart, as two that wait together are one to the system.
    let run = start(&place, "--base_filters 32 --max_steps 1000 --batch_size 6 --log_every 1 --log_dir logs");
    wait_for("step", || fs::read_to_string(place.path("logs/log.json")).unwrap_or_default().contains("train_ce_loss"));
    send("-TERM", run.id());
    std::thread::sleep(Duration::from_millis(100));
    send("-TERM", run.id());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert!(checkpoints(&place).is_empty());
    assert!(!text(&output.stderr).contains("stopped by"), "{}", text(&output.stderr));
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let place = Place::new();
    place.run(&format!("{TRAIN} --max_steps 7 --checkpoint_every 2 --keep_checkpoints 2")).success();
    assert_eq!(checkpoints(&place), ["step-0000000006.safetensors", "step-0000000007.safetensors"]);
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
    let (unbroken, place) = (Place::new(), Place::new());
    unbroken.run(&format!("{TRAIN} --max_steps 6")).success();
    place.run(&format!("{TRAIN} --max_steps 4 --checkpoint_every 2")).success();
    let newest = place.path("model/checkpoints/step-0000000004.safetensors");
    let good = fs::read(&newest).unwrap();
    let flipped = {
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    for (bytes, word) in [(flipped, "checksum"), (good[..good.len() - 9].to_vec(), "damaged"), (Vec::new(), "damaged")]
    {
        fs::write(&newest, bytes).unwrap();
        fs::remove_file(place.path("model/checkpoints/step-0000000006.safetensors")).ok();
        let run = place.run(&format!("{TRAIN} --max_steps 6 --resume_training")).success();
        let warning = stderr(&run);
        assert!(warning.contains("step-0000000004.safetensors") && warning.contains(word), "{warning}");
        assert!(results(&unbroken) == results(&place));
    }
    for name in checkpoints(&place) {
        fs::write(place.path(&format!("model/checkpoints/{name}")), "nothing").unwrap();
    }
    let run = place.run(&format!("{TRAIN} --max_steps 8 --resume_training")).failure();
    assert!(stderr(&run).contains("no checkpoint can be read"), "{}", stderr(&run));
}

#[test]
fn a_changed_configuration_is_refused_with_a_line_for_each_difference() {
    let place = Place::new();
    place.run(&format!("{TRAIN} --max_steps 2")).success();
    let changed = "--base_filters 2 --batch_size 3 --seed 8 --augment --max_steps 4 --resume_training";
    let message = stderr(&place.run(changed).failure());
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert!(lines[0].contains("checkpoint of step 2"), "{message}");
    assert!(lines.contains(&"batch_size: 2 in the checkpoint, 3 now"), "{message}");
    assert!(lines.contains(&"seed: 7 in the checkpoint, 8 now"), "{message}");
    // Safe ones.
    place.run(&format!("{TRAIN} --max_steps 4 --resume_training --log_every 1 --keep_checkpoints 1 --xla")).success();
    // Other data in the same place.
    place.unet(&["phantom", "--out", "data", "--slices", "6", "--size", "64", "--seed", "1", "--overwrite"]).success();
    let message = stderr(&place.run(&format!("{TRAIN} --max_steps 6 --resume_training")).failure());
    assert!(message.contains("training data: "), "{message}");
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone() {
    let place = Place::new();
    let mut first = start(&place, &format!("{TRAIN} --max_steps 100000 --checkpoint_every 1"));
    wait_for("checkpoint", || !checkpoints(&place).is_empty());
    for args in ["--resume_training --max_steps 100001", "--overwrite"] {
        fails(place.run(&format!("{TRAIN} {args}")), 1, &["another run is writing to --model_dir 'model'"]);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    place.run(&format!("{TRAIN} --overwrite --max_steps 2")).success();
}

/// A file system with room for two checkpoints; needs root.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mount = |()| Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(folder).output();
        match mount(()) {
            Ok(Output { status, .. }) if status.success() => Some(Self(folder)),
            _ => {
                eprintln!("skipped: cannot mount a small file system");
                None
            }
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().ok();
    }
}

#[test]
fn a_full_disk_costs_no_checkpoint_that_was_there() {
    let (unbroken, place) = (Place::new(), Place::new());
    unbroken.run(&format!("{TRAIN} --max_steps 8")).success();
    let folder = place.path("model");
    // A checkpoint of this network has 0.42 MB.
    let Some(_disk) = SmallDisk::mount(&folder, "size=1100k") else { return };
    let run = place.run(&format!("{TRAIN} --max_steps 8 --checkpoint_every 2 --keep_checkpoints 3")).failure();
    let message = stderr(&run);
    assert!(message.contains("No space left on device") && message.contains("training goes on"), "{message}");
    assert!(message.lines().last().unwrap().starts_with("error: cannot write 'model/checkpoints/"), "{message}");
    assert_eq!(checkpoints(&place), ["step-0000000002.safetensors", "step-0000000004.safetensors"]);
    fs::remove_file(place.path("model/checkpoints/step-0000000002.safetensors")).unwrap();
    place.run(&format!("{TRAIN} --max_steps 8 --resume_training --keep_checkpoints 1")).success();
    assert!(results(&unbroken) == results(&place));
    assert!(stdout(&unbroken.run("--exec_mode predict").success()).contains("masks: "));
}

/// Whether masks have one value throughout.
fn is_constant(masks: &Path) -> bool {
    let mut decoder = tiff::decoder::Decoder::new(fs::File::open(masks).unwrap()).unwrap();
    let mut values = std::collections::BTreeSet::new();
    loop {
        let tiff::decoder::DecodingResult::U8(page) = decoder.read_image().unwrap() else { panic!("not 8-bit") };
        values.extend(page);
        if !decoder.more_images() {
            return values.len() == 1;
        }
        decoder.next_image().unwrap();
    }
}

#[test]
fn an_output_of_one_class_alone_gets_a_warning() {
    let place = Place::new();
    let mut seen = Vec::new();
    for (filters, steps) in [(1, 1), (1, 2), (4, 30), (8, 1)] {
        let args = "--exec_mode train_and_predict --learning_rate 0.003 --overwrite --log_every 1000";
        let run = place.run(&format!("{args} --base_filters {filters} --max_steps {steps}")).success();
        let constant = is_constant(&place.path("model/pred/test-masks.tif"));
        assert_eq!(stderr(&run).contains("warning: every pixel of the output is "), constant, "{}", stderr(&run));
        seen.push(constant);
    }
    assert!(seen.contains(&true), "no case was constant, so nothing was shown");
}

#[test]
fn memory_that_runs_out_is_told_with_what_to_lower() {
    let place = Place::new();
    // Less address space than the first layer's output needs besides the program.
    let run = |args: &str| {
        let flags = format!("--data_dir data --model_dir model --device cpu {args}");
        let script = format!("ulimit -v 12000000; exec {} {flags}", env!("CARGO_BIN_EXE_unet"));
        assert_cmd::Command::new("bash").args(["-c", &script]).current_dir(place.path("")).assert()
    };
    fails(
        run("--batch_size 128 --max_steps 2"),
        1,
        &[
            "out of memory: training with --batch_size 128 and 64 base filters takes about 1",
            "lower --batch_size",
            "--amp",
        ],
    );
    run("--base_filters 2 --max_steps 2 --overwrite").success();
}
