//! Pictures as data URIs: previews of images as JPEG, classes as PNG whose background is transparent.

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use jpeg_encoder::{ColorType, Encoder};

use crate::data::labels::IGNORED;
use crate::output::pictures::Canvas;

/// Red, green, blue and opacity of pixels that are ignored.
const IGNORED_COLOUR: [u8; 4] = [150, 150, 150, 160];

/// A canvas as a JPEG; of a grey one only its first channel. `quality` is on libjpeg's scale, 1 to 100.
pub fn preview(canvas: &Canvas, is_grey: bool, quality: u8) -> Result<String> {
    let grey: Vec<u8> = if is_grey { canvas.rgb.iter().step_by(3).copied().collect() } else { Vec::new() };
    let (samples, kind) = if is_grey { (&grey, ColorType::Luma) } else { (&canvas.rgb, ColorType::Rgb) };
    let [width, height] = [canvas.width, canvas.height].map(u16::try_from);
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, quality).encode(samples, width?, height?, kind).context("cannot make a JPEG")?;
    Ok(data_uri("image/jpeg", &bytes))
}

/// Classes `[H, W]` as an indexed PNG; a class without colour is transparent. `colours` are those of the classes, in
/// their order; [`IGNORED`] is grey.
pub fn classes(classes: &[u8], [height, width]: [usize; 2], colours: &[Option<[u8; 3]>]) -> Result<String> {
    let of_class = |colour: &Option<[u8; 3]>| colour.map_or([0; 4], |[red, green, blue]| [red, green, blue, 255]);
    let entries: Vec<[u8; 4]> = colours.iter().map(of_class).chain([IGNORED_COLOUR]).collect();
    let ignored = colours.len() as u8;
    let indices: Vec<u8> =
        classes.iter().map(|&class| if class == IGNORED { ignored } else { class.min(ignored) }).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    // Indices are no levels: differences of neighbours, which the default filters make, compress worse.
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.set_palette(entries.iter().flat_map(|entry| entry[..3].to_vec()).collect::<Vec<u8>>());
    encoder.set_trns(entries.iter().map(|entry| entry[3]).collect::<Vec<u8>>());
    let mut writer = encoder.write_header().context("cannot make a PNG")?;
    writer.write_image_data(&indices).context("cannot make a PNG")?;
    writer.finish().context("cannot make a PNG")?;
    Ok(data_uri("image/png", &bytes))
}

fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", Base64::encode_string(bytes))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use zune_core::bytestream::ZCursor;
    use zune_core::colorspace::ColorSpace;
    use zune_core::options::DecoderOptions;
    use zune_jpeg::JpegDecoder;

    /// The bytes of a data URI.
    pub fn decoded(uri: &str) -> Vec<u8> {
        let (_, text) = uri.split_once(";base64,").unwrap();
        Base64::decode_vec(text).unwrap()
    }

    #[test]
    fn classes_have_their_colours_and_the_first_is_transparent() {
        let colours = [None, Some([1, 2, 3]), Some([4, 5, 6])];
        let uri = classes(&[0, 1, 2, IGNORED, 1, 0], [2, 3], &colours).unwrap();
        assert!(uri.starts_with("data:image/png;base64,"), "{uri}");
        let bytes = decoded(&uri);
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&bytes[..]));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut rgba = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgba).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (3, 2, png::ColorType::Rgba));
        let (none, first, second) = ([0; 4], [1, 2, 3, 255], [4, 5, 6, 255]);
        assert_eq!(rgba, [none, first, second, IGNORED_COLOUR, first, none].concat());
    }

    /// Read by another decoder: a ramp of other levels in each channel, the first of which is that of a grey picture.
    #[test]
    fn previews_are_jpeg_of_one_channel_or_of_three() {
        let (width, height) = (45, 30);
        let mut canvas = Canvas::new(width, height);
        let ramp = |at: usize| (at % width as usize, at / width as usize);
        canvas.rgb = (0..(width * height) as usize)
            .flat_map(|at| [20 + 4 * ramp(at).0, 120 + 4 * ramp(at).1, 220].map(|level| level as u8))
            .collect();
        for (is_grey, colour) in [(true, ColorSpace::Luma), (false, ColorSpace::RGB)] {
            let bytes = decoded(&preview(&canvas, is_grey, 85).unwrap());
            let options = DecoderOptions::default().jpeg_set_out_colorspace(colour);
            let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
            let found = decoder.decode().unwrap();
            let components = decoder.info().unwrap().components;
            assert_eq!((components, decoder.dimensions()), (if is_grey { 1 } else { 3 }, Some((45, 30))));
            let expected: Vec<u8> = canvas.rgb.iter().step_by(if is_grey { 3 } else { 1 }).copied().collect();
            assert_eq!(found.len(), expected.len());
            let largest = found.iter().zip(&expected).map(|(left, right)| left.abs_diff(*right)).max();
            assert!(largest <= Some(12), "{largest:?}");
        }
    }
}
