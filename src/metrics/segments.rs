//! Segments of a slice: 4-connected components, and border thinning by watershed.
//!
//! Source: the metrics that Fiji scored the challenge with, described in docs/metrics.md. Thinning is the algorithm of
//! Vincent and Soille (1991) on an image of two levels, inside 0 and border 255; which of two equally near segments
//! gets a pixel depends on the order of visits, which is Fiji's. Not here: what segments are compared by (`overlap`).

use std::collections::VecDeque;

/// An id per pixel of `[H, W]`, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Segments {
    /// 1 to `count`; 0 is in no segment.
    pub ids: Vec<u32>,
    pub count: u32,
    width: usize,
}

/// A border pixel that is not in the queue yet; its neighbours are not segments so far.
const PENDING: u32 = u32::MAX;
const QUEUED: u32 = u32::MAX - 1;
/// Ids past this one are one segment; no slice of less than 8 gigapixels has so many.
const LAST_ID: u32 = u32::MAX - 2;
/// A pixel that parts segments.
const DAM: u32 = 0;

impl Segments {
    /// The 4-connected components of `mask`, `[H, W]`.
    pub fn components(mask: &[bool], width: usize) -> Self {
        let mut ids = vec![0; mask.len()];
        let (mut count, mut found) = (0, Vec::new());
        for start in 0..mask.len() {
            if !mask[start] || ids[start] != 0 {
                continue;
            }
            count = LAST_ID.min(count + 1);
            ids[start] = count;
            found.push(start);
            while let Some(pixel) = found.pop() {
                for neighbour in neighbours(pixel, width, mask.len()) {
                    if mask[neighbour] && ids[neighbour] == 0 {
                        ids[neighbour] = count;
                        found.push(neighbour);
                    }
                }
            }
        }
        Self { ids, count, width }
    }

    /// Grows the segments over the pixels of no segment, until only dams are left between them: pixels of id 0 where
    /// two segments meet. Without any segment the whole slice becomes one.
    pub fn thin_borders(mut self) -> Self {
        if self.count == 0 {
            self.ids.fill(1);
            return Self { count: 1, ..self };
        }
        let mut queue = self.first_of_queue();
        while let Some(pixel) = queue.pop_front() {
            let mut state = Popped::Queued;
            for neighbour in neighbours(pixel, self.width, self.ids.len()) {
                match self.ids[neighbour] {
                    PENDING => {
                        self.ids[neighbour] = QUEUED;
                        queue.push_back(neighbour);
                    }
                    QUEUED => {}
                    id => state = state.beside(id),
                }
            }
            self.ids[pixel] = state.id();
        }
        self
    }

    /// Border pixels beside a segment, column by column; the others become `PENDING`.
    fn first_of_queue(&mut self) -> VecDeque<usize> {
        self.ids.iter_mut().filter(|id| **id == 0).for_each(|id| *id = PENDING);
        let (width, length) = (self.width, self.ids.len());
        let mut queue = VecDeque::new();
        for pixel in (0..width).flat_map(|x| (x..length).step_by(width)) {
            let is_segment = |neighbour: usize| self.ids[neighbour] <= LAST_ID;
            if self.ids[pixel] == PENDING && neighbours(pixel, width, length).any(is_segment) {
                self.ids[pixel] = QUEUED;
                queue.push_back(pixel);
            }
        }
        queue
    }
}

/// What a pixel taken from the queue has become so far.
#[derive(Clone, Copy)]
enum Popped {
    Queued,
    Segment(u32),
    /// Beside a dam and no segment yet.
    DamByInheritance,
    /// Between two segments, for good.
    DamByConflict,
}

impl Popped {
    /// After a look at a neighbour that is a segment or a dam.
    fn beside(self, id: u32) -> Self {
        match self {
            Self::Queued if id == DAM => Self::DamByInheritance,
            Self::Queued | Self::DamByInheritance if id != DAM => Self::Segment(id),
            Self::Segment(own) if id != DAM && id != own => Self::DamByConflict,
            unchanged => unchanged,
        }
    }

    fn id(self) -> u32 {
        match self {
            Self::Segment(id) => id,
            Self::Queued | Self::DamByInheritance | Self::DamByConflict => DAM,
        }
    }
}

/// The neighbours inside the image: left, up, right, down.
#[inline]
fn neighbours(pixel: usize, width: usize, length: usize) -> impl Iterator<Item = usize> {
    let column = pixel % width;
    let left = (column > 0).then(|| pixel - 1);
    let up = pixel.checked_sub(width);
    let right = (column + 1 < width).then_some(pixel + 1);
    let down = (pixel + width < length).then_some(pixel + width);
    [left, up, right, down].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Vec<bool> {
        rows.iter().flat_map(|row| row.bytes()).map(|pixel| pixel == b'#').collect()
    }

    #[test]
    fn diagonal_neighbours_are_not_connected_and_rows_do_not_run_over() {
        let segments = Segments::components(&mask(&["#.#", "##.", "..#"]), 3);
        assert_eq!(segments.ids, [1, 0, 2, 1, 1, 0, 0, 0, 3]);
        assert_eq!(segments.count, 3);
    }

    #[test]
    fn a_border_of_three_columns_leaves_its_middle_and_of_two_the_right_one() {
        let thinned = |row: &str| Segments::components(&mask(&[row; 3]), row.len()).thin_borders().ids;
        assert_eq!(thinned("##...##"), [1, 1, 1, 0, 2, 2, 2].repeat(3));
        assert_eq!(thinned("##..##"), [1, 1, 1, 0, 2, 2].repeat(3));
    }
}
