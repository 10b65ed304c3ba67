//! How the digits of real house numbers lie: statistics of the boxes of the 46,469 numbers of SVHN's training and test set, and layouts drawn from them.
//!
//! `summarise_boxes.py`, beside this file, makes the tables from lists of boxes. No pixel of SVHN is in them.

use rand_chacha::ChaCha8Rng;

use super::rows::DigitBox;
use crate::data::seed::{below, normal, uniform};

/// In how many of 46,469 numbers there are one to five digits.
const COUNTS: [usize; 5] = [7620, 26_486, 10_772, 1580, 11];
/// Instead of 11, so that the fifth digit can be learned at all: one number in a hundred.
const FIVE: usize = 465;

/// The levels of the quantiles below.
const LEVELS: [f64; 11] = [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98];
/// Height of the digits in pixels.
const HEIGHTS: [f64; 11] = [13.0, 17.0, 19.0, 22.0, 25.0, 28.0, 31.0, 36.0, 43.0, 54.0, 82.0];
/// Width over height of a one, and of the other digits.
const ASPECT_OF_ONE: [f64; 11] = [0.2, 0.263, 0.3, 0.333, 0.358, 0.385, 0.413, 0.444, 0.481, 0.543, 0.682];
const ASPECTS: [f64; 11] = [0.289, 0.375, 0.425, 0.464, 0.5, 0.529, 0.562, 0.6, 0.638, 0.7, 0.833];
/// From the centre of a digit to that of the next, over the height.
const STEPS: [f64; 11] = [0.25, 0.33, 0.381, 0.417, 0.452, 0.483, 0.52, 0.556, 0.6, 0.667, 0.816];
/// By how much a digit lies below the one before it, over the height.
const SLOPES: [f64; 11] = [-0.278, -0.105, -0.059, -0.037, -0.013, 0.0, 0.0, 0.024, 0.047, 0.083, 0.211];

/// The value at a level, linear between the quantiles; beyond them, the outermost.
fn quantile(values: &[f64; 11], level: f64) -> f64 {
    let level = level.clamp(LEVELS[0], LEVELS[10]);
    let i = (1..LEVELS.len()).find(|&i| level <= LEVELS[i]).unwrap_or(LEVELS.len() - 1);
    let part = (level - LEVELS[i - 1]) / (LEVELS[i] - LEVELS[i - 1]);
    values[i - 1] + part * (values[i] - values[i - 1])
}

/// How many digits a number has.
pub(super) fn digits(rng: &mut ChaCha8Rng) -> usize {
    let mut counts = COUNTS;
    counts[4] = FIVE;
    let mut rest = below(rng, counts.iter().sum());
    for (i, count) in counts.into_iter().enumerate() {
        if rest < count {
            return i + 1;
        }
        rest -= count;
    }
    counts.len()
}

/// Boxes for digits of these classes, side by side; the first begins at (0, 0).
pub(super) fn boxes(classes: &[u8], rng: &mut ChaCha8Rng) -> Vec<DigitBox> {
    let height = quantile(&HEIGHTS, uniform(rng, 0.0, 1.0));
    // Narrow digits stand close together: a number has one level of both, which its digits leave a little.
    let level = uniform(rng, 0.0, 1.0);
    let slope = quantile(&SLOPES, uniform(rng, 0.0, 1.0)) * height;
    let near = |rng: &mut ChaCha8Rng| (level + normal(rng, 0.0, 0.1)).clamp(0.0, 1.0);
    let (mut centre, mut before) = (0.0, 0.0);
    let mut boxes = Vec::with_capacity(classes.len());
    for (i, &class) in classes.iter().enumerate() {
        let width = height * quantile(if class == 1 { &ASPECT_OF_ONE } else { &ASPECTS }, near(rng));
        if i > 0 {
            // Ink may touch, but not lie on ink.
            centre += (height * quantile(&STEPS, near(rng))).max(0.45 * (width + before));
        } else {
            centre = width / 2.0;
        }
        before = width;
        let rounded = |x: f64| (x + 0.5).floor() as i32;
        boxes.push(DigitBox {
            class,
            left: rounded(centre - width / 2.0),
            top: rounded(slope * i as f64),
            width: rounded(width).max(2),
            height: rounded(height),
        });
    }
    boxes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Purpose, rng};

    #[test]
    fn layouts_have_the_statistics_they_are_drawn_from() {
        let (mut counts, mut heights, mut aspects) = ([0; 6], vec![], vec![]);
        for i in 0..20_000 {
            let mut rng = rng(0, Purpose::HouseNumber, 0, i);
            let n = digits(&mut rng);
            counts[n] += 1;
            let boxes = boxes(&vec![7; n], &mut rng);
            assert!(boxes.len() == n && boxes.windows(2).all(|pair| pair[0].left < pair[1].left));
            heights.push(f64::from(boxes[0].height));
            aspects.push(f64::from(boxes[0].width) / f64::from(boxes[0].height));
        }
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        assert!((f64::from(counts[2]) / 20_000.0 - 26_486.0 / 46_923.0).abs() < 0.02, "{counts:?}");
        assert!(counts[0] == 0 && counts[5] > 100, "{counts:?}");
        assert!((median(&mut heights) - 28.0).abs() <= 1.0 && (median(&mut aspects) - 0.529).abs() < 0.03);
    }
}
