//! Named randomness: every draw is a function of (seed, purpose, a, b), never of what was drawn before.
//!
//! The four numbers, 64 bits each in little-endian order, *are* the 256-bit key of ChaCha8: two different quadruples
//! never share a stream, and no hash stands between. What `a` and `b` mean is said at each [`Purpose`]. Uniform and normal
//! draws are our own few lines, since the distributions of the `rand` crates may change with a release, and use `libm`,
//! since a platform's own logarithm and cosine may differ in the last bit.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Names what randomness is for; the number is the second word of the key and must never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// Order of the training images: (epoch, 0); of a class's images in co-localisation: (class, 0).
    Order = 2,
    /// Distortion of a training image: (epoch, index of the image).
    Distortion = 3,
    /// Distortion of a test or validation image: (draw, index of the image).
    TestDistortion = 4,
    /// Partner and distortions of a training pair of addition: (epoch, index of its first image).
    Pair = 5,
    /// Partner and distortions of a test or validation pair: (draw, index of its first image).
    TestPair = 6,
    /// Images and random windows of a step of co-localisation: (step, 0).
    Windows = 7,
    /// A synthetic house number: (0 for training, 1 for testing; its index).
    HouseNumber = 8,
    /// A synthetic creature: (0 for training, 1 for testing; its index).
    Creature = 9,
    /// Crop and flip of a training image of a bird: (epoch, index of the image).
    BirdCrop = 10,
}

/// Builds the generator of one quadruple.
///
/// ```
/// use rand_chacha::rand_core::RngCore;
/// use stn_experiments::data::{Purpose, rng};
///
/// let draw = |index| rng(0, Purpose::Distortion, 3, index).next_u64();
/// assert_eq!(draw(17), draw(17));
/// assert_ne!(draw(17), draw(18));
/// ```
pub fn rng(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Shuffles 0..n for one epoch (Fisher-Yates).
pub fn epoch_order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut rng = rng(seed, Purpose::Order, epoch, 0);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i + 1));
    }
    order
}

/// Draws uniformly from `low..high`, on a grid of 2^-53 of the width.
pub fn uniform(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// Draws from a normal distribution (Box-Muller; the second value of the pair is not kept, so that a draw always
/// takes two words of the stream).
pub fn normal(rng: &mut ChaCha8Rng, mean: f64, std: f64) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(rng))); // 1 - u is never 0
    mean + std * radius * libm::cos(std::f64::consts::TAU * unit(rng))
}

/// Draws uniformly from 0..n; 0 where n is 0. The bias, below n / 2^64, is not worth a loop.
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Draws uniformly from 0..1: the upper 53 bits of a word.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_are_pinned() {
        let mut first = rng(0, Purpose::Order, 0, 0);
        let mut other = rng(1, Purpose::TestDistortion, 2, 3);
        let words = [first.next_u64(), first.next_u64(), other.next_u64()];
        assert_eq!(
            words,
            [13401477096143823361, 7740415239162266461, 3181766576306927166],
            "a change here changes every published result"
        );
    }

    #[test]
    fn quadruples_do_not_meet() {
        let word = |s, p, a, b| rng(s, p, a, b).next_u64();
        let mut seen = std::collections::HashSet::new();
        for s in 0..3 {
            for p in [Purpose::Order, Purpose::Distortion, Purpose::TestDistortion] {
                for a in 0..3 {
                    for b in 0..3 {
                        assert!(seen.insert(word(s, p, a, b)));
                    }
                }
            }
        }
    }

    #[test]
    fn orders_are_permutations() {
        let order = epoch_order(7, 1, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &v)| i == v as usize));
        assert_ne!(order, epoch_order(7, 2, 1000));
        assert_eq!(order, epoch_order(7, 1, 1000));
        assert!(epoch_order(7, 1, 0).is_empty());
        assert_eq!(epoch_order(7, 1, 1), [0]);
    }

    #[test]
    fn moments() {
        let mut rng = rng(0, Purpose::Order, 0, 0);
        let n = 200_000;
        let moments = |draws: Vec<f64>| {
            let mean = draws.iter().sum::<f64>() / n as f64;
            let variance = draws.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
            (mean, variance.sqrt())
        };
        let (mean, std) = moments((0..n).map(|_| uniform(&mut rng, -90.0, 90.0)).collect());
        assert!(mean.abs() < 0.5 && (std - 180.0 / 12f64.sqrt()).abs() < 0.3);
        let (mean, std) = moments((0..n).map(|_| normal(&mut rng, 2.0, 5.0)).collect());
        assert!((mean - 2.0).abs() < 0.05 && (std - 5.0).abs() < 0.05);
        let (mean, _) = moments((0..n).map(|_| below(&mut rng, 10) as f64).collect());
        assert!((mean - 4.5).abs() < 0.03);
        assert!((0..1000).all(|_| below(&mut rng, 3) < 3));
    }
}
