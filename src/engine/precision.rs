//! Mixed precision: the dtype that the network computes in. Parameters, losses and optimiser stay in f32.

use tch::{Device, Kind, Tensor};

use crate::cli::AmpDtype;
use crate::error::UsageError;

/// The dtype of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision(pub Kind);

impl Precision {
    /// f32; with `amp` what `dtype` says, by default float16 on a GPU and bfloat16 on the CPU.
    ///
    /// Errors: float16 on the CPU, which has no kernels that gain from it.
    pub fn new(amp: bool, dtype: Option<AmpDtype>, device: Device) -> Result<Self, UsageError> {
        let on_gpu = device.is_cuda();
        let default = if on_gpu { AmpDtype::Float16 } else { AmpDtype::Bfloat16 };
        Ok(Self(match (amp, dtype.unwrap_or(default)) {
            (false, _) => Kind::Float,
            (true, AmpDtype::Bfloat16) => Kind::BFloat16,
            (true, AmpDtype::Float16) if on_gpu => Kind::Half,
            (true, AmpDtype::Float16) => {
                let message = "--amp_dtype float16 needs a GPU, and this run is on the CPU; use bfloat16";
                return Err(UsageError::new(message.to_owned()));
            }
        }))
    }

    /// Bytes of an activation with or without `--amp`.
    pub fn bytes(amp: bool) -> u64 {
        if amp { 2 } else { 4 }
    }

    /// `images` in the dtype of activations.
    pub fn cast(self, images: &Tensor) -> Tensor {
        images.to_kind(self.0)
    }

    /// Whether products of f32 numbers are of factors rounded to TF32 (10 bits after the point), which GPUs do if
    /// `allowed`.
    pub fn multiplies_in_tf32(self, device: Device, allowed: bool) -> bool {
        device.is_cuda() && allowed && self.0 == Kind::Float
    }

    /// As messages and `config.json` call it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Half => "float16",
            Kind::BFloat16 => "bfloat16",
            _ => "float32",
        }
    }
}
