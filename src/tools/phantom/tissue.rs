//! Synthetic neural tissue: cells that move and change shape with depth.
//!
//! Membrane width and share follow the ISBI 2012 stacks (Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142);
//! other shapes are set by eye. Not here: pictures of it, and labels.
//!
//! Lengths are in pixels and do not grow with the picture; depth `z` is in sections.

use ndarray::{Array2, Axis, RemoveAxis, Zip, indices_of, s};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::field::{Field, MARGIN};

/// Distance between seeds; cells come out wider, as some seeds share a cell and some vanish.
const PITCH: f32 = 36.0;
/// Distances to a membrane are measured up to here.
const REACH: usize = 16;

/// A disc around which a cell grows, at one depth.
struct Seed {
    x: f32,
    y: f32,
    radius: f32,
    /// Number of the first seed of the cell that this seed belongs to.
    cell: usize,
    /// Half the short axis of the mitochondrion around the seed, if positive.
    mitochondrion: f32,
}

/// What lies under one pixel of a section.
pub struct SectionPoint {
    pub cell: usize,
    /// Distance to the middle of the nearest membrane, at most `REACH`.
    pub edge: f32,
    /// How deep inside a mitochondrion (negative: outside), and where across its long axis.
    pub inside: f32,
    pub across: f32,
}

/// The cells of a whole stack.
pub struct Tissue {
    pub size: usize,
    /// Per seed, changing with depth.
    shift: [Field; 2],
    radius: Field,
    mitochondrion: Field,
    /// Per seed, for the whole stack: first seed of its cell, grey level and tilt from -1 to 1.
    cell: Array2<usize>,
    pub shade: Vec<f32>,
    tilt: Vec<f32>,
    /// Per pixel: displacements on a large and a small scale, obliqueness of membranes, synapses.
    bend: [Field; 2],
    crinkle: [Field; 2],
    pub slant: Field,
    pub synapse: Field,
}

impl Tissue {
    pub fn new(rng: &mut ChaCha8Rng, slices: usize, size: usize) -> Self {
        let mut field = |depth, step| Field::new(rng, slices, size, depth, step);
        let shift = [field(7.0, PITCH), field(7.0, PITCH)];
        let (radius, mitochondrion) = (field(9.0, PITCH), field(5.0, PITCH));
        let bend = [field(12.0, 60.0), field(12.0, 60.0)];
        let crinkle = [field(2.0, 9.0), field(2.0, 9.0)];
        let (slant, synapse) = (field(2.0, 22.0), field(3.0, 18.0));
        let mut cell = Array2::zeros(radius.nodes.raw_dim().remove_axis(Axis(0)));
        for (row, column) in indices_of(&cell) {
            // One in four seeds join a neighbour: cells of many sizes, not all convex.
            cell[[row, column]] = match rng.random_range(0..8) {
                0 if row > 0 => cell[[row - 1, column]],
                1 if column > 0 => cell[[row, column - 1]],
                _ => row * cell.ncols() + column,
            };
        }
        let mut level = || cell.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        let (shade, tilt) = (level(), level());
        Tissue { size, shift, radius, mitochondrion, cell, shade, tilt, bend, crinkle, slant, synapse }
    }

    /// Cuts the tissue at depth `z`: `[size, size]`.
    pub fn cut(&self, z: f32) -> Array2<SectionPoint> {
        let seeds = self.seeds(z);
        let plane = |field: &Field| field.plane(z, self.size);
        let [bend_x, bend_y] = self.bend.each_ref().map(plane);
        let [crinkle_x, crinkle_y] = self.crinkle.each_ref().map(plane);
        // Cells grow in undistorted tissue; this is where in it each pixel comes from.
        let source = Array2::from_shape_fn((self.size, self.size), |at| {
            let x = at.1 as f32 + 14.0 * bend_x[at] + 1.2 * crinkle_x[at];
            let y = at.0 as f32 + 14.0 * bend_y[at] + 1.2 * crinkle_y[at];
            (x, y)
        });
        let cell = source.map(|&(x, y)| nearest_cell(&seeds, x, y));
        let edge = distance_to_border(&cell);
        let seeds: Vec<Seed> = seeds.into_iter().collect();
        Zip::from(&source).and(&cell).and(&edge).map_collect(|&(x, y), &cell, &edge| {
            let (seed, tilt) = (&seeds[cell], self.tilt[cell]);
            let (dx, dy) = (x - seed.x, y - seed.y);
            // The long axis points at twice the angle whose tangent is the tilt.
            let norm = 1.0 + tilt * tilt;
            let (ux, uy) = ((1.0 - tilt * tilt) / norm, 2.0 * tilt / norm);
            let (along, across) = (dx * ux + dy * uy, dy * ux - dx * uy);
            let ellipse = seed.mitochondrion - (0.45 * along * along + across * across).sqrt();
            SectionPoint { cell, edge, inside: ellipse.min(edge - 5.5), across }
        })
    }

    /// All seeds at depth `z`.
    fn seeds(&self, z: f32) -> Array2<Seed> {
        let [x, y] = self.shift.each_ref().map(|field| field.nodes_at(z) * (0.3 * PITCH));
        let radius = self.radius.nodes_at(z);
        let mitochondrion = self.mitochondrion.nodes_at(z);
        Array2::from_shape_fn(self.cell.dim(), |at| Seed {
            x: (at.1 as f32 - MARGIN as f32) * PITCH + x[at],
            y: (at.0 as f32 - MARGIN as f32) * PITCH + y[at],
            // The second term makes a few cells much larger than the rest.
            radius: 9.0 * radius[at] + 14.0 * (radius[at] - 0.5).max(0.0),
            cell: self.cell[at],
            mitochondrion: (8.0 * radius[at] + 10.0 * mitochondrion[at] - 6.0).min(14.0),
        })
    }
}

/// The cell of the disc nearest to (x, y); large discs push their border away, so cells are round.
fn nearest_cell(seeds: &Array2<Seed>, x: f32, y: f32) -> usize {
    // A larger window than five by five seeds changes about 5 pixels in a million.
    let first = |coordinate: f32, count: usize| {
        ((coordinate / PITCH).round() + MARGIN as f32 - 2.0).clamp(0.0, count as f32 - 5.0) as usize
    };
    let (row, column) = (first(y, seeds.nrows()), first(x, seeds.ncols()));
    let mut nearest = (f32::MAX, 0);
    for seed in seeds.slice(s![row..row + 5, column..column + 5]) {
        let (dx, dy) = (x - seed.x, y - seed.y);
        let distance = (dx * dx + dy * dy).sqrt() - seed.radius;
        if distance < nearest.0 {
            nearest = (distance, seed.cell);
        }
    }
    nearest.1
}

/// Distance from each pixel to the nearest one where two cells meet, at most `REACH`.
fn distance_to_border(cell: &Array2<usize>) -> Array2<f32> {
    const FAR: f32 = (REACH * REACH) as f32;
    let mut squared = Array2::from_elem(cell.dim(), FAR);
    for (at, &own) in cell.indexed_iter() {
        let differs = |at| cell.get(at).is_some_and(|&other| other != own);
        if differs((at.0 + 1, at.1)) || differs((at.0, at.1 + 1)) {
            squared[at] = 0.0;
        }
    }
    // By Pythagoras, one axis after the other.
    for axis in [Axis(0), Axis(1)] {
        for mut lane in squared.lanes_mut(axis) {
            let mut padded = vec![FAR; lane.len() + 2 * REACH];
            padded[REACH..].iter_mut().zip(&lane).for_each(|(to, from)| *to = *from);
            let mut nearest = vec![FAR; lane.len()];
            for k in 0..=2 * REACH {
                let offset = k as f32 - REACH as f32;
                let there = padded[k..].iter().map(|squared| squared + offset * offset);
                nearest.iter_mut().zip(there).for_each(|(best, found)| *best = best.min(found));
            }
            lane.iter_mut().zip(nearest).for_each(|(to, from)| *to = from);
        }
    }
    squared.mapv_into(f32::sqrt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_to_border_equals_a_search_over_all_pixels() {
        let cell = Array2::from_shape_fn((23, 31), |(y, x)| usize::from(y * 3 + x > 40) + 2 * usize::from(y > 19));
        let differs = |at: (usize, usize), next| cell.get(next).is_some_and(|other| *other != cell[at]);
        let mut border: Vec<_> = indices_of(&cell).into_iter().collect();
        border.retain(|&(y, x)| differs((y, x), (y + 1, x)) || differs((y, x), (y, x + 1)));
        for ((y, x), &found) in distance_to_border(&cell).indexed_iter() {
            let away = |&(v, u): &(usize, usize)| (y.abs_diff(v) as f32).hypot(x.abs_diff(u) as f32);
            let expected = border.iter().map(away).fold(REACH as f32, f32::min);
            assert!((found - expected).abs() < 1e-4, "({y}, {x}): got {found}, expected {expected}");
        }
    }
}
