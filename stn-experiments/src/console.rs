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
    /// The step and the time at which this sitting began.
    start: (usize, Instant),
    /// Tenths of the run that have had their line.
    tenth: Cell<usize>,
}

const TEMPLATE: &str = "  {bar:24} {pos}/{len} steps  {msg}  {eta} left";

impl<'a> Progress<'a> {
    /// A bar for the budget's steps, `start` of them done.
    pub fn new(budget: &'a Budget, start: usize) -> Self {
        let bar = ProgressBar::new(budget.steps as u64).with_position(start as u64);
        // A test checks the template; without it the bar is plain.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.reset_eta();
        Self { bar, budget, start: (start, Instant::now()), tenth: Cell::new(0) }
    }

    /// Shows what the last steps gave, and a validation in a line of its own.
    pub fn report(&self, step: usize, tally: &Tally, validation: Option<f64>) {
        let (loss, error) = (tally.mean_loss(), tally.error_percent());
        let images = ((step - self.start.0) * self.budget.batch) as f64;
        let rate = images / self.start.1.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_message(format!("loss {loss:.4}  error {error:.2} %  {rate:.0} images/s"));
        // Where no terminal shows the bar, each tenth of the run gets a line.
        let tenth = 10 * step / self.budget.steps;
        let silent = self.bar.is_hidden() && self.tenth.replace(tenth) != tenth;
        if validation.is_some() || silent {
            let steps = self.budget.steps;
            let validation = validation.map_or(String::new(), |error| format!("  validation error {error:.2} %"));
            self.bar.suspend(|| {
                say!(
                    "  step {step:>6}/{steps}  loss {loss:.4}  training error {error:.2} %{validation}  \
                     {rate:.0} images/s"
                );
            });
        }
    }

    /// Counts a step.
    pub fn step(&self) {
        self.bar.inc(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
