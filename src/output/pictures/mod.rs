//! Pictures that the program makes: a canvas of RGB pixels, text on it, and PNG.
//!
//! `curves.rs` draws learning curves (`loss_axis.rs` their axis), `confusion.rs` confusion matrices, `sheet/` contact
//! sheets of images, `samples.rs` training samples, `legend.rs` the classes of both. Lines and text are by `plotters`,
//! with a font that is part of the program: nothing is asked of the system. Not here: what is drawn when, and where it
//! is written.

use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub mod confusion;
pub mod curves;
mod legend;
mod loss_axis;
pub mod samples;
pub mod sheet;

/// Latin letters of DejaVu Sans.
static FONT: &[u8] = include_bytes!("DejaVuSans-Latin.ttf");
const FAMILY: &str = "sans-serif";

// Okabe and Ito's colours, which are told apart with any kind of colour vision.
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
pub const VERMILLION: RGBColor = RGBColor(213, 94, 0);
pub const INK: RGBColor = RGBColor(40, 40, 40);

/// An RGB picture, white at first.
#[derive(Debug, Clone, PartialEq)]
pub struct Canvas {
    pub width: u32,
    pub height: u32,
    /// Row after row, three bytes a pixel.
    pub rgb: Vec<u8>,
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        bring_font();
        Self { width, height, rgb: vec![255; 3 * width as usize * height as usize] }
    }

    /// What `plotters` draws on.
    pub fn area(&mut self) -> DrawingArea<BitMapBackend<'_>, Shift> {
        BitMapBackend::with_buffer(&mut self.rgb, (self.width, self.height)).into_drawing_area()
    }

    /// Writes `text` at (x, y), as `text_on` does.
    pub fn text(&mut self, text: &str, place: (i32, i32), size: u32, horizontal: HPos) -> Result<()> {
        text_on(&self.area(), text, place, size, horizontal)
    }

    /// Fills `size`, width and height, from (x, y) on; it must fit.
    pub fn fill(&mut self, (x, y): (u32, u32), size: (u32, u32), colour: RGBColor) {
        let rgb = [colour.0, colour.1, colour.2].repeat(size.0 as usize * size.1 as usize);
        self.paste(&Self { width: size.0, height: size.1, rgb }, (x, y));
    }

    /// Turned to the left, so that text reads upwards.
    pub fn turned(&self) -> Self {
        let mut turned = Self::new(self.height, self.width);
        let width = self.width as usize;
        for (index, pixel) in turned.rgb.chunks_exact_mut(3).enumerate() {
            let (y, x) = (index / self.height as usize, index % self.height as usize);
            pixel.copy_from_slice(&self.rgb[3 * (x * width + width - 1 - y)..][..3]);
        }
        turned
    }

    /// Puts `picture` with its upper left corner at (x, y); it must fit.
    pub fn paste(&mut self, picture: &Self, (x, y): (u32, u32)) {
        for (row, pixels) in picture.rgb.chunks_exact(3 * picture.width as usize).enumerate() {
            let start = 3 * ((y as usize + row) * self.width as usize + x as usize);
            self.rgb[start..start + pixels.len()].copy_from_slice(pixels);
        }
    }

    /// Smaller by a whole number of times: each pixel is the mean of a square.
    pub fn reduced(&self, times: u32) -> Self {
        let mut small = Self::new(self.width / times, self.height / times);
        let (width, times) = (self.width as usize, times as usize);
        for (index, sample) in small.rgb.iter_mut().enumerate() {
            let (pixel, colour) = (index / 3, index % 3);
            let (y, x) = (pixel / small.width as usize * times, pixel % small.width as usize * times);
            let square = (0..times * times).map(|i| (y + i / times) * width + x + i % times);
            let sum: usize = square.map(|place| usize::from(self.rgb[3 * place + colour])).sum();
            *sample = ((sum + times * times / 2) / (times * times)) as u8;
        }
        small
    }

    pub fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context("cannot make a PNG")?;
        writer.write_image_data(&self.rgb).context("cannot make a PNG")?;
        writer.finish().context("cannot make a PNG")?;
        Ok(bytes)
    }
}

/// The one font, `size` pixels from ascender to descender.
pub fn font(size: u32) -> FontDesc<'static> {
    (FAMILY, size).into_font()
}

/// Writes `text` with its capitals' middle at the height of (x, y); `size` is that of `font`.
fn text_on(
    area: &DrawingArea<BitMapBackend<'_>, Shift>,
    text: &str,
    place: (i32, i32),
    size: u32,
    horizontal: HPos,
) -> Result<()> {
    text_in(area, text, place, (size, INK), horizontal)
}

/// Writes text as `text_on` does, in a colour.
fn text_in(
    area: &DrawingArea<BitMapBackend<'_>, Shift>,
    text: &str,
    (x, y): (i32, i32),
    (size, colour): (u32, RGBColor),
    horizontal: HPos,
) -> Result<()> {
    // `plotters` sets text of this kind of font higher than it says.
    let lower = (0.216 * f64::from(size)).round() as i32;
    let style = font(size).color(&colour).pos(Pos::new(horizontal, VPos::Center));
    drawn(area.draw_text(text, &style, (x, y + lower)))
}

/// Makes the embedded font known to `plotters`, once.
fn bring_font() {
    static REGISTERED: Once = Once::new();
    // A font that does not parse would show at the first text.
    REGISTERED.call_once(|| drop(register_font(FAMILY, FontStyle::Normal, FONT)));
}

/// Width of a text in pixels.
fn text_width(text: &str, size: u32) -> Result<u32> {
    bring_font();
    Ok(drawn(font(size).box_size(text))?.0)
}

/// The text, cut with an ellipsis where it is wider than `width` pixels.
fn shortened(text: &str, size: u32, width: u32) -> Result<String> {
    if text_width(text, size)? <= width {
        return Ok(text.to_owned());
    }
    let mut start: Vec<char> = text.chars().collect();
    while start.pop().is_some() {
        let cut: String = start.iter().chain(['…'].iter()).collect();
        if text_width(&cut, size)? <= width {
            return Ok(cut);
        }
    }
    Ok(String::new())
}

/// `plotters`' errors borrow what was drawn on.
fn drawn<T>(result: Result<T, impl std::fmt::Display>) -> Result<T> {
    result.map_err(|error| anyhow!("cannot draw: {error}"))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Width, height and RGB pixels of a PNG.
    pub fn decode(bytes: &[u8]) -> Canvas {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        Canvas { width: info.width, height: info.height, rgb }
    }

    impl Canvas {
        pub fn pixel(&self, x: u32, y: u32) -> RGBColor {
            let start = 3 * (y as usize * self.width as usize + x as usize);
            RGBColor(self.rgb[start], self.rgb[start + 1], self.rgb[start + 2])
        }
    }

    /// The bounds of the pixels that are not white: left, top, right, bottom.
    fn ink(canvas: &Canvas) -> [u32; 4] {
        let mut ink = [u32::MAX, u32::MAX, 0, 0];
        for (x, y) in (0..canvas.height).flat_map(|y| (0..canvas.width).map(move |x| (x, y))) {
            if canvas.pixel(x, y) != WHITE {
                ink = [ink[0].min(x), ink[1].min(y), ink[2].max(x), ink[3].max(y)];
            }
        }
        ink
    }

    #[test]
    fn text_stands_at_its_anchor_and_wider_letters_take_more_room() {
        let draw = |text, horizontal| {
            let mut canvas = Canvas::new(200, 100);
            canvas.text(text, (100, 50), 24, horizontal).unwrap();
            ink(&decode(&canvas.png().unwrap()))
        };
        let [left, top, right, bottom] = draw("HHHH", HPos::Left);
        assert!((99..104).contains(&left) && (top + bottom).abs_diff(100) <= 2, "{left} {top} {bottom}");
        // DejaVu Sans: capitals are 0.729 em high, an H is 0.752 em wide, and ascender to descender are 1.164 em.
        let em = 24.0 / 1.164;
        assert!((f64::from(bottom - top + 1) - 0.729 * em).abs() < 2.0, "{top} {bottom}");
        assert!((f64::from(right - left + 1) - 4.0 * 0.752 * em).abs() < 6.0, "{left} {right}");
        let [left, _, right, _] = draw("HHHH", HPos::Center);
        assert!((left as i32 + right as i32 - 200).abs() < 6, "{left} {right}");
        let [left, _, right, _] = draw("HHHH", HPos::Right);
        assert!(left < 60 && right < 101, "{left} {right}");
        assert!(draw("iiii", HPos::Left)[2] < draw("HHHH", HPos::Left)[2]);
    }

    #[test]
    fn a_turned_picture_reads_upwards() {
        let mut canvas = Canvas::new(3, 2);
        canvas.fill((0, 1), (1, 1), BLUE);
        canvas.fill((2, 0), (1, 1), VERMILLION);
        let turned = canvas.turned();
        assert_eq!((turned.width, turned.height), (2, 3));
        // The lower left corner is now the lower right one, the upper right one the upper left one.
        assert_eq!([turned.pixel(1, 2), turned.pixel(0, 0), turned.pixel(0, 2)], [BLUE, VERMILLION, WHITE]);
    }

    #[test]
    fn long_text_is_cut_to_its_room() {
        Canvas::new(1, 1);
        let name = "a very long name of a class";
        assert_eq!(shortened("inside", 20, 200).unwrap(), "inside");
        let cut = shortened(name, 20, 100).unwrap();
        assert!(cut.ends_with('…') && name.starts_with(cut.trim_end_matches('…')), "{cut}");
        let (width, more) = (text_width(&cut, 20).unwrap(), text_width("m", 20).unwrap());
        assert!(width <= 100 && width + more > 100, "{cut}: {width}");
        assert_eq!(shortened(name, 20, 0).unwrap(), "");
    }
}
