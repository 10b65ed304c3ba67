//! One bilinear resampling of a digit, backwards: for each output pixel the place in the digit it comes from.

use crate::data::mnist::SIDE;

/// A digit with one black pixel around it, so that sampling near the border needs no case of its own.
pub(super) struct Padded([u8; (SIDE + 2) * (SIDE + 2)]);

impl Padded {
    /// Copies a (28, 28) digit.
    pub(super) fn new(digit: &[u8]) -> Self {
        let mut padded = [0; (SIDE + 2) * (SIDE + 2)];
        for (row, line) in digit.chunks_exact(SIDE).enumerate() {
            let start = (row + 1) * (SIDE + 2) + 1;
            padded[start..start + SIDE].copy_from_slice(line);
        }
        Self(padded)
    }

    /// Samples at (x, y) in pixels, the first pixel's centre being (0, 0); outside is black, and so is NaN.
    fn sample(&self, x: f64, y: f64) -> u8 {
        const END: f64 = (SIDE + 1) as f64;
        let (x, y) = (x + 1.0, y + 1.0);
        // Asked this way round, a NaN is outside too.
        let inside = x > 0.0 && x < END && y > 0.0 && y < END;
        if !inside {
            return 0;
        }
        let (column, row) = (x as usize, y as usize); // positive: truncation is floor
        let (fx, fy) = (x - column as f64, y - row as f64);
        let at = row * (SIDE + 2) + column;
        let pixel = |i: usize| f64::from(self.0[i]);
        let top = pixel(at) + fx * (pixel(at + 1) - pixel(at));
        let bottom = pixel(at + SIDE + 2) + fx * (pixel(at + SIDE + 3) - pixel(at + SIDE + 2));
        (top + fy * (bottom - top) + 0.5) as u8
    }
}

/// Fills `out` (canvas, canvas): pixel (column, row) takes the digit's value at `source(column, row)`.
pub(super) fn warp(digit: &[u8], canvas: usize, out: &mut [u8], source: impl Fn(usize, usize) -> (f64, f64)) {
    let digit = Padded::new(digit);
    for (row, line) in out.chunks_exact_mut(canvas).enumerate() {
        for (column, pixel) in line.iter_mut().enumerate() {
            let (x, y) = source(column, row);
            *pixel = digit.sample(x, y);
        }
    }
}
