//! Learning curves: losses against training step, on a logarithmic axis, with those of the validation slices where they
//! were scored; below them the scores, where there are several.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordu64;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::loss_axis::LossAxis;
use super::{BLUE, Canvas, GREEN, INK, VERMILLION, drawn, font, text_on};
use crate::output::loss_table::LossRow;

const WIDTH: u32 = 1500;
const HEIGHT: u32 = 840;
/// Below the losses, where there are scores of several steps.
const SCORES_HEIGHT: u32 = 480;
/// Right of the curves.
const LEGEND_WIDTH: u32 = 370;
/// Pixels drawn for each of the picture, which makes lines smooth.
const SCALE: u32 = 2;
/// Training rows above which curves are means of neighbours, with the single steps pale behind them.
const MOST_UNSMOOTHED: usize = 100;
/// The most points of a smoothed curve, which are means that do not overlap.
const SMOOTHED_POINTS: usize = 40;

/// Radii of a validation point: a ring that shows upon curves.
const RING: u32 = SCALE * 9;
const HOLE: u32 = SCALE * 5;

/// A term of the loss: its name, its colour, and where it is in a row.
struct Term {
    name: &'static str,
    colour: RGBColor,
    train: fn(&LossRow) -> Option<f64>,
    eval: fn(&LossRow) -> Option<f64>,
}

const TERMS: [Term; 3] = [
    Term { name: "total loss", colour: INK, train: |row| row.train_total_loss, eval: |row| row.eval_total_loss },
    Term { name: "cross entropy", colour: BLUE, train: |row| row.train_ce_loss, eval: |row| row.eval_ce_loss },
    Term { name: "Dice loss", colour: VERMILLION, train: |row| row.train_dice_loss, eval: |row| row.eval_dice_loss },
];

/// A score of validation: its name, its colour, and where it is in a row.
struct Score {
    name: &'static str,
    colour: RGBColor,
    value: fn(&LossRow) -> Option<f64>,
}

const SCORES: [Score; 4] = [
    Score { name: "soft Dice", colour: VERMILLION, value: |row| row.eval_dice_score },
    Score { name: "V_Rand, thinned", colour: BLUE, value: |row| row.v_rand_thin },
    Score { name: "V_Info, thinned", colour: GREEN, value: |row| row.v_info_thin },
    Score { name: "mean Dice", colour: BLUE, value: |row| row.mean_dice },
];

/// Step and loss, or step and score.
type Point = (u64, f64);

/// The curves of `rows` as a picture; `None` where no row has a loss above 0.
pub fn learning_curves(rows: &[LossRow]) -> Result<Option<Canvas>> {
    let all = TERMS.iter().flat_map(|term| [points(rows, term.train), points(rows, term.eval)]).flatten();
    let (mut last, mut low, mut high) = (None, f64::INFINITY, 0f64);
    for (step, loss) in all {
        (last, low, high) = (last.max(Some(step)), low.min(loss), high.max(loss));
    }
    let Some(last) = last else { return Ok(None) };
    let scores: Vec<(&Score, Vec<Point>)> = SCORES.iter().map(|score| (score, points(rows, score.value))).collect();
    let has_scores = scores.iter().any(|(_, points)| points.len() > 1);
    let height = HEIGHT + if has_scores { SCORES_HEIGHT } else { 0 };
    let mut canvas = Canvas::new(SCALE * WIDTH, SCALE * height);
    {
        let area = canvas.area();
        let (losses, below) = area.split_vertically(SCALE * HEIGHT);
        draw_losses(&losses, rows, last, LossAxis::new(low, high))?;
        if has_scores {
            draw_scores(&below, &scores, last)?;
        }
        drawn(area.present())?;
    }
    Ok(Some(canvas.reduced(SCALE)))
}

/// What a logarithmic axis can show.
fn points(rows: &[LossRow], value: fn(&LossRow) -> Option<f64>) -> Vec<Point> {
    let drawable = |loss: &f64| (1e-30..=1e30).contains(loss);
    rows.iter().filter_map(|row| Some((row.step, value(row).filter(drawable)?))).collect()
}

/// The end of the axis of steps, a little beyond the last.
fn end(last: u64) -> u64 {
    last.saturating_add(last.div_ceil(50))
}

fn draw_scores(area: &Area, scores: &[(&Score, Vec<Point>)], last: u64) -> Result<()> {
    let lowest = scores.iter().flat_map(|(_, points)| points).map(|(_, score)| *score).fold(1.0, f64::min);
    // The lower end is a round number; the best score is 1.
    let low = (lowest * 10.0).floor().min(9.0) / 10.0;
    let mut builder = ChartBuilder::on(area);
    let mut chart = drawn(with_margins(&mut builder).build_cartesian_2d(0..end(last), low..1.0))?;
    draw_mesh(&mut chart, "score of the validation slices", &|score| format!("{score:.2}"))?;
    let mut legend = Legend { area, entries: 0 };
    for (Score { name, colour, .. }, points) in scores.iter().filter(|(_, points)| !points.is_empty()) {
        let line = colour.stroke_width(SCALE * 3);
        drawn(chart.draw_series(LineSeries::new(points.clone(), line)))?;
        drawn(chart.draw_series(points.iter().map(|point| Circle::new(*point, SCALE * 4, colour.filled()))))?;
        let best = points.iter().map(|(_, score)| *score).fold(0.0, f64::max);
        legend.add(&format!("{name} (best {best:.4})"), |(x, y)| {
            [PathElement::new([(x, y), (x + SCALE as i32 * 36, y)], line)]
        })?;
    }
    Ok(())
}

fn draw_losses(area: &Area, rows: &[LossRow], last: u64, losses: LossAxis) -> Result<()> {
    let mut builder = ChartBuilder::on(area);
    builder.caption(title(rows), font(SCALE * 30).color(&INK));
    let mut chart = drawn(with_margins(&mut builder).build_cartesian_2d(0..end(last), losses))?;
    let words = "loss (cross entropy in nats per pixel, Dice loss from 0 to 1)";
    draw_mesh(&mut chart, words, &|loss| short(*loss))?;
    let mut legend = Legend { area, entries: 0 };
    for term in &TERMS {
        let (colour, line) = (term.colour, term.colour.stroke_width(SCALE * 3));
        let single = points(rows, term.train);
        let curve = smoothed(&single);
        let smooth = curve.len() < single.len();
        if smooth {
            drawn(chart.draw_series(LineSeries::new(single, colour.mix(0.3).stroke_width(SCALE))))?;
        } else {
            drawn(chart.draw_series(single.iter().map(|point| Circle::new(*point, SCALE * 4, colour.filled()))))?;
        }
        drawn(chart.draw_series(LineSeries::new(curve, line)))?;
        let name = format!("{}, training{}", term.name, if smooth { " (mean)" } else { "" });
        legend.add(&name, |(x, y)| [PathElement::new([(x, y), (x + SCALE as i32 * 36, y)], line)])?;
        let scored = points(rows, term.eval);
        if !scored.is_empty() {
            let thin = colour.mix(0.5).stroke_width(SCALE);
            drawn(chart.draw_series(LineSeries::new(scored.clone(), thin)))?;
            for (radius, colour) in [(RING, colour), (HOLE, WHITE)] {
                drawn(chart.draw_series(scored.iter().map(|point| Circle::new(*point, radius, colour.filled()))))?;
            }
            let name = format!("{}, validation", term.name);
            legend.add(&name, |(x, y)| {
                [(RING, colour), (HOLE, WHITE)]
                    .map(|(radius, colour)| Circle::new((x + SCALE as i32 * 18, y), radius, colour.filled()))
            })?;
        }
    }
    Ok(())
}

/// Room around a chart for its numbers and words, and on the right for its legend.
fn with_margins<'a, 'b, 'c>(
    builder: &'c mut ChartBuilder<'a, 'b, BitMapBackend<'b>>,
) -> &'c mut ChartBuilder<'a, 'b, BitMapBackend<'b>> {
    builder
        .margin(SCALE * 20)
        .margin_right(SCALE * LEGEND_WIDTH)
        .x_label_area_size(SCALE * 70)
        .y_label_area_size(SCALE * 100)
}

/// Lines, numbers and words of the axes; `number` writes one of the vertical axis.
fn draw_mesh<'b, Y>(
    chart: &mut ChartContext<'_, BitMapBackend<'b>, Cartesian2d<RangedCoordu64, Y>>,
    words: &str,
    number: &dyn Fn(&f64) -> String,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    drawn(
        chart
            .configure_mesh()
            .x_desc("training step (updates of the weights)")
            .y_desc(words)
            .y_label_formatter(&number)
            .x_labels(10)
            .x_max_light_lines(1)
            .y_max_light_lines(1)
            .axis_desc_style(font(SCALE * 22).color(&INK))
            .label_style(font(SCALE * 20).color(&INK))
            .bold_line_style(RGBColor(205, 205, 205).stroke_width(SCALE))
            .light_line_style(RGBColor(232, 232, 232).stroke_width(SCALE))
            .axis_style(INK.stroke_width(SCALE))
            .set_all_tick_mark_size(SCALE * 6)
            .draw(),
    )
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// What is what, to the right of the curves, where it hides none of them.
struct Legend<'a, 'b> {
    area: &'a Area<'b>,
    entries: i32,
}

impl Legend<'_, '_> {
    /// `sample` draws from a place on to the right.
    fn add<E, const N: usize>(&mut self, name: &str, sample: impl Fn((i32, i32)) -> [E; N]) -> Result<()>
    where
        for<'p> &'p E: PointCollection<'p, (i32, i32)>,
        E: for<'b> Drawable<BitMapBackend<'b>>,
    {
        let unit = SCALE as i32;
        let (x, y) = ((WIDTH - LEGEND_WIDTH) as i32 * unit + 28 * unit, (84 + 34 * self.entries) * unit);
        for element in sample((x, y)) {
            drawn(self.area.draw(&element))?;
        }
        text_on(self.area, name, (x + 48 * unit, y), SCALE * 20, HPos::Left)?;
        self.entries += 1;
        Ok(())
    }
}

fn title(rows: &[LossRow]) -> String {
    match rows.iter().rev().find_map(|row| Some((row.step, row.eval_dice_score?))) {
        Some((step, dice)) => format!("Learning curves: validation Dice {dice:.4} after step {step}"),
        None => "Learning curves".to_owned(),
    }
}

/// Means of neighbours where there are many points; otherwise the points themselves.
fn smoothed(points: &[Point]) -> Vec<Point> {
    if points.len() <= MOST_UNSMOOTHED {
        return points.to_vec();
    }
    let window = points.len() / SMOOTHED_POINTS;
    // Half a window apart, each with the step in its middle.
    let means = points.windows(window).step_by(window.div_ceil(2));
    means.map(|near| (near[near.len() / 2].0, near.iter().map(|(_, y)| y).sum::<f64>() / near.len() as f64)).collect()
}

/// A number without more digits than it needs.
fn short(value: f64) -> String {
    if value < 0.001 { format!("{value:.0e}") } else { format!("{}", (value * 1e4).round() / 1e4) }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::output::pictures::tests::decode;

    fn row(step: u64, cross_entropy: f64, dice: f64) -> LossRow {
        LossRow {
            step,
            train_ce_loss: Some(cross_entropy),
            train_dice_loss: Some(dice),
            train_total_loss: Some(cross_entropy + dice),
            ..LossRow::default()
        }
    }

    /// Places of the pixels of a colour, left of the legend.
    fn places(canvas: &Canvas, colour: RGBColor) -> Vec<(u32, u32)> {
        let all = (0..canvas.height).flat_map(|y| (0..WIDTH - LEGEND_WIDTH).map(move |x| (x, y)));
        all.filter(|&(x, y)| canvas.pixel(x, y) == colour).collect()
    }

    fn draw(rows: &[LossRow]) -> Canvas {
        let canvas = decode(&learning_curves(rows).unwrap().unwrap().png().unwrap());
        assert_eq!(canvas.width, 1500);
        canvas
    }

    /// Mean height of the pixels of a colour in some columns.
    fn height(places: &[(u32, u32)], columns: Range<u32>) -> f64 {
        let heights: Vec<f64> =
            places.iter().filter(|(x, _)| columns.contains(x)).map(|(_, y)| f64::from(*y)).collect();
        assert!(!heights.is_empty(), "nothing in {columns:?}");
        heights.iter().sum::<f64>() / heights.len() as f64
    }

    #[test]
    fn distances_of_curves_are_those_of_the_logarithms_and_of_the_steps() {
        // Level until step 200, then half in 200 steps.
        let rows = [row(100, 0.4, 0.1), row(200, 0.4, 0.1), row(400, 0.2, 0.05)];
        let canvas = draw(&rows);
        let (blue, red) = (places(&canvas, BLUE), places(&canvas, VERMILLION));
        // The middle of the dots at the first and the last step.
        let ends = |places: &[(u32, u32)]| {
            let columns = places.iter().map(|(x, _)| *x);
            (columns.clone().min().unwrap() + 4, columns.max().unwrap() - 4)
        };
        let (first, last) = ends(&blue);
        assert_eq!((first, last), ends(&red));
        let middle = first + (last - first) / 3;
        let flat = |places: &[(u32, u32)]| height(places, first + 20..middle - 20);
        let end = |places: &[(u32, u32)]| height(places, last - 2..last + 2);
        // Two pixels of the 700 between the axis' ends.
        let factor_of_4 = flat(&red) - flat(&blue);
        assert!(
            (end(&blue) - flat(&blue) - factor_of_4 / 2.0).abs() < 4.0,
            "{} {factor_of_4}",
            end(&blue) - flat(&blue)
        );
        assert!((end(&red) - flat(&red) - factor_of_4 / 2.0).abs() < 4.0);
        // Straight between the steps 200 and 400: half way in the middle.
        let half = height(&blue, middle + (last - middle) / 2 - 1..middle + (last - middle) / 2 + 2);
        assert!((half - flat(&blue) - factor_of_4 / 4.0).abs() < 4.0, "{half}");
    }

    #[test]
    fn validation_points_are_rings_at_their_step_and_loss() {
        let mut rows = vec![row(100, 0.4, 0.1), row(300, 0.4, 0.1)];
        let plain = draw(&rows);
        rows.push(LossRow { step: 300, eval_ce_loss: Some(0.2), eval_dice_score: Some(0.9), ..LossRow::default() });
        let scored = draw(&rows);
        assert_ne!(plain, scored);
        let (blue, red) = (places(&scored, BLUE), places(&scored, VERMILLION));
        let last = red.iter().map(|(x, _)| *x).max().unwrap() - 4;
        // 0.2 is in the middle between 0.4 and 0.1.
        let (top, bottom) = (height(&blue, last - 200..last - 100), height(&red, last - 200..last - 100));
        let ring: Vec<(u32, u32)> = blue.into_iter().filter(|(_, y)| f64::from(*y) > top + 20.0).collect();
        assert!((height(&ring, last - 12..last + 12) - (top + bottom) / 2.0).abs() < 3.0);
        let columns: Vec<u32> = ring.iter().map(|(x, _)| *x).collect();
        let (left, right) = (*columns.iter().min().unwrap(), *columns.iter().max().unwrap());
        assert!(
            ((left + right) / 2).abs_diff(last) <= 1 && (14..20).contains(&(right - left)),
            "{left} {right} {last}"
        );
        assert_eq!(scored.pixel(last, ((top + bottom) / 2.0) as u32), WHITE);
    }

    #[test]
    fn scores_of_several_steps_are_drawn_below_at_their_heights() {
        let scored = |step, v_rand_thin| LossRow {
            step,
            eval_dice_score: Some(0.75),
            v_rand_thin: Some(v_rand_thin),
            ..LossRow::default()
        };
        let mut rows = vec![row(100, 0.4, 0.1), scored(100, 0.5), row(200, 0.4, 0.1)];
        assert_eq!(draw(&rows).height, 840, "a single score is told by the title");
        rows.push(scored(200, 1.0));
        let canvas = draw(&rows);
        assert_eq!(canvas.height, 1320);
        let below = |colour| places(&canvas, colour).into_iter().filter(|(_, y)| *y > 840).collect::<Vec<_>>();
        let (rand, dice) = (below(BLUE), below(VERMILLION));
        // 0.75 is in the middle between 0.5 and 1.
        let (top, bottom) = (rand.iter().map(|(_, y)| *y).min().unwrap(), rand.iter().map(|(_, y)| *y).max().unwrap());
        let columns = dice.iter().map(|(x, _)| *x);
        let level = height(&dice, columns.clone().min().unwrap()..columns.max().unwrap());
        assert!((level - f64::from(top + bottom) / 2.0).abs() < 3.0, "{level} between {top} and {bottom}");
    }

    #[test]
    fn histories_that_no_logarithm_can_show_do_no_harm() {
        assert!(learning_curves(&[]).unwrap().is_none());
        assert!(learning_curves(&[row(1, f64::NAN, 0.0)]).unwrap().is_none());
        draw(&[row(1, 0.5, 0.5)]);
        draw(&[row(1, 1e-30, 1e30), row(1 << 40, f64::INFINITY, 0.5)]);
        assert!(learning_curves(&[row(1, 1e-300, 1e300)]).unwrap().is_none());
        draw(&[row(7, 0.5, 0.0), row(7, 0.5, 0.0)]);
    }

    #[test]
    fn many_noisy_steps_are_shown_as_their_mean_too() {
        let noisy: Vec<LossRow> =
            (1..=1000).map(|step| row(step, if step % 2 == 0 { 0.8 } else { 0.2 }, 0.01)).collect();
        let canvas = draw(&noisy);
        let blue = places(&canvas, BLUE);
        // The mean of the losses is 0.5, a line between those of 0.2 and 0.8; the single steps are pale.
        assert!(blue.iter().map(|(_, y)| y).max().unwrap() - blue.iter().map(|(_, y)| y).min().unwrap() < 12);
    }
}
