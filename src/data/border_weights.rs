//! Weights that make a network learn the narrow background between objects (Ronneberger et al. 2015, eq. 2).
//!
//! Objects are the 4-connected components of pixels of one class, of every class but the one with index 0: of two
//! classes those of the second. Ignored pixels belong to no object.
//!
//! Shapes: H, W pixels, row after row. Distances are Euclidean, in pixels, between pixel centres.

use super::labels::IGNORED;

/// Deviations up to which the sum of both distances counts: beyond, the term is less than 2e-8 of its weight.
const REACH: f64 = 6.0;
/// The largest reach in pixels, whose square twice fits into 32 bits.
const LONGEST_REACH: f64 = 40_000.0;

/// The term that is added to the weight of a pixel outside all objects: `weight exp(-(d1 + d2)^2 / (2 sigma^2))`, where
/// `d1` and `d2` are the distances to the nearest and to the second nearest object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BorderTerm {
    pub weight: f64,
    /// In pixels.
    pub sigma: f64,
}

impl BorderTerm {
    /// The term of each pixel for class indices `classes`, both `[H, W]`. It is 0 in objects, and where `d1 + d2`
    /// exceeds [`REACH`] deviations or there are less than two objects.
    pub fn map(self, classes: &[u8], width: usize) -> Vec<f32> {
        let mut map = vec![0.0; classes.len()];
        let (objects, count) = objects(classes, width);
        if count < 2 {
            return map;
        }
        let reach = (REACH * self.sigma).min(LONGEST_REACH);
        let columns = nearest_in_columns(&objects, width, reach.ceil() as usize);
        let rows = map.chunks_mut(width).zip(objects.chunks(width)).zip(columns.chunks(width));
        for ((terms, objects), columns) in rows {
            for (column, term) in terms.iter_mut().enumerate().filter(|(column, _)| objects[*column] == NO_OBJECT) {
                let distance = nearest_in_row(columns, column, reach.ceil() as usize).sum();
                if distance <= reach {
                    let deviations = distance / self.sigma;
                    *term = (self.weight * (-0.5 * deviations * deviations).exp()) as f32;
                }
            }
        }
        map
    }
}

/// The number of a pixel that belongs to no object.
const NO_OBJECT: u32 = 0;

/// The number of each pixel's object, from 1 on, and how many there are.
fn objects(classes: &[u8], width: usize) -> (Vec<u32>, u32) {
    let mut objects = vec![NO_OBJECT; classes.len()];
    let (mut count, mut open) = (0, Vec::new());
    for start in 0..classes.len() {
        let class = classes[start];
        if class == 0 || class == IGNORED || objects[start] != NO_OBJECT {
            continue;
        }
        count += 1;
        objects[start] = count;
        open.push(start);
        while let Some(pixel) = open.pop() {
            let column = pixel % width;
            let left = (column > 0).then(|| pixel - 1);
            let right = (column + 1 < width).then(|| pixel + 1);
            let above = pixel.checked_sub(width);
            let below = Some(pixel + width).filter(|&below| below < classes.len());
            for neighbour in [left, right, above, below].into_iter().flatten() {
                if classes[neighbour] == class && objects[neighbour] == NO_OBJECT {
                    objects[neighbour] = count;
                    open.push(neighbour);
                }
            }
        }
    }
    (objects, count)
}

/// An object and the square of its distance.
#[derive(Debug, Clone, Copy)]
struct Near {
    object: u32,
    squared: u32,
}

/// Two different objects, the nearer one first; as far as there are any.
#[derive(Debug, Clone, Copy)]
struct Nearest([Near; 2]);

impl Nearest {
    const NONE: Self = Self([Near { object: NO_OBJECT, squared: u32::MAX }; 2]);

    /// Takes in another sight of some object.
    fn see(&mut self, seen: Near) {
        let [first, second] = &mut self.0;
        if seen.object == first.object {
            first.squared = first.squared.min(seen.squared);
        } else if seen.squared < first.squared {
            (*second, *first) = (*first, seen);
        } else if seen.squared < second.squared {
            *second = seen;
        }
    }

    /// The sum of both distances; at least 65,535 where there are not two objects.
    fn sum(self) -> f64 {
        self.0.iter().map(|near| f64::from(near.squared).sqrt()).sum()
    }
}

/// For each pixel the two nearest objects in its own column that are at most `reach` rows away.
fn nearest_in_columns(objects: &[u32], width: usize, reach: usize) -> Vec<Nearest> {
    let mut nearest = vec![Nearest::NONE; objects.len()];
    let mut sweep = |rows: &mut dyn Iterator<Item = usize>| {
        // For each column the two objects that were met last, and the rows where that was.
        let mut met = vec![[(NO_OBJECT, 0); 2]; width];
        for row in rows {
            for (column, met) in met.iter_mut().enumerate() {
                let pixel = row * width + column;
                let object = objects[pixel];
                if object != NO_OBJECT {
                    if object != met[0].0 {
                        met[1] = met[0];
                    }
                    met[0] = (object, row);
                }
                for (object, at) in *met {
                    let distance = row.abs_diff(at);
                    if object != NO_OBJECT && distance <= reach {
                        nearest[pixel].see(Near { object, squared: (distance * distance) as u32 });
                    }
                }
            }
        }
    };
    let height = objects.len() / width;
    sweep(&mut (0..height));
    sweep(&mut (0..height).rev());
    nearest
}

/// The two objects nearest to the pixel `column` of a row, of which the nearest in each column are known.
///
/// They are exact if the sum of their distances is at most `reach`. Two others are as near or nearer in a column than
/// any object that it leaves out, and so they are to every pixel of the row: the two smallest distances are there.
fn nearest_in_row(columns: &[Nearest], column: usize, reach: usize) -> Nearest {
    let mut nearest = Nearest::NONE;
    for aside in 0..=reach {
        let squared = (aside * aside) as u32;
        let [first, second] = nearest.0;
        // What is found from here on is no nearer than `aside`. That is too late for a second object, or for a sum
        // within reach: beside it the sum has another such object, or the nearest so far.
        let is_first_too_far = first.squared > (reach - aside).pow(2) as u32;
        if second.squared <= squared || (2 * aside > reach && is_first_too_far) {
            break;
        }
        let sides = [column.checked_sub(aside), Some(column + aside).filter(|_| aside > 0)];
        for seen in sides.into_iter().flatten().filter_map(|side| columns.get(side)) {
            for near in seen.0.into_iter().filter(|near| near.object != NO_OBJECT) {
                nearest.see(Near { squared: near.squared + squared, ..near });
            }
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::data::random::{Purpose, stream};

    /// The formula in f64: each pixel against all pixels of all objects, which are found by spreading the lowest number
    /// until nothing changes.
    fn by_formula(term: BorderTerm, classes: &[u8], width: usize) -> Vec<f64> {
        let mut numbers: Vec<usize> = (0..classes.len()).collect();
        let is_beside = |a: usize, b: usize| {
            (a / width).abs_diff(b / width) + (a % width).abs_diff(b % width) == 1 && classes[a] == classes[b]
        };
        loop {
            let before = numbers.clone();
            for a in 0..classes.len() {
                for b in [a.saturating_sub(width), a.saturating_sub(1), a + 1, a + width] {
                    if b < classes.len() && is_beside(a, b) {
                        numbers[a] = numbers[a].min(numbers[b]);
                    }
                }
            }
            if numbers == before {
                break;
            }
        }
        let is_object = |pixel: usize| ![0, 255].contains(&classes[pixel]);
        let value = |pixel: usize| {
            let mut distances = std::collections::BTreeMap::new();
            for other in (0..classes.len()).filter(|&other| is_object(other)) {
                let [dy, dx] = [pixel / width, pixel % width].map(|place| place as f64);
                let away = (dy - (other / width) as f64).hypot(dx - (other % width) as f64);
                let nearest: &mut f64 = distances.entry(numbers[other]).or_insert(f64::INFINITY);
                *nearest = nearest.min(away);
            }
            let mut distances: Vec<f64> = distances.into_values().collect();
            distances.sort_by(f64::total_cmp);
            match distances[..] {
                [d1, d2, ..] if !is_object(pixel) => {
                    term.weight * (-(d1 + d2).powi(2) / (2.0 * term.sigma.powi(2))).exp()
                }
                _ => 0.0,
            }
        };
        (0..classes.len()).map(value).collect()
    }

    /// Label images of every density, of two classes and of more with ignored pixels, and of every reach.
    #[test]
    fn the_map_is_that_of_the_formula_for_random_labels() {
        let mut rng = stream(1, Purpose::Window, 0);
        let mut terms = 0;
        for (height, width) in [(23, 31), (1, 40), (40, 1), (12, 70), (5, 5)] {
            for density in [0.01, 0.05, 0.3, 0.7] {
                for (sigma, values) in [(0.7, &[1u8][..]), (2.5, &[1, 2, 255]), (5.0, &[1]), (30.0, &[1, 2])] {
                    let mut pixel = || match rng.random_bool(density) {
                        true => values[rng.random_range(0..values.len())],
                        false => 0,
                    };
                    let classes: Vec<u8> = (0..height * width).map(|_| pixel()).collect();
                    let term = BorderTerm { weight: 10.0, sigma };
                    let (found, expected) = (term.map(&classes, width), by_formula(term, &classes, width));
                    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        // Rounding to f32, and what lies beyond the reach.
                        let limit = 1e-6 * expected + 10.0 * (-0.5 * REACH * REACH).exp();
                        assert!(
                            (f64::from(*found) - expected).abs() <= limit,
                            "{height}x{width}, density {density}, sigma {sigma}, pixel {index}: {found}, {expected}"
                        );
                        terms += usize::from(*expected > 1e-3);
                    }
                }
            }
        }
        assert!(terms > 5000, "{terms}");
    }

    #[test]
    fn between_two_objects_the_term_is_highest_where_they_are_nearest() {
        // Two bars with three pixels between them, which the last row leaves out.
        let row = [1, 1, 0, 0, 0, 1, 1, 0];
        let classes: Vec<u8> = [row, row, row, [0; 8]].concat();
        let map = BorderTerm { weight: 10.0, sigma: 5.0 }.map(&classes, 8);
        let value = |sum: f64| (10.0 * (-sum * sum / 50.0).exp()) as f32;
        // In the gap distances are 1 and 3, or 2 and 2; at the edge 1 and 6.
        assert_eq!(map[..8], [0.0, 0.0, value(4.0), value(4.0), value(4.0), 0.0, 0.0, value(7.0)]);
        assert_eq!(map[24 + 3], value(5f64.sqrt() * 2.0));
        // The same bars as one object; and two objects of different classes that touch.
        let joined: Vec<u8> = [row, row, row, [1; 8]].concat();
        assert!(BorderTerm { weight: 10.0, sigma: 5.0 }.map(&joined, 8).iter().all(|term| *term == 0.0));
        let touching = BorderTerm { weight: 10.0, sigma: 5.0 }.map(&[1, 1, 2, 2, 0], 5);
        assert_eq!(touching, [0.0, 0.0, 0.0, 0.0, value(4.0)]);
    }

    #[test]
    fn beyond_the_reach_the_term_is_nothing() {
        let mut classes = vec![0; 14];
        (classes[0], classes[13]) = (1, 1);
        // The distances of each pixel between the two add up to 13.
        for (sigma, is_within) in [(13.0 / 6.0 + 1e-9, true), (13.0 / 6.0 - 1e-9, false)] {
            let map = BorderTerm { weight: 1e9, sigma }.map(&classes, 14);
            assert!(map[1..13].iter().all(|term| (*term > 0.0) == is_within), "{sigma}: {map:?}");
        }
    }
}
