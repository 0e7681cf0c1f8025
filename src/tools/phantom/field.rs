//! Smooth random functions: random numbers on coarse lattices, between which cubic B-splines go.
//!
//! Only `+ - * /`, rounding and `sqrt` are used, here and in all of the phantom, so that a seed gives the same bytes on
//! every platform.

use ndarray::{Array, Array2, Array3, Axis, RemoveAxis};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// Lattice nodes beyond each side of the picture: a cell outside still reaches in.
pub const MARGIN: usize = 4;

/// A smooth random function of (z, y, x) with mean 0 and standard deviation about 1.
pub struct Field {
    pub nodes: Array3<f32>,
    depth: f32,
    step: f32,
}

impl Field {
    /// Features are about `step` pixels wide and `depth` sections deep.
    pub fn new(rng: &mut ChaCha8Rng, slices: usize, size: usize, depth: f32, step: f32) -> Self {
        let width = (size as f32 / step) as usize + 2 * MARGIN;
        let shape = ((slices as f32 / depth) as usize + 4, width, width);
        // The spline over z halves this variance (2.5^2 / 3), which leaves 1.
        let nodes = Array3::from_shape_simple_fn(shape, || rng.random_range(-2.5..2.5));
        Field { nodes, depth, step }
    }

    /// The lattice at depth `z`: smooth in z only, one value per node.
    pub fn nodes_at(&self, z: f32) -> Array2<f32> {
        blend(&self.nodes, z / self.depth)
    }

    /// The function at depth `z` on `size` by `size` pixels.
    pub fn plane(&self, z: f32, size: usize) -> Array2<f32> {
        let stretch = |nodes: Array2<f32>| {
            let mut rows = Array2::zeros((size, nodes.ncols()));
            for (y, mut row) in rows.outer_iter_mut().enumerate() {
                row.assign(&blend(&nodes, y as f32 / self.step + MARGIN as f32 - 1.0));
            }
            // Transposed, so that the second call stretches the other axis.
            rows.t().as_standard_layout().into_owned()
        };
        // The splines over y and x halve the variance again.
        stretch(stretch(self.nodes_at(z) * 2.1))
    }
}

/// Cubic B-spline over the first axis of a lattice, around node `u + 1`.
fn blend<D: RemoveAxis>(nodes: &Array<f32, D>, u: f32) -> Array<f32, D::Smaller> {
    let t = u - u.floor();
    let s = 1.0 - t;
    let inner = |t: f32| (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0;
    let weights = [s * s * s / 6.0, inner(t), inner(s), t * t * t / 6.0];
    let mut sum = Array::zeros(nodes.raw_dim().remove_axis(Axis(0)));
    for (k, weight) in weights.into_iter().enumerate() {
        sum.scaled_add(weight, &nodes.index_axis(Axis(0), u as usize + k));
    }
    sum
}
