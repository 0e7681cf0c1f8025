//! A synthetic stack that looks like serial-section electron microscopy of neural tissue.
//!
//! Here: the tissue (cells that move and change shape with depth), the membrane labels and the
//! microscope's picture. Everything comes from random numbers on coarse lattices, made smooth by
//! cubic B-splines. Only `+ - * /`, rounding and `sqrt` are used, so a seed gives the same bytes on
//! every platform. Membrane width and share follow the ISBI 2012 stacks (Arganda-Carreras et al.
//! 2015, doi 10.3389/fnana.2015.00142); other shapes are set by eye. Not here: files and folds.
//!
//! Lengths are in pixels and do not grow with the picture; depth `z` is in sections.

use ndarray::{Array, Array2, Array3, Axis, RemoveAxis, Zip, indices_of, s};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Distance between seeds; cells come out wider, as some seeds share a cell and some vanish.
const PITCH: f32 = 36.0;
/// Lattice nodes beyond each side of the picture: a cell outside still reaches in.
const MARGIN: usize = 4;
/// Half the width of a membrane in the picture and in the labels, which are drawn a little wider.
const HALF_WIDTH: f32 = 2.5;
const LABEL_HALF_WIDTH: f32 = 2.7;
/// Distances to a membrane are measured up to here.
const REACH: usize = 16;

/// Three stacks in the ISBI 2012 layout, and the test labels, which the challenge keeps to itself.
///
/// Each is `[slices, size, size]` u8; labels are 0 on a membrane and 255 inside a cell.
pub struct Phantom {
    pub train_volume: Array3<u8>,
    pub train_labels: Array3<u8>,
    pub test_volume: Array3<u8>,
    pub test_labels: Array3<u8>,
}

/// Makes two independent pieces of tissue from one seed; equal arguments give equal bytes.
pub fn generate(slices: usize, size: usize, seed: u64) -> Phantom {
    let stack = |stream| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let tissue = Tissue::new(&mut rng, slices, size);
        let mut volume = Array3::zeros((slices, size, size));
        let mut labels = Array3::zeros((slices, size, size));
        for (z, (mut image, mut label)) in volume.outer_iter_mut().zip(labels.outer_iter_mut()).enumerate() {
            let section = tissue.cut(z as f32);
            image.assign(&tissue.photograph(z as f32, &section, &mut rng));
            label.assign(&section.map(|place| if place.edge < LABEL_HALF_WIDTH { 0 } else { 255 }));
        }
        (volume, labels)
    };
    let ((train_volume, train_labels), (test_volume, test_labels)) = (stack(0), stack(1));
    Phantom { train_volume, train_labels, test_volume, test_labels }
}

/// A smooth random function of (z, y, x) with mean 0 and standard deviation about 1.
struct Field {
    nodes: Array3<f32>,
    depth: f32,
    step: f32,
}

impl Field {
    /// Features are about `step` pixels wide and `depth` sections deep.
    fn new(rng: &mut ChaCha8Rng, slices: usize, size: usize, depth: f32, step: f32) -> Self {
        let width = (size as f32 / step) as usize + 2 * MARGIN;
        let shape = ((slices as f32 / depth) as usize + 4, width, width);
        // The spline over z halves this variance (2.5^2 / 3), which leaves 1.
        let nodes = Array3::from_shape_simple_fn(shape, || rng.random_range(-2.5..2.5));
        Field { nodes, depth, step }
    }

    /// The lattice at depth `z`: smooth in z only, one value per node.
    fn nodes_at(&self, z: f32) -> Array2<f32> {
        blend(&self.nodes, z / self.depth)
    }

    /// The function at depth `z` on `size` by `size` pixels.
    fn plane(&self, z: f32, size: usize) -> Array2<f32> {
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
struct SectionPoint {
    cell: usize,
    /// Distance to the middle of the nearest membrane, at most `REACH`.
    edge: f32,
    /// How deep inside a mitochondrion (negative: outside), and where across its long axis.
    inside: f32,
    across: f32,
}

/// The cells of a whole stack.
struct Tissue {
    size: usize,
    /// Per seed, changing with depth.
    shift: [Field; 2],
    radius: Field,
    mitochondrion: Field,
    /// Per seed, for the whole stack: first seed of its cell, grey level and tilt from -1 to 1.
    cell: Array2<usize>,
    shade: Vec<f32>,
    tilt: Vec<f32>,
    /// Per pixel: displacements on a large and a small scale, obliqueness of membranes, synapses.
    bend: [Field; 2],
    crinkle: [Field; 2],
    slant: Field,
    synapse: Field,
}

impl Tissue {
    fn new(rng: &mut ChaCha8Rng, slices: usize, size: usize) -> Self {
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
    fn cut(&self, z: f32) -> Array2<SectionPoint> {
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

    /// The grey picture of the section at depth `z`. Its levels, in grey values, are set so that the
    /// mean and spread come near those of ISBI 2012: 138 and 40 inside cells, 85 and 33 on membranes.
    fn photograph(&self, z: f32, section: &Array2<SectionPoint>, rng: &mut ChaCha8Rng) -> Array2<u8> {
        let mut texture = |step| Field::new(rng, 1, self.size, 1.0, step).plane(0.0, self.size);
        let (noise, granules, clouds, light) = (texture(1.3), texture(2.4), texture(6.0), texture(150.0));
        let (slant, synapse) = (self.slant.plane(z, self.size), self.synapse.plane(z, self.size));
        let mut image = Array2::from_shape_fn(section.dim(), |at| {
            let SectionPoint { cell, edge, inside, across } = section[at];
            let cytoplasm = 162.0 + 14.0 * self.shade[cell] + 10.0 * clouds[at] - 26.0 * (granules[at] - 0.8).max(0.0);
            // A mitochondrion: dark wall, and folds across the inside.
            let wall = (1.0 - (inside - 1.8).abs() / 1.8).max(0.0);
            let phase = (across + 2.0 * clouds[at]) / 6.5;
            let fold = 2.0 * (phase - phase.floor() - 0.5).abs();
            let matrix = 94.0 + 45.0 * fold * fold - 32.0 * wall + 6.0 * granules[at];
            let body = cytoplasm + (matrix - cytoplasm) * inside.clamp(0.0, 1.0);
            // A synapse: dense, granular stuff on one side of the membrane.
            let density = if self.shade[cell] > 0.0 { (synapse[at] - 0.9).clamp(0.0, 1.0) } else { 0.0 };
            let dense = density * (80.0 + 32.0 * granules[at]) / (1.0 + edge * edge / 70.0);
            // A membrane that slants within the thickness of the section looks wide and faint.
            let blur = 1.2 + 2.0 * (slant[at] - 0.3).max(0.0);
            let overlap = (edge + blur).min(HALF_WIDTH) - (edge - blur).max(-HALF_WIDTH);
            (body - dense - 85.0 * overlap.max(0.0) / (2.0 * blur)).max(40.0)
        });
        self.add_vesicles(&mut image, section, rng);
        let (offset, gain) = (rng.random_range(-24.0..12.0), rng.random_range(0.9..1.2));
        Zip::from(&image).and(&noise).and(&light).map_collect(|grey, noise, light| {
            let grey = 128.0 + offset + gain * (grey - 128.0 + 17.0 * noise + 7.0 * light);
            grey.round().clamp(0.0, 255.0) as u8
        })
    }

    /// Stamps small dark rings, filled or not, inside the cells; light cells have more of them.
    fn add_vesicles(&self, image: &mut Array2<f32>, section: &Array2<SectionPoint>, rng: &mut ChaCha8Rng) {
        for _ in 0..self.size * self.size / 110 {
            let (row, column) = (rng.random_range(0..self.size), rng.random_range(0..self.size));
            let radius: f32 = rng.random_range(1.5..5.0);
            let (darkness, filling) = (rng.random_range(30.0..75.0), rng.random_range(0.0..0.8));
            let place = &section[[row, column]];
            let wanted = self.shade[place.cell] > rng.random_range(-0.8..1.2);
            if !wanted || place.edge < radius + 3.5 || place.inside > -radius {
                continue;
            }
            let reach = radius as usize + 2;
            let window = |centre: usize| centre.saturating_sub(reach)..(centre + reach + 1).min(self.size);
            for y in window(row) {
                for x in window(column) {
                    let (dx, dy) = (x as f32 - column as f32, y as f32 - row as f32);
                    let distance = (dx * dx + dy * dy).sqrt();
                    let ring = (1.0 - (distance - radius).abs() / 1.8).max(0.0);
                    let inner = if distance < radius { filling } else { 0.0 };
                    image[[y, x]] -= darkness * ring.max(inner);
                }
            }
        }
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
    fn equal_seeds_give_equal_bytes_and_other_seeds_differ() {
        let stacks = |seed| {
            let p = generate(3, 40, seed);
            [p.train_volume, p.train_labels, p.test_volume, p.test_labels]
        };
        let (first, again, other) = (stacks(7), stacks(7), stacks(8));
        assert_eq!(first, again);
        for (a, b) in first.iter().zip(&other) {
            assert_ne!(a, b);
        }
        assert_ne!(first[0], first[2]);
        assert_ne!(first[1], first[3]);
    }

    #[test]
    fn seed_0_keeps_its_bytes() {
        // FNV-1a: published scores refer to these pictures, on any platform and version.
        let p = generate(2, 48, 0);
        let bytes = p.train_volume.iter().chain(&p.train_labels).chain(&p.test_volume).chain(&p.test_labels);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(hash, 0xdbe2_7ba2_40f3_4d2c, "{hash:#x}");
    }

    #[test]
    fn any_size_gives_four_stacks_of_that_shape() {
        for (slices, size) in [(1, 16), (2, 17), (9, 64), (1, 200)] {
            let p = generate(slices, size, 0);
            for stack in [p.train_volume, p.train_labels, p.test_volume, p.test_labels] {
                assert_eq!(stack.dim(), (slices, size, size));
            }
        }
    }

    #[test]
    fn labels_are_0_and_255_and_a_fifth_is_membrane() {
        for seed in 0..3 {
            let labels = generate(2, 192, seed).train_labels;
            assert!(labels.iter().all(|&v| v == 0 || v == 255));
            let membrane = labels.iter().filter(|&&v| v == 0).count() as f64 / labels.len() as f64;
            assert!((0.16..0.28).contains(&membrane), "seed {seed}: {membrane}");
        }
    }

    #[test]
    fn no_grey_threshold_finds_the_membranes() {
        let p = generate(2, 192, 0);
        let accuracy = |threshold: u8| {
            let pairs = p.train_volume.iter().zip(&p.train_labels);
            let right = pairs.filter(|&(&grey, &label)| (grey >= threshold) == (label == 255)).count();
            right as f64 / p.train_volume.len() as f64
        };
        let best = (0..=255).map(accuracy).fold(0.0, f64::max);
        // Grey must tell something (all inside gives about 0.78), but far from all.
        assert!((0.82..0.90).contains(&best), "{best}");
    }

    #[test]
    fn neighbouring_sections_agree_more_than_distant_ones() {
        let labels = generate(9, 192, 0).train_labels;
        // Share of pixels that keep their label over `lag` sections; 0.66 for unrelated ones.
        let kept = |lag: isize| {
            let pairs = labels.slice(s![..-lag, .., ..]);
            let equal = pairs.iter().zip(labels.slice(s![lag.., .., ..])).filter(|(a, b)| a == b).count();
            equal as f64 / pairs.len() as f64
        };
        let (near, mid, far) = (kept(1), kept(2), kept(7));
        assert!(near > mid + 0.04 && mid > far + 0.04, "{near} {mid} {far}");
    }

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
