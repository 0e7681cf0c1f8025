//! The slices that a report shows: taken up while a run computes them, kept as encoded previews, bounded in number and
//! bytes whatever the number of slices.
//!
//! Shapes: C channels, H, W pixels.

use anyhow::Result;
use plotters::style::RGBColor;
use serde::Serialize;
use tch::{Kind, Tensor};

use super::picture;
use crate::data::values::GreyRange;
use crate::output::pictures::sheet::tile::{self, Tile};
use crate::output::pictures::sheet::{LABEL, PREDICTION};

/// Slices that are kept at most.
const MOST_SLICES: usize = 64;
/// Characters of the previews of all kept slices. Two sets with what else a report holds are less than 15 MB.
const MOST_BYTES: usize = 6_800_000;
/// Slices that fit whatever they show; fewer may each take a larger part.
const SURE_SLICES: usize = 30;
/// Longest side of a preview in pixels; it is halved where the slice is too large at the lowest quality.
const LONGEST: i64 = 1024;
/// Qualities of JPEG on libjpeg's scale, of which the first that fits is taken. At 85 an eye finds no artefact at twice
/// the size; at 60 noise becomes smoother, and edges stay.
const QUALITIES: [u8; 3] = [85, 75, 60];
/// Slices of the lowest Dice that are kept wherever they are.
const WORST: usize = 16;

/// A slice that was computed, for the viewer.
pub struct Shown<'a> {
    pub caption: String,
    /// Dice of its mask; `None` where it has no labels, or none of a class.
    pub dice: Option<f64>,
    /// The stored samples, `[C, H, W]`: three channels are shown in colour, of other numbers the first in grey.
    pub image: &'a Tensor,
    /// The stored values that are shown black and white.
    pub range: GreyRange,
    /// What the layer of probabilities shows, `[H, W]` f32.
    pub probability: &'a Tensor,
    /// Class indices, `[H, W]` u8.
    pub mask: &'a Tensor,
    /// Class indices of the labels, `[H, W]` u8, [`IGNORED`](crate::data::labels::IGNORED) among them.
    pub labels: Option<&'a Tensor>,
}

/// A set of slices as the report's page takes it.
#[derive(Debug, Serialize)]
pub struct Viewer {
    title: String,
    /// What the layer of probabilities shows.
    probability: String,
    classes: Vec<ClassColours>,
    slices: Vec<Slice>,
}

/// A class that is shown, with the colours of its pixels as CSS has them.
#[derive(Debug, Serialize)]
struct ClassColours {
    name: String,
    mask: String,
    label: String,
}

/// Pictures are data URIs.
#[derive(Debug, Serialize)]
struct Slice {
    caption: String,
    dice: Option<f64>,
    /// Height and width.
    size: [i64; 2],
    /// Height and width of the previews.
    shown: [i64; 2],
    image: String,
    probability: String,
    mask: String,
    label: Option<String>,
}

impl Slice {
    fn bytes(&self) -> usize {
        [&self.image, &self.probability, &self.mask].map(String::len).iter().sum::<usize>()
            + self.label.as_ref().map_or(0, String::len)
    }
}

/// Takes slices up as they are computed. It keeps those at whole multiples of a stride, which it doubles whenever there
/// are too many, and the worst ones. Previews cost as much as a small network's prediction, so that the stride begins
/// with what the expected number of slices asks for.
pub struct Recorder {
    names: Vec<String>,
    /// `None` where nothing is recorded, as on other ranks than 0.
    stride: Option<usize>,
    kept: Vec<(usize, Slice)>,
    /// Characters that a slice may take.
    most_slice_bytes: usize,
}

impl Recorder {
    /// `names` are those of the classes; `count` slices are expected, and more may come. A recorder that is not active
    /// takes nothing.
    pub fn new(names: Vec<String>, count: usize, is_active: bool) -> Self {
        let most_slice_bytes = MOST_BYTES / count.clamp(1, SURE_SLICES);
        let stride = count.div_ceil(MOST_SLICES).max(1);
        Self { names, stride: is_active.then_some(stride), kept: Vec::new(), most_slice_bytes }
    }

    /// Whether the slice with this number and Dice would be kept. Numbers count the slices of a set.
    pub fn wants(&self, number: usize, dice: Option<f64>) -> bool {
        let is_worse = |(_, slice): &&(usize, Slice)| slice.dice <= dice && slice.dice.is_some();
        let is_among_worst = || dice.is_some() && self.kept.iter().filter(is_worse).count() < WORST;
        self.stride.is_some_and(|stride| number.is_multiple_of(stride) || is_among_worst())
    }

    /// Takes a slice that [`Self::wants`] wants.
    pub fn add(&mut self, number: usize, shown: Shown<'_>) -> Result<()> {
        let mut longest = LONGEST;
        let slice = loop {
            let slice = self.encode(&shown, longest)?;
            if slice.bytes() <= self.most_slice_bytes || longest <= 16 {
                break slice;
            }
            longest = slice.shown[0].max(slice.shown[1]) / 2;
        };
        self.kept.push((number, slice));
        self.thin();
        Ok(())
    }

    fn thin(&mut self) {
        let Some(stride) = &mut self.stride else { return };
        let is_too_much = |kept: &[(usize, Slice)]| {
            kept.len() > MOST_SLICES || kept.iter().map(|(_, slice)| slice.bytes()).sum::<usize>() > MOST_BYTES
        };
        while is_too_much(&self.kept) && *stride < usize::MAX / 2 {
            *stride *= 2;
            let mut scores: Vec<(f64, usize)> =
                self.kept.iter().filter_map(|(number, slice)| Some((slice.dice?, *number))).collect();
            scores.sort_by(|left, right| left.0.total_cmp(&right.0));
            let worst: Vec<usize> = scores.into_iter().take(WORST).map(|(_, number)| number).collect();
            self.kept.retain(|(number, _)| number.is_multiple_of(*stride) || worst.contains(number));
        }
    }

    /// The viewer of what was kept, of `all` slices that `what` names; `None` where that is nothing.
    pub fn finish(mut self, what: &str, all: usize) -> Option<Viewer> {
        self.kept.sort_by_key(|(number, _)| *number);
        let (names, colours) = (&self.names, self.colours());
        let coloured = names.iter().zip(&colours).filter_map(|(name, [mask, label])| {
            let css = |[red, green, blue]: [u8; 3]| format!("#{red:02x}{green:02x}{blue:02x}");
            Some(ClassColours { name: name.clone(), mask: css((*mask)?), label: css((*label)?) })
        });
        let probability = match &names[..] {
            [_, second] => format!("probability of {second}"),
            _ => "probability of the predicted class".to_owned(),
        };
        let title = format!("{what}: {} of {all} slices", self.kept.len());
        let classes = coloured.collect();
        let slices: Vec<Slice> = self.kept.into_iter().map(|(_, slice)| slice).collect();
        (!slices.is_empty()).then_some(Viewer { title, probability, classes, slices })
    }

    /// The colours of each class in masks and in labels: one for both, or of two classes those of the contact sheets.
    fn colours(&self) -> Vec<[Option<[u8; 3]>; 2]> {
        let rgb = |RGBColor(red, green, blue): RGBColor| [red, green, blue];
        if self.names.len() == 2 {
            return vec![[None; 2], [Some(rgb(PREDICTION)), Some(rgb(LABEL))]];
        }
        (0..self.names.len()).map(|class| [tile::colour(class as u8).map(rgb); 2]).collect()
    }

    /// Encodes a slice with at most `longest` pixels a side, at the highest quality that fits, else at the lowest.
    fn encode(&self, shown: &Shown<'_>, longest: i64) -> Result<Slice> {
        let [channels, height, width] = [0, 1, 2].map(|dimension| shown.image.size()[dimension]);
        let long = height.max(width);
        let fitted = |side: i64| if long > longest { (side * longest / long).max(1) } else { side };
        let size = [height, width].map(fitted);
        let is_grey = channels != 3;
        let seen = if is_grey { shown.image.narrow(0, 0, 1) } else { shown.image.shallow_clone() };
        let GreyRange { black, white } = shown.range;
        let image = Tile::new(&((seen.to_kind(Kind::Float) - black) / (white - black)), size).canvas();
        let probability = Tile::new(&shown.probability.to_kind(Kind::Float).unsqueeze(0), size).canvas();
        let colours = self.colours();
        let layer = |classes: &Tensor, part: usize| {
            let own: Vec<Option<[u8; 3]>> = colours.iter().map(|colours| colours[part]).collect();
            picture::classes(&tile::nearest(classes, size), size.map(|side| side as usize), &own)
        };
        let mut slice = Slice {
            caption: shown.caption.clone(),
            dice: shown.dice,
            size: [height, width],
            shown: size,
            image: String::new(),
            probability: String::new(),
            mask: layer(shown.mask, 0)?,
            label: shown.labels.map(|labels| layer(labels, 1)).transpose()?,
        };
        for quality in QUALITIES {
            slice.image = picture::preview(&image, is_grey, quality)?;
            slice.probability = picture::preview(&probability, true, quality)?;
            if slice.bytes() <= self.most_slice_bytes {
                break;
            }
        }
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const RANGE: GreyRange = GreyRange { black: 0.0, white: 255.0 };

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    /// An image and a probability of noise, the worst that an encoder can meet.
    fn noise(channels: i64, side: i64) -> [Tensor; 2] {
        let image = Tensor::randint(256, [channels, side, side], (Kind::Uint8, Device::Cpu));
        [image, Tensor::rand([side, side], (Kind::Float, Device::Cpu))]
    }

    fn add(recorder: &mut Recorder, number: usize, dice: Option<f64>, [image, probability]: &[Tensor; 2]) {
        let mask = probability.gt(0.5).to_kind(Kind::Uint8);
        let labels = dice.map(|_| mask.shallow_clone());
        let caption = format!("slice {number}");
        let labels = labels.as_ref();
        let shown = Shown { caption, dice, image, range: RANGE, probability, mask: &mask, labels };
        recorder.add(number, shown).unwrap();
    }

    fn numbers(recorder: &Recorder) -> Vec<usize> {
        let mut numbers: Vec<usize> = recorder.kept.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn thirty_slices_are_all_kept_in_their_part_of_15_megabytes_even_of_noise() {
        for channels in [1, 3] {
            let mut recorder = Recorder::new(names(2), 30, true);
            let noise = noise(channels, 512);
            (0..30).for_each(|number| add(&mut recorder, number, Some(0.5), &noise));
            let viewer = recorder.finish("stack.tif", 30).unwrap();
            assert_eq!((viewer.slices.len(), viewer.title.as_str()), (30, "stack.tif: 30 of 30 slices"));
            let bytes = serde_json::to_string(&viewer).unwrap().len();
            assert!(bytes < 7_000_000, "{bytes}");
            let slice = &viewer.slices[0];
            assert!(slice.shown[0] < 512 && slice.size == [512, 512], "{:?}", slice.shown);
        }
    }

    #[test]
    fn usual_slices_are_shown_at_their_own_size() {
        let smooth = Tensor::arange(512, (Kind::Float, Device::Cpu)).unsqueeze(0).repeat([512, 1]) / 2.0;
        let image = (&smooth + Tensor::randn([512, 512], (Kind::Float, Device::Cpu)) * 10.0).clamp(0, 255);
        let mut recorder = Recorder::new(names(2), 30, true);
        add(&mut recorder, 0, Some(1.0), &[image.unsqueeze(0), smooth / 256.0]);
        assert_eq!(recorder.kept[0].1.shown, [512, 512]);
        let black = Tensor::zeros([1, 1500, 1500], (Kind::Uint8, Device::Cpu));
        add(&mut recorder, 1, None, &[black.shallow_clone(), black.get(0)]);
        assert_eq!((recorder.kept[1].1.shown, recorder.kept[1].1.size), ([1024, 1024], [1500, 1500]));
        assert!(recorder.kept[1].1.label.is_none());
    }

    /// Noise like that of electron microscopy in the image, and some in the probability.
    #[test]
    fn thirty_slices_of_512_pixels_that_are_not_mere_noise_keep_their_size() {
        let smooth = Tensor::arange(512, (Kind::Float, Device::Cpu)).unsqueeze(0).repeat([512, 1]) / 512.0;
        let noisy = || {
            let noise = Tensor::randn([512, 512], (Kind::Float, Device::Cpu)) * 0.08;
            (&smooth + noise).clamp(0.0, 1.0)
        };
        let slice = [(noisy() * 255.0).unsqueeze(0), noisy()];
        let mut recorder = Recorder::new(names(2), 30, true);
        (0..30).for_each(|number| add(&mut recorder, number, Some(0.5), &slice));
        let viewer = recorder.finish("stack.tif", 30).unwrap();
        assert_eq!(viewer.slices.len(), 30);
        assert!(viewer.slices.iter().all(|slice| slice.shown == [512, 512]), "{:?}", viewer.slices[0].shown);
    }

    #[test]
    fn few_slices_share_the_whole_part_and_are_shown_large_even_of_noise() {
        let bytes = |count: usize| {
            let mut recorder = Recorder::new(names(2), count, true);
            let noise = noise(1, 1024);
            (0..count).for_each(|number| add(&mut recorder, number, Some(0.5), &noise));
            let viewer = recorder.finish("stack.tif", count).unwrap();
            assert_eq!((viewer.slices.len(), viewer.slices[0].shown), (count, [1024, 1024]));
            serde_json::to_string(&viewer).unwrap().len()
        };
        let (one, three) = (bytes(1), bytes(3));
        assert!(one < 7_000_000 && three < 7_000_000 && three > 2 * one, "{one} {three}");
    }

    #[test]
    fn of_many_slices_evenly_spread_ones_and_the_worst_are_kept() {
        let mut recorder = Recorder::new(names(2), 1000, true);
        let noise = noise(1, 16);
        // 10 bad ones, at numbers that are no multiples of 2.
        let dice = |number: usize| if number % 100 == 37 { 0.1 } else { 0.9 + number as f64 * 1e-6 };
        for number in 0..1000 {
            let dice = Some(dice(number));
            if recorder.wants(number, dice) {
                add(&mut recorder, number, dice, &noise);
            }
            assert!(recorder.kept.len() <= MOST_SLICES);
        }
        let kept = numbers(&recorder);
        let stride = recorder.stride.unwrap();
        assert!(stride <= 32, "{stride}");
        assert!((0..1000).step_by(stride).all(|number| kept.contains(&number)), "{kept:?}");
        assert!((37..1000).step_by(100).all(|number| kept.contains(&number)), "{kept:?}");
        let last = recorder.finish("images", 1000).unwrap();
        assert!(last.slices.windows(2).all(|pair| pair[0].caption != pair[1].caption));
    }

    #[test]
    fn one_that_is_not_active_wants_nothing() {
        let recorder = Recorder::new(names(3), 1, false);
        assert!(!recorder.wants(0, Some(0.0)));
        assert!(recorder.finish("", 0).is_none());
    }

    #[test]
    fn classes_have_the_colours_of_the_contact_sheets() {
        let viewer = |count: usize| {
            let mut recorder = Recorder::new(names(count), 1, true);
            add(&mut recorder, 0, Some(0.5), &noise(1, 16));
            serde_json::to_value(recorder.finish("a", 1).unwrap()).unwrap()
        };
        let expected = serde_json::json!([{"name": "class 1", "mask": "#ff9600", "label": "#00beff"}]);
        assert_eq!(viewer(2)["classes"], expected);
        assert_eq!(viewer(2)["probability"], "probability of class 1");
        let three = viewer(3);
        assert_eq!(three["classes"][1]["mask"], three["classes"][1]["label"]);
        assert_eq!(three["classes"][0]["mask"], "#e69f00");
        assert_eq!(three["classes"].as_array().unwrap().len(), 2);
    }
}
