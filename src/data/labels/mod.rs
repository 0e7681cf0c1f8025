//! What stored label values mean: each belongs to a class, or to none and is ignored.
//!
//! Not here: files and layouts. `map` is the map itself, `found` counts the values of label images.

pub mod found;
pub mod map;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use found::LabelValues;
pub use map::{LabelMap, Lookup};

/// The class index of pixels that enter neither loss nor scores.
pub const IGNORED: u8 = 255;

/// The names of the challenge's two classes: 0 is stored for a membrane, another value for the inside of a cell.
pub const CHALLENGE_CLASSES: [&str; 2] = ["membrane", "inside"];

/// The most classes that a label map may have.
pub const MOST_CLASSES: usize = 64;

/// A value as label images store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelValue {
    /// A whole number: of a grey image, or the index of a palette.
    Grey(u32),
    /// Red, green and blue of a colour image, 8 bits each.
    Colour([u8; 3]),
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grey(value) => write!(f, "{value}"),
            Self::Colour([red, green, blue]) => write!(f, "#{red:02x}{green:02x}{blue:02x}"),
        }
    }
}

impl FromStr for LabelValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let colour = |digits: &str| {
            let number = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 6)?;
            Some(Self::Colour([(number >> 16) as u8, (number >> 8) as u8, number as u8]))
        };
        let value = match text.strip_prefix('#') {
            Some(digits) => colour(digits),
            None => text.parse().ok().map(Self::Grey),
        };
        value.ok_or_else(|| format!("'{text}' is no label value: expected a whole number, or a colour such as #ff8000"))
    }
}

/// A number, or a string for a colour.
impl Serialize for LabelValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Grey(value) => serializer.serialize_u32(*value),
            Self::Colour(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for LabelValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Number(u32),
            Text(String),
        }
        match Stored::deserialize(deserializer)? {
            Stored::Number(value) => Ok(Self::Grey(value)),
            Stored::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}
