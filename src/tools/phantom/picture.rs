//! The microscope's picture of a section of the tissue.

use ndarray::{Array2, Zip};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::field::Field;
use super::tissue::{SectionPoint, Tissue};

/// Half the width of a membrane.
const HALF_WIDTH: f32 = 2.5;
/// Cells of lower shade, a fourth of all, can be made light cells: they have few vesicles and no synapses.
pub const LIGHT_CELL_SHADE: f32 = -0.5;
/// What light cells gain, in grey values; it outweighs their shade.
const LIGHT_CELL_GAIN: f32 = 46.0;
/// Values of its random function from which there is a synapse: some, and many.
const SYNAPSES_FROM: f32 = 0.9;
const MANY_SYNAPSES_FROM: f32 = 0.6;
/// How far a vesicle reaches beyond its radius in the labels: half of its wall.
const VESICLE_WALL: f32 = 0.9;

/// What a picture shows more clearly than ISBI 2012 does.
#[derive(Debug, Clone, Copy)]
pub struct Emphasis {
    pub light_cells: bool,
    pub many_synapses: bool,
}

/// A picture, and what was drawn in it that the section does not tell. Each is `[size, size]`.
pub struct Picture {
    pub grey: Array2<u8>,
    pub vesicles: Array2<bool>,
    /// Dense stuff of synapses: 0 none to 1.
    pub density: Array2<f32>,
}

impl Tissue {
    /// Photographs the section at depth `z`. Levels, in grey values, are set so that without emphasis the mean and
    /// spread come near those of ISBI 2012: 138 and 40 inside cells, 85 and 33 on membranes.
    pub fn photograph(
        &self,
        z: f32,
        section: &Array2<SectionPoint>,
        emphasis: Emphasis,
        rng: &mut ChaCha8Rng,
    ) -> Picture {
        let mut texture = |step| Field::new(rng, 1, self.size, 1.0, step).plane(0.0, self.size);
        let (noise, granules, clouds, light) = (texture(1.3), texture(2.4), texture(6.0), texture(150.0));
        let slant = self.slant.plane(z, self.size);
        let synapses_from = if emphasis.many_synapses { MANY_SYNAPSES_FROM } else { SYNAPSES_FROM };
        let density = self.synapse_density(z, section, synapses_from);
        let mut image = Array2::from_shape_fn(section.dim(), |at| {
            let SectionPoint { cell, edge, inside, across } = section[at];
            let cytoplasm = 162.0 + 14.0 * self.shade[cell] + 10.0 * clouds[at] - 26.0 * (granules[at] - 0.8).max(0.0);
            let is_light = emphasis.light_cells && self.shade[cell] < LIGHT_CELL_SHADE;
            let cytoplasm = if is_light { cytoplasm + LIGHT_CELL_GAIN } else { cytoplasm };
            // A mitochondrion: dark wall, and folds across the inside.
            let wall = (1.0 - (inside - 1.8).abs() / 1.8).max(0.0);
            let phase = (across + 2.0 * clouds[at]) / 6.5;
            let fold = 2.0 * (phase - phase.floor() - 0.5).abs();
            let matrix = 94.0 + 45.0 * fold * fold - 32.0 * wall + 6.0 * granules[at];
            let body = cytoplasm + (matrix - cytoplasm) * inside.clamp(0.0, 1.0);
            let dense = density[at] * (80.0 + 32.0 * granules[at]) / (1.0 + edge * edge / 70.0);
            // A membrane that slants within the thickness of the section looks wide and faint.
            let blur = 1.2 + 2.0 * (slant[at] - 0.3).max(0.0);
            let overlap = (edge + blur).min(HALF_WIDTH) - (edge - blur).max(-HALF_WIDTH);
            (body - dense - 85.0 * overlap.max(0.0) / (2.0 * blur)).max(40.0)
        });
        let vesicles = self.add_vesicles(&mut image, section, rng);
        let (offset, gain) = (rng.random_range(-24.0..12.0), rng.random_range(0.9..1.2));
        let grey = Zip::from(&image).and(&noise).and(&light).map_collect(|grey, noise, light| {
            let grey = 128.0 + offset + gain * (grey - 128.0 + 17.0 * noise + 7.0 * light);
            grey.round().clamp(0.0, 255.0) as u8
        });
        Picture { grey, vesicles, density }
    }

    /// Dense, granular stuff on one side of a membrane; distance from the membrane is not in it.
    fn synapse_density(&self, z: f32, section: &Array2<SectionPoint>, from: f32) -> Array2<f32> {
        let synapse = self.synapse.plane(z, self.size);
        Zip::from(section).and(&synapse).map_collect(|place, synapse| {
            if self.shade[place.cell] > 0.0 { (synapse - from).clamp(0.0, 1.0) } else { 0.0 }
        })
    }

    /// Stamps small dark rings, filled or not, inside the cells; cells of light shade have more of them. The result
    /// tells where they are.
    fn add_vesicles(
        &self,
        image: &mut Array2<f32>,
        section: &Array2<SectionPoint>,
        rng: &mut ChaCha8Rng,
    ) -> Array2<bool> {
        let mut vesicles = Array2::from_elem(image.dim(), false);
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
                    vesicles[[y, x]] |= distance < radius + VESICLE_WALL;
                }
            }
        }
        vesicles
    }
}
