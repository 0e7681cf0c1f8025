//! What both kinds of scores need to know of a stack in a file.

use std::path::Path;

use anyhow::{Context, Result};

use crate::data::tiff::StackReader;

/// A size for people.
pub fn words([pages, height, width]: [usize; 3]) -> String {
    format!("{pages} pages of {height}x{width}")
}

/// Room for a byte for each pixel of a stack.
pub fn reserved<T>(stack: &StackReader, path: &Path) -> Result<Vec<T>> {
    let (pixels, mut values) = (stack.size().iter().product(), Vec::new());
    values
        .try_reserve_exact(pixels)
        .with_context(|| format!("cannot keep '{}' in memory: {pixels} bytes; split the stack", path.display()))?;
    Ok(values)
}
