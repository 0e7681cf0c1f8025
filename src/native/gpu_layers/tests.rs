//! Tests of the layers of `csrc/gpu/`: their logic on the CPU, which computes the same; on a GPU where asked for.
//! What the CUDA kernels in them compute is tested without a GPU in `tests/cuda_kernels.rs`.

use tch::{Cuda, Device, Kind, Tensor};

use crate::model::convolution::channels_last;
use crate::model::ops::centre_crop;
use crate::native::cuda;
use crate::native::gpu_layers as gpu;

const CHANNELS: i64 = 16;

/// Weights and biases of the small network below, and its input.
struct Given {
    parameters: Vec<Tensor>,
    x: Tensor,
}

impl Given {
    /// An input of one channel is data without gradient, as the first layer's.
    fn new(channels: i64) -> Self {
        let double = (Kind::Double, Device::Cpu);
        let shapes: [&[i64]; 10] = [
            &[CHANNELS, channels, 3, 3],
            &[CHANNELS],
            &[2 * CHANNELS, CHANNELS, 3, 3],
            &[2 * CHANNELS],
            &[2 * CHANNELS, CHANNELS, 3, 3],
            &[CHANNELS],
            &[CHANNELS, 2 * CHANNELS, 3, 3],
            &[CHANNELS],
            &[2, CHANNELS, 1, 1],
            &[2],
        ];
        let scale = |shape: &[i64]| if shape.len() == 1 { 0.1 } else { 0.12 };
        let parameters = shapes.iter().map(|shape| Tensor::randn(*shape, double) * scale(shape)).collect();
        Self { parameters, x: Tensor::randn([2, channels, 24, 28], double) }
    }

    /// Output and the gradients of parameters and input, on `device`; activations in `kind`, parameters in `master`.
    fn run(
        &self,
        forward: impl Fn(&Tensor, &[Tensor]) -> Tensor,
        device: Device,
        kind: Kind,
        master: Kind,
    ) -> Vec<Tensor> {
        let leaf = |tensor: &Tensor, kind| {
            let tensor = tensor.copy().to_device(device).to_kind(kind);
            if tensor.dim() == 4 { channels_last(&tensor) } else { tensor }
        };
        let parameters: Vec<Tensor> =
            self.parameters.iter().map(|tensor| leaf(tensor, master).set_requires_grad(true)).collect();
        let x = leaf(&self.x, kind);
        let x_has_gradient = x.size()[1] > 1;
        let x = x.set_requires_grad(x_has_gradient);
        let y = forward(&x, &parameters);
        assert_eq!(y.kind(), kind);
        // Weights that differ from place to place, so that no gradient can be mistaken for another's, and do not cancel
        // in sums.
        let weights =
            (Tensor::arange(y.numel() as i64, (Kind::Double, Device::Cpu)) * 0.7).sin().reshape(y.size()) + 0.5;
        (&y * weights.to_kind(kind).to_device(device)).sum(kind).backward();
        let grads = parameters.iter().chain(x_has_gradient.then_some(&x)).map(|tensor| {
            assert_eq!(tensor.grad().kind(), tensor.kind());
            tensor.grad()
        });
        std::iter::once(y.detach()).chain(grads).map(|t| t.to_kind(Kind::Double).to_device(Device::Cpu)).collect()
    }
}

/// Two levels of a U-Net: encoder convolution, pooling, bottleneck convolution, up, joined with the skip, convolution,
/// head.
fn with_gpu_layers(x: &Tensor, p: &[Tensor]) -> Tensor {
    let is_image = x.size()[1] == 1 && !x.requires_grad();
    let first = if is_image {
        gpu::first_layer(x, &p[0], &p[1]).unwrap()
    } else {
        gpu::conv3x3_relu(x, &p[0], &p[1], None, true).unwrap()
    };
    let (pooled, skip) = gpu::pool_and_crop(&first, 18, 22).unwrap();
    let low = gpu::conv3x3_relu(&pooled, &p[2], &p[3], None, false).unwrap();
    let joined = gpu::upconv_relu_join(&low, &skip, &p[4], &p[5]).unwrap();
    let last = gpu::conv3x3_relu(&joined, &p[6], &p[7], None, true).unwrap();
    gpu::head(&last, &p[8], &p[9]).unwrap()
}

fn with_plain_operations(x: &Tensor, p: &[Tensor]) -> Tensor {
    let p: Vec<Tensor> = p.iter().map(|tensor| tensor.to_kind(x.kind())).collect();
    let first = x.conv2d(&p[0], Some(&p[1]), 1, 0, 1, 1).relu();
    let pooled = first.max_pool2d(2, 2, 0, 1, false);
    let low = pooled.conv2d(&p[2], Some(&p[3]), 1, 0, 1, 1).relu();
    let up = low.conv_transpose2d(&p[4], Some(&p[5]), 2, 1, 1, 1, 1).relu();
    let joined = Tensor::cat(&[up, centre_crop(&first, 18, 22)], 1);
    joined.conv2d(&p[6], Some(&p[7]), 1, 0, 1, 1).relu().conv2d(&p[8], Some(&p[9]), 1, 0, 1, 1)
}

/// The largest distance between the results of one kind, relative to the norm.
fn worst(found: &[Tensor], exact: &[Tensor]) -> f64 {
    let distance = |(found, exact): (&Tensor, &Tensor)| {
        assert_eq!(found.size(), exact.size());
        ((found - exact).norm() / exact.norm()).double_value(&[])
    };
    // A NaN must not pass for a small distance.
    let distances: Vec<f64> = found.iter().zip(exact).map(distance).collect();
    assert!(distances.iter().all(|distance| distance.is_finite()), "{distances:?}");
    distances.into_iter().fold(0.0, f64::max)
}

#[test]
fn gpu_layers_and_their_gradients_equal_plain_operations() {
    tch::manual_seed(4);
    for given in [3, 1].map(Given::new) {
        let exact = given.run(with_plain_operations, Device::Cpu, Kind::Double, Kind::Double);
        let found = given.run(with_gpu_layers, Device::Cpu, Kind::Double, Kind::Double);
        assert!(worst(&found, &exact) < 1e-12, "{}", worst(&found, &exact));
        // Parameters stay f32 and get f32 gradients, whatever the activations are.
        let found = given.run(with_gpu_layers, Device::Cpu, Kind::BFloat16, Kind::Float);
        let plain = given.run(with_plain_operations, Device::Cpu, Kind::BFloat16, Kind::Float);
        let (found, plain) = (worst(&found, &exact), worst(&plain, &exact));
        assert!(found < 1.5 * plain, "{found}, plain bfloat16 {plain}");
    }
}

#[test]
fn cuda_kernels_compile_for_every_gpu_that_libtorch_supports() {
    for capability in [75, 80, 86, 89, 90, 100, 120] {
        if !gpu::compile_kernels(capability).unwrap() {
            eprintln!("skipped: no NVRTC, which comes with a libtorch with CUDA");
            return;
        }
    }
}

/// `cargo test --release gpu -- --ignored`, also with UNET_CUDA_KERNELS=fused, =separate and =aten.
#[test]
#[ignore = "needs a GPU"]
fn on_a_gpu_layers_equal_plain_operations_of_the_cpu() {
    cuda::load().unwrap();
    assert!(Cuda::is_available(), "no usable GPU");
    cuda::allow_tf32(false).unwrap();
    tch::manual_seed(4);
    for given in [3, 1].map(Given::new) {
        let exact = given.run(with_plain_operations, Device::Cpu, Kind::Double, Kind::Double);
        for (kind, limit) in [(Kind::Float, 1e-5_f64), (Kind::Half, 4e-3), (Kind::BFloat16, 4e-2)] {
            let found = worst(&given.run(with_gpu_layers, Device::Cuda(0), kind, Kind::Float), &exact);
            let plain = worst(&given.run(with_plain_operations, Device::Cuda(0), kind, Kind::Float), &exact);
            eprintln!("{kind:?}: {found:.2e}, plain {plain:.2e}");
            assert!(found < limit.max(1.5 * plain), "{kind:?}: {found}, plain {plain}");
        }
    }
}

/// The layer that the network takes for `x`.
fn convolve(x: &Tensor, weight: &Tensor, bias: &Tensor) -> anyhow::Result<Tensor> {
    if x.size()[1] == 1 { gpu::first_layer(x, weight, bias) } else { gpu::conv3x3_relu(x, weight, bias, None, false) }
}

/// If a fused kernel read its output, as some of cuDNN's do that can add to it, a NaN that was there would come
/// through.
#[test]
#[ignore = "needs a GPU"]
fn on_a_gpu_fused_convolutions_do_not_read_what_their_output_held() {
    cuda::load().unwrap();
    assert!(Cuda::is_available(), "no usable GPU");
    let device = Device::Cuda(0);
    Cuda::cudnn_set_benchmark(true);
    for (kind, inputs, outputs, side) in [Kind::Half, Kind::BFloat16, Kind::Float].iter().flat_map(|kind| {
        [
            (1, 64, 572),
            (64, 64, 570),
            (64, 128, 284),
            (128, 128, 200),
            (256, 256, 104),
            (1024, 512, 56),
            (1024, 1024, 30),
        ]
        .map(|(inputs, outputs, side)| (*kind, inputs, outputs, side))
    }) {
        let x = channels_last(&Tensor::randn([1, inputs, side, side], (kind, device)));
        let weight = channels_last(&(Tensor::randn([outputs, inputs, 3, 3], (kind, device)) * 0.02));
        let bias = Tensor::zeros([outputs], (Kind::Float, device));
        for _ in 0..3 {
            // Freed at once: the allocator hands the same memory to the output.
            drop(Tensor::full([1, outputs, side - 2, side - 2], f64::NAN, (kind, device)));
            let y = tch::no_grad(|| convolve(&x, &weight, &bias)).unwrap();
            let finite = y.isfinite().all().int64_value(&[]) == 1;
            assert!(finite, "{kind:?}, {inputs} to {outputs} channels on {side}x{side}");
        }
        // But one in the input must come through, or nobody would see that training has failed.
        let bad = x.copy();
        let _ = bad.narrow(2, 9, 1).narrow(3, 9, 1).fill_(f64::NAN);
        let y = tch::no_grad(|| convolve(&bad, &weight, &bias)).unwrap();
        let nans = y.isnan().sum(Kind::Int64).int64_value(&[]);
        let advice = "UNET_CUDA_KERNELS=separate does without fused kernels";
        assert_eq!(nans, 9 * outputs, "{kind:?}, {inputs} to {outputs} channels on {side}x{side}; {advice}");
    }
}
