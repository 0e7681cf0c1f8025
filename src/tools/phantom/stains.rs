//! Further channels: other stains of the same section. Channel 0 is the microscope's picture.

use ndarray::{Array2, Zip};
use rand::rngs::ChaCha8Rng;

use super::field::Field;
use super::tissue::SectionPoint;

/// By channel.
pub const NAMES: [&str; 4] = ["electron_microscopy", "membrane_stain", "mitochondrion_stain", "gradient"];

/// One channel of a section, 1 to 3: bright membranes; bright mitochondria in dim cells; a gradient that tells nothing.
pub fn stain(channel: usize, section: &Array2<SectionPoint>, rng: &mut ChaCha8Rng) -> Array2<u8> {
    let size = section.nrows();
    let mut texture = |step| Field::new(rng, 1, size, 1.0, step).plane(0.0, size);
    let (noise, light) = (texture(1.3), texture(150.0));
    let grey = Array2::from_shape_fn(section.dim(), |at| {
        let SectionPoint { edge, inside, .. } = section[at];
        match channel {
            1 => 45.0 + 150.0 * (1.5 - edge / 3.0).clamp(0.0, 1.0),
            2 => {
                let cytoplasm = 30.0 + 45.0 * (edge / 8.0).min(1.0);
                cytoplasm + (195.0 - cytoplasm) * inside.clamp(0.0, 1.0)
            }
            _ => 50.0 + 75.0 * (at.0 + at.1) as f32 / size as f32,
        }
    });
    Zip::from(&grey).and(&noise).and(&light).map_collect(|grey, noise, light| {
        let grey = grey + 14.0 * noise + 6.0 * light;
        grey.round().clamp(0.0, 255.0) as u8
    })
}
