//! Own layers against libtorch's operations in f64.

use std::collections::HashMap;

use tch::{Device, IndexOp, Kind};

use super::*;
use crate::model::architecture::Architecture;
use crate::model::convolution::channels_last;
use crate::model::unet::UNet;

/// Distance from `exact`, relative to its norm.
fn error(found: &Tensor, exact: &Tensor) -> f64 {
    assert_eq!(found.size(), exact.size());
    let exact = exact.to_kind(Kind::Double);
    ((found.to_kind(Kind::Double) - &exact).norm() / exact.norm()).double_value(&[])
}

fn random(size: &[i64], scale: f64) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu)) * scale
}

/// Output and gradients (x, x2 or nothing, weight, bias) of a layer, from the output's gradient `above`.
fn run(
    layer: impl Fn(&Convolution, &[Tensor]) -> Tensor,
    inputs: &[Tensor],
    (weight, bias): (&Tensor, &Tensor),
    above: &Tensor,
    kind: Kind,
) -> Vec<Tensor> {
    let leaf = |tensor: &Tensor, kind| tensor.detach().to_kind(kind).set_requires_grad(true);
    let master = if kind == Kind::Double { Kind::Double } else { Kind::Float };
    let convolution = Convolution::from_parameters(leaf(weight, master), leaf(bias, master));
    let inputs: Vec<Tensor> = inputs.iter().map(|x| leaf(x, kind)).collect();
    let y = layer(&convolution, &inputs);
    assert_eq!(y.kind(), kind);
    (&y * above.to_kind(kind)).sum(kind).backward();
    let mut results = vec![y.detach()];
    results.extend(inputs.iter().map(Tensor::grad));
    results.extend([convolution.weight_for(kind).unwrap().grad(), convolution.bias.grad()]);
    results
}

/// A view of a larger image: what a centre crop is.
fn cropped(x: &Tensor) -> Tensor {
    let size = x.size();
    let large = Tensor::zeros([size[0], size[1], size[2] + 5, size[3] + 3], (x.kind(), Device::Cpu));
    let view = channels_last(&large).narrow(2, 2, size[2]).narrow(3, 1, size[3]);
    view.shallow_clone().copy_(x);
    view
}

/// Checks f32 against f64, and bfloat16 against how far libtorch's own bfloat16 is from f64.
///
/// `plain` is the layer in libtorch's operations. Inputs come from a ReLU, and the gradient above is 0 where the
/// output is: then no rounding decides which gradients pass, and what is compared is arithmetic.
fn check(
    what: &str,
    own: impl Fn(&Convolution, &[Tensor]) -> Tensor,
    plain: impl Fn(&Convolution, &[Tensor]) -> Tensor,
    inputs: &[Tensor],
    weights: (&Tensor, &Tensor),
) {
    let doubles: Vec<Tensor> = inputs.iter().map(|x| x.to_kind(Kind::Double)).collect();
    let convolution = Convolution::from_parameters(weights.0.to_kind(Kind::Double), weights.1.to_kind(Kind::Double));
    let y = plain(&convolution, &doubles);
    let above = random(&y.size(), 1.0) * y.gt(0.0).to_kind(Kind::Float);
    // Own layers apply the gradient of the ReLU below their first input.
    let below = |mut results: Vec<Tensor>, first: &Tensor| {
        results[1] = &results[1] * first.gt(0.0).to_kind(results[1].kind());
        results
    };
    let exact = below(run(&plain, inputs, weights, &above, Kind::Double), &doubles[0]);
    let found = run(&own, inputs, weights, &above, Kind::Float);
    for (index, (found, exact)) in found.iter().zip(&exact).enumerate() {
        // Winograd's algorithm with tiles of 6x6 outputs rounds some ten times as coarsely as direct convolution.
        assert!(error(found, exact) < 1e-5, "{what}, f32, result {index}: {}", error(found, exact));
    }
    let rounded: Vec<Tensor> = inputs.iter().map(|x| x.to_kind(Kind::BFloat16)).collect();
    let found = run(&own, &rounded, weights, &above, Kind::BFloat16);
    let theirs = below(run(&plain, &rounded, weights, &above, Kind::BFloat16), &rounded[0]);
    for (index, ((found, theirs), exact)) in found.iter().zip(&theirs).zip(&exact).enumerate() {
        let (ours, limit) = (error(found, exact), 1.5 * error(theirs, exact) + 1e-4);
        assert!(ours < limit, "{what}, bfloat16, result {index}: {ours}, limit {limit}");
    }
}

const MASKED: ReluGradient = ReluGradient { input_is_relu: true, consumer: Consumer::Convolutions };

fn check_convolution(n: i64, channels: &[i64], outputs: i64, height: i64, width: i64) {
    let total: i64 = channels.iter().sum();
    let weight = random(&[outputs, total, 3, 3], (2.0 / (9 * total) as f64).sqrt());
    let bias = random(&[outputs], 0.1);
    let inputs: Vec<Tensor> = channels.iter().map(|c| random(&[n, *c, height, width], 1.0).relu()).collect();
    let own = |convolution: &Convolution, x: &[Tensor]| {
        conv3x3_relu(Backend::Cpu, convolution, &cropped(&x[0]), x.get(1).map(cropped).as_ref(), MASKED).unwrap()
    };
    let plain = |convolution: &Convolution, x: &[Tensor]| convolution.forward(&Tensor::cat(x, 1)).unwrap().relu();
    check(&format!("{channels:?} to {outputs} on {height}x{width}"), own, plain, &inputs, (&weight, &bias));
}

fn check_transposed(n: i64, channels: i64, outputs: i64, height: i64, width: i64) {
    let weight = random(&[channels, outputs, 3, 3], (2.0 / (2.25 * channels as f64)).sqrt());
    let bias = random(&[outputs], 0.1);
    let own = |convolution: &Convolution, x: &[Tensor]| upconv_relu(Backend::Cpu, convolution, &x[0], MASKED).unwrap();
    let plain = |convolution: &Convolution, x: &[Tensor]| convolution.forward_transposed(&x[0]).unwrap().relu();
    let what = format!("transposed {channels} to {outputs} on {height}x{width}");
    check(&what, own, plain, &[random(&[n, channels, height, width], 1.0).relu()], (&weight, &bias));
}

/// Whether there is something to test: not with `UNET_CPU_ISA=aten`.
fn own_kernels_are_on() -> bool {
    let on = Backend::new(Device::Cpu, Kind::Float).unwrap() == Backend::Cpu;
    if !on {
        eprintln!("skipped: UNET_CPU_ISA turns the own kernels off");
    }
    on
}

#[test]
fn layers_equal_the_direct_computation_in_f64() {
    if !own_kernels_are_on() {
        return;
    }
    tch::manual_seed(1);
    for (n, channels, outputs, height, width) in [
        (1, &[16][..], 16, 6, 6),
        (2, &[64], 64, 5, 37),
        (1, &[20], 36, 13, 9),
        (3, &[64, 64], 64, 20, 21),
        (1, &[32, 18], 70, 37, 31),
        (1, &[130], 200, 11, 8),
        (1, &[256, 256], 256, 30, 28),
        (1, &[17], 33, 7, 7),
        (1, &[8], 8, 12, 12),
        (2, &[1], 64, 19, 37),
        (1, &[3], 70, 33, 12),
    ] {
        check_convolution(n, channels, outputs, height, width);
    }
    for (n, channels, outputs, height, width) in [
        (1, 16, 16, 1, 1),
        (1, 64, 64, 5, 8),
        (3, 64, 32, 7, 7),
        (2, 130, 70, 37, 5),
        (1, 34, 18, 6, 131),
        (1, 8, 16, 12, 14),
    ] {
        check_transposed(n, channels, outputs, height, width);
    }
}

#[test]
fn pooling_and_its_gradient_equal_libtorch_s() {
    if !own_kernels_are_on() {
        return;
    }
    tch::manual_seed(2);
    for kind in [Kind::Float, Kind::BFloat16] {
        let leaf = || channels_last(&random(&[2, 20, 14, 18], 1.0).relu().to_kind(kind));
        let ours = leaf().set_requires_grad(true);
        let theirs = ours.detach().to_kind(Kind::Double).set_requires_grad(true);
        let (pooled, crop) = pool_and_crop(Backend::Cpu, &ours, 6, 8).unwrap();
        let (exact_pooled, exact_crop) = pool_and_crop(Backend::Libtorch, &theirs, 6, 8).unwrap();
        assert_eq!(error(&pooled, &exact_pooled), 0.0);
        assert_eq!(error(&crop, &exact_crop), 0.0);
        let above = random(&pooled.size(), 1.0).to_kind(kind);
        ((pooled * &above).sum(kind) + crop.sum(kind)).backward();
        ((exact_pooled * above.to_kind(Kind::Double)).sum(Kind::Double) + exact_crop.sum(Kind::Double)).backward();
        let exact = theirs.grad() * theirs.gt(0.0).to_kind(Kind::Double);
        assert!(error(&ours.grad(), &exact) < if kind == Kind::Float { 1e-7 } else { 5e-3 });
    }
}

/// One tap of 1 and a bias: each output is one sum of two numbers, rounded once.
#[test]
fn bfloat16_outputs_are_rounded_as_libtorch_rounds() {
    if !own_kernels_are_on() {
        return;
    }
    tch::manual_seed(4);
    let weight = Tensor::zeros([40, 1, 3, 3], (Kind::Float, Device::Cpu));
    let _ = weight.i((.., 0, 1, 1)).fill_(1.0);
    // Multiples of 2^-9 beside numbers from 1 to 2, which bfloat16 has in steps of 2^-7: half of the sums are ties.
    let bias = Tensor::arange(40, (Kind::Float, Device::Cpu)) / 512.0;
    let x = (random(&[1, 1, 30, 30], 1.0).abs() + 1.0).to_kind(Kind::BFloat16);
    for (y, value) in [(3, f64::NAN), (9, f64::INFINITY), (15, 3e38), (21, -1e30)] {
        let _ = x.i((0, 0, y, 7)).fill_(value);
    }
    let convolution = Convolution::from_parameters(weight.shallow_clone(), bias.shallow_clone());
    let gradient = ReluGradient { input_is_relu: false, consumer: Consumer::Other };
    let found = tch::no_grad(|| conv3x3_relu(Backend::Cpu, &convolution, &x, None, gradient)).unwrap();
    let sums = x.to_kind(Kind::Float).conv2d(&weight, Some(&bias), 1, 0, 1, 1).relu();
    let expected = sums.to_kind(Kind::BFloat16);
    let bits = |x: &Tensor| Vec::<f32>::try_from(x.to_kind(Kind::Float).reshape([-1])).unwrap();
    for (index, (found, expected)) in bits(&found).into_iter().zip(bits(&expected)).enumerate() {
        let are_equal = found == expected || (found.is_nan() && expected.is_nan());
        assert!(are_equal, "pixel {index}: {found}, libtorch {expected}");
    }
}

/// The network written down once more, in libtorch's operations, in the dtype of `x`.
fn plain_logits(net: &UNet, x: &Tensor) -> Tensor {
    let parameters: HashMap<String, Tensor> =
        net.parameters().into_iter().map(|(name, tensor)| (name, tensor.to_kind(x.kind()))).collect();
    let both = |path: &str| (&parameters[&format!("{path}.weight")], &parameters[&format!("{path}.bias")]);
    let convolve = |x: &Tensor, path: &str| {
        let (weight, bias) = both(path);
        x.conv2d(weight, Some(bias), 1, 0, 1, 1)
    };
    let twice = |x: &Tensor, path: &str| {
        let x = convolve(x, &format!("{path}.conv1")).relu();
        convolve(&x, &format!("{path}.conv2")).relu()
    };
    let mut skips = Vec::new();
    let mut x = x.shallow_clone();
    for level in 0..4 {
        skips.push(twice(&x, &format!("encoder.{level}")));
        x = skips[level].max_pool2d(2, 2, 0, 1, false);
    }
    x = twice(&x, "bottleneck");
    for step in 0..4 {
        let (weight, bias) = both(&format!("decoder.{step}.up"));
        x = x.conv_transpose2d(weight, Some(bias), 2, 1, 1, 1, 1).relu();
        let skip = centre_crop(&skips[3 - step], x.size()[2], x.size()[3]);
        x = twice(&Tensor::cat(&[x, skip], 1), &format!("decoder.{step}"));
    }
    convolve(&x, "head")
}

/// Prepared for prediction or not, in f32 within 1e-5, in bfloat16 no further than 1.5 times plain bfloat16.
#[test]
fn the_full_network_s_probabilities_are_those_of_direct_convolution() {
    tch::manual_seed(3);
    let architecture = Architecture { base_filters: 64, channels: 1, classes: 2 };
    let net = || UNet::with_fresh_weights(architecture, 5, Device::Cpu).unwrap();
    let x = random(&[1, 1, 204, 188], 0.5);
    let softmax = |logits: Tensor| logits.to_kind(Kind::Double).softmax(1, Kind::Double).i((.., 0));
    let exact = tch::no_grad(|| softmax(plain_logits(&net(), &x.to_kind(Kind::Double))));
    for kind in [Kind::Float, Kind::BFloat16] {
        let x = x.to_kind(kind);
        let prepared = net().prepare_for_prediction(kind).unwrap();
        let limit = match kind {
            Kind::Float => 1e-5,
            _ => 1.5 * tch::no_grad(|| error(&softmax(plain_logits(&net(), &x)), &exact)),
        };
        let logits = [tch::no_grad(|| net().forward(&x, 0.0)).unwrap(), prepared.forward(&x).unwrap()];
        for logits in logits {
            let found = error(&softmax(logits), &exact);
            assert!(found < limit, "{kind:?}: {found}, limit {limit}");
        }
    }
}

/// The tests above once more with the kernels of lesser CPUs, which this CPU can run as well.
#[test]
fn the_kernels_of_other_instruction_sets_pass_too() {
    #[cfg(target_arch = "x86_64")]
    let (has_avx2, has_avx512) = (
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl"),
    );
    #[cfg(not(target_arch = "x86_64"))]
    let (has_avx2, has_avx512) = (false, false);
    // `amx` is what a CPU with AMX runs; oneDNN does without it too.
    let names = [
        ("generic", true),
        ("avx2", has_avx2),
        ("avx512-without-bf16", has_avx512),
        ("avx512", has_avx512),
        ("amx", has_avx512),
    ];
    for (name, _) in names.into_iter().filter(|(_, runs)| *runs) {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["model::ops::tests::layers_equal", "model::ops::tests::pooling", "model::ops::tests::bfloat16"])
            .env("UNET_CPU_ISA", name)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&status.stdout);
        assert!(status.status.success(), "{name}: {printed}");
        assert!(printed.contains("3 passed"), "{printed}");
    }
}
