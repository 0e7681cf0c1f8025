//! Nobody loses work: runs are killed, interrupted, run out of disk and meet damaged files, and go on to the bit.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Place, fails, send, stderr, stdout, text, wait_for};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

const TRAIN: &str = "--base_filters 2 --batch_size 2 --augment --seed 7 --log_every 1000";

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
        let mut run = killed.command(&format!("{args} {resume}")).spawn().unwrap();
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
    if !text(&killed.command(&format!("{args} --resume_training")).spawn().unwrap().wait_with_output().unwrap().stderr)
        .contains(&done)
    {
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
        let run = place.command(&format!("{TRAIN} --max_steps 40 --checkpoint_every 1")).spawn().unwrap();
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

/// A terminal that closes takes its programs with it, unless they were told to stay.
#[test]
fn a_run_outlives_its_terminal_only_where_it_was_told_to() {
    for (hang_up, code) in [("--default-signal=HUP", 129), ("--ignore-signal=HUP", 143)] {
        let place = Place::new();
        let run = Command::new("env")
            .args([hang_up, env!("CARGO_BIN_EXE_unet")])
            .args("--data_dir data --model_dir model --device cpu --max_steps 100000 --checkpoint_every 1".split(' '))
            .args(TRAIN.split(' '))
            .current_dir(place.path(""))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("checkpoint", || !checkpoints(&place).is_empty());
        send("-HUP", run.id());
        if code == 143 {
            let before = checkpoints(&place);
            wait_for("another checkpoint", || checkpoints(&place) != before);
            send("-TERM", run.id());
        }
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("go on with --resume_training"), "{}", text(&output.stderr));
    }
}

#[test]
fn training_goes_on_without_anybody_to_listen_and_without_a_log() {
    let place = Place::new();
    let folder = place.path("logs");
    let Some(_disk) = SmallDisk::mount(&folder, "size=4k") else { return };
    let run = Command::new(env!("CARGO_BIN_EXE_unet"))
        .args("--data_dir data --model_dir model --device cpu --max_steps 40 --log_dir logs".split(' '))
        .args("--base_filters 2 --log_every 1".split(' '))
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut run = run.unwrap();
    // Nobody reads, as when the terminal or `head` behind a pipe has gone.
    drop(run.stdout.take());
    let output = run.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    assert_eq!(
        message.matches("warning: cannot write to log.json in --log_dir: No space left").count(),
        1,
        "{message}"
    );
    assert!(place.path("model/model.safetensors").exists());
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let place = Place::new();
    // Steps of seconds: both signals come within the second one, apart, as two that wait together are one to the system.
    let run = place
        .command("--base_filters 32 --max_steps 1000 --batch_size 6 --log_every 1 --log_dir logs")
        .spawn()
        .unwrap();
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
    let mut first = place.command(&format!("{TRAIN} --max_steps 100000 --checkpoint_every 1")).spawn().unwrap();
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

/// Compiles the library of tests/faults/ that makes `fsync` fail.
fn failing_fsync(folder: &Path) -> std::path::PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/fsync.c");
    let library = folder.join("fsync.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).status();
    assert!(compiled.unwrap().success());
    library
}

#[test]
fn a_disk_that_does_not_keep_what_it_is_given_costs_no_earlier_checkpoint() {
    let (unbroken, place) = (Place::new(), Place::new());
    unbroken.run(&format!("{TRAIN} --max_steps 8")).success();
    let library = failing_fsync(&place.path(""));
    let run = |fails: &str, args: &str| {
        assert_cmd::Command::from_std(place.command(args))
            .env("LD_PRELOAD", &library)
            .env("FSYNC_FAILS", fails)
            .assert()
    };
    // config.json and its folder are first; then a file and its folder for each checkpoint: that of step 2 fails.
    let stopped = run("3", &format!("{TRAIN} --max_steps 6 --checkpoint_every 2")).success();
    let message = stderr(&stopped);
    assert!(message.contains("step-0000000002") && message.contains("Input/output error"), "{message}");
    assert!(message.contains("training goes on"), "{message}");
    assert_eq!(checkpoints(&place), ["step-0000000004.safetensors", "step-0000000006.safetensors"]);
    // All from the first checkpoint on: the run ends with an error, and what was there stays.
    let every: Vec<String> = (1..40).map(|call| call.to_string()).collect();
    let message = stderr(&run(&every.join(","), &format!("{TRAIN} --max_steps 8 --resume_training")).failure());
    assert!(message.contains("error: cannot write 'model/"), "{message}");
    assert_eq!(checkpoints(&place), ["step-0000000004.safetensors", "step-0000000006.safetensors"]);
    assert!(place.files("model").iter().all(|name| !name.contains(".tmp")), "{:?}", place.files("model"));
    place.run(&format!("{TRAIN} --max_steps 8 --resume_training --keep_checkpoints 3")).success();
    assert!(results(&unbroken) == results(&place));
}

/// A run that does not end by itself; its messages go to `errors.txt`.
struct Endless<'a> {
    place: &'a Place,
    run: Child,
}

impl<'a> Endless<'a> {
    fn start(place: &'a Place) -> Self {
        let run = Self::start_with(place, "--checkpoint_every 1", "model/config.json");
        wait_for("checkpoint", || !checkpoints(place).is_empty());
        run
    }

    /// Waits for the first file.
    fn start_with(place: &'a Place, args: &str, first_file: &str) -> Self {
        let run = place
            .command(&format!("{TRAIN} --max_steps 1000000 {args}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.path("errors.txt")).unwrap())
            .spawn()
            .unwrap();
        wait_for(first_file, || place.path(first_file).exists());
        Self { place, run }
    }

    fn wait_for_message(&self, part: &str) {
        wait_for(part, || text(&self.place.read("errors.txt")).contains(part));
    }

    /// Ends it as a user would.
    fn end(mut self) {
        send("-TERM", self.run.id());
        assert_eq!(self.run.wait().unwrap().code(), Some(143));
        self.wait_for_message("go on with --resume_training");
        // The last checkpoint can be read.
        fails(self.place.run(&format!("{TRAIN} --max_steps 1 --resume_training")), 1, &["steps already"]);
    }
}

impl Drop for Endless<'_> {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        self.run.kill().ok();
        self.run.wait().ok();
    }
}

#[test]
fn a_folder_that_vanishes_is_made_again() {
    let place = Place::new();
    let run = Endless::start(&place);
    fs::rename(place.path("model/checkpoints"), place.path("gone")).unwrap();
    wait_for("new folder", || !checkpoints(&place).is_empty());
    // A file in its place is nobody's to remove.
    let in_the_way = place.path("model/checkpoints");
    wait_for("file in the way", || {
        fs::remove_dir_all(&in_the_way).ok();
        fs::write(&in_the_way, "mine").is_ok()
    });
    run.wait_for_message("training goes on, earlier checkpoints stay");
    assert_eq!(fs::read_to_string(&in_the_way).unwrap(), "mine");
    fs::remove_file(&in_the_way).unwrap();
    wait_for("new folder", || !checkpoints(&place).is_empty());
    run.end();
    let earlier: Vec<_> = fs::read_dir(place.path("gone")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!earlier.is_empty());
}

#[test]
fn curves_and_events_that_cannot_be_written_cost_nothing_else() {
    let place = Place::new();
    let run = Endless::start_with(&place, "--checkpoint_every 1000000 --log_every 100", "model/config.json");
    fs::rename(place.path("model"), place.path("gone")).unwrap();
    run.wait_for_message("warning: cannot write 'model/learning_curves.csv'");
    run.wait_for_message("warning: cannot write TensorBoard's events to 'model'");
    fs::create_dir(place.path("model")).unwrap();
    let table = || fs::read_to_string(place.path("model/learning_curves.csv")).unwrap_or_default();
    wait_for("table", || !table().is_empty());
    assert!(table().lines().nth(1).unwrap().starts_with("100,0."), "{}", table());
    run.end();
    assert!(place.files("model").contains(&"learning_curves.png".to_owned()));
}

#[test]
fn pictures_with_something_in_their_place_cost_nothing_else() {
    let place = Place::new();
    let train = format!("{TRAIN} --crossvalidation_idx 0 --exec_mode train_and_evaluate");
    place.run(&format!("{train} --max_steps 1")).success();
    let names = ["learning_curves.csv", "learning_curves.png", "eval.png", "pred/test-overview.png"];
    for name in names {
        let path = place.path(&format!("model/{name}"));
        fs::remove_file(&path).ok();
        fs::create_dir_all(path.join("mine")).unwrap();
    }
    let resumed = stderr(&place.run(&format!("{train} --max_steps 2 --resume_training")).success());
    let predicted = stderr(&place.run("--exec_mode predict --overwrite").success());
    for (name, messages) in names.iter().zip([&resumed, &resumed, &resumed, &predicted]) {
        let warning = format!("warning: cannot write 'model/{name}'");
        assert!(messages.contains(&warning), "no '{warning}' in {messages}");
        assert!(place.path(&format!("model/{name}/mine")).is_dir());
    }
    let files = place.files("model");
    for name in ["model.safetensors", "eval.json", "pred/test-masks.tif"] {
        assert!(files.contains(&name.to_owned()), "{files:?}");
    }
}

#[test]
fn a_disk_that_becomes_read_only_does_not_end_training() {
    let place = Place::new();
    let folder = place.path("model");
    let Some(_disk) = SmallDisk::mount(&folder, "size=20m") else { return };
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        Command::new("mount").args(["-o", &options]).arg(&folder).stderr(Stdio::null()).status().unwrap().success()
    };
    let run = Endless::start(&place);
    // Refused while a file is open for writing.
    wait_for("moment without writing", || remount("ro"));
    let before = checkpoints(&place);
    run.wait_for_message("Read-only file system");
    run.wait_for_message("training goes on");
    assert_eq!(checkpoints(&place), before);
    assert!(remount("rw"));
    wait_for("checkpoint", || checkpoints(&place) != before);
    run.end();
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoints() {
    let place = Place::new();
    let args = "--base_filters 2 --seed 7 --learning_rate 1e30 --max_steps 9 --checkpoint_every 1 --log_every 1";
    fails(
        place.run(args),
        1,
        &["step 2: the loss is not a finite number, on slices [", "--learning_rate (now 1000000"],
    );
    assert!(!place.path("model/model.safetensors").exists());
    assert!(place.path("model/learning_curves.png").exists());
    let kept = checkpoints(&place);
    assert!(kept.contains(&"step-0000000001.safetensors".to_owned()), "{kept:?}");
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
