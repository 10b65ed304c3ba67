//! A digit at native size on a larger black canvas, among patches of other digits (TC, and co-localisation).

use rand_chacha::ChaCha8Rng;

use crate::data::Dataset;
use crate::data::mnist::SIDE;
use crate::data::seed::below;

/// The side of a clutter patch in pixels.
pub const PATCH: usize = 6;

/// Draws image `index` of `digits` at a uniformly random place of a black canvas with `patches` pieces of clutter; returns the
/// place of the frame's top left pixel, [x, y].
///
/// The recipe is that of DeepMind's `mnist-cluttered`: each patch is a 6x6 window, drawn uniformly (so it may be blank),
/// of another image drawn uniformly, and is added at a uniform place; the digit is added last. Every sum is clipped
/// at white. All places are whole pixels: nothing is resampled.
///
/// # Panics
///
/// When there is no such image, images are not (1, 28, 28), or `out` has not `canvas * canvas` bytes.
pub fn place_in_clutter(
    digits: &Dataset,
    index: usize,
    canvas: usize,
    patches: usize,
    rng: &mut ChaCha8Rng,
    out: &mut [u8],
) -> [usize; 2] {
    assert_eq!(digits.image_len(), SIDE * SIDE, "clutter: digits must be 28x28");
    assert!(canvas >= SIDE && out.len() == canvas * canvas, "clutter: {canvas}x{canvas} canvas");
    out.fill(0);
    let place =
        |rng: &mut ChaCha8Rng, side: usize, size: usize| [below(rng, side - size + 1), below(rng, side - size + 1)];
    for _ in 0..patches {
        // One of the n - 1 others: the indices from this digit's on move up by one.
        // A lone digit is its own clutter.
        let drawn = below(rng, digits.len() - 1);
        let other = (drawn + usize::from(drawn >= index)).min(digits.len() - 1);
        let window = place(rng, SIDE, PATCH);
        let at = place(rng, canvas, PATCH);
        add(digits.image(other), window, PATCH, out, canvas, at);
    }
    let at = place(rng, canvas, SIDE);
    add(digits.image(index), [0, 0], SIDE, out, canvas, at);
    at
}

/// Adds a square window of a digit to the canvas at `at`, clipped at 255.
fn add(digit: &[u8], window: [usize; 2], size: usize, out: &mut [u8], canvas: usize, at: [usize; 2]) {
    for row in 0..size {
        let from = (window[1] + row) * SIDE + window[0];
        let to = (at[1] + row) * canvas + at[0];
        for (pixel, value) in out[to..to + size].iter_mut().zip(&digit[from..from + size]) {
            *pixel = pixel.saturating_add(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Purpose, rng};

    #[test]
    fn the_digit_is_copied_and_clutter_is_small() {
        let mut images = vec![9; 2 * SIDE * SIDE];
        images[SIDE * SIDE..].fill(100); // the only other digit
        let digits = Dataset::new(images, vec![0, 1], 1, SIDE, SIDE).unwrap();
        let mut out = vec![1; 60 * 60];
        let mut corners = [false; 4];
        for i in 0..2000 {
            let mut rng = rng(0, Purpose::TestDistortion, 0, i);
            let [x, y] = place_in_clutter(&digits, 0, 60, 6, &mut rng, &mut out);
            let frame = |p: usize| (x..x + SIDE).contains(&(p % 60)) && (y..y + SIDE).contains(&(p / 60));
            let clutter = out.iter().enumerate().filter(|&(p, &v)| v >= 100 && !frame(p)).count();
            assert!(clutter <= 6 * PATCH * PATCH);
            assert!((0..3600).all(|p| !frame(p) || out[p] >= 9));
            for (seen, at) in corners.iter_mut().zip([[0, 0], [32, 0], [0, 32], [32, 32]]) {
                *seen |= [x, y] == at;
            }
        }
        assert!(corners.iter().any(|&seen| seen)); // both ends of the range are reached
    }

    #[test]
    fn sums_are_clipped() {
        let digits = Dataset::new(vec![200; 2 * SIDE * SIDE], vec![0; 2], 1, SIDE, SIDE).unwrap();
        let mut out = vec![0; SIDE * SIDE];
        place_in_clutter(&digits, 1, SIDE, 1, &mut rng(0, Purpose::TestDistortion, 0, 0), &mut out);
        assert_eq!(out.iter().filter(|&&v| v == 255).count(), PATCH * PATCH);
    }
}
