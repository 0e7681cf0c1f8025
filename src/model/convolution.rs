//! A convolution's parameters, in the form that training or prediction needs. Which kernel multiplies with them:
//! `ops.rs`.
//!
//! Shapes: N images, C channels, H, W pixels. Tensor names follow PyTorch's modules (`weight`, `bias`).

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::backend::Backend;
use crate::native::cpu_layers::PackedFilters;

/// A parameter with its path, such as `encoder.0.conv1.weight`.
pub type Named<'a> = (String, &'a Tensor);

/// Where parameters come from: f32 values on the right device for a path and a shape.
pub type Source<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;

/// A function that packs weights for the CPU's kernels, for inputs like the second argument.
pub type Pack = fn(&Tensor, &Tensor) -> Result<Option<PackedFilters>>;

/// Weights `[out, in, k, k]`, or `[in, out, k, k]` of a transposed convolution.
#[derive(Debug)]
pub enum Weights {
    /// The f32 parameter; cast to the dtype of activations in each use.
    Master(Tensor),
    /// The f32 parameter with its copy in the dtype of activations (Micikevicius et al., 2018). The network multiplies
    /// with `working`, which gets the gradient; the optimiser updates both.
    MasterAndWorking {
        master: Tensor,
        working: Tensor,
        /// The bias in the same dtype, for kernels that add it so; updated too, without gradient.
        working_bias: Option<Tensor>,
    },
    /// For prediction: in the dtype of activations.
    Cast(Tensor),
    /// For prediction: in the order in which the CPU's kernels read them.
    Packed(PackedFilters),
}

/// A convolution: its weights and the bias `[out]`, f32 but for prediction with `Weights::Cast`.
#[derive(Debug)]
pub struct Convolution {
    pub weights: Weights,
    pub bias: Tensor,
}

impl Convolution {
    /// Asks `source` for `path.weight` of the shape `kernel` and `path.bias` of `outputs` numbers.
    fn new(path: &str, kernel: [i64; 4], outputs: i64, source: &mut Source) -> Result<Self> {
        let weight = channels_last(&source(&format!("{path}.weight"), &kernel)?);
        let bias = source(&format!("{path}.bias"), &[outputs])?;
        Ok(Self::from_parameters(weight.set_requires_grad(true), bias.set_requires_grad(true)))
    }

    /// A convolution with these f32 parameters.
    pub fn from_parameters(weight: Tensor, bias: Tensor) -> Self {
        Self { weights: Weights::Master(weight), bias }
    }

    /// Unpadded `size` x `size` convolution.
    pub fn plain(path: &str, inputs: i64, outputs: i64, size: i64, source: &mut Source) -> Result<Self> {
        Self::new(path, [outputs, inputs, size, size], outputs, source)
    }

    /// 3x3 transposed convolution with stride 2.
    pub fn transposed(path: &str, inputs: i64, outputs: i64, source: &mut Source) -> Result<Self> {
        Self::new(path, [inputs, outputs, 3, 3], outputs, source)
    }

    /// The parameters under their paths; none in a layer for prediction.
    pub fn parameters(&self, path: &str) -> Vec<Named<'_>> {
        match &self.weights {
            Weights::Master(weight) | Weights::MasterAndWorking { master: weight, .. } => {
                vec![(format!("{path}.weight"), weight), (format!("{path}.bias"), &self.bias)]
            }
            Weights::Cast(_) | Weights::Packed(_) => Vec::new(),
        }
    }

    /// The weights to multiply activations of `kind` with; of another dtype where no copy is kept in that one.
    ///
    /// Errors: packed weights, which only the kernels of the CPU read.
    pub fn weight_for(&self, kind: Kind) -> Result<&Tensor> {
        match &self.weights {
            Weights::MasterAndWorking { working, .. } if working.kind() == kind => Ok(working),
            Weights::Master(weight) | Weights::MasterAndWorking { master: weight, .. } | Weights::Cast(weight) => {
                Ok(weight)
            }
            Weights::Packed(_) => bail!("these weights are packed for the kernels of the CPU"),
        }
    }

    /// The copy of the bias in `kind`, where one is kept.
    pub fn working_bias_for(&self, kind: Kind) -> Option<&Tensor> {
        match &self.weights {
            Weights::MasterAndWorking { working_bias, .. } => working_bias.as_ref().filter(|bias| bias.kind() == kind),
            _ => None,
        }
    }

    /// Unpadded convolution by libtorch's operation, in x's dtype: `[N, in, H, W]` to `[N, out, H - k + 1, W - k + 1]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.cast(x.kind())?;
        Ok(x.conv2d(&weight, Some(bias), 1, 0, 1, 1))
    }

    /// Transposed convolution with stride 2 by libtorch's operation: `[N, in, H, W]` to `[N, out, 2H, 2W]`.
    pub fn forward_transposed(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.cast(x.kind())?;
        Ok(x.conv_transpose2d(&weight, Some(bias), 2, 1, 1, 1, 1))
    }

    fn cast(&self, kind: Kind) -> Result<(Tensor, Tensor)> {
        Ok((self.weight_for(kind)?.to_kind(kind), self.bias.to_kind(kind)))
    }

    /// Makes copies of the parameters in `kind`, which training multiplies with from now on; the copy of the bias where
    /// `with_bias` asks for one. The result are the copies, which share memory with the layer's.
    pub fn make_working_weights(&mut self, kind: Kind, with_bias: bool) -> [Option<Tensor>; 2] {
        let Weights::Master(master) = &self.weights else { return [None, None] };
        let working = master.detach().to_kind(kind).set_requires_grad(true);
        let working_bias = with_bias.then(|| self.bias.detach().to_kind(kind));
        let copies = [Some(working.shallow_clone()), working_bias.as_ref().map(Tensor::shallow_clone)];
        self.weights = Weights::MasterAndWorking { master: master.shallow_clone(), working, working_bias };
        copies
    }

    /// Makes this a layer for prediction alone, from inputs like `like`: packed by `pack` for the kernels of the CPU
    /// where that gains something, elsewhere cast once instead of in each prediction.
    pub fn prepare(&mut self, backend: Backend, like: &Tensor, pack: Pack) -> Result<()> {
        let (Weights::Master(master) | Weights::MasterAndWorking { master, .. }) = &self.weights else { return Ok(()) };
        if backend == Backend::Cpu {
            // Weights that gain nothing by packing stay f32; the kernels cast them.
            self.weights = match pack(master, like)? {
                Some(packed) => Weights::Packed(packed),
                None => Weights::Master(master.shallow_clone()),
            };
            return Ok(());
        }
        let kind = like.kind();
        let (weight, bias) = tch::no_grad(|| (master.to_kind(kind), self.bias.to_kind(kind)));
        (self.weights, self.bias) = (Weights::Cast(weight), bias);
        Ok(())
    }
}

/// `x` in channels-last memory, which the convolution kernels of CPU and GPU prefer.
pub fn channels_last(x: &Tensor) -> Tensor {
    // `tch` has no argument for the memory format; a contiguous copy of the permuted tensor has that layout.
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
