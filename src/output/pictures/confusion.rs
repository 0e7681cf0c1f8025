//! The confusion matrix as a picture: a row for each label, a column for each prediction, coloured by the share of the
//! row. Blue is right, vermillion is wrong.

use anyhow::Result;
use plotters::style::text_anchor::HPos;
use plotters::style::{RGBColor, WHITE};

use super::{BLUE, Canvas, INK, VERMILLION, shortened, text_in, text_width};
use crate::metrics::Confusion;

const LABEL: &str = "label";
const PREDICTION: &str = "prediction";
const PIXELS: &str = "pixels";

const MARGIN: u32 = 24;
/// Between the matrix and what is beside it.
const GAP: u32 = 12;
/// Heights of the title, and of the word above the columns.
const TITLE: u32 = 64;
const AXIS: u32 = 32;
/// The side that the whole matrix has, if its cells are neither too small for a number nor needlessly large.
const SIDE: u32 = 1100;
const SMALLEST_CELL: u32 = 44;
const LARGEST_CELL: u32 = 110;
/// Cells of this side have room for a decimal.
const FINE_CELL: u32 = 80;
/// Room for a name.
const MOST_NAME: u32 = 220;
const SIZE: u32 = 20;
/// Colour of the lines between the cells.
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Colour of rows without labels.
const PALE: RGBColor = RGBColor(238, 238, 238);

/// Sides in pixels.
struct Layout {
    cell: u32,
    /// Where the first cell begins.
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    /// Whether the names of columns are written upwards.
    upright: bool,
}

/// Draws `confusion`, whose classes have these names; long ones are cut.
pub fn confusion_matrix(title: &str, names: &[String], confusion: &Confusion) -> Result<Canvas> {
    let cut = names.iter().map(|name| shortened(name, SIZE, MOST_NAME)).collect::<Result<Vec<_>>>()?;
    let sums: Vec<String> = (0..cut.len()).map(|label| sum(confusion.support(label))).collect();
    let layout = Layout::new(title, &cut, &sums)?;
    let mut canvas = Canvas::new(layout.width, layout.height);
    canvas.text(title, (MARGIN as i32, TITLE as i32 / 2), 28, HPos::Left)?;
    draw_sides(&mut canvas, &layout, &cut, &sums)?;
    let side = layout.start(cut.len());
    canvas.fill((layout.left, layout.top), (side, side), GRID);
    for label in 0..cut.len() {
        for prediction in 0..cut.len() {
            draw_cell(&mut canvas, &layout, confusion, [label, prediction])?;
        }
    }
    Ok(canvas)
}

impl Layout {
    fn new(title: &str, names: &[String], sums: &[String]) -> Result<Self> {
        let widest = |texts: &[String]| texts.iter().map(|text| text_width(text, SIZE)).try_fold(0, most);
        let count = names.len() as u32;
        let cell = (SIDE / count.max(1)).clamp(SMALLEST_CELL, LARGEST_CELL);
        let name = widest(names)?.max(text_width(LABEL, SIZE)?);
        let sum = widest(sums)?.max(text_width(PIXELS, SIZE)?);
        let upright = name + GAP > cell;
        let (left, top) = (MARGIN + name + GAP, TITLE + AXIS + GAP + if upright { name } else { SIZE });
        let width = left + count * cell + GAP + sum + MARGIN;
        let width = width.max(2 * MARGIN + text_width(title, 28)?);
        Ok(Self { cell, left, top, width, height: top + count * cell + MARGIN, upright })
    }

    /// Where a row or column begins, from the first of them on.
    fn start(&self, index: usize) -> u32 {
        index as u32 * self.cell
    }
}

fn most(widest: u32, width: Result<u32>) -> Result<u32> {
    Ok(widest.max(width?))
}

/// Names of rows and columns, and the sums of the rows.
fn draw_sides(canvas: &mut Canvas, layout: &Layout, names: &[String], sums: &[String]) -> Result<()> {
    let Layout { cell, left, top, upright, .. } = *layout;
    let right = left + names.len() as u32 * cell + GAP;
    let heading = (top - GAP / 2 - SIZE / 2) as i32;
    canvas.text(PREDICTION, (left as i32, (TITLE + AXIS / 2) as i32), SIZE, HPos::Left)?;
    canvas.text(LABEL, ((left - GAP) as i32, heading), SIZE, HPos::Right)?;
    canvas.text(PIXELS, (right as i32, heading), SIZE, HPos::Left)?;
    for (index, (name, sum)) in names.iter().zip(sums).enumerate() {
        let middle = layout.start(index) + cell / 2;
        canvas.text(name, ((left - GAP) as i32, (top + middle) as i32), SIZE, HPos::Right)?;
        canvas.text(sum, (right as i32, (top + middle) as i32), SIZE, HPos::Left)?;
        if upright {
            let mut text = Canvas::new(text_width(name, SIZE)?.max(1) + 2, SIZE + SIZE / 2);
            text.text(name, (1, (text.height / 2) as i32), SIZE, HPos::Left)?;
            let place = (left + middle - text.height / 2, top - GAP / 2 - text.width);
            canvas.paste(&text.turned(), place);
        } else {
            canvas.text(name, ((left + middle) as i32, heading), SIZE, HPos::Center)?;
        }
    }
    Ok(())
}

fn draw_cell(canvas: &mut Canvas, layout: &Layout, confusion: &Confusion, place: [usize; 2]) -> Result<()> {
    let [label, prediction] = place;
    let (cell, support) = (layout.cell, confusion.support(label));
    let (x, y) = (layout.left + layout.start(prediction), layout.top + layout.start(label));
    let share = confusion.get(label, prediction) as f64 / support.max(1) as f64;
    let full = if label == prediction { BLUE } else { VERMILLION };
    let colour = if support == 0 { PALE } else { blend(full, share) };
    // Less the line between the cells.
    canvas.fill((x, y), (cell - 1, cell - 1), colour);
    let middle = ((x + cell / 2) as i32, (y + cell / 2) as i32);
    let ink = if is_dark(colour) { WHITE } else { INK };
    let size = SIZE.min(3 * cell / 10);
    text_in(&canvas.area(), &percentage(share, cell >= FINE_CELL), middle, (size, ink), HPos::Center)
}

/// `share` of a colour on white.
fn blend(colour: RGBColor, share: f64) -> RGBColor {
    let mix = |sample: u8| (255.0 - share * (255.0 - f64::from(sample))).round() as u8;
    RGBColor(mix(colour.0), mix(colour.1), mix(colour.2))
}

/// Whether white has more contrast on a colour than `INK` has.
///
/// Source: relative luminance and contrast ratio of WCAG 2.1.
fn is_dark(RGBColor(red, green, blue): RGBColor) -> bool {
    // The geometric mean of white's 1.05 and the ink's 0.071, less the 0.05 that a ratio adds.
    const EQUAL: f64 = 0.223;
    let linear = |sample: u8| {
        let sample = f64::from(sample) / 255.0;
        if sample <= 0.04045 { sample / 12.92 } else { ((sample + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) < EQUAL
}

/// Nothing for 0. What is not all is never 100, what is not nothing never 0.
fn percentage(share: f64, fine: bool) -> String {
    let (unit, decimals) = if fine { (0.1, 1) } else { (1.0, 0) };
    let percent = 100.0 * share;
    if share <= 0.0 {
        String::new()
    } else if percent < unit / 2.0 {
        format!("<{unit} %")
    } else if share < 1.0 && percent >= 100.0 - unit / 2.0 {
        format!(">{} %", 100.0 - unit)
    } else if share >= 1.0 {
        "100 %".to_owned()
    } else {
        format!("{percent:.decimals$} %")
    }
}

/// With commas between thousands.
fn sum(pixels: u64) -> String {
    let digits = pixels.to_string();
    let comma = |index: usize| index > 0 && (digits.len() - index).is_multiple_of(3);
    digits
        .chars()
        .enumerate()
        .flat_map(|(index, digit)| comma(index).then_some(',').into_iter().chain([digit]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::pictures::tests::decode;

    fn names(count: usize, name: &str) -> Vec<String> {
        (0..count).map(|index| format!("{name}{index}")).collect()
    }

    /// Two classes, of which the first is right in three of four pixels and the second in all.
    fn two() -> Confusion {
        let mut confusion = Confusion::new(2);
        confusion.add(&[0, 0, 0, 0, 1, 1, 255], &[0, 0, 0, 1, 1, 1, 0]);
        confusion
    }

    fn place(canvas: &Canvas, layout: &Layout, label: u32, prediction: u32) -> RGBColor {
        canvas.pixel(layout.left + prediction * layout.cell + 2, layout.top + label * layout.cell + 2)
    }

    #[test]
    fn cells_have_the_colour_of_their_share_of_the_row() {
        let names = names(2, "class ");
        let canvas = decode(&confusion_matrix("Confusion", &names, &two()).unwrap().png().unwrap());
        let layout = Layout::new("Confusion", &names, &["4".to_owned(), "2".to_owned()]).unwrap();
        assert_eq!((canvas.width, canvas.height), (layout.width, layout.height));
        assert_eq!(layout.cell, 110);
        // 255 - 0.75 * (255 - 0), 255 - 0.75 * (255 - 114), 255 - 0.75 * (255 - 178).
        assert_eq!(place(&canvas, &layout, 0, 0), RGBColor(64, 149, 197));
        // A quarter of vermillion: 255 - 0.25 * (255 - 213), ...
        assert_eq!(place(&canvas, &layout, 0, 1), RGBColor(245, 215, 191));
        assert_eq!(place(&canvas, &layout, 1, 0), WHITE);
        assert_eq!(place(&canvas, &layout, 1, 1), BLUE);
        // White letters on the darkest cell, dark ones on the pale one.
        let near = |a: RGBColor, b: RGBColor| a.0.abs_diff(b.0).max(a.1.abs_diff(b.1)).max(a.2.abs_diff(b.2)) < 16;
        let letters = |label: u32, prediction: u32, colour: RGBColor| {
            let (x, y) = (layout.left + prediction * 110, layout.top + label * 110);
            (0..109 * 109).filter(|i| near(canvas.pixel(x + i % 109, y + i / 109), colour)).count()
        };
        assert!(letters(1, 1, WHITE) > 10 && letters(1, 1, INK) == 0);
        assert!(letters(0, 1, INK) > 10 && letters(0, 1, WHITE) == 0);
    }

    #[test]
    fn any_number_of_classes_with_long_names_fits() {
        for count in [2, 3, 7, 20, 64] {
            let mut confusion = Confusion::new(count);
            // The last class is absent.
            let labels: Vec<u8> = (0..count as u8 - 1).collect();
            confusion.add(&labels, &labels);
            let names = names(count, "a name that is much too long for any side of a matrix ");
            let canvas = confusion_matrix("A title", &names, &confusion).unwrap();
            let cell = (1100 / count as u32).clamp(44, 110);
            assert!(canvas.width > count as u32 * cell + MOST_NAME && canvas.width < count as u32 * cell + 420);
            assert!(canvas.height > count as u32 * cell + MOST_NAME && canvas.height < count as u32 * cell + 420);
            let last_row = canvas.height - MARGIN - cell / 2;
            assert!((0..canvas.width).filter(|&x| canvas.pixel(x, last_row) == PALE).count() >= count * 40);
        }
    }

    #[test]
    fn percentages_say_neither_all_nor_nothing_where_it_is_not() {
        let shares = [0.0, 0.0004, 0.0049, 0.1234, 0.996, 0.9996, 1.0];
        let coarse = shares.map(|share| percentage(share, false));
        assert_eq!(coarse, ["", "<1 %", "<1 %", "12 %", ">99 %", ">99 %", "100 %"]);
        let fine = shares.map(|share| percentage(share, true));
        assert_eq!(fine, ["", "<0.1 %", "0.5 %", "12.3 %", "99.6 %", ">99.9 %", "100 %"]);
    }

    #[test]
    fn sums_have_commas_between_thousands() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(sum), ["0", "12", "123", "1,234", "1,234,567"]);
    }

    #[test]
    fn letters_are_white_on_dark_cells_alone() {
        assert!(is_dark(BLUE) && is_dark(INK));
        assert!(!is_dark(WHITE) && !is_dark(PALE) && !is_dark(blend(BLUE, 0.5)) && !is_dark(blend(VERMILLION, 0.5)));
    }
}
