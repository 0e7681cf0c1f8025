//! Two pieces of tissue, for training and for testing, with their labels; in memory.

use ndarray::{Array3, Array4, Axis, s};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use super::classes::{self, LIGHT_CELL, SYNAPSE};
use super::picture::Emphasis;
use super::stains::stain;
use super::tissue::Tissue;

/// Three stacks in the ISBI 2012 layout.
///
/// Each is `[slices, size, size]` u8; labels are 0 on a membrane and 255 inside a cell.
pub struct Phantom {
    pub train_volume: Array3<u8>,
    pub train_labels: Array3<u8>,
    pub test_volume: Array3<u8>,
}

/// What of the tissue is shown and told apart.
#[derive(Debug, Clone, Copy)]
pub struct Variety {
    /// 2 to 6.
    pub classes: u8,
    /// 1 to 4.
    pub channels: usize,
}

/// A piece of tissue.
pub struct Piece {
    /// `[slices, size, size, channels]`.
    pub images: Array4<u8>,
    /// Class indices, `[slices, size, size]`.
    pub labels: Array3<u8>,
}

/// The phantom of grey slices and two classes; equal arguments give equal bytes.
pub fn generate(slices: usize, size: usize, seed: u64) -> Phantom {
    let [(train_volume, train_labels), (test_volume, _)] = stacks(slices, size, seed);
    Phantom { train_volume, train_labels, test_volume }
}

/// Volume and labels of both pieces.
fn stacks(slices: usize, size: usize, seed: u64) -> [(Array3<u8>, Array3<u8>); 2] {
    let variety = Variety { classes: 2, channels: 1 };
    pieces(slices, size, seed, variety)
        .map(|piece| (piece.images.index_axis_move(Axis(3), 0), stored_labels(piece.labels, variety.classes)))
}

/// Labels as files have them: 0 and 255 where there are two classes, else class indices.
pub fn stored_labels(labels: Array3<u8>, classes: u8) -> Array3<u8> {
    if classes == 2 { labels.mapv_into(|class| 255 * class) } else { labels }
}

/// Makes two independent pieces from one seed: for training and for testing.
pub fn pieces(slices: usize, size: usize, seed: u64, variety: Variety) -> [Piece; 2] {
    [0, 1].map(|stream| {
        // A generator for each channel: a channel does not depend on how many there are.
        let generator = |channel: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(2 * channel + stream);
            rng
        };
        piece(slices, size, variety.classes, (0..variety.channels as u64).map(generator).collect())
    })
}

/// Makes a piece with one channel for each generator, of which there is at least one.
fn piece(slices: usize, size: usize, classes: u8, mut rngs: Vec<ChaCha8Rng>) -> Piece {
    let tissue = Tissue::new(&mut rngs[0], slices, size);
    let emphasis = Emphasis { light_cells: classes > LIGHT_CELL, many_synapses: classes > SYNAPSE };
    let mut images = Array4::zeros((slices, size, size, rngs.len()));
    let mut labels = Array3::zeros((slices, size, size));
    for (z, (mut image, mut label)) in images.outer_iter_mut().zip(labels.outer_iter_mut()).enumerate() {
        let section = tissue.cut(z as f32);
        let picture = tissue.photograph(z as f32, &section, emphasis, &mut rngs[0]);
        label.assign(&classes::label(&tissue, &section, &picture, classes));
        image.slice_mut(s![.., .., 0]).assign(&picture.grey);
        for (channel, rng) in rngs.iter_mut().enumerate().skip(1) {
            image.slice_mut(s![.., .., channel]).assign(&stain(channel, &section, rng));
        }
    }
    Piece { images, labels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_bytes_and_other_seeds_differ() {
        let (first, again, other) = (stacks(3, 40, 7), stacks(3, 40, 7), stacks(3, 40, 8));
        assert_eq!(first, again);
        for (a, b) in first.iter().zip(&other) {
            assert!(a.0 != b.0 && a.1 != b.1);
        }
        assert!(first[0].0 != first[1].0 && first[0].1 != first[1].1);
    }

    #[test]
    fn seed_0_keeps_its_bytes() {
        // FNV-1a: published scores refer to these pictures, on any platform and version.
        let stacks = stacks(2, 48, 0);
        let bytes = stacks.iter().flat_map(|(volume, labels)| volume.iter().chain(labels));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(hash, 0xdbe2_7ba2_40f3_4d2c, "{hash:#x}");
    }

    #[test]
    fn any_size_gives_four_stacks_of_that_shape() {
        for (slices, size) in [(1, 16), (2, 17), (9, 64), (1, 200)] {
            for (volume, labels) in stacks(slices, size, 0) {
                assert_eq!((volume.dim(), labels.dim()), ((slices, size, size), (slices, size, size)));
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
    fn every_class_has_a_hundredth_of_the_pixels_and_a_grey_level_of_its_own() {
        for (classes, seed) in [(3, 0), (4, 1), (5, 2), (6, 0), (6, 1)] {
            let [train, test] = pieces(2, 256, seed, Variety { classes, channels: 1 });
            for piece in [train, test] {
                let grey = piece.images.index_axis_move(Axis(3), 0);
                let of_class = |class: u8| {
                    let pairs = grey.iter().zip(&piece.labels).filter(|&(_, &label)| label == class);
                    pairs.fold((0.0, 0.0), |(sum, count), (&grey, _)| (sum + f64::from(grey), count + 1.0))
                };
                assert!(piece.labels.iter().all(|&label| label < classes));
                let (cell_sum, cell_count) = of_class(classes::CELL);
                for class in 0..classes {
                    let (sum, count) = of_class(class);
                    let share = count / piece.labels.len() as f64;
                    assert!(share > 0.01, "class {class} of {classes}, seed {seed}: {share}");
                    let difference = sum / count - cell_sum / cell_count;
                    let visible = if class == LIGHT_CELL { difference > 15.0 } else { difference < -10.0 };
                    assert!(class == classes::CELL || visible, "class {class}, seed {seed}: {difference}");
                }
            }
        }
    }

    #[test]
    fn more_classes_keep_the_membranes_and_up_to_four_keep_the_picture() {
        let of = |classes| {
            let [piece, _] = pieces(1, 96, 3, Variety { classes, channels: 1 });
            (piece.images, piece.labels.mapv(|class| class == classes::MEMBRANE))
        };
        let (images, membranes) = of(2);
        for classes in 3..=6 {
            let (others, other_membranes) = of(classes);
            assert_eq!(other_membranes, membranes);
            assert_eq!(others == images, classes <= 4, "{classes} classes");
        }
    }

    #[test]
    fn a_channel_does_not_depend_on_how_many_there_are() {
        let of = |channels| pieces(2, 48, 5, Variety { classes: 2, channels });
        for (all, first) in of(4).iter().zip(&of(2)) {
            assert_eq!(all.images.slice(s![.., .., .., ..2]), first.images);
            assert_eq!(all.labels, first.labels);
        }
    }

    #[test]
    fn stains_are_bright_where_their_structure_is() {
        let [piece, _] = pieces(1, 256, 0, Variety { classes: 3, channels: 4 });
        let mean = |channel: usize, class: u8| {
            let stain = piece.images.slice(s![.., .., .., channel]);
            let pairs = stain.iter().zip(&piece.labels).filter(|&(_, &label)| label == class);
            let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), (&v, _)| (sum + f64::from(v), count + 1.0));
            sum / count
        };
        let [membrane, cell, mitochondrion] = [classes::MEMBRANE, classes::CELL, classes::MITOCHONDRION];
        assert!(mean(1, membrane) > mean(1, cell) + 60.0);
        assert!(mean(2, mitochondrion) > mean(2, cell) + 60.0 && mean(2, cell) > mean(2, membrane) + 10.0);
        // Corners of the gradient: dark at the first pixels, bright at the last ones.
        let corner = |from: usize| piece.images.slice(s![0, from..from + 32, from..from + 32, 3]).mapv(f64::from).sum();
        assert!(corner(224) > corner(0) + 60.0 * 32.0 * 32.0);
    }
}
