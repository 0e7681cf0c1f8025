//! Fresh parameters.

use anyhow::Result;
use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

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
