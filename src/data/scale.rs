//! How large objects are in images: a network knows them at the size that they had in its training.

use serde::{Deserialize, Serialize};

/// Objects that are so many times as large or as small as in training are told.
const MOST: f64 = 1.25;

/// The size of images and of their pixels, where all images of a set agree.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Scale {
    /// Height and width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Height and width of a pixel in nm, as the files tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_nm: Option<[f64; 2]>,
}

impl Scale {
    /// The scale of images with these sizes in pixels, and of pixels of these sizes in nm where their files tell them.
    pub fn of(images: impl IntoIterator<Item = ([usize; 2], Option<[f64; 2]>)>) -> Self {
        let mut images = images.into_iter();
        let Some((size, pixel_nm)) = images.next() else { return Self::default() };
        let first = Self { size: Some(size), pixel_nm };
        images.fold(first, |all, (size, pixel_nm)| Self {
            size: all.size.filter(|known| *known == size),
            pixel_nm: all.pixel_nm.filter(|known| Some(*known) == pixel_nm),
        })
    }

    /// A warning of images in which objects have another size to the network than in its training, which is `self`;
    /// `None` where they have not, or where the files do not tell. `resizes`: whether the network sees all images
    /// resized to one size.
    pub fn compare(&self, images: &Self, resizes: bool) -> Option<String> {
        let pixels = self.pixel_nm.zip(images.pixel_nm);
        let sizes = self.size.zip(images.size).filter(|_| resizes);
        if resizes && sizes.is_none() {
            return None;
        }
        let factor = |axis: usize| {
            let of_pixels = pixels.map(|(trained, own)| trained[axis] / own[axis]);
            match sizes {
                Some((trained, own)) => Some(trained[axis] as f64 / own[axis] as f64 * of_pixels.unwrap_or(1.0)),
                None => of_pixels,
            }
        };
        let [height, width] = [factor(0)?, factor(1)?];
        let far = |factor: f64| factor.ln().abs();
        let factor = if far(height) > far(width) { height } else { width };
        if far(factor) <= MOST.ln() {
            return None;
        }
        let of_size = sizes
            .map(|(trained, own)| format!("images of {}, in training {}, resized to one size", by(own), by(trained)));
        let of_pixel =
            pixels.map(|(trained, own)| format!("pixels of {} nm, in training {}", sides(own), sides(trained)));
        let told: Vec<String> = of_size.into_iter().chain(of_pixel).collect();
        let advice = if resizes {
            "cut or resample them to the size of training, or train with --recipe native"
        } else {
            "resample them to the pixel size of training"
        };
        let told = told.join("; ");
        Some(format!("objects are {factor:.2} times as large to the network as in its training ({told}); {advice}"))
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// Height and width.
fn by([height, width]: [usize; 2]) -> String {
    format!("{height}x{width}")
}

/// Height and width of a pixel.
fn sides([height, width]: [f64; 2]) -> String {
    format!("{height:.4} x {width:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(side: usize, nm: Option<f64>) -> Scale {
        Scale::of([([side, side], nm.map(|nm| [nm, nm]))])
    }

    #[test]
    fn what_images_do_not_agree_on_is_not_known() {
        let same = ([4, 6], Some([2.0, 3.0]));
        assert_eq!(Scale::of([same, same]), Scale { size: Some([4, 6]), pixel_nm: Some([2.0, 3.0]) });
        assert_eq!(Scale::of([same, ([4, 5], None)]), Scale::default());
        assert!(Scale::of([]).is_unknown());
    }

    #[test]
    fn objects_of_another_size_are_told() {
        let found = |trained: Scale, own: Scale, resizes| trained.compare(&own, resizes).unwrap_or_default();
        // Pixels twice as wide show objects half as large. The size of the image does not matter to windows.
        let told = found(scale(512, Some(4.0)), scale(1024, Some(8.0)), false);
        assert!(told.contains("0.50 times") && told.contains("8.0000 x 8.0000 nm"), "{told}");
        // The reference recipe shrinks the larger image more.
        let told = found(scale(512, None), scale(1024, None), true);
        assert!(told.contains("0.50 times") && told.contains("1024x1024, in training 512x512"), "{told}");
        let told = found(scale(512, Some(4.0)), scale(1024, Some(8.0)), true);
        assert!(told.contains("0.25 times"), "{told}");
        // A larger image of smaller pixels shows the same.
        assert_eq!(found(scale(512, Some(4.0)), scale(1024, Some(2.0)), true), "");
        assert_eq!(found(scale(512, Some(4.0)), scale(1024, Some(4.5)), false), "");
        for (trained, own) in [(scale(512, None), scale(1024, Some(8.0))), (scale(512, Some(4.0)), scale(100, None))] {
            assert_eq!(found(trained, own, false), "");
        }
        assert_eq!(found(Scale::default(), scale(1024, None), true), "");
    }
}
