//! What is counted of house numbers: whole numbers, lengths and single digits.

use crate::cells::Cells;
use crate::data::svhn::{Labels, NONE, NumberSet};
use crate::experiments::Experiment;
use crate::experiments::classification::{check_finite, image_tensor};
use crate::metrics::Spread;
use crate::models::svhn::{DIGITS, SvhnNetwork};
use crate::run::RunResult;
use anyhow::Result;
use candle_core::{D, Tensor};
use serde_json::{Map, Value, json};
use std::fmt;
use std::fmt::Write;

/// Numbers that are read at a time.
const BATCH: usize = 128;

/// Errors on some numbers, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Numbers of which anything is wrong.
    pub sequence_error_percent: f64,
    /// Numbers of a wrong length.
    pub length_error_percent: f64,
    /// Digits, counted from the left, that are read otherwise.
    pub digit_error_percent: f64,
}

impl Score {
    /// Reads all numbers of a set.
    ///
    /// # Errors
    /// When the network does not fit the images.
    pub fn of(network: &SvhnNetwork, numbers: &NumberSet) -> Result<Self> {
        let mut counts = Counts::default();
        for start in (0..numbers.len()).step_by(BATCH) {
            let (images, labels) = batch(numbers, start..numbers.len().min(start + BATCH))?;
            let logits = network.forward(&images, false)?.logits;
            check_finite(&logits)?;
            for (read, labels) in read(&logits)?.iter().zip(&labels) {
                counts.add(read, labels);
            }
        }
        Ok(counts.score())
    }

    /// For a run's result: lengths and digits, the whole numbers being its error.
    pub(super) fn details(&self) -> Map<String, Value> {
        let details =
            [("length_error_percent", self.length_error_percent), ("digit_error_percent", self.digit_error_percent)];
        details.into_iter().map(|(name, value)| (name.to_string(), json!(value))).collect()
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence_error_percent, length_error_percent, digit_error_percent } = self;
        write!(
            f,
            "{sequence_error_percent:.2} % of the numbers wrong, {length_error_percent:.2} % of the lengths, {digit_error_percent:.2} % of the digits"
        )
    }
}

/// Images and labels of some numbers; pixels around zero, so that what a transformer finds outside is grey.
pub(super) fn batch(numbers: &NumberSet, indices: impl IntoIterator<Item = usize>) -> Result<(Tensor, Vec<Labels>)> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for index in indices {
        let (image, of) = numbers.get(index);
        pixels.extend_from_slice(image);
        labels.push(of);
    }
    Ok((normalised(&pixels, pixels.len() / labels.len().max(1))?, labels))
}

/// Pixels, 0 to 255, as the network sees them: -0.5 to 0.5, (N, 3, side, side).
pub(super) fn normalised(pixels: &[u8], image: usize) -> Result<Tensor> {
    let side = ((image / 3) as f64).sqrt() as usize;
    Ok((image_tensor(pixels, (3, side, side))? - 0.5)?)
}

/// The class that each head finds likeliest.
pub(super) fn read(logits: &Tensor) -> Result<Vec<Labels>> {
    let classes = logits.argmax(D::Minus1)?.to_vec2::<u32>()?;
    Ok(classes.iter().map(|heads| std::array::from_fn(|i| heads[i] as u8)).collect())
}

/// How many digits come before the first head that finds none.
pub(super) fn length(labels: &Labels) -> usize {
    labels.iter().position(|&label| label == NONE).unwrap_or(DIGITS)
}

#[derive(Debug, Default)]
struct Counts {
    numbers: usize,
    wrong: usize,
    wrong_lengths: usize,
    digits: usize,
    wrong_digits: usize,
}

impl Counts {
    fn add(&mut self, read: &Labels, labels: &Labels) {
        self.numbers += 1;
        self.wrong += usize::from(read != labels);
        self.wrong_lengths += usize::from(length(read) != length(labels));
        self.digits += length(labels);
        self.wrong_digits += read.iter().zip(&labels[..length(labels)]).filter(|(a, b)| a != b).count();
    }

    fn score(&self) -> Score {
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        Score {
            sequence_error_percent: percent(self.wrong, self.numbers),
            length_error_percent: percent(self.wrong_lengths, self.numbers),
            digit_error_percent: percent(self.wrong_digits, self.digits),
        }
    }
}

/// Lengths and digits beside whole numbers, a row a cell; in Markdown.
pub(super) fn table(experiment: &dyn Experiment, results: &[&RunResult]) -> String {
    let mut text = String::new();
    for cells in Cells::by_training(results) {
        let _ = writeln!(
            text,
            "\nWrong in percent, budget {}{}:\n\n| crops | model | numbers | lengths | digits |\n|---|---|---|---|---|",
            cells.training,
            if cells.scaled_down() { ", scaled down" } else { "" }
        );
        for data in experiment.data() {
            for model in experiment.models() {
                let runs = cells.runs(&data, &model);
                let mean = |value: &dyn Fn(&RunResult) -> Option<f64>| {
                    let values: Vec<f64> = runs.iter().filter_map(|run| value(run)).collect();
                    Spread::of(&values).map_or("-".into(), |spread| spread.to_string())
                };
                if runs.is_empty() {
                    continue;
                }
                let _ = writeln!(
                    text,
                    "| {data} px | {} | {} | {} | {} |",
                    experiment.label(&model),
                    mean(&|run| Some(run.error_percent)),
                    mean(&|run| run.details.get("length_error_percent")?.as_f64()),
                    mean(&|run| run.details.get("digit_error_percent")?.as_f64())
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lengths_and_digits_are_counted_apart() {
        let mut counts = Counts::default();
        let n = NONE;
        for (read, labels) in [
            ([1, 2, n, n, n], [1, 2, n, n, n]), // right
            ([1, 3, n, n, n], [1, 2, n, n, n]), // a digit
            ([1, n, n, n, n], [1, 2, n, n, n]), // a digit and the length
            ([1, 2, n, 7, n], [1, 2, n, n, n]), // a head behind the end: the number alone
        ] {
            counts.add(&read, &labels);
        }
        let expected = Score { sequence_error_percent: 75.0, length_error_percent: 25.0, digit_error_percent: 25.0 };
        assert_eq!(counts.score(), expected);
        assert_eq!(length(&[1, 2, 3, 4, 5]), 5);
    }
}
