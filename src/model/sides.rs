//! The arithmetic of the network's sides: which inputs fit, and what the unpadded convolutions take off (paper, figure
//! 1).

use thiserror::Error;

use super::architecture::LEVELS;

/// A side for which the network's arithmetic does not work out.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "an input side of {side} pixels does not fit the network: {reason}; the next sides that fit are {below} and {above}"
)]
pub struct SideError {
    side: i64,
    reason: String,
    below: String,
    above: i64,
}

/// The output side for an input side, in pixels: 388 for 572.
///
/// Errors: sides that a pooling step would not halve evenly, or that leave no output.
pub fn output_side(side: i64) -> Result<i64, SideError> {
    try_output_side(side).map_err(|reason| {
        let fits = |side: &i64| try_output_side(*side).is_ok();
        SideError {
            side,
            reason,
            below: (1..side).rev().find(fits).map_or_else(|| "none".to_owned(), |side| side.to_string()),
            // Sides that fit are 16 apart, from 188 on.
            above: (side.max(0) + 1..).find(fits).unwrap_or(i64::MAX),
        }
    })
}

/// Pixels that two unpadded 3x3 convolutions take off.
const BORDER: i64 = 4;

fn try_output_side(side: i64) -> Result<i64, String> {
    let mut size = bottleneck_side(side)?;
    for _ in 0..LEVELS {
        size = 2 * size - BORDER;
    }
    if size <= 0 { Err("no output pixel is left".to_owned()) } else { Ok(size) }
}

/// The side of the bottleneck's output for an input side.
fn bottleneck_side(side: i64) -> Result<i64, String> {
    let mut size = side;
    for level in 0..LEVELS {
        size -= BORDER;
        if size <= 0 || size % 2 != 0 {
            return Err(format!("{size} pixels are left to halve at level {level}"));
        }
        size /= 2;
    }
    Ok(size - BORDER)
}

/// The side of the crop that each level's skip connection carries. `side` is one that `output_side` accepts.
pub fn skip_sides(side: i64) -> [i64; LEVELS] {
    let mut sides = [0; LEVELS];
    let mut size = bottleneck_side(side).unwrap_or_default();
    for skip in sides.iter_mut().rev() {
        *skip = 2 * size;
        size = *skip - BORDER;
    }
    sides
}

/// Pixels that each level's skip connection loses on each side, whatever the input's side: 88, 40, 16 and 4.
pub fn skip_margins() -> [i64; LEVELS] {
    let mut margins = [0; LEVELS];
    let mut lost = BORDER / 2;
    for margin in margins.iter_mut().rev() {
        *margin = 2 * lost;
        // By the blocks on the way down and up, half of their border each.
        lost = *margin + BORDER;
    }
    margins
}

/// The smallest input side that fits, and how far apart those are that do.
pub fn fitting_sides() -> (i64, i64) {
    let smallest = (1..).find(|&side| output_side(side).is_ok()).unwrap_or(i64::MAX);
    (smallest, 1 << LEVELS)
}

/// The first of the sides `smallest`, `smallest + step` and so on that is at least `least`.
pub fn first_side(least: i64, (smallest, step): (i64, i64)) -> i64 {
    smallest + ((least - smallest).max(0) as u64).next_multiple_of(step as u64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::preprocessing::{INPUT_SIDE, OUTPUT_SIDE};

    /// The crops of an exported network are written with these numbers alone.
    #[test]
    fn sides_that_fit_are_evenly_apart_and_lose_the_same_margins() {
        let (smallest, step) = fitting_sides();
        assert_eq!((smallest, step), (188, 16));
        assert_eq!([1, 188, 189, 204, 205].map(|least| first_side(least, (188, 16))), [188, 188, 204, 204, 220]);
        for side in 1..2000 {
            let fits = side >= smallest && side % step == smallest % step;
            assert_eq!(output_side(side).is_ok(), fits, "{side}");
            if fits {
                let mut size = side;
                for (skip, margin) in skip_sides(side).into_iter().zip(skip_margins()) {
                    size -= BORDER;
                    assert_eq!(size - skip, 2 * margin, "{side}");
                    size /= 2;
                }
            }
        }
    }

    /// From the paper's figure 1, level by level.
    #[test]
    fn sides_follow_the_paper() {
        assert_eq!(output_side(INPUT_SIDE), Ok(OUTPUT_SIDE));
        assert_eq!(output_side(572 + 16), Ok(388 + 16));
        assert_eq!(output_side(188), Ok(4));
    }

    #[test]
    fn sides_that_do_not_fit_are_refused_with_the_next_that_do() {
        let message = output_side(512).unwrap_err().to_string();
        assert!(message.contains("512") && message.contains("508") && message.contains("524"), "{message}");
        let message = output_side(100).unwrap_err().to_string();
        assert!(message.contains("none") && message.contains("188"), "{message}");
        assert!(output_side(0).is_err() && output_side(-5).is_err());
    }
}
