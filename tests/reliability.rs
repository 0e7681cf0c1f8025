//! Nobody loses work: runs that are killed, interrupted, short of disk or given damaged files go on to the bit.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{TestDir, fails, send, stderr, stdout, text, wait_for};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

const TRAIN: &str = "--base_filters 2 --batch_size 1 --augment --seed 7 --log_every 1000";

/// Names of the checkpoints, oldest first.
fn checkpoints(dir: &TestDir) -> Vec<String> {
    dir.files("model/checkpoints").into_iter().filter(|name| name.starts_with("step-")).collect()
}

fn results(dir: &TestDir) -> Vec<Vec<u8>> {
    let newest = checkpoints(dir).pop().unwrap();
    ["model/model.safetensors".to_owned(), format!("model/checkpoints/{newest}")].map(|name| dir.read(&name)).into()
}

/// Each step writes a checkpoint, so that many kills hit the writing of one. `UNET_KILLS=200` makes a soak test.
#[test]
fn a_run_killed_at_random_moments_ends_with_the_weights_of_an_unbroken_one() {
    let wanted: usize = std::env::var("UNET_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let steps = 3 * wanted;
    let args = format!("{TRAIN} --max_steps {steps} --checkpoint_every 1");
    let (unbroken, killed) = (TestDir::new(), TestDir::new());
    unbroken.run(&args).success();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut kills, mut at_work) = (0, 0);
    while kills < wanted {
        let resume = if checkpoints(&killed).is_empty() { "--overwrite" } else { "--resume_training" };
        let before = checkpoints(&killed);
        let mut run = killed.command(&format!("{args} {resume}")).spawn().unwrap();
        // Starting takes most of a second: half of the kills wait for the first checkpoint of this run.
        if rng.random_bool(0.5) {
            wait_for("checkpoint", || checkpoints(&killed) != before || run.try_wait().unwrap().is_some());
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..60)));
        at_work += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        let output = run.wait_with_output().unwrap();
        if output.status.success() {
            break;
        }
        kills += 1;
    }
    println!("{kills} kills, {at_work} of a working process");
    assert!(kills >= wanted / 2 && at_work >= wanted / 2, "{kills} kills, {at_work} of a working process");
    killed.run(&format!("{args} --resume_training")).success();
    assert!(unbroken.read("model/model.safetensors") == killed.read("model/model.safetensors"));
    let newest = |dir: &TestDir| dir.read(&format!("model/checkpoints/{}", checkpoints(dir).pop().unwrap()));
    assert!(newest(&unbroken) == newest(&killed), "weights, moments and counters");
    let leftovers: Vec<String> = killed.files("model").into_iter().filter(|name| name.contains(".tmp")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

/// The step of the newest checkpoint.
fn newest_step(dir: &TestDir) -> u64 {
    let newest = checkpoints(dir).pop().unwrap();
    newest.trim_start_matches("step-").trim_end_matches(".safetensors").parse().unwrap()
}

#[test]
fn a_signal_ends_a_run_with_a_checkpoint_to_go_on_from() {
    let resumed =
        [("-INT", "SIGINT", 130), ("-TERM", "SIGTERM", 143), ("-USR1", "SIGUSR1", 138)].map(|(signal, name, code)| {
            let dir = TestDir::new();
            let run = dir.command(&format!("{TRAIN} --max_steps 1000 --checkpoint_every 1")).spawn().unwrap();
            wait_for("checkpoint", || !checkpoints(&dir).is_empty());
            send(signal, run.id());
            let output = run.wait_with_output().unwrap();
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{message}");
            let stopped = newest_step(&dir);
            let expected = format!("stopped by {name} after step {stopped} of 1000; go on with --resume_training");
            assert!(message.contains(&expected), "no '{expected}' in: {message}");
            assert!(!dir.path("model/model.safetensors").exists());
            dir.run(&format!("{TRAIN} --max_steps {} --resume_training", stopped + 2)).success();
            (name, dir)
        });
    // How far each run came before its signal is a matter of chance: the unbroken run keeps the state of every step.
    let unbroken = TestDir::new();
    let steps = resumed.iter().map(|(_, dir)| newest_step(dir)).max().unwrap();
    unbroken.run(&format!("{TRAIN} --max_steps {steps} --checkpoint_every 1 --keep_checkpoints {steps}")).success();
    for (name, dir) in &resumed {
        let newest = format!("model/checkpoints/{}", checkpoints(dir).pop().unwrap());
        assert!(unbroken.read(&newest) == dir.read(&newest), "{name}");
        if newest_step(dir) == steps {
            assert!(results(&unbroken) == results(dir), "{name}");
        }
    }
}

/// A closing terminal ends its programs by SIGHUP, unless `nohup` made them ignore it.
#[test]
fn a_run_outlives_its_terminal_only_under_nohup() {
    for (hang_up, code) in [("--default-signal=HUP", 129), ("--ignore-signal=HUP", 143)] {
        let dir = TestDir::new();
        let unet = dir.command(&format!("{TRAIN} --max_steps 100000 --checkpoint_every 1"));
        let mut run = Command::new("env");
        run.arg(hang_up).arg(unet.get_program()).args(unet.get_args()).current_dir(dir.path("")).stderr(Stdio::piped());
        run.envs(unet.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let run = run.spawn().unwrap();
        wait_for("checkpoint", || !checkpoints(&dir).is_empty());
        send("-HUP", run.id());
        if code == 143 {
            let before = checkpoints(&dir);
            wait_for("another checkpoint", || checkpoints(&dir) != before);
            send("-TERM", run.id());
        }
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("go on with --resume_training"), "{}", text(&output.stderr));
    }
}

#[test]
fn training_goes_on_when_neither_stdout_nor_the_log_can_be_written() {
    let dir = TestDir::new();
    let folder = dir.path("logs");
    let Some(_disk) = SmallDisk::mount(&folder, "size=4k") else { return };
    // One line of the log for each step is more than the disk holds.
    let mut run = dir.command("--max_steps 30 --log_dir logs --base_filters 2 --log_every 1").spawn().unwrap();
    // Nobody reads the output, as when the terminal or `head` behind a pipe has gone.
    drop(run.stdout.take());
    let output = run.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    assert_eq!(
        message.matches("warning: cannot write to log.json in --log_dir: No space left").count(),
        1,
        "{message}"
    );
    assert!(dir.path("model/model.safetensors").exists());
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let dir = TestDir::new();
    // Steps take about a second: both signals come within the second step. They are sent apart, because two equal
    // signals that wait together are one to the system.
    let run =
        dir.command("--base_filters 16 --max_steps 1000 --batch_size 6 --log_every 1 --log_dir logs").spawn().unwrap();
    wait_for("step", || fs::read_to_string(dir.path("logs/log.json")).unwrap_or_default().contains("train_ce_loss"));
    send("-TERM", run.id());
    std::thread::sleep(Duration::from_millis(100));
    send("-TERM", run.id());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert!(checkpoints(&dir).is_empty());
    assert!(!text(&output.stderr).contains("stopped by"), "{}", text(&output.stderr));
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --max_steps 7 --checkpoint_every 2 --keep_checkpoints 2")).success();
    assert_eq!(checkpoints(&dir), ["step-0000000006.safetensors", "step-0000000007.safetensors"]);
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
    let (unbroken, dir) = (TestDir::new(), TestDir::new());
    unbroken.run(&format!("{TRAIN} --max_steps 6")).success();
    dir.run(&format!("{TRAIN} --max_steps 4 --checkpoint_every 2")).success();
    let newest = dir.path("model/checkpoints/step-0000000004.safetensors");
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
        fs::remove_file(dir.path("model/checkpoints/step-0000000006.safetensors")).ok();
        let run = dir.run(&format!("{TRAIN} --max_steps 6 --resume_training")).success();
        let warning = stderr(&run);
        assert!(warning.contains("step-0000000004.safetensors") && warning.contains(word), "{warning}");
        assert!(results(&unbroken) == results(&dir));
    }
    for name in checkpoints(&dir) {
        fs::write(dir.path(&format!("model/checkpoints/{name}")), "nothing").unwrap();
    }
    let run = dir.run(&format!("{TRAIN} --max_steps 8 --resume_training")).failure();
    assert!(stderr(&run).contains("no checkpoint can be read"), "{}", stderr(&run));
}

#[test]
fn a_changed_configuration_is_refused_with_a_line_for_each_difference() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --max_steps 2")).success();
    let changed = "--base_filters 2 --batch_size 2 --seed 8 --augment --max_steps 4 --resume_training";
    let message = stderr(&dir.run(changed).failure());
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert!(lines[0].contains("checkpoint of step 2"), "{message}");
    assert!(lines.contains(&"batch_size: 1 in the checkpoint, 2 now"), "{message}");
    assert!(lines.contains(&"seed: 7 in the checkpoint, 8 now"), "{message}");
    // Flags that change no weights may change.
    dir.run(&format!("{TRAIN} --max_steps 4 --resume_training --log_every 1 --keep_checkpoints 1 --xla")).success();
    // The data may not change.
    dir.unet(&["phantom", "--out", "data", "--slices", "6", "--size", "64", "--seed", "1", "--overwrite"]).success();
    let message = stderr(&dir.run(&format!("{TRAIN} --max_steps 6 --resume_training")).failure());
    assert!(message.contains("training data: "), "{message}");
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone() {
    let dir = TestDir::new();
    let mut first = dir.command(&format!("{TRAIN} --max_steps 100000 --checkpoint_every 1")).spawn().unwrap();
    wait_for("checkpoint", || !checkpoints(&dir).is_empty());
    for args in ["--resume_training --max_steps 100001", "--overwrite"] {
        fails(dir.run(&format!("{TRAIN} {args}")), 1, &["another run is writing to --model_dir 'model'"]);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    dir.run(&format!("{TRAIN} --overwrite --max_steps 2")).success();
}

/// A small file system; mounting it needs root.
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
    let (unbroken, dir) = (TestDir::new(), TestDir::new());
    unbroken.run(&format!("{TRAIN} --max_steps 8")).success();
    let folder = dir.path("model");
    // A checkpoint of this network has 0.42 MB.
    let Some(_disk) = SmallDisk::mount(&folder, "size=1100k") else { return };
    let run = dir.run(&format!("{TRAIN} --max_steps 8 --checkpoint_every 2 --keep_checkpoints 3")).failure();
    let message = stderr(&run);
    assert!(message.contains("No space left on device") && message.contains("training goes on"), "{message}");
    assert!(message.lines().last().unwrap().starts_with("error: cannot write 'model/checkpoints/"), "{message}");
    assert_eq!(checkpoints(&dir), ["step-0000000002.safetensors", "step-0000000004.safetensors"]);
    fs::remove_file(dir.path("model/checkpoints/step-0000000002.safetensors")).unwrap();
    dir.run(&format!("{TRAIN} --max_steps 8 --resume_training --keep_checkpoints 1")).success();
    assert!(results(&unbroken) == results(&dir));
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
fn a_disk_that_fails_to_sync_costs_no_earlier_checkpoint() {
    let (unbroken, dir) = (TestDir::new(), TestDir::new());
    unbroken.run(&format!("{TRAIN} --max_steps 8")).success();
    let library = failing_fsync(&dir.path(""));
    let run = |fails: &str, args: &str| {
        assert_cmd::Command::from_std(dir.command(args)).env("LD_PRELOAD", &library).env("FSYNC_FAILS", fails).assert()
    };
    // The first calls are for config.json and its folder, then for the file and the folder of each checkpoint: that of
    // step 2 fails.
    let stopped = run("3", &format!("{TRAIN} --max_steps 6 --checkpoint_every 2")).success();
    let message = stderr(&stopped);
    assert!(message.contains("step-0000000002") && message.contains("Input/output error"), "{message}");
    assert!(message.contains("training goes on"), "{message}");
    assert_eq!(checkpoints(&dir), ["step-0000000004.safetensors", "step-0000000006.safetensors"]);
    // Every call fails: the run ends with an error, and the earlier checkpoints stay.
    let every: Vec<String> = (1..40).map(|call| call.to_string()).collect();
    let message = stderr(&run(&every.join(","), &format!("{TRAIN} --max_steps 8 --resume_training")).failure());
    assert!(message.contains("error: cannot write 'model/"), "{message}");
    assert_eq!(checkpoints(&dir), ["step-0000000004.safetensors", "step-0000000006.safetensors"]);
    assert!(dir.files("model").iter().all(|name| !name.contains(".tmp")), "{:?}", dir.files("model"));
    dir.run(&format!("{TRAIN} --max_steps 8 --resume_training --keep_checkpoints 3")).success();
    assert!(results(&unbroken) == results(&dir));
}

/// A run that does not end by itself. Its messages go to `errors.txt`.
struct Endless<'a> {
    dir: &'a TestDir,
    run: Child,
}

impl<'a> Endless<'a> {
    fn start(dir: &'a TestDir) -> Self {
        let run = Self::start_with(dir, "--checkpoint_every 1", "model/config.json");
        wait_for("checkpoint", || !checkpoints(dir).is_empty());
        run
    }

    /// Starts the run and waits for `first_file`.
    fn start_with(dir: &'a TestDir, args: &str, first_file: &str) -> Self {
        let run = dir
            .command(&format!("{TRAIN} --max_steps 1000000 {args}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path("errors.txt")).unwrap())
            .spawn()
            .unwrap();
        wait_for(first_file, || dir.path(first_file).exists());
        Self { dir, run }
    }

    fn wait_for_message(&self, part: &str) {
        wait_for(part, || text(&self.dir.read("errors.txt")).contains(part));
    }

    /// Ends the run as a user would.
    fn end(mut self) {
        send("-TERM", self.run.id());
        assert_eq!(self.run.wait().unwrap().code(), Some(143));
        self.wait_for_message("go on with --resume_training");
        // Resuming reads the last checkpoint.
        fails(self.dir.run(&format!("{TRAIN} --max_steps 1 --resume_training")), 1, &["steps already"]);
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
    let dir = TestDir::new();
    let run = Endless::start(&dir);
    fs::rename(dir.path("model/checkpoints"), dir.path("gone")).unwrap();
    wait_for("new folder", || !checkpoints(&dir).is_empty());
    // A file in place of the folder is not the program's to remove.
    let in_the_way = dir.path("model/checkpoints");
    wait_for("file in the way", || {
        fs::remove_dir_all(&in_the_way).ok();
        fs::write(&in_the_way, "mine").is_ok()
    });
    run.wait_for_message("training goes on, earlier checkpoints stay");
    assert_eq!(fs::read_to_string(&in_the_way).unwrap(), "mine");
    fs::remove_file(&in_the_way).unwrap();
    wait_for("new folder", || !checkpoints(&dir).is_empty());
    run.end();
    let earlier: Vec<_> = fs::read_dir(dir.path("gone")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!earlier.is_empty());
}

#[test]
fn curves_and_events_that_cannot_be_written_cost_nothing_else() {
    let dir = TestDir::new();
    let run = Endless::start_with(&dir, "--checkpoint_every 1000000 --log_every 20", "model/config.json");
    fs::rename(dir.path("model"), dir.path("gone")).unwrap();
    run.wait_for_message("warning: cannot write 'model/learning_curves.csv'");
    run.wait_for_message("warning: cannot write TensorBoard's events to 'model'");
    fs::create_dir(dir.path("model")).unwrap();
    let table = || fs::read_to_string(dir.path("model/learning_curves.csv")).unwrap_or_default();
    wait_for("table", || !table().is_empty());
    assert!(table().lines().nth(1).unwrap().starts_with("20,0."), "{}", table());
    run.end();
    assert!(dir.files("model").contains(&"learning_curves.png".to_owned()));
}

#[test]
fn pictures_with_something_in_their_place_cost_nothing_else() {
    let dir = TestDir::new();
    let train = format!("{TRAIN} --crossvalidation_idx 0 --exec_mode train_and_evaluate");
    dir.run(&format!("{train} --max_steps 1")).success();
    let names = ["learning_curves.csv", "learning_curves.png", "eval.png", "pred/test-overview.png"];
    for name in names {
        let path = dir.path(&format!("model/{name}"));
        fs::remove_file(&path).ok();
        fs::create_dir_all(path.join("mine")).unwrap();
    }
    let resumed = stderr(&dir.run(&format!("{train} --max_steps 2 --resume_training")).success());
    let predicted = stderr(&dir.run("--exec_mode predict --overwrite").success());
    for (name, messages) in names.iter().zip([&resumed, &resumed, &resumed, &predicted]) {
        let warning = format!("warning: cannot write 'model/{name}'");
        assert!(messages.contains(&warning), "no '{warning}' in {messages}");
        assert!(dir.path(&format!("model/{name}/mine")).is_dir());
    }
    let files = dir.files("model");
    for name in ["model.safetensors", "eval.json", "pred/test-masks.tif"] {
        assert!(files.contains(&name.to_owned()), "{files:?}");
    }
}

#[test]
fn a_disk_that_becomes_read_only_does_not_end_training() {
    let dir = TestDir::new();
    let folder = dir.path("model");
    let Some(_disk) = SmallDisk::mount(&folder, "size=20m") else { return };
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        Command::new("mount").args(["-o", &options]).arg(&folder).stderr(Stdio::null()).status().unwrap().success()
    };
    let run = Endless::start(&dir);
    // The system refuses while a file is open for writing.
    wait_for("moment without writing", || remount("ro"));
    let before = checkpoints(&dir);
    run.wait_for_message("Read-only file system");
    run.wait_for_message("training goes on");
    assert_eq!(checkpoints(&dir), before);
    assert!(remount("rw"));
    wait_for("checkpoint", || checkpoints(&dir) != before);
    run.end();
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_checkpoints_before_it() {
    let dir = TestDir::new();
    let args = "--base_filters 2 --seed 7 --learning_rate 1e30 --max_steps 9 --checkpoint_every 1 --log_every 1";
    fails(dir.run(args), 1, &["step 2: the loss is not a finite number, on slices [", "--learning_rate (now 1000000"]);
    assert!(!dir.path("model/model.safetensors").exists());
    assert!(dir.path("model/learning_curves.png").exists());
    let kept = checkpoints(&dir);
    assert!(kept.contains(&"step-0000000001.safetensors".to_owned()), "{kept:?}");
}

/// Whether all pixels of the masks are equal.
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
    let dir = TestDir::new();
    let mut seen = Vec::new();
    for (filters, steps) in [(1, 1), (1, 2), (4, 30), (8, 1)] {
        let args = "--exec_mode train_and_predict --learning_rate 0.003 --overwrite --log_every 1000";
        let run = dir.run(&format!("{args} --base_filters {filters} --max_steps {steps}")).success();
        let constant = is_constant(&dir.path("model/pred/test-masks.tif"));
        assert_eq!(stderr(&run).contains("warning: every pixel of the output is "), constant, "{}", stderr(&run));
        seen.push(constant);
    }
    assert!(seen.contains(&true), "no case was constant, so nothing was shown");
}
