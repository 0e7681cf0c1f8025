//! CCITT's fax codes of pages with a bit per pixel: Modified Huffman, Group 3 and Group 4.
//!
//! Source: ITU-T T.4 (tables 2 and 3, two-dimensional coding) and T.6; TIFF 6.0 sections 10 and 11. MATLAB's `imwrite`
//! and scanners write these by default. Each row takes a bit at least, and time by its width.
//! The `fax` crate, which `tiff` can use, would not do: it knows neither Modified Huffman nor Group 3 against the row
//! above, and makes the rest of a damaged row or page white without an error.

use std::io::{Read, Seek};
use std::sync::LazyLock;

use super::Fault;
use super::directory::Scanner;

const T4_OPTIONS: u16 = 292;

/// Codes of runs of 0 to 63 pixels, then of 64, 128 ... 1728; those of 1792, 1856 ... 2560 are the same for both.
const WHITE: &str = "\
    00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101 101010 \
    101011 0100111 0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100 0011000 00000010 \
    00000011 00011010 00011011 00010010 00010011 00010100 00010101 00010110 00010111 00101000 00101001 00101010 \
    00101011 00101100 00101101 00000100 00000101 00001010 00001011 01010010 01010011 01010100 01010101 00100100 \
    00100101 01011000 01011001 01011010 01011011 01001010 01001011 00110010 00110011 00110100 11011 10010 010111 \
    0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100 011001101 011010010 011010011 \
    011010100 011010101 011010110 011010111 011011000 011011001 011011010 011011011 010011000 010011001 010011010 \
    011000 010011011";
const BLACK: &str = "\
    0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111 000011000 \
    0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 00000110111 00000101000 00000010111 \
    00000011000 000011001010 000011001011 000011001100 000011001101 000001101000 000001101001 000001101010 \
    000001101011 000011010010 000011010011 000011010100 000011010101 000011010110 000011010111 000001101100 \
    000001101101 000011011010 000011011011 000001010100 000001010101 000001010110 000001010111 000001100100 \
    000001100101 000001010010 000001010011 000000100100 000000110111 000000111000 000000100111 000000101000 \
    000001011000 000001011001 000000101011 000000101100 000001011010 000001100110 000001100111 0000001111 \
    000011001000 000011001001 000001011011 000000110011 000000110100 000000110101 0000001101100 0000001101101 \
    0000001001010 0000001001011 0000001001100 0000001001101 0000001110010 0000001110011 0000001110100 \
    0000001110101 0000001110110 0000001110111 0000001010010 0000001010011 0000001010100 0000001010101 \
    0000001011010 0000001011011 0000001100100 0000001100101";
const LONG: &str = "\
    00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110 \
    000000010111 000000011100 000000011101 000000011110 000000011111";

/// The longest code of a run, in bits.
const MOST_BITS: u32 = 13;

/// How rows are coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coding {
    /// Runs; each row begins with a byte of its own.
    Huffman,
    /// Runs between ends of lines.
    Group3,
    /// The same, or changes against the row above, as a bit behind each end of line says.
    Group3Plane,
    /// Changes against the row above.
    Group4,
}

impl Coding {
    /// The coding of compression `code`, one of 2 to 4.
    pub fn read(scanner: &mut Scanner<impl Read + Seek>, code: u64) -> Result<Coding, Fault> {
        if code != 3 {
            return Ok(if code == 2 { Coding::Huffman } else { Coding::Group4 });
        }
        let options = scanner.integer(T4_OPTIONS)?.unwrap_or(0);
        Ok(if options & 1 == 1 { Coding::Group3Plane } else { Coding::Group3 })
    }

    /// Decodes the first `rows` rows of a stream; shows each with the columns where white becomes black or back, in
    /// ascending order and below `width`.
    pub fn decode(
        self,
        stream: &[u8],
        width: usize,
        rows: usize,
        mut show: impl FnMut(usize, &[usize]),
    ) -> Result<(), Fault> {
        let mut bits = Bits { stream, at: 0 };
        let (mut above, mut row) = (Vec::new(), Row { width, changes: Vec::new() });
        for index in 0..rows {
            row.changes.clear();
            let against_above = match self {
                Coding::Huffman => {
                    bits.at = bits.at.next_multiple_of(8);
                    false
                }
                Coding::Group3 => {
                    bits.end_of_line();
                    false
                }
                Coding::Group3Plane => {
                    bits.end_of_line();
                    bits.take(1) == 0
                }
                Coding::Group4 => true,
            };
            let done = if against_above { row.read_changes(&mut bits, &above) } else { row.read_runs(&mut bits) };
            done.ok_or_else(|| {
                Fault::damaged(format!("row {index} of {rows} is no fax code, or its data end too soon"))
            })?;
            show(index, &row.changes);
            std::mem::swap(&mut above, &mut row.changes);
        }
        Ok(())
    }
}

/// The row that is being decoded.
struct Row {
    width: usize,
    changes: Vec<usize>,
}

impl Row {
    /// Takes note of a change of colour; two at one column are none.
    fn change(&mut self, column: usize) {
        if self.changes.last() == Some(&column) {
            self.changes.pop();
        } else if column < self.width {
            self.changes.push(column);
        }
    }

    /// Runs of white and black in turn. `None`: no code.
    fn read_runs(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let (mut column, mut is_black) = (0, false);
        while column < self.width {
            column = self.within(column + bits.run(is_black)?)?;
            self.change(column);
            is_black = !is_black;
        }
        Some(())
    }

    /// Changes relative to those of the row above. `None`: no code.
    fn read_changes(&mut self, bits: &mut Bits<'_>, above: &[usize]) -> Option<()> {
        let (mut column, mut is_black, mut next, mut is_start) = (0, false, 0, true);
        while column < self.width {
            // The first change above to the right of `column` to the other colour; at the start the column 0 counts.
            while above.get(next).is_some_and(|&change| change < column || change == column && !is_start) {
                next += 1;
            }
            let first = next + usize::from((next % 2 == 1) != is_black);
            let at = |index: usize| above.get(index).copied().unwrap_or(self.width);
            let (b1, b2) = (at(first), at(first + 1));
            match bits.mode()? {
                Mode::Pass => column = b2,
                Mode::Horizontal => {
                    let middle = self.within(column + bits.run(is_black)?)?;
                    let end = self.within(middle + bits.run(!is_black)?)?;
                    self.change(middle);
                    self.change(end);
                    column = end;
                }
                Mode::Vertical(shift) => {
                    let to = self.within(b1.checked_add_signed(shift)?)?;
                    if to < column {
                        return None;
                    }
                    self.change(to);
                    column = to;
                    is_black = !is_black;
                }
            }
            is_start = false;
        }
        Some(())
    }

    fn within(&self, column: usize) -> Option<usize> {
        (column <= self.width).then_some(column)
    }
}

enum Mode {
    Pass,
    Horizontal,
    Vertical(isize),
}

/// A stream bit by bit, the highest ones first; zeros behind its end.
struct Bits<'a> {
    stream: &'a [u8],
    /// In bits.
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, at most 16.
    fn peek(&self, count: u32) -> u32 {
        let byte = |index: usize| u32::from(self.stream.get(self.at / 8 + index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        word << (8 + self.at % 8) >> (32 - count)
    }

    fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.at += count as usize;
        bits
    }

    /// Passes over a code of `count` bits. `None`: the stream ends within it.
    fn pass(&mut self, count: u8) -> Option<()> {
        self.at += usize::from(count);
        (self.at <= 8 * self.stream.len()).then_some(())
    }

    /// Passes over an end of line, 11 zeros or more and a one, if it is there.
    fn end_of_line(&mut self) {
        if self.peek(11) != 0 {
            return;
        }
        while self.at < 8 * self.stream.len() && self.take(1) == 0 {}
    }

    /// The length of a run: codes of 64 and more, and one below. `None`: no code.
    fn run(&mut self, is_black: bool) -> Option<usize> {
        let table = &TABLES[usize::from(is_black)];
        let mut sum = 0;
        loop {
            let (run, length) = table[self.peek(MOST_BITS) as usize];
            if length == 0 {
                return None;
            }
            self.pass(length)?;
            sum += usize::from(run);
            if run < 64 {
                return Some(sum);
            }
        }
    }

    /// `None`: no code, the end of the page, or one of the extensions.
    fn mode(&mut self) -> Option<Mode> {
        let (mode, length) = match self.peek(7) {
            0b1000000.. => (Mode::Vertical(0), 1),
            0b0110000..=0b0111111 => (Mode::Vertical(1), 3),
            0b0100000..=0b0101111 => (Mode::Vertical(-1), 3),
            0b0010000..=0b0011111 => (Mode::Horizontal, 3),
            0b0001000..=0b0001111 => (Mode::Pass, 4),
            0b0000110..=0b0000111 => (Mode::Vertical(2), 6),
            0b0000100..=0b0000101 => (Mode::Vertical(-2), 6),
            0b0000011 => (Mode::Vertical(3), 7),
            0b0000010 => (Mode::Vertical(-3), 7),
            _ => return None,
        };
        self.pass(length)?;
        Some(mode)
    }
}

/// For each 13 bits the run that they begin with, and the length of its code (0: none); of white and of black.
static TABLES: LazyLock<[Vec<(u16, u8)>; 2]> = LazyLock::new(|| [WHITE, BLACK].map(table));

fn table(codes: &str) -> Vec<(u16, u8)> {
    let mut table = vec![(0, 0); 1 << MOST_BITS];
    let runs = (0..64).chain((64..=1728).step_by(64)).chain((1792..=2560).step_by(64));
    for (run, code) in runs.zip(codes.split_whitespace().chain(LONG.split_whitespace())) {
        let left = MOST_BITS as usize - code.len();
        let value = code.bytes().fold(0, |value, bit| value << 1 | usize::from(bit == b'1'));
        table[value << left..(value + 1) << left].fill((run, code.len() as u8));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a stream given as bits.
    fn decoded(coding: Coding, bits: &str, width: usize, rows: usize) -> Option<Vec<Vec<usize>>> {
        let bits: Vec<u8> = bits.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        let byte = |bits: &[u8]| (0..8).fold(0, |byte, at| byte << 1 | bits.get(at).copied().unwrap_or(0));
        let stream: Vec<u8> = bits.chunks(8).map(byte).collect();
        let mut found = Vec::new();
        coding.decode(&stream, width, rows, |_, changes| found.push(changes.to_vec())).ok()?;
        Some(found)
    }

    #[test]
    fn runs_and_changes_are_those_of_the_standard() {
        // White 1, black 2, white 1; black 4 behind a white run of 0.
        let huffman = "000111 11 000111 00 00110101 011";
        assert_eq!(decoded(Coding::Huffman, huffman, 4, 2).unwrap(), [vec![1, 3], vec![0]]);
        let group3 = "000000000001 000111 11 000111 0000 000000000001 00110101 011";
        assert_eq!(decoded(Coding::Group3, group3, 4, 2).unwrap(), [vec![1, 3], vec![0]]);
        // Blank; horizontal; the same again; one to the right and one to the left; passed over.
        let group4 = "1 001 000111 11 1 1 1 1 011 010 1 0001 1";
        let rows = [vec![], vec![1, 3], vec![1, 3], vec![], vec![]];
        assert_eq!(decoded(Coding::Group4, "1 001 000111 11 1 1 1 1 0001 1 1", 4, 5).unwrap(), rows);
        assert_eq!(decoded(Coding::Group4, group4, 4, 4).unwrap()[3], [] as [usize; 0]);
        let plane = "000000000001 1 000111 11 000111 000000000001 0 1 1 1";
        assert_eq!(decoded(Coding::Group3Plane, plane, 4, 2).unwrap(), [vec![1, 3], vec![1, 3]]);
        // 64 + 2 pixels of white, 2560 + 1 of black.
        let long = "11011 0111 000000011111 010";
        assert_eq!(decoded(Coding::Huffman, long, 66 + 2561, 1).unwrap(), [vec![66]]);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for (coding, bits) in [(Coding::Group4, "0000001 1"), (Coding::Group4, "000000000001"), (Coding::Group4, "")] {
            assert_eq!(decoded(coding, bits, 4, 1), None, "{bits}");
        }
        // A run that is longer than the row, and a stream that ends.
        assert_eq!(decoded(Coding::Huffman, "10011 1", 4, 1), None);
        assert_eq!(decoded(Coding::Huffman, "000111 11", 4, 2), None);
        // Black 15 without its last bit, which is a zero as behind the end.
        assert_eq!(decoded(Coding::Huffman, "00110101 000011000", 15, 1).unwrap(), [vec![0]]);
        assert_eq!(decoded(Coding::Huffman, "00110101 00001100", 15, 1), None);
        // Every code of both tables is the beginning of no other: all together fill at most the whole.
        for codes in [WHITE, BLACK] {
            let lengths = codes.split_whitespace().chain(LONG.split_whitespace()).map(str::len);
            let lengths: Vec<usize> = lengths.collect();
            let filled: usize = table(codes).iter().filter(|(_, length)| *length > 0).count();
            assert_eq!(lengths.len(), 104);
            assert_eq!(filled, lengths.iter().map(|length| 1 << (13 - length)).sum::<usize>());
        }
    }
}
