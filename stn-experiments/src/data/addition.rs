//! MNIST addition (A.1): two digits in the two channels of a 42x42 image, each under RTS on its own; the label is their sum.

use super::Dataset;
use super::distort::{Distortion, Pose};
use super::mnist::SIDE;
use super::seed::{self, Purpose, below};
use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The sums: 0 to 18.
pub const SUMS: usize = 19;
/// Two digits, a channel each.
pub const CHANNELS: usize = 2;
/// What is done to each digit.
pub const DISTORTION: Distortion = Distortion::Rts;

/// [`Dataset::identity`] of the test pairs of seed 0, draw 0.
pub const TEST_IDENTITY: &str = "828318757cd89dcdfba7da6b45047e0c72ca1257f4812bf9b6e4a9fbcef6cab0";

/// Two digits and how they lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Which digits.
    pub digits: [u8; 2],
    /// What was done to each.
    pub poses: [Pose; 2],
}

impl Pair {
    /// The label.
    pub fn sum(&self) -> u8 {
        self.digits[0] + self.digits[1]
    }
}

/// Counts the pixels of a pair, both channels together.
pub fn pair_len() -> usize {
    CHANNELS * DISTORTION.canvas() * DISTORTION.canvas()
}

/// Draws image `index` of `digits` into the first channel of `out` and a partner, drawn uniformly from all, into the second.
///
/// # Panics
///
/// When there is no such image, images are not (1, 28, 28), or `out` has not [`pair_len`] bytes.
pub fn draw_pair(digits: &Dataset, index: usize, rng: &mut ChaCha8Rng, out: &mut [u8]) -> Pair {
    let (first, second) = out.split_at_mut(pair_len() / 2);
    let partner = below(rng, digits.len());
    let poses = [DISTORTION.apply(digits, index, rng, first), DISTORTION.apply(digits, partner, rng, second)];
    Pair { digits: [index, partner].map(|i| digits.labels[i]), poses }
}

/// Draws a pair for every image, for testing or validation: draw `draw` of `seed`, the same bits every time.
///
/// # Errors
///
/// When the images are not (1, 28, 28), or there is none.
pub fn addition_set(digits: &Dataset, seed: u64, draw: u64) -> Result<(Dataset, Vec<Pair>)> {
    ensure!(
        !digits.is_empty() && (digits.channels, digits.height, digits.width) == (1, SIDE, SIDE),
        "addition: digits must be (N, 1, {SIDE}, {SIDE}) with N > 0, got ({}, {}, {}, {})",
        digits.len(),
        digits.channels,
        digits.height,
        digits.width
    );
    let mut images = vec![0; digits.len() * pair_len()];
    let pairs: Vec<Pair> = images
        .par_chunks_exact_mut(pair_len())
        .enumerate()
        .map(|(index, out)| draw_pair(digits, index, &mut seed::rng(seed, Purpose::TestPair, draw, index as u64), out))
        .collect();
    let (labels, side) = (pairs.iter().map(Pair::sum).collect(), DISTORTION.canvas());
    Ok((Dataset::new(images, labels, CHANNELS, side, side)?, pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Mnist;

    /// The test set's bits: the same on every platform, with any number of threads, in every release.
    #[test]
    fn the_test_pairs_are_pinned_and_their_sums_are_right() -> Result<()> {
        let digits = Mnist::embedded("asked for")?.test;
        let (set, pairs) = addition_set(&digits, 0, 0)?;
        assert_eq!(set.identity(), TEST_IDENTITY, "a change here changes every published test error");
        assert_eq!((set.channels, set.height, set.width), (2, 42, 42));
        let mut seen = [0; SUMS];
        for ((pair, &label), &first) in pairs.iter().zip(&set.labels).zip(&digits.labels) {
            assert_eq!((pair.digits[0], pair.digits[0] + pair.digits[1]), (first, label));
            seen[usize::from(label)] += 1;
        }
        // All sums occur, and 9 about ten times as often as 0 and 18.
        assert!(seen.iter().all(|&n| n > 50) && seen[9] > 800 && seen[0] < 200, "{seen:?}");
        Ok(())
    }

    #[test]
    fn the_channels_are_distorted_independently_and_afresh() -> Result<()> {
        let digits = Mnist::embedded("asked for")?.test.range(0..400)?;
        let (set, pairs) = addition_set(&digits, 1, 0)?;
        let turns: Vec<[f64; 2]> = pairs.iter().map(|pair| [pair.poses[0].rotation, pair.poses[1].rotation]).collect();
        let product: f64 = turns.iter().map(|[a, b]| a * b).sum::<f64>() / turns.len() as f64;
        assert!(
            turns.iter().flatten().all(|turn| turn.abs() <= 45.0) && product.abs() < 0.2 * 26.0 * 26.0,
            "{product}"
        );
        let (other, others) = addition_set(&digits, 1, 1)?;
        assert!(set.images != other.images && pairs.iter().zip(&others).any(|(a, b)| a.digits[1] != b.digits[1]));

        // One pair alone, on one thread, is the same.
        let mut alone = vec![0; pair_len()];
        let pair = draw_pair(&digits, 77, &mut seed::rng(1, Purpose::TestPair, 0, 77), &mut alone);
        assert!(alone == set.image(77) && pair == pairs[77]);
        Ok(())
    }
}
