//! A moving average of the parameters, which often predicts better than the parameters of the last step.

use tch::Tensor;

/// Averages of the parameters, in their order.
#[derive(Debug)]
pub struct MovingAverage {
    /// What is kept of the average in a step, once many are made.
    decay: f64,
    averages: Vec<Tensor>,
}

impl MovingAverage {
    /// Begins with the parameters as they are.
    pub fn new(decay: f64, params: &[Tensor]) -> Self {
        Self { decay, averages: tch::no_grad(|| params.iter().map(|param| param.detach().copy()).collect()) }
    }

    /// Adds the parameters after step `step`, which counts from 1. First steps weigh more: fresh weights are soon
    /// forgotten.
    pub fn update(&mut self, params: &[Tensor], step: u64) {
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        tch::no_grad(|| {
            for (average, param) in self.averages.iter_mut().zip(params) {
                let _ = average.lerp_(param, 1.0 - decay);
            }
        });
    }

    pub fn averages(&self) -> &[Tensor] {
        &self.averages
    }

    /// Takes over saved averages; the shapes are those of the parameters.
    pub fn restore(&mut self, saved: &[Tensor]) {
        tch::no_grad(|| self.averages.iter_mut().zip(saved).for_each(|(own, saved)| own.copy_(saved)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_their_formula() {
        let params = [Tensor::from_slice(&[1.0f32, 2.0])];
        let mut average = MovingAverage::new(0.5, &params);
        let mut expected = [1.0f64, 2.0];
        for step in 1..=12u64 {
            let values = [step as f32, 10.0 - step as f32];
            params[0].shallow_clone().copy_(&Tensor::from_slice(&values));
            average.update(&params, step);
            let decay = (0.5f64).min((1.0 + step as f64) / (10.0 + step as f64));
            for (expected, value) in expected.iter_mut().zip(values) {
                *expected = decay * *expected + (1.0 - decay) * f64::from(value);
            }
        }
        let found = Vec::<f32>::try_from(&average.averages()[0]).unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{found:?}, {expected:?}");
    }
}
