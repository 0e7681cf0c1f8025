//! The progress of a loop: a bar on stderr where that is a terminal, else a line on stdout from time to time. The
//! logger shows both among its lines.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, TimeDelta};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// Time left from which on the end is told as a clock time too.
const CLOCK_FROM: Duration = Duration::from_secs(5 * 60);
/// Time left from which on the clock time has a date.
const DATE_FROM: Duration = Duration::from_secs(20 * 3600);

/// The progress of one loop.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Progress as lines; `None` where a bar is seen, and where nothing is shown.
    lines: Option<RefCell<Lines>>,
}

impl Progress {
    /// Shows nothing.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), lines: None }
    }

    /// Begins a loop of `total` steps, of which `done` are made already.
    pub fn start(what: &'static str, total: u64, done: u64) -> Self {
        let left = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let eta = state.eta();
            if !eta.is_zero() {
                // Text that cannot be added to a line is left out.
                let _ = text.write_str(&time_left(eta, Local::now()));
            }
        };
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {msg}  {left}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("left", left);
        let bar = ProgressBar::new(total).with_style(style).with_prefix(what).with_position(done);
        bar.reset_eta();
        let lines = bar.is_hidden().then(|| RefCell::new(Lines::new(what, total, done, Instant::now())));
        Self { bar, lines }
    }

    /// Moves to `done` steps, and shows `message` beside them. A line to print, where one is due.
    pub fn advance(&self, done: u64, message: Option<String>) -> Option<String> {
        if let Some(lines) = &self.lines {
            return lines.borrow_mut().advance(done, message, Instant::now(), Local::now());
        }
        if let Some(message) = message {
            self.bar.set_message(message);
        }
        self.bar.set_position(done);
        None
    }

    /// Does `print` with the bar out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        self.bar.finish_and_clear();
        *self = Self::hidden();
    }
}

/// Progress as lines.
#[derive(Debug)]
struct Lines {
    what: &'static str,
    total: u64,
    /// Steps that were made before the start.
    first: u64,
    start: Instant,
    last_line: Instant,
    message: String,
}

impl Lines {
    fn new(what: &'static str, total: u64, first: u64, now: Instant) -> Self {
        Self { what, total, first, start: now, last_line: now, message: String::new() }
    }

    /// The line for `done` steps, where the last one is long ago. `message` stays until the next one.
    fn advance(&mut self, done: u64, message: Option<String>, now: Instant, clock: DateTime<Local>) -> Option<String> {
        if let Some(message) = message {
            self.message = message;
        }
        if now - self.last_line < LINE_EVERY || done <= self.first || done >= self.total {
            return None;
        }
        self.last_line = now;
        let per_step = (now - self.start).as_secs_f64() / (done - self.first) as f64;
        let left = Duration::from_secs_f64(per_step * (self.total - done) as f64);
        let mut line = format!("{} {done}/{}", self.what, self.total);
        if !self.message.is_empty() {
            // Adding to a text does not fail.
            let _ = write!(line, "  {}", self.message);
        }
        Some(format!("{line}  {}", time_left(left, clock)))
    }
}

/// `3 h 20 min left, done at 14:05`; the clock time for longer runs alone, with its date where that is another day.
fn time_left(left: Duration, now: DateTime<Local>) -> String {
    let minutes = (left.as_secs() + 30) / 60;
    let words = match left.as_secs() {
        seconds @ 0..=89 => format!("{seconds} s"),
        _ if minutes < 60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    };
    let end = TimeDelta::from_std(left).ok().and_then(|left| now.checked_add_signed(left));
    match end.filter(|_| left >= CLOCK_FROM) {
        None => format!("{words} left"),
        Some(end) => {
            let format = if left >= DATE_FROM { "%a %d %b %H:%M" } else { "%H:%M" };
            format!("{words} left, done at {}", end.format(format))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn noon() -> DateTime<Local> {
        // A day without a change of clocks in any zone.
        Local.with_ymd_and_hms(2026, 1, 14, 12, 0, 0).unwrap()
    }

    #[test]
    fn time_left_is_in_words_and_longer_ones_end_at_a_clock_time() {
        for (seconds, words) in [
            (0, "0 s left"),
            (89, "89 s left"),
            (90, "2 min left"),
            (299, "5 min left"),
            (300, "5 min left, done at 12:05"),
            (3 * 3600 + 20 * 60, "3 h 20 min left, done at 15:20"),
            (20 * 3600, "20 h 0 min left, done at Thu 15 Jan 08:00"),
        ] {
            assert_eq!(time_left(Duration::from_secs(seconds), noon()), words, "{seconds}");
        }
    }

    #[test]
    fn lines_come_once_a_minute_and_tell_the_last_message() {
        let start = Instant::now();
        let mut lines = Lines::new("train", 1000, 100, start);
        let mut at = |seconds: u64, done: u64, message: Option<&str>| {
            lines.advance(done, message.map(str::to_owned), start + Duration::from_secs(seconds), noon())
        };
        assert_eq!(at(0, 100, None), None);
        assert_eq!(at(59, 149, Some("loss 0.5")), None);
        // 50 steps in 60 s: 850 more take 1020 s.
        let line = "train 150/1000  loss 0.5  17 min left, done at 12:17";
        assert_eq!(at(60, 150, None).as_deref(), Some(line));
        assert_eq!(at(119, 200, Some("loss 0.4")), None);
        assert_eq!(at(121, 200, None).unwrap().split("  ").nth(1), Some("loss 0.4"));
        assert_eq!(at(500, 1000, None), None, "the end has lines of its own");
    }
}
