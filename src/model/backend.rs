//! Which kernels compute the network and its losses: chosen here alone, from device, dtype and environment.
//!
//! `UNET_CPU_ISA` (amx, avx512, avx512-without-bf16, avx2, generic) chooses among the own kernels of the CPU,
//! `UNET_CUDA_KERNELS` (own, fused, separate) among those of a GPU; `aten` in either turns them off, to compare.

use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};
use tch::{Device, Kind, Tensor};

use crate::native::gpu_layers::GpuKernels;
use crate::native::{cpu_layers, gpu_layers};

/// The kernels that serve for one device and dtype of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Own kernels of the CPU (`csrc/cpu/`).
    Cpu,
    /// cuDNN's convolutions (`csrc/gpu/`). With `own_kernels` the passes between them, the head, the losses and the
    /// update of 16-bit weights are own CUDA kernels; without them libtorch's operations.
    Gpu { own_kernels: bool },
    /// libtorch's operations alone, on any device and in any dtype.
    Libtorch,
}

/// A layer's use of what the layer before it puts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    /// 3x3 or transposed convolutions alone.
    Convolutions,
    /// Pooling and crop alone.
    Pooling,
    /// The head alone.
    Head,
    /// Anything else, such as dropout.
    Other,
}

impl Backend {
    /// The kernels for activations of `kind` on `device`.
    ///
    /// Errors: a variable of the environment with an unknown value, or with kernels that this CPU cannot run.
    pub fn new(device: Device, kind: Kind) -> Result<Self> {
        let environment = environment()?;
        Ok(match (device, kind) {
            (Device::Cpu, Kind::Float | Kind::BFloat16) if environment.cpu_kernels => Self::Cpu,
            (Device::Cuda(_), Kind::Float | Kind::Half | Kind::BFloat16) => {
                Self::Gpu { own_kernels: gpu_layers::has_kernels(&Tensor::empty([0], (kind, device)))? }
            }
            _ => Self::Libtorch,
        })
    }

    /// The kernels for a layer with the input `x`.
    pub fn of(x: &Tensor) -> Result<Self> {
        Self::new(x.device(), x.kind())
    }

    /// What computes activations of `kind`, for people and records: `AVX-512 kernels`.
    pub fn describe(self, kind: Kind) -> Result<String> {
        let kernels = match self {
            Self::Cpu => match cpu_layers::isa()?.as_str() {
                "amx" => "AVX-512 and AMX kernels",
                "avx512" | "avx512-without-bf16" => "AVX-512 kernels",
                "avx2" => "AVX2 kernels",
                _ => "portable kernels",
            },
            Self::Gpu { own_kernels: true } => "own CUDA kernels",
            Self::Gpu { own_kernels: false } | Self::Libtorch => "libtorch's kernels",
        };
        let arithmetic = if self.multiplies_in_f32(kind)? { " multiplying in float32" } else { "" };
        Ok(format!("{kernels}{arithmetic}"))
    }

    /// What a user of activations of `kind` may not expect of their speed.
    pub fn speed_note(self, kind: Kind) -> Result<Option<&'static str>> {
        let text = "this CPU has no bfloat16 instructions: --amp halves the memory of activations here, and is about \
                    as fast as float32";
        Ok(self.multiplies_in_f32(kind)?.then_some(text))
    }

    /// Whether activations of `kind` are kept in 16 bits and multiplied in f32, as the CPU has no instructions for
    /// products of 16 bits.
    fn multiplies_in_f32(self, kind: Kind) -> Result<bool> {
        Ok(self == Self::Cpu && kind == Kind::BFloat16 && !cpu_layers::multiplies_bf16()?)
    }

    /// The dtype in which libtorch's operations compute activations of `kind`: f32 where products are in f32, as
    /// libtorch takes ten times as long for bfloat16 without instructions for it.
    pub fn arithmetic(self, kind: Kind) -> Result<Kind> {
        Ok(if self.multiplies_in_f32(kind)? { Kind::Float } else { kind })
    }

    /// Whether `consumer` multiplies the gradient that it passes down by that of the ReLU which its input comes from.
    /// On its own this costs a pass over memory, so that a neighbour which touches the numbers anyway does it where it
    /// can.
    pub fn masks_gradient(self, consumer: Consumer) -> bool {
        match self {
            Self::Cpu => matches!(consumer, Consumer::Convolutions | Consumer::Pooling),
            Self::Gpu { .. } => matches!(consumer, Consumer::Pooling | Consumer::Head),
            Self::Libtorch => false,
        }
    }

    /// Whether the first layer, whose input `x` is an image without gradient, has a kernel for it: of one channel
    /// alone.
    pub fn has_first_layer(self, x: &Tensor) -> bool {
        matches!(self, Self::Gpu { .. }) && x.size()[1] == 1 && !x.requires_grad()
    }

    /// Whether logits of `classes` classes have kernels for their losses.
    pub fn has_losses(self, classes: i64) -> bool {
        self == Self::Gpu { own_kernels: true } && classes == 2
    }

    /// Whether training in 16 bits keeps copies of the weights in 16 bits, which the update writes together with their
    /// f32 masters. `adds_up_gradients`: ranks exchange gradients, which they do in f32.
    pub fn keeps_working_weights(self, kind: Kind, adds_up_gradients: bool) -> bool {
        self == Self::Gpu { own_kernels: true } && kind != Kind::Float && !adds_up_gradients
    }
}

/// What the environment asks for, told to the native side once.
struct Environment {
    /// Whether own kernels serve on the CPU.
    cpu_kernels: bool,
}

fn environment() -> Result<&'static Environment> {
    static READ: OnceLock<Result<Environment, String>> = OnceLock::new();
    let read = || {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        apply(variable("UNET_CPU_ISA"), variable("UNET_CUDA_KERNELS")).map_err(|error| format!("{error:#}"))
    };
    READ.get_or_init(read).as_ref().map_err(|text| anyhow!("{text}"))
}

fn apply(cpu_isa: Option<String>, cuda_kernels: Option<String>) -> Result<Environment> {
    let kernels = match cuda_kernels.as_deref() {
        None | Some("own") => GpuKernels::Own,
        Some("fused") => GpuKernels::Fused,
        Some("separate") => GpuKernels::Separate,
        Some("aten") => GpuKernels::Aten,
        Some(other) => bail!("UNET_CUDA_KERNELS is '{other}'; use own, fused, separate or aten"),
    };
    gpu_layers::use_kernels(kernels)?;
    match cpu_isa.as_deref() {
        Some("aten") => return Ok(Environment { cpu_kernels: false }),
        Some(isa) => cpu_layers::use_isa(isa)?,
        None => {}
    }
    Ok(Environment { cpu_kernels: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_follow_device_and_dtype() {
        let on_cpu = |kind| Backend::new(Device::Cpu, kind).unwrap();
        let own =
            if std::env::var("UNET_CPU_ISA").is_ok_and(|isa| isa == "aten") { Backend::Libtorch } else { Backend::Cpu };
        assert_eq!([Kind::Float, Kind::BFloat16].map(on_cpu), [own, own]);
        assert_eq!([Kind::Double, Kind::Half].map(on_cpu), [Backend::Libtorch; 2]);
    }

    #[test]
    fn a_kernel_that_does_not_suit_the_data_is_not_chosen() {
        let (with, without) = (Backend::Gpu { own_kernels: true }, Backend::Gpu { own_kernels: false });
        assert!(with.has_losses(2) && !with.has_losses(3) && !without.has_losses(2) && !Backend::Cpu.has_losses(2));
        let image = |channels: i64| Tensor::zeros([1, channels, 4, 4], (Kind::Float, Device::Cpu));
        assert!(with.has_first_layer(&image(1)) && !with.has_first_layer(&image(3)));
        assert!(!with.has_first_layer(&image(1).set_requires_grad(true)) && !Backend::Cpu.has_first_layer(&image(1)));
        assert!(with.keeps_working_weights(Kind::Half, false) && !with.keeps_working_weights(Kind::Half, true));
        assert!(!with.keeps_working_weights(Kind::Float, false) && !without.keeps_working_weights(Kind::Half, false));
    }

    /// A ReLU whose gradient nobody applies would give wrong gradients in silence.
    #[test]
    fn unknown_values_of_the_environment_are_refused() {
        let refused = |isa: Option<&str>, kernels: Option<&str>| {
            apply(isa.map(str::to_owned), kernels.map(str::to_owned)).map(drop).unwrap_err().to_string()
        };
        let message = refused(Some("sse9"), None);
        assert!(message.contains("UNET_CPU_ISA") && message.contains("sse9"), "{message}");
        let message = refused(None, Some("best"));
        assert!(message.contains("UNET_CUDA_KERNELS") && message.contains("best"), "{message}");
    }
}
