//! The picture of a package: its test image, and beside it what the network makes of it.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::test_images::TestImages;
use crate::output::pictures::Canvas;
use crate::output::pictures::sheet::tile::{self, Tile};
use crate::tools::export::spec::ExportSpec;

/// Side of each half in pixels: the zoo asks for pictures twice as wide as high, below 500 kB.
const SIDE: i64 = 400;

/// A PNG. Of two classes it shows the probability of the second, of more their colours over the image.
pub fn cover(test: &TestImages, spec: &ExportSpec) -> Result<Vec<u8>> {
    let output = test.output.get(0);
    let side = output.size()[1].min(output.size()[2]);
    let margin = spec.lost() / 2;
    let image = test.input.get(0).narrow(1, margin, side).narrow(2, margin, side);
    let image = (image - spec.range.black) / (spec.range.white - spec.range.black);
    let image = if image.size()[0] == 3 { image } else { image.narrow(0, 0, 1) };
    let output = output.narrow(1, 0, side).narrow(2, 0, side);
    let image = Tile::new(&image, [SIDE; 2]);
    let result = if output.size()[0] == 2 { second(&output, spec).canvas() } else { coloured(&image, &output) };
    let mut picture = Canvas::new(2 * SIDE as u32, SIDE as u32);
    picture.paste(&image.canvas(), (0, 0));
    picture.paste(&result, (SIDE as u32, 0));
    picture.png()
}

/// Probability of the second of two classes.
fn second(output: &Tensor, spec: &ExportSpec) -> Tile {
    let probabilities = if spec.softmax { output.shallow_clone() } else { output.softmax(0, Kind::Float) };
    Tile::new(&probabilities.narrow(0, 1, 1), [SIDE; 2])
}

/// The largest class of each pixel as a colour over the image in grey.
fn coloured(image: &Tile, output: &Tensor) -> Canvas {
    let mut canvas = image.grey().canvas();
    tile::paint(&mut canvas, &tile::nearest(&output.argmax(0, false).to_kind(Kind::Uint8), [SIDE; 2]));
    canvas
}
