//! What training attends to more than to the rest, found once for each slice from its labels: the background between
//! objects, and the rarer classes.
//!
//! Shapes: H, W pixels.

use std::sync::Arc;

use rand::{Rng, RngExt};
use tch::{Device, Tensor};

use super::border_weights::BorderTerm;
use super::labels::IGNORED;

/// Pixels of each rarer class that are remembered of a slice.
const MOST_PLACES: usize = 1024;

/// What is looked for in the labels of a slice; by default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EmphasisOptions {
    pub border: Option<BorderTerm>,
    /// The class whose pixels are not looked up, while those of all others are.
    pub usual_class: Option<u8>,
}

/// What was found in the labels of a slice; by default nothing.
#[derive(Debug, Default)]
pub struct Emphasis {
    /// What is added to the class weight of each pixel in the cross entropy, `[H, W]` f32.
    pub weights: Option<Tensor>,
    pub rare_pixels: Option<Arc<RarePixels>>,
}

impl EmphasisOptions {
    /// What `classes` hold, class indices `[H, W]` u8 on the host.
    pub fn find(self, classes: &Tensor) -> Emphasis {
        if self == Self::default() {
            return Emphasis::default();
        }
        let mut values = vec![0u8; classes.numel()];
        classes.contiguous().copy_data(&mut values, classes.numel());
        let (size, width) = (classes.size(), classes.size()[1] as usize);
        let weights = self.border.map(|term| Tensor::from_slice(&term.map(&values, width)).view(size.as_slice()));
        let rare_pixels = self.usual_class.map(|usual| Arc::new(RarePixels::of(&values, width, usual)));
        Emphasis { weights, rare_pixels }
    }
}

impl Emphasis {
    pub fn to_device(&self, device: Device) -> Self {
        let weights = self.weights.as_ref().map(|weights| weights.to_device(device));
        Self { weights, rare_pixels: self.rare_pixels.clone() }
    }
}

/// Row and column of pixels of each class that a slice has, but for the usual one and ignored pixels. Of a class with
/// more than 1,024 pixels there are so many, evenly spread over them in the order of the rows.
#[derive(Debug, PartialEq)]
pub struct RarePixels(Vec<Vec<[u32; 2]>>);

impl RarePixels {
    /// `classes` are class indices, `[H, W]`.
    pub fn of(classes: &[u8], width: usize, usual: u8) -> Self {
        let mut counts = [0usize; 256];
        classes.iter().for_each(|&class| counts[usize::from(class)] += 1);
        [usual, IGNORED].iter().for_each(|&class| counts[usize::from(class)] = 0);
        let mut seen = [0; 256];
        let mut places = vec![Vec::new(); 256];
        for (pixel, class) in classes.iter().map(|&class| usize::from(class)).enumerate() {
            let (count, places) = (counts[class], &mut places[class]);
            let wanted = count.min(MOST_PLACES);
            // The middle of the next of `wanted` equal parts.
            if places.len() < wanted && seen[class] == (2 * places.len() + 1) * count / (2 * wanted) {
                places.push([pixel / width, pixel % width].map(|place| place as u32));
            }
            seen[class] += 1;
        }
        places.retain(|places| !places.is_empty());
        Self(places)
    }

    /// Row and column of a random pixel of a random class; `None` where the slice has no rarer class.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<[i64; 2]> {
        if self.0.is_empty() {
            return None;
        }
        let places = &self.0[rng.random_range(0..self.0.len())];
        Some(places[rng.random_range(0..places.len())].map(i64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::layout::Layout;
    use crate::data::random::{Purpose, stream};
    use crate::data::slices::{ReadOptions, SliceSet};
    use crate::data::values::GreyChoice;
    use crate::tools::phantom;

    #[test]
    fn rare_pixels_are_of_each_class_but_the_usual_and_spread_over_all_of_it() {
        // Class 1 is a pixel, class 2 a half, class 7 a row; some pixels are ignored.
        let (height, width) = (100, 90);
        let mut classes = vec![0u8; height * width];
        classes[50 * width..].fill(2);
        classes[10 * width..11 * width].fill(7);
        classes[20 * width + 5] = 1;
        classes[30 * width..31 * width].fill(IGNORED);
        let rare = RarePixels::of(&classes, width, 0);
        assert_eq!(rare.0.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1024, 90]);
        for (places, class) in rare.0.iter().zip([1, 2, 7]) {
            assert!(places.iter().all(|&[row, column]| classes[row as usize * width + column as usize] == class));
            assert!(places.is_sorted() && places.windows(2).all(|pair| pair[0] != pair[1]));
        }
        assert_eq!(rare.0[0], [[20, 5]]);
        // Each fourth or fifth of 4,500 pixels, from the first row to the last.
        let numbers: Vec<u32> = rare.0[1].iter().map(|[row, column]| row * width as u32 + column).collect();
        assert!(numbers.windows(2).all(|pair| [4, 5].contains(&(pair[1] - pair[0]))));
        assert_eq!((numbers[0], numbers[1023]), (4502, 8997));

        let mut rng = stream(3, Purpose::RareClass, 0);
        let mut drawn = [0; 256];
        for _ in 0..3000 {
            let [row, column] = rare.draw(&mut rng).unwrap();
            drawn[usize::from(classes[row as usize * width + column as usize])] += 1;
        }
        assert!([1, 2, 7].iter().all(|&class| (900..1100).contains(&drawn[class])), "{drawn:?}");
        assert_eq!(RarePixels::of(&[0, 255, 0, 0], 2, 0).draw(&mut rng), None);
    }

    /// Kept in memory or decoded when needed, by a thread of its own or not: the same, and for the chosen slices alone.
    #[test]
    fn slices_have_the_same_emphasis_in_memory_and_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let args = crate::cli::PhantomArgs {
            out: folder.path().to_owned(),
            layout: crate::cli::PhantomLayout::Folders,
            classes: 3,
            channels: 1,
            slices: 5,
            size: 64,
            seed: 0,
            overwrite: false,
        };
        phantom::phantom(&args).unwrap();
        let border = BorderTerm { weight: 10.0, sigma: 5.0 };
        let [kept, decoded] = [u64::MAX, 0].map(|budget| {
            let options = ReadOptions {
                device: Device::Cpu,
                budget,
                with_weights: true,
                map: None,
                trained: None,
                grey: GreyChoice::Auto,
                by_image: false,
                progress: &|_, _| {},
            };
            let mut slices = SliceSet::training(&Layout::find(folder.path()).unwrap(), &options).unwrap();
            slices.emphasise(&[4, 0, 2], Some(border), true);
            slices
        });
        assert!(kept.is_in_memory() && !decoded.is_in_memory());
        let usual = (0..3).max_by_key(|&class| kept.class_pixels[class]).unwrap() as u8;
        decoded.expect([0, 2]);
        for index in 0..5 {
            let [kept, decoded] = [&kept, &decoded].map(|slices| slices.get(index).unwrap());
            let classes = Vec::<u8>::try_from(kept.classes.as_ref().unwrap().reshape([-1])).unwrap();
            assert_eq!(kept.emphasis.weights, decoded.emphasis.weights);
            assert_eq!(kept.emphasis.rare_pixels, decoded.emphasis.rare_pixels);
            let (weights, rare) = (&kept.emphasis.weights, &kept.emphasis.rare_pixels);
            assert_eq!((weights.is_some(), rare.is_some()), ([0, 2, 4].contains(&index), [0, 2, 4].contains(&index)));
            if let (Some(weights), Some(rare)) = (weights, rare) {
                let expected = Tensor::from_slice(&border.map(&classes, 64)).view([64, 64]);
                assert!(*weights == expected && weights.max().double_value(&[]) > 0.1);
                assert_eq!(**rare, RarePixels::of(&classes, 64, usual));
            }
        }
    }
}
