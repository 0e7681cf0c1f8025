//! Images that occur more than once: a network that is scored on images it has trained on seems better than it is.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::samples::Samples;

/// A number that equal images share; `None` for an image of one value, of which there may be many.
pub type Fingerprint = Option<u64>;

/// Makes the fingerprint of an image from its samples, file by file.
pub struct Fingerprinter(DefaultHasher);

impl Fingerprinter {
    /// A beginning without samples, for an image of this height and width.
    pub fn new(size: [usize; 2]) -> Self {
        let mut hasher = DefaultHasher::new();
        size.into_iter().for_each(|side| hasher.write_usize(side));
        Self(hasher)
    }

    pub fn add(&mut self, samples: Samples<'_>) {
        match samples {
            Samples::U8(values) => self.0.write(values),
            Samples::U16(values) => values.iter().for_each(|&value| self.0.write_u16(value)),
            Samples::F32(values) => values.iter().for_each(|value| self.0.write_u32(value.to_bits())),
        }
    }

    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// Images that are among `known` too: the place of each, and the first place in `known` that has the same image.
/// Places are what the iterators say.
pub fn among(
    images: impl IntoIterator<Item = (usize, Fingerprint)>,
    known: impl IntoIterator<Item = (usize, Fingerprint)>,
) -> Vec<[usize; 2]> {
    let mut first = HashMap::new();
    for (place, print) in known {
        print.map(|print| *first.entry(print).or_insert(place));
    }
    let same = |(place, print): (usize, Fingerprint)| Some([place, *first.get(&print?)?]);
    images.into_iter().filter_map(same).collect()
}

/// Images of a set that an earlier one of the set equals: the place of each, and that of the first.
pub fn within(prints: &[Fingerprint]) -> Vec<[usize; 2]> {
    let all = || prints.iter().copied().enumerate();
    among(all(), all()).into_iter().filter(|[place, first]| place > first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(size: [usize; 2], samples: Samples<'_>) -> Fingerprint {
        let mut made = Fingerprinter::new(size);
        made.add(samples);
        Some(made.finish())
    }

    #[test]
    fn equal_images_alone_are_repeats() {
        let bytes: Vec<u8> = (0..24).collect();
        let mut other = bytes.clone();
        other[23] += 1;
        let prints = [
            print([4, 6], Samples::U8(&bytes)),
            print([4, 6], Samples::U8(&other)),
            // The same samples as an image of another size.
            print([6, 4], Samples::U8(&bytes)),
            None,
            print([4, 6], Samples::U8(&bytes)),
            None,
        ];
        assert_eq!(within(&prints), [[4, 0]]);
        assert_eq!(among([(7, prints[4]), (8, prints[1]), (9, None)], [(2, prints[0]), (5, prints[4])]), [[7, 2]]);
    }

    #[test]
    fn parts_of_an_image_make_it_up() {
        let mut parts = Fingerprinter::new([1, 4]);
        parts.add(Samples::U16(&[1, 2]));
        parts.add(Samples::U16(&[3, 4]));
        assert_eq!(Some(parts.finish()), print([1, 4], Samples::U16(&[1, 2, 3, 4])));
        assert_ne!(print([1, 2], Samples::F32(&[0.0, 1.0])), print([1, 2], Samples::F32(&[1.0, 0.0])));
    }
}
