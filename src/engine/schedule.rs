//! The learning rate of each step.

use serde::Serialize;

/// How the learning rate falls from the first step to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    Constant,
    /// Half a cosine, to 0.
    Cosine,
    /// `(1 - done)^0.9`, as in nnU-Net.
    Poly,
}

/// The learning rates of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The largest learning rate.
    pub base: f64,
    pub decay: Decay,
    /// First steps, in which the rate rises evenly from 0.
    pub warmup_steps: u64,
    /// Steps of the whole training.
    pub steps: u64,
}

impl Schedule {
    pub const fn constant(base: f64) -> Self {
        Self { base, decay: Decay::Constant, warmup_steps: 0, steps: 1 }
    }

    /// Whether all steps have one rate.
    pub fn is_constant(&self) -> bool {
        self.decay == Decay::Constant && self.warmup_steps == 0
    }

    /// The learning rate of a step, which counts from 1.
    pub fn rate(&self, step: u64) -> f64 {
        if self.is_constant() {
            return self.base;
        }
        let rise = (step as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        // In the last step it is small, not 0.
        let done = ((step - 1) as f64 / self.steps.max(1) as f64).min(1.0);
        let fall = match self.decay {
            Decay::Constant => 1.0,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Decay::Poly => (1.0 - done).powf(0.9),
        };
        self.base * rise * fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup_steps: u64) -> Vec<f64> {
        let schedule = Schedule { base: 2.0, decay, warmup_steps, steps: 4 };
        (1..=4).map(|step| schedule.rate(step)).collect()
    }

    #[test]
    fn rates_rise_and_fall_by_their_formulas() {
        let close = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}, {expected:?}");
        };
        close(rates(Decay::Constant, 0), [2.0; 4]);
        close(rates(Decay::Constant, 4), [0.5, 1.0, 1.5, 2.0]);
        let root = std::f64::consts::FRAC_1_SQRT_2;
        close(rates(Decay::Cosine, 0), [2.0, 1.0 + root, 1.0, 1.0 - root]);
        close(rates(Decay::Cosine, 2), [1.0, 1.0 + root, 1.0, 1.0 - root]);
        close(rates(Decay::Poly, 0), [2.0, 2.0 * 0.75f64.powf(0.9), 2.0 * 0.5f64.powf(0.9), 2.0 * 0.25f64.powf(0.9)]);
        assert_eq!(Schedule::constant(0.3).rate(1000), 0.3);
    }
}
