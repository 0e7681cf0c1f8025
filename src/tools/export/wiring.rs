//! The order of operations of a prediction, for formats that write it down. The network that computes is in
//! `model/unet.rs`.

use super::spec::Padding;
use crate::model::architecture::LEVELS;
use crate::model::sides::skip_margins;

/// A format's way to write one operation. Values have names; each function returns the name of its result.
pub trait Operations {
    /// Unpadded `size` x `size` convolution with the parameters at `path`.
    fn convolve(&mut self, path: &str, x: &str, size: i64) -> String;
    /// 3x3 transposed convolution with the parameters at `path` that doubles the sides.
    fn upsample(&mut self, path: &str, x: &str) -> String;
    fn relu(&mut self, x: &str) -> String;
    /// 2x2 max pooling.
    fn pool(&mut self, x: &str) -> String;
    /// `x` without `margin` pixels on each of the four sides.
    fn crop(&mut self, x: &str, margin: i64) -> String;
    /// The frame around `x`.
    fn pad(&mut self, x: &str, padding: Padding) -> String;
    /// `x` without its last `count` rows and columns.
    fn cut(&mut self, x: &str, count: i64) -> String;
    /// Channels of `x`, then of `skip`.
    fn join(&mut self, x: &str, skip: &str) -> String;
}

/// Writes the network from its input `images`, with its frame where it has one; the name of the logits.
pub fn write(operations: &mut impl Operations, images: &str, padding: Option<Padding>) -> String {
    let Some(padding) = padding else { return network(operations, images) };
    let framed = operations.pad(images, padding);
    let logits = network(operations, &framed);
    if padding.surplus() == 0 { logits } else { operations.cut(&logits, padding.surplus()) }
}

fn network(operations: &mut impl Operations, images: &str) -> String {
    let mut x = images.to_owned();
    let mut skips = Vec::with_capacity(LEVELS);
    for (level, margin) in skip_margins().into_iter().enumerate() {
        let block = convolve_twice(operations, &format!("encoder.{level}"), &x);
        skips.push(operations.crop(&block, margin));
        x = operations.pool(&block);
    }
    x = convolve_twice(operations, "bottleneck", &x);
    for (step, skip) in skips.iter().rev().enumerate() {
        let path = format!("decoder.{step}");
        let up = operations.upsample(&format!("{path}.up"), &x);
        let up = operations.relu(&up);
        let joined = operations.join(&up, skip);
        x = convolve_twice(operations, &path, &joined);
    }
    operations.convolve("head", &x, 1)
}

fn convolve_twice(operations: &mut impl Operations, path: &str, x: &str) -> String {
    let x = operations.convolve(&format!("{path}.conv1"), x, 3);
    let x = operations.relu(&x);
    let x = operations.convolve(&format!("{path}.conv2"), &x, 3);
    operations.relu(&x)
}
