//! About how much memory the network takes, to tell those whose machine has less.

use super::architecture::Architecture;
use super::shapes::Layer;

/// Of the program with libtorch, in bytes.
const PROGRAM: u64 = 400 << 20;

impl Architecture {
    /// About the bytes that a step on `images` images of `side` x `side` takes, with activations of `element` bytes.
    ///
    /// The shares were fitted to what the CPU takes (docs/BENCHMARKS.md): a training step has all activations, their
    /// gradients and what its convolutions need in between, about 1.7 times the activations; a prediction frees most of them, and
    /// has 0.7 times. A parameter takes 16 bytes in training (weight, gradient, two moments), else 8.
    pub fn memory(&self, images: u64, side: i64, element: u64, training: bool) -> u64 {
        let (share, per_parameter) = if training { (17, 16) } else { (7, 8) };
        let activations = self.layers(side, side).iter().map(Layer::elements_out).sum::<u64>() * element * images;
        PROGRAM + activations * share / 10 + self.parameters() * per_parameter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peaks of `--benchmark` on the CPU, in GiB.
    #[test]
    fn the_estimate_is_near_what_was_measured() {
        let architecture = Architecture { base_filters: 64, channels: 1, classes: 2 };
        for (images, element, training, measured) in [
            (1, 4, true, 1.80),
            (2, 4, true, 2.70),
            (4, 4, true, 4.56),
            (1, 4, false, 0.95),
            (2, 4, false, 1.33),
            (4, 4, false, 2.08),
            (1, 2, true, 1.42),
            (2, 2, true, 1.82),
            (4, 2, false, 1.28),
        ] {
            let estimate = architecture.memory(images, 572, element, training) as f64 / f64::from(1 << 30);
            assert!((estimate / measured - 1.0).abs() < 0.2, "{images} images: {estimate} GiB, measured {measured}");
        }
    }
}
