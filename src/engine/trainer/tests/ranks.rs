//! Training on several ranks against the same computation in one process. Each test starts copies of this test program
//! as its workers, which meet over Gloo.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tch::{Device, Kind};

use super::super::*;
use crate::data::order::SampleSchedule;
use crate::data::slices::SliceSet;
use crate::data::spec::DataSpec;
use crate::distributed::environment;
use crate::model::architecture::Architecture;
use crate::recipe::batches::{Samples, TrainingBatches};
use crate::testing::{free_port, largest_difference, training_slices};
use crate::tools::phantom;

const STEPS: u64 = 5;
const HYPERPARAMETERS: Hyperparameters =
    Hyperparameters { schedule: Schedule::constant(1e-4), ema: None, dropout: 0.5, weight_decay: 0.0, seed: 3 };
/// Tells a worker where the test's files are.
const FOLDER: &str = "UNET_TEST_FOLDER";

/// In a worker, its folder; the test itself has none.
fn worker_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs the test `name` of this program once more in `size` workers, each of which must succeed.
fn run_workers(name: &str, size: usize, folder: &Path) {
    let port = free_port();
    let start = |rank: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("engine::trainer::tests::ranks::{name}"), "--nocapture"])
            .envs([("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank)].map(|(k, v)| (k, v.to_string())))
            .envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port.to_string()), ("OMP_NUM_THREADS", "1")])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let workers: Vec<_> = (0..size).map(start).collect();
    for (rank, worker) in workers.into_iter().enumerate() {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "rank {rank}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn join() -> World {
    crate::native::process::keep_freed_memory();
    let rank = environment::rank().unwrap();
    World::join(rank.as_ref(), Device::Cpu, Duration::from_secs(60), &serde_json::Map::new()).unwrap()
}

fn trainer(world: &World) -> Trainer {
    // Another seed on each rank: all must begin with rank 0's weights.
    let architecture = Architecture { base_filters: 4, channels: 1, classes: 2 };
    let net = UNet::with_fresh_weights(architecture, world.rank as u64, Device::Cpu).unwrap();
    let runner = StepRunner::new(false, Device::Cpu).unwrap();
    Trainer::new(net, HYPERPARAMETERS, Precision(Kind::Float), runner, world).unwrap()
}

/// A folder with a dataset of eight slices.
fn dataset() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let args = crate::cli::PhantomArgs {
        out: folder.path().join("data"),
        layout: crate::cli::PhantomLayout::Stacks,
        classes: 2,
        channels: 1,
        slices: 8,
        size: 96,
        seed: 0,
        overwrite: false,
    };
    phantom::phantom(&args).unwrap();
    folder
}

fn stacks(folder: &Path) -> SliceSet {
    training_slices(&folder.join("data"))
}

/// The batches of `rank` among `ranks`.
fn batches(stacks: &SliceSet, batch_size: u64, [rank, ranks]: [u64; 2], augment: bool) -> TrainingBatches<'_> {
    let schedule = SampleSchedule { first_step: 0, first_sample: 0, batch_size, ranks };
    let slices: Vec<usize> = (0..8).collect();
    TrainingBatches::new(stacks, &slices, schedule, rank, HYPERPARAMETERS.seed, Samples::Reference { augment })
}

fn batches_of<'a>(world: &World, stacks: &'a SliceSet, augment: bool) -> TrainingBatches<'a> {
    batches(stacks, 1, [world.rank, world.size].map(|number| number as u64), augment)
}

/// Step number `step` of a rank or of a process alone, without dropout; its losses.
fn step_without_dropout(trainer: &mut Trainer, batches: &mut TrainingBatches<'_>, step: u64) -> [f64; 2] {
    let losses = trainer.train_on(&batches.batch(step).unwrap(), 0.0).unwrap();
    [losses.cross_entropy, losses.dice_loss].map(|loss| loss.double_value(&[]))
}

fn save(trainer: &Trainer, path: &Path) {
    crate::checkpoint::save_weights(path, &trainer.net, &DataSpec::isbi(), 1, None).unwrap();
}

fn read(path: &Path) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// The gradients of the last step, from Adam's first moment: after one step that is 0.1 times the gradient.
fn gradients(trainer: &Trainer) -> Vec<Tensor> {
    trainer.optimizer.state().0.iter().map(|moment| moment / 0.1).collect()
}

#[test]
fn gradients_are_the_mean_of_those_of_the_ranks() {
    if let Some(folder) = worker_folder() {
        let world = join();
        let stacks = stacks(&folder);
        let mut together = trainer(&world);
        step_without_dropout(&mut together, &mut batches_of(&world, &stacks, false), 1);
        // Each worker computes the parts of all ranks by itself too, with as many threads: sums depend on their number.
        let of_rank = |rank: u64| {
            let mut trainer = trainer(&World::alone(Device::Cpu));
            step_without_dropout(&mut trainer, &mut batches(&stacks, 1, [rank, world.size as u64], false), 1);
            gradients(&trainer)
        };
        let parts: Vec<Vec<Tensor>> = (0..world.size as u64).map(of_rank).collect();
        for (index, ((name, _), ours)) in together.net.parameters().iter().zip(gradients(&together)).enumerate() {
            let mean = parts.iter().map(|grads| grads[index].to_kind(Kind::Double)).sum::<Tensor>() / world.size as f64;
            assert!(mean.norm().double_value(&[]) > 0.0 && largest_difference(&ours, &parts[0][index]) > 0.0, "{name}");
            let difference = ((ours.to_kind(Kind::Double) - &mean).norm() / mean.norm()).double_value(&[]);
            assert!(difference < 1e-6, "rank {}, gradient of {name} differs by {difference} of its norm", world.rank);
        }
        return;
    }
    for size in [2, 3] {
        run_workers("gradients_are_the_mean_of_those_of_the_ranks", size, dataset().path());
    }
}

#[test]
fn ranks_do_what_one_process_does_with_a_larger_batch() {
    if let Some(folder) = worker_folder() {
        let world = join();
        let stacks = stacks(&folder);
        let (mut trainer, mut batches) = (trainer(&world), batches_of(&world, &stacks, false));
        let losses: Vec<f64> =
            (1..=STEPS).flat_map(|step| step_without_dropout(&mut trainer, &mut batches, step)).collect();
        let sums = world.sum(&losses).unwrap();
        let means: Vec<f64> = sums.iter().map(|sum| sum / world.size as f64).collect();
        std::fs::write(folder.join(format!("{}.json", world.rank)), serde_json::to_vec(&means).unwrap()).unwrap();
        return save(&trainer, &folder.join(format!("{}.safetensors", world.rank)));
    }
    for size in [2, 3] {
        let folder = dataset();
        run_workers("ranks_do_what_one_process_does_with_a_larger_batch", size, folder.path());
        let stacks = stacks(folder.path());
        let (mut trainer, mut batches) =
            (trainer(&World::alone(Device::Cpu)), batches(&stacks, size as u64, [0, 1], false));
        let losses: Vec<f64> =
            (1..=STEPS).flat_map(|step| step_without_dropout(&mut trainer, &mut batches, step)).collect();
        for rank in 0..size {
            let text = std::fs::read(folder.path().join(format!("{rank}.json"))).unwrap();
            let means: Vec<f64> = serde_json::from_slice(&text).unwrap();
            for (one, many) in losses.iter().zip(&means) {
                assert!((one - many).abs() < 1e-5, "{size} ranks: {losses:?} alone, {means:?} together");
            }
            let weights = read(&folder.path().join(format!("{rank}.safetensors")));
            let (mut elements, mut differing) = (0, 0.0);
            for (name, one) in trainer.net.parameters() {
                elements += one.numel();
                differing += (one - &weights[&name]).abs().gt(1e-5).sum(Kind::Double).double_value(&[]);
            }
            // Adam's steps have the length of the learning rate whatever the gradient: a tiny one's sign decides.
            assert!(differing <= elements as f64 * 1e-4, "{size} ranks: {differing} of {elements} weights differ");
        }
    }
}

/// Augmentation and dropout are on; they draw other numbers on each rank.
#[test]
fn all_ranks_have_the_same_weights_to_the_bit() {
    if let Some(folder) = worker_folder() {
        let world = join();
        let stacks = stacks(&folder);
        let (mut trainer, mut batches) = (trainer(&world), batches_of(&world, &stacks, true));
        for step in 1..=20 {
            trainer.step(&batches.batch(step).unwrap()).unwrap();
        }
        assert_eq!(
            trainer.progress,
            Progress { step: 20, batches: 20 * world.size as u64, samples: 20 * world.size as u64 }
        );
        return save(&trainer, &folder.join(format!("{}.safetensors", world.rank)));
    }
    for size in [2, 3] {
        let folder = dataset();
        run_workers("all_ranks_have_the_same_weights_to_the_bit", size, folder.path());
        let weights = |rank: usize| std::fs::read(folder.path().join(format!("{rank}.safetensors"))).unwrap();
        let first = read(&folder.path().join("0.safetensors"));
        let fresh = trainer(&World::alone(Device::Cpu));
        let moved = fresh.net.parameters().iter().all(|(name, tensor)| largest_difference(tensor, &first[name]) > 0.0);
        assert!(moved, "nothing was trained");
        for rank in 1..size {
            assert!(weights(0) == weights(rank), "{size} ranks: those of rank {rank} differ");
        }
    }
}

/// Infinite on one rank: no rank changes its weights, all count the skipped step, the one knows that it was its loss.
#[test]
fn a_loss_that_is_not_finite_on_one_rank_is_known_to_all() {
    if worker_folder().is_some() {
        let world = join();
        let mut trainer = trainer(&world);
        let side = crate::recipe::preprocessing::INPUT_SIDE;
        let labels = Tensor::zeros([1, 388, 388], (Kind::Int64, Device::Cpu));
        let image = |value: f64| Tensor::full([1, 1, side, side], value, (Kind::Float, Device::Cpu));
        let mut step = |value: f64| {
            trainer
                .step(&Batch { images: image(value), labels: labels.shallow_clone(), weights: None, first_sample: 0 })
                .unwrap();
        };
        step(0.5);
        step(0.25);
        let before: Vec<Tensor> = trainer.net.parameters().iter().map(|(_, tensor)| tensor.copy()).collect();
        let bad = if world.rank == 1 { f64::NAN } else { 0.5 };
        trainer.step(&Batch { images: image(bad), labels, weights: None, first_sample: 0 }).unwrap();
        for ((name, after), before) in trainer.net.parameters().iter().zip(&before) {
            assert_eq!(largest_difference(after, before), 0.0, "{name}");
        }
        assert_eq!(trainer.skipped_steps(), 1);
        assert_eq!(trainer.first_bad_step(), (world.rank == 1).then_some(3));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run_workers("a_loss_that_is_not_finite_on_one_rank_is_known_to_all", 2, folder.path());
}
