//! A training step against PyTorch, and what it does where gradients overflow.

use std::collections::HashMap;

use tch::{Device, Kind};

use super::super::*;
use crate::checkpoint;
use crate::data::spec::DataSpec;
use crate::data::values::GreyRange;
use crate::model::architecture::Architecture;
use crate::recipe::batches::{preprocessed_images, preprocessed_labels};
use crate::recipe::preprocessing::{self, Targets};
use crate::testing::{largest_difference, pytorch_peer, shared, training_slices};
use crate::tools::phantom;

const HYPERPARAMETERS: Hyperparameters =
    Hyperparameters { schedule: Schedule::constant(1e-4), ema: None, dropout: 0.5, weight_decay: 5e-4, seed: 0 };

const TWO_CLASSES: Targets = Targets { classes: 2, has_ignored: false };

/// Two slices: of the challenge where they are present, else of the phantom.
fn two_slices() -> Batch {
    if let Some(folder) = shared("isbi2012") {
        let slices = training_slices(&folder).select(&[0, 17]).unwrap();
        return Batch::new(preprocessed_images(&slices), &preprocessed_labels(&slices, TWO_CLASSES).unwrap());
    }
    let phantom = phantom::generate(2, 512, 0);
    let tensor = |stack: &ndarray::Array3<u8>| Tensor::from_slice(stack.as_slice().unwrap()).view([2, 512, 512]);
    let images =
        preprocessing::images(&tensor(&phantom.train_volume).unsqueeze(1), GreyRange { black: 0.0, white: 255.0 });
    let labels = preprocessing::labels(&tensor(&phantom.train_labels).clamp_max(1), TWO_CLASSES);
    Batch::new(images, &labels)
}

fn network(base_filters: i64) -> UNet {
    UNet::with_fresh_weights(Architecture { base_filters, channels: 1, classes: 2 }, 0, Device::Cpu).unwrap()
}

fn read(path: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// One step of the same network in PyTorch, from the weights that `trainer` has now.
struct PeerStep {
    logits: Tensor,
    grads: HashMap<String, Tensor>,
    weights: HashMap<String, Tensor>,
}

/// `None` where Python has no PyTorch.
fn peer_step(trainer: &Trainer, batch: &Batch, options: &[&str]) -> Option<PeerStep> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (weights, x, y) = (path("before.safetensors"), path("x.npy"), path("y.npy"));
    let (logits, after, grads) = (path("logits.npy"), path("after.safetensors"), path("grads.safetensors"));
    checkpoint::save_weights(weights.as_ref(), &trainer.net, &DataSpec::isbi(), 1, None).unwrap();
    batch.images.write_npy(&x).unwrap();
    batch.labels.write_npy(&y).unwrap();
    if !pytorch_peer(&["logits", "--weights", &weights, "--image", &x, "--out", &logits]) {
        return None;
    }
    let files = ["--weights", &weights, "--image", &x, "--label", &y, "--out", &after, "--grads", &grads];
    pytorch_peer(&[&["step"], &files[..], options].concat());
    Some(PeerStep { logits: Tensor::read_npy(&logits).unwrap(), grads: read(&grads), weights: read(&after) })
}

/// The largest difference of a tensor's gradient from the peer's, relative to its norm, and the tensor.
fn worst_gradient(trainer: &Trainer, grads: &[Tensor], peer: &PeerStep) -> (f64, String) {
    let relative = |((name, _), ours): ((String, &Tensor), &Tensor)| {
        let theirs = peer.grads[&name].to_kind(Kind::Double);
        let difference = (ours.to_kind(Kind::Double) - &theirs).norm() / theirs.norm();
        (difference.double_value(&[]), name)
    };
    trainer.net.parameters().into_iter().zip(grads).map(relative).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn update_from(trainer: &mut Trainer, losses: &Losses) -> Vec<Tensor> {
    update(&mut trainer.optimizer, &mut trainer.scaler, &mut trainer.counters, losses).unwrap()
}

/// `Trainer::step` without dropout; its gradients.
fn step_without_dropout(trainer: &mut Trainer, batch: &Batch) -> Vec<Tensor> {
    let logits = trainer.net.forward(&batch.images.to_kind(trainer.precision.0), 0.0).unwrap();
    update_from(trainer, &loss::losses(&logits, &batch.labels, &LossOptions::default()).unwrap())
}

fn trainer(net: UNet, kind: Kind, xla: bool) -> Trainer {
    let runner = StepRunner::new(xla, Device::Cpu).unwrap();
    Trainer::new(net, HYPERPARAMETERS, Precision(kind), runner, &World::alone(Device::Cpu)).unwrap()
}

/// In f64, where rounding cannot hide an error nor be blamed for one.
#[test]
fn gradients_equal_those_of_pytorch() {
    let batch = two_slices();
    let mut trainer = trainer(network(16), Kind::Double, false);
    let Some(peer) = peer_step(&trainer, &batch, &["--double"]) else { return };
    let grads = step_without_dropout(&mut trainer, &batch);
    let (difference, name) = worst_gradient(&trainer, &grads, &peer);
    assert!(difference < 1e-6, "gradient of {name} differs by {difference} of its norm");
}

/// Three channels, three classes with weights, ignored pixels: as PyTorch's `cross_entropy` and Dice by the formula.
#[test]
fn gradients_of_more_channels_and_classes_equal_those_of_pytorch() {
    let architecture = Architecture { base_filters: 8, channels: 3, classes: 3 };
    let net = UNet::with_fresh_weights(architecture, 0, Device::Cpu).unwrap();
    let mut trainer = trainer(net, Kind::Double, false);
    tch::manual_seed(5);
    let images = Tensor::rand([2, 3, 220, 204], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let labels = Tensor::randint(3, [2, 36, 20], (Kind::Uint8, Device::Cpu));
    // A tenth is ignored: among them whole rows, and scattered pixels.
    let _ = labels.narrow(1, 3, 2).fill_(255);
    let scattered = Tensor::rand([2, 36, 20], (Kind::Float, Device::Cpu)).lt(0.05);
    let labels = labels.masked_fill(&scattered, 255);
    let batch = Batch::new(images, &labels);
    let Some(peer) = peer_step(&trainer, &batch, &["--double", "--class_weights", "0.5", "2", "4"]) else { return };
    let logits = tch::no_grad(|| trainer.net.forward(&batch.images, 0.0)).unwrap();
    let difference = largest_difference(&logits, &peer.logits);
    assert!(difference < 1e-5, "logits differ by {difference}");
    let class_weights = Some(Tensor::from_slice(&[0.5f32, 2.0, 4.0]));
    let options = LossOptions { class_weights, has_ignored: true };
    let logits = trainer.net.forward(&batch.images.to_kind(Kind::Double), 0.0).unwrap();
    let grads = update_from(&mut trainer, &loss::losses(&logits, &batch.labels, &options).unwrap());
    let (difference, name) = worst_gradient(&trainer, &grads, &peer);
    assert!(difference < 1e-6, "gradient of {name} differs by {difference} of its norm");
}

/// The full network in f32. Gradients have a wider band here: where a sum is near zero, its rounding decides
/// what ReLU and max pooling let through. PyTorch's own two memory layouts differ by 5e-4 on these slices;
/// Winograd's sums, ten times as coarse, by 4e-3. What each layer computes is held to 5e-6 in `model/ops/tests.rs`.
#[test]
fn logits_and_updated_weights_of_the_full_network_equal_those_of_pytorch() {
    let batch = two_slices();
    let mut trainer = trainer(network(64), Kind::Float, false);
    let Some(peer) = peer_step(&trainer, &batch, &[]) else { return };
    let logits = tch::no_grad(|| trainer.net.forward(&batch.images, 0.0)).unwrap();
    let difference = largest_difference(&logits, &peer.logits);
    assert!(difference < 1e-4, "logits differ by {difference}");

    let grads = step_without_dropout(&mut trainer, &batch);
    let (difference, name) = worst_gradient(&trainer, &grads, &peer);
    let band = if Backend::of(&batch.images).unwrap() == Backend::Cpu { 1e-2 } else { 2e-3 };
    assert!(difference < band, "gradient of {name} differs by {difference} of its norm");
    let (mut elements, mut differing) = (0, 0.0);
    for (name, ours) in trainer.net.parameters() {
        elements += ours.numel();
        differing += (ours - &peer.weights[&name]).abs().gt(1e-6).sum(Kind::Double).double_value(&[]);
    }
    // Adam's first step has the length of the learning rate whatever the gradient: a tiny one's sign decides.
    assert!(differing <= elements as f64 * 1e-4, "{differing} of {elements} weights differ by more than 1e-6");
}

/// In float16 on the CPU, where nothing else of mixed precision with master weights runs.
#[test]
fn working_weights_train_as_weights_that_are_cast_in_each_step() {
    let crop = |x: &Tensor| x.narrow(2, 0, 188).narrow(3, 0, 188);
    let Batch { images, labels, .. } = two_slices();
    let batch =
        Batch { images: crop(&images), labels: labels.narrow(1, 0, 4).narrow(2, 0, 4), weights: None, first_sample: 0 };
    let [mut cast, mut kept] = [(); 2].map(|()| trainer(network(4), Kind::Half, false));
    let copies = kept.net.make_working_weights(Kind::Half);
    let handles: Vec<Option<Tensor>> = copies.iter().map(|copy| copy.as_ref().map(Tensor::shallow_clone)).collect();
    kept.optimizer.use_working_weights(copies);
    // With this scale gradients overflow at first.
    for trainer in [&mut cast, &mut kept] {
        trainer.scaler.restore(2f64.powi(28), 0);
    }
    let before: Vec<Tensor> = cast.net.parameters().iter().map(|(_, tensor)| tensor.copy()).collect();
    // The first update that is made differs by the rounding of float32; in later ones float16 rounds that here and
    // there to its next number.
    for (updates, limit) in [(1.0, 1e-5), (5.0, 2e-2)] {
        while cast.optimizer.state().2 < updates {
            for trainer in [&mut cast, &mut kept] {
                trainer.step(&batch).unwrap();
            }
            assert!(cast.skipped_steps() < 20);
        }
        assert_eq!(kept.optimizer.state().2, updates);
        for (((name, a), (_, b)), before) in cast.net.parameters().iter().zip(kept.net.parameters()).zip(&before) {
            let [moved, apart] = [before, b].map(|other| (a.detach() - other.detach()).norm().double_value(&[]));
            assert!(moved > 0.0 && apart < limit * moved, "{name}: {apart} apart, {moved} moved, {updates} updates");
        }
    }
    // All weights but the first layer's, and the biases of the other 17 convolutions of 3x3.
    assert_eq!(handles.iter().flatten().count(), 22 + 17);
    for ((name, parameter), copy) in kept.net.parameters().iter().zip(&handles) {
        let Some(copy) = copy else { continue };
        assert_eq!(largest_difference(copy, &parameter.to_kind(Kind::Half)), 0.0, "{name}");
    }
    assert!(cast.skipped_steps() > 0 && cast.skipped_steps() == kept.skipped_steps());
    assert_eq!(cast.loss_scale(), kept.loss_scale());
}

/// With float16's scaler, an overflow must leave weights and moments alone and lower the scale.
#[test]
fn a_step_with_infinite_gradients_changes_nothing_but_the_scale() {
    let images = two_slices().images.narrow(2, 0, 188).narrow(3, 0, 188);
    let batch = Batch { images, labels: Tensor::new(), weights: None, first_sample: 0 };
    let mut trainer = trainer(network(2), Kind::Float, false);
    trainer.scaler = GradScaler::new(Precision(Kind::Half), Device::Cpu);
    let before: Vec<Tensor> = trainer.net.parameters().iter().map(|(_, tensor)| tensor.copy()).collect();
    let loss = |trainer: &Trainer, factor: f64| {
        let term = trainer.net.forward(&batch.images, 0.0).unwrap().sum(Kind::Float) * factor;
        Losses { dice_loss: term.zeros_like(), cross_entropy: term }
    };
    let infinite = loss(&trainer, f64::INFINITY);
    update_from(&mut trainer, &infinite);
    assert_eq!(trainer.skipped_steps(), 1);
    assert_eq!(trainer.skipped_in_row(), 1);
    assert_eq!(trainer.optimizer.state().2, 0.0);
    assert_eq!(trainer.loss_scale(), 32_768.0);
    for ((name, after), before) in trainer.net.parameters().iter().zip(&before) {
        assert_eq!(largest_difference(after, before), 0.0, "{name}");
    }
    let finite = loss(&trainer, 1.0);
    update_from(&mut trainer, &finite);
    assert_eq!((trainer.skipped_steps(), trainer.skipped_in_row(), trainer.optimizer.state().2), (1, 0, 1.0));
    let changed = trainer.net.parameters().iter().zip(&before).any(|((_, a), b)| largest_difference(a, b) > 0.0);
    assert!(changed);
}

#[test]
fn a_run_that_finds_no_loss_scale_is_stopped() {
    let images = two_slices().images.narrow(2, 0, 188).narrow(3, 0, 188);
    let mut trainer = trainer(network(1), Kind::Float, false);
    let overflow = |trainer: &mut Trainer| {
        let term = trainer.net.forward(&images, 0.0).unwrap().sum(Kind::Float) * f64::INFINITY;
        update_from(trainer, &Losses { dice_loss: term.zeros_like(), cross_entropy: term });
    };
    trainer.scaler = GradScaler::new(Precision(Kind::Half), Device::Cpu);
    for _ in 1..64 {
        overflow(&mut trainer);
    }
    trainer.check_updates("advice").unwrap();
    overflow(&mut trainer);
    let message = trainer.check_updates("lower it").unwrap_err().to_string();
    assert!(message.contains("the last 64 steps") && message.contains("lower it"), "{message}");
    // Without a scale to lower one is enough.
    trainer.scaler = GradScaler::new(Precision(Kind::BFloat16), Device::Cpu);
    assert!(trainer.check_updates("advice").is_err());
}

/// Autograd's requests come from this thread too, or they would not be in the plan.
#[test]
fn planned_steps_are_the_same_to_the_bit_and_fit_their_plan() {
    let batch = two_slices();
    for kind in [Kind::Float, Kind::BFloat16] {
        let [mut plain, mut planned] = [false, true].map(|xla| trainer(network(4), kind, xla));
        for step in 1..=4 {
            let losses = [&mut plain, &mut planned].map(|trainer| trainer.step(&batch).unwrap().total());
            assert_eq!(losses[0], losses[1], "step {step}");
            let statistics = planned.runner.statistics().unwrap();
            assert!(statistics.requests > 100 && statistics.bytes > 10 << 20, "{statistics:?}");
            assert_eq!(statistics.misses, 0, "step {step}");
        }
        for ((name, a), (_, b)) in plain.net.parameters().iter().zip(planned.net.parameters()) {
            assert_eq!(largest_difference(a, b), 0.0, "{name}");
        }
    }
}

#[test]
fn bfloat16_steps_stay_near_those_of_float32() {
    let batch = two_slices();
    let first_losses = [Kind::Float, Kind::BFloat16].map(|kind| {
        let net = network(4);
        let logits = net.forward(&batch.images.to_kind(kind), 0.0).unwrap();
        assert_eq!(logits.kind(), kind);
        loss::losses(&logits, &batch.labels, &LossOptions::default()).unwrap().total().double_value(&[])
    });
    assert!((first_losses[0] - first_losses[1]).abs() < 5e-3, "{first_losses:?}");
}
