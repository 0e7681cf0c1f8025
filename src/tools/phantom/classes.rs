//! The classes of the tissue: which one a pixel belongs to.

use ndarray::{Array2, Zip};

use super::picture::{LIGHT_CELL_SHADE, Picture};
use super::tissue::{SectionPoint, Tissue};

pub const MEMBRANE: u8 = 0;
/// Inside of cells, and all that has no class of its own.
pub const CELL: u8 = 1;
pub const MITOCHONDRION: u8 = 2;
pub const VESICLE: u8 = 3;
pub const LIGHT_CELL: u8 = 4;
pub const SYNAPSE: u8 = 5;

/// By class index.
pub const NAMES: [&str; 6] = ["membrane", "cell", "mitochondrion", "vesicle", "light_cell", "synapse"];

/// Half the width of a membrane, which is drawn a little wider than in the picture.
const MEMBRANE_HALF_WIDTH: f32 = 2.7;
/// Density, fading with the distance from the membrane, above which a synapse is seen.
const SYNAPSE_DENSITY: f32 = 0.25;

/// The class indices of a section, `[size, size]`, all below `classes`.
pub fn label(tissue: &Tissue, section: &Array2<SectionPoint>, picture: &Picture, classes: u8) -> Array2<u8> {
    let class = |place: &SectionPoint, &vesicle: &bool, &density: &f32| {
        let SectionPoint { cell, edge, inside, .. } = *place;
        // What is drawn over something else comes first.
        let found = [
            (edge < MEMBRANE_HALF_WIDTH, MEMBRANE),
            (inside > 0.0, MITOCHONDRION),
            (vesicle, VESICLE),
            (density / (1.0 + edge * edge / 70.0) > SYNAPSE_DENSITY, SYNAPSE),
            (tissue.shade[cell] < LIGHT_CELL_SHADE, LIGHT_CELL),
        ];
        found.into_iter().find(|&(is_here, class)| is_here && class < classes).map_or(CELL, |(_, class)| class)
    };
    Zip::from(section).and(&picture.vesicles).and(&picture.density).map_collect(class)
}
