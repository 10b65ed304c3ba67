//! What a run says while it runs. Unlike `println!`, [`say!`](crate::say) and [`warn!`](crate::warn) do not panic when nobody reads any
//! more (`stn list | head -1`): a training goes on.

use crate::budget::Budget;
use crate::metrics::Tally;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::time::Instant;

/// Prints a line to the standard output; like `println!`, but a closed pipe is no error.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// Prints a line to the standard error; like `eprintln!`, but a closed pipe is no error.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

/// The progress bar, with a line for every validation that stays on the screen.
pub struct Progress<'a> {
    bar: ProgressBar,
    budget: &'a Budget,
    counted: &'static str,
    /// The step and the time at which this sitting began.
    start: (usize, Instant),
    /// Tenths of the run that have had their line.
    tenth: Cell<usize>,
    /// Steps of this sitting.
    steps: Cell<usize>,
    /// When the first steps, which are slower than others, were done.
    warm: Cell<Option<Instant>>,
}

/// Steps of a sitting that its estimate is not made of, and those after which it is made.
const WARM_UP: usize = 10;
const MEASURED: usize = 50;

const TEMPLATE: &str = "  {bar:24} {pos}/{len} steps  {msg}  {eta} left";
const COUNTING: &str = "  {bar:24} {pos}/{len} {msg}  {eta} left";

impl<'a> Progress<'a> {
    /// A bar for the budget's steps, `start` of them done; `counted` says what is wrong of a step's examples.
    pub fn new(budget: &'a Budget, start: usize, counted: &'static str) -> Self {
        let bar = ProgressBar::new(budget.steps as u64).with_position(start as u64);
        // A test checks the template; without it the bar is plain.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.reset_eta();
        Self {
            bar,
            budget,
            counted,
            start: (start, Instant::now()),
            tenth: Cell::new(0),
            steps: Cell::new(0),
            warm: Cell::new(None),
        }
    }

    /// Shows what the last steps gave, and a validation in a line of its own.
    pub fn report(&self, step: usize, tally: &Tally, validation: Option<f64>) {
        let (loss, error) = (tally.mean_loss(), tally.error_percent());
        let images = ((step - self.start.0) * self.budget.batch) as f64;
        let rate = images / self.start.1.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_message(format!("loss {loss:.4}  {} {error:.2} %  {rate:.0} images/s", self.counted));
        // Where no terminal shows the bar, each tenth of the run gets a line.
        let tenth = 10 * step / self.budget.steps;
        let silent = self.bar.is_hidden() && self.tenth.replace(tenth) != tenth;
        if validation.is_some() || silent {
            let steps = self.budget.steps;
            let validation = validation.map_or(String::new(), |error| format!("  validation error {error:.2} %"));
            self.bar.suspend(|| {
                say!(
                    "  step {step:>6}/{steps}  loss {loss:.4}  {} {error:.2} %{validation}  {rate:.0} images/s",
                    self.counted
                );
            });
        }
    }

    /// Counts a step; after the first fifty says how long the rest will take.
    pub fn step(&self) {
        self.bar.inc(1);
        let done = self.steps.get() + 1;
        self.steps.set(done);
        if done == WARM_UP {
            self.warm.set(Some(Instant::now()));
        }
        let left = self.budget.steps.saturating_sub(self.start.0 + done);
        if let (MEASURED, Some(warm)) = (done, self.warm.get())
            && left >= MEASURED
        {
            let a_step = warm.elapsed().as_secs_f64() / (MEASURED - WARM_UP) as f64;
            self.bar.suspend(|| {
                say!(
                    "  {:.1} ms a step: the other {left} steps of this run will take about {}",
                    1e3 * a_step,
                    duration(a_step * left as f64)
                );
            });
        }
    }

    /// Leaves the bar as it stands.
    pub fn abandon(&self) {
        self.bar.abandon();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for so many things that are made before a training; without a terminal nothing is drawn.
pub(crate) fn counting(count: u64, things: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(count).with_message(things);
    if let Ok(style) = ProgressStyle::with_template(COUNTING) {
        bar.set_style(style);
    }
    bar
}

/// Seconds in words: `40 seconds`, `12 minutes`, `3.5 hours`, `2.1 days`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} seconds"),
        s if s < 100.0 * 60.0 => format!("{:.0} minutes", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} hours", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let said = [12.0, 600.0, 12_600.0, 259_200.0].map(duration);
        assert_eq!(said, ["12 seconds", "10 minutes", "3.5 hours", "3.0 days"]);
    }

    #[test]
    fn the_progress_templates_are_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok() && ProgressStyle::with_template(COUNTING).is_ok());
    }
}
