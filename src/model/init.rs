//! Fresh parameters.

use anyhow::Result;
use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

/// How fresh weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Init {
    /// Uniform, by Glorot and Bengio (2010): the reference's.
    #[default]
    Glorot,
    /// Normal, by He et al. (2015), for what a ReLU follows; the head, without one, is drawn as by Glorot.
    He,
}

/// Gives the parameter of a path and shape.
pub type Draw<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;

impl Init {
    /// What draws parameters from `rng`, in the order in which they are asked for.
    pub fn source<'a>(self, rng: &'a mut impl Rng, device: Device) -> Box<Draw<'a>> {
        match self {
            Self::Glorot => Box::new(glorot_uniform(rng, device)),
            Self::He => Box::new(he_normal(rng, device)),
        }
    }
}

/// He normal weights and zero biases.
fn he_normal(rng: &mut impl Rng, device: Device) -> impl FnMut(&str, &[i64]) -> Result<Tensor> {
    move |path, shape| {
        let &[_, _, height, width] = shape else {
            return Ok(Tensor::zeros(shape, (Kind::Float, device)));
        };
        if path.starts_with("head") {
            return glorot_uniform(rng, device)(path, shape);
        }
        // Weights of transposed convolutions are [inputs, outputs, ..]; of nine taps at stride 2 a pixel meets 2.25.
        let is_transposed = path.contains(".up.");
        let inputs = if is_transposed { shape[0] as f64 / 4.0 } else { shape[1] as f64 };
        let deviation = (2.0 / (inputs * (height * width) as f64)).sqrt();
        let mut normal = || {
            let (radius, angle): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random_range(0.0..1.0));
            (deviation * (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
        };
        let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| normal()).collect();
        Ok(Tensor::from_slice(&values).view(shape).to_device(device))
    }
}

/// Glorot uniform weights (the reference's default initialiser) and zero biases, drawn from `rng` in the
/// order in which they are asked for.
pub fn glorot_uniform(rng: &mut impl Rng, device: Device) -> impl FnMut(&str, &[i64]) -> Result<Tensor> {
    move |_path, shape| {
        let &[outputs, inputs, height, width] = shape else {
            return Ok(Tensor::zeros(shape, (Kind::Float, device)));
        };
        let fans = (outputs + inputs) * height * width;
        let bound = (6.0 / fans as f64).sqrt() as f32;
        let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| rng.random_range(-bound..bound)).collect();
        Ok(Tensor::from_slice(&values).view(shape).to_device(device))
    }
}
