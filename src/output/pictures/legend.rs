//! The legend of a picture that shows classes as colours: a box and a name for each, in lines.

use anyhow::Result;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::sheet::tile;
use super::{Canvas, INK, shortened, text_width};
use crate::data::labels::IGNORED;

/// The side of a colour, and the height of a line.
const SWATCH: u32 = 20;
const LINE: u32 = 32;
/// Room around names.
const GAP: u32 = 12;
/// Room for a name.
const MOST_NAME: u32 = 240;
const SIZE: u32 = 22;

/// Classes in lines of a width.
pub struct Legend {
    pub entries: Vec<Entry>,
}

/// A class, and where in the legend it stands.
pub struct Entry {
    class: u8,
    pub text: String,
    pub x: u32,
    pub y: u32,
}

impl Legend {
    /// Classes by their indices, [`IGNORED`] among them, each with its name and with what follows the name, such as a
    /// share. Long names are cut.
    pub fn new<'a>(classes: impl IntoIterator<Item = (u8, &'a str, String)>, width: u32) -> Result<Self> {
        let (mut entries, mut x, mut y) = (Vec::new(), 0, 0);
        for (class, name, note) in classes {
            let name = shortened(name, SIZE, MOST_NAME)?;
            let text = if note.is_empty() { name } else { format!("{name} {note}") };
            let wide = SWATCH + text_width(&text, SIZE)? + 3 * GAP;
            if x > 0 && x + wide > width {
                (x, y) = (0, y + LINE);
            }
            entries.push(Entry { class, text, x, y });
            x += wide;
        }
        Ok(Self { entries })
    }

    /// 0 where there is no class.
    pub fn height(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.y + LINE)
    }

    /// Draws it with its upper left corner at `place`, left and top.
    pub fn draw(&self, canvas: &mut Canvas, place: (u32, u32)) -> Result<()> {
        self.entries.iter().try_for_each(|entry| entry.draw(canvas, place))
    }
}

impl Entry {
    /// Draws the entry of a legend that begins at (left, top).
    fn draw(&self, canvas: &mut Canvas, (left, top): (u32, u32)) -> Result<()> {
        let (x, y) = (left + self.x, top + self.y + (LINE - SWATCH) / 2);
        let mut swatch = Canvas::new(SWATCH, SWATCH);
        swatch.fill((0, 0), (SWATCH, SWATCH), INK);
        // Class 0 is not painted: its box is the frame alone.
        let inside = tile::colour(self.class).unwrap_or(RGBColor(255, 255, 255));
        let mut block = Canvas::new(SWATCH - 2, SWATCH - 2);
        block.rgb = [inside.0, inside.1, inside.2].repeat(block.rgb.len() / 3);
        if self.class == IGNORED {
            block.rgb.fill(90);
            let classes = vec![IGNORED; block.rgb.len() / 3];
            tile::hatch(&mut block, &classes);
        }
        swatch.paste(&block, (1, 1));
        canvas.paste(&swatch, (x, y));
        let middle = (top + self.y + LINE / 2) as i32;
        canvas.text(&self.text, ((x + SWATCH + GAP / 2) as i32, middle), SIZE, HPos::Left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_legends_take_more_lines() {
        let names: Vec<String> = (0..20).map(|class| format!("class {class}")).collect();
        let legend =
            Legend::new((0..).zip(&names).map(|(class, name)| (class, &name[..], String::new())), 900).unwrap();
        assert_eq!(legend.entries.len(), 20);
        assert!(legend.entries[19].y >= 32);
        assert!(legend.entries.iter().all(|entry| entry.x < 800 && entry.y % 32 == 0));
        assert_eq!(legend.height(), legend.entries[19].y + 32);
    }

    #[test]
    fn a_long_name_is_cut_and_what_follows_it_is_not() {
        let name = "a class of a name that is much too long for a line";
        let legend = Legend::new([(1, name, "12.50 %".to_owned())], 900).unwrap();
        let text = &legend.entries[0].text;
        assert!(text.starts_with("a class of") && text.ends_with("… 12.50 %"), "{text}");
        assert_eq!(Legend::new([], 900).unwrap().height(), 0);
    }
}
