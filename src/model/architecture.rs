//! What fixes the shapes of the network. The network itself is in `unet`.

use anyhow::{Result, bail};

/// Times that the contracting path halves the image.
pub const LEVELS: usize = 4;

/// Filters, channels and classes that a file may ask for.
const SUPPORTED: std::ops::RangeInclusive<i64> = 1..=1024;

/// What fixes the shape of every parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Architecture {
    /// Filters of the first level; level i has `base_filters * 2^i`.
    pub base_filters: i64,
    pub channels: i64,
    pub classes: i64,
}

impl Architecture {
    /// The reference's network: for grey slices and the two classes of their labels.
    pub fn for_slices(base_filters: i64) -> Self {
        Self { base_filters, channels: 1, classes: 2 }
    }

    /// Errors: sizes that no network of ours has, as only a foreign or damaged file says them.
    pub fn check(self) -> Result<()> {
        let Self { base_filters, channels, classes } = self;
        if [base_filters, channels, classes].iter().any(|size| !SUPPORTED.contains(size)) {
            bail!("{self:?} is outside the supported range of 1 to {} each", SUPPORTED.end());
        }
        Ok(())
    }
}
