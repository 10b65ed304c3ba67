//! One bilinear resampling of a digit, backwards: for each output pixel the place in the digit it comes from.

use crate::data::mnist::SIDE;

/// The side of a digit with one black pixel around it, so that sampling near the border needs no case of its own.
const PADDED: usize = SIDE + 2;

/// A padded digit, and where it is not black.
pub(super) struct Digit {
    pixels: [f64; PADDED * PADDED],
    /// The first and last column with ink, in padded coordinates; where there is no ink, first > last.
    columns: [usize; 2],
    /// Likewise the rows.
    rows: [usize; 2],
}

impl Digit {
    /// Copies a (28, 28) digit.
    pub(super) fn new(digit: &[u8]) -> Self {
        let mut padded = Self { pixels: [0.0; PADDED * PADDED], columns: [PADDED, 0], rows: [PADDED, 0] };
        let mut ink = [0; SIDE]; // all rows in one
        for (row, line) in digit.chunks_exact(SIDE).enumerate() {
            let start = (row + 1) * PADDED + 1;
            for (pixel, &value) in padded.pixels[start..start + SIDE].iter_mut().zip(line) {
                *pixel = f64::from(value);
            }
            ink.iter_mut().zip(line).for_each(|(ink, value)| *ink |= value);
            if line.iter().fold(0, |ink, value| ink | value) != 0 {
                padded.rows = [padded.rows[0].min(row + 1), row + 1];
            }
        }
        if let (Some(first), Some(last)) = (ink.iter().position(|&v| v != 0), ink.iter().rposition(|&v| v != 0)) {
            padded.columns = [first + 1, last + 1];
        }
        padded
    }

    /// The open intervals of x and y, in padded coordinates, outside of which all is black.
    pub(super) fn ink(&self) -> [[f64; 2]; 2] {
        [self.columns, self.rows].map(|[first, last]| [first as f64 - 1.0, last as f64 + 1.0])
    }

    /// Samples a row of places into `out`. Only next to ink is there anything to compute: elsewhere the four neighbours are
    /// black, and so is their mean.
    fn sample(&self, xs: &[f64], ys: &[f64], out: &mut [u8]) {
        let [[left, right], [top, bottom]] = self.ink();
        for ((&x, &y), out) in xs.iter().zip(ys).zip(out) {
            let (x, y) = (x + 1.0, y + 1.0);
            // Asked this way round, a NaN is outside too.
            let inside = x > left && x < right && y > top && y < bottom;
            *out = if inside { (self.at(x, y) + 0.5) as u8 } else { 0 };
        }
    }

    /// Samples inside, at 0 < x, y < 29 in padded coordinates.
    pub(super) fn at(&self, x: f64, y: f64) -> f64 {
        let (column, row) = (x as i32, y as i32); // positive: truncation is floor
        let (fx, fy) = (x - f64::from(column), y - f64::from(row));
        let at = row as usize * PADDED + column as usize;
        let square = &self.pixels[at..at + PADDED + 2]; // one check for the four
        let top = square[0] + fx * (square[1] - square[0]);
        let bottom = square[PADDED] + fx * (square[PADDED + 1] - square[PADDED]);
        top + fy * (bottom - top)
    }
}

/// Fills `out` (canvas, canvas): a pixel takes the digit's value at its place (x, y) in pixels, the first pixel's centre being
/// (0, 0); outside is black, and so is NaN. `places(row, xs, ys)` computes a row's places.
pub(super) fn warp(digit: &[u8], canvas: usize, out: &mut [u8], places: impl Fn(usize, &mut [f64], &mut [f64])) {
    let digit = Digit::new(digit);
    let (mut xs, mut ys) = (vec![0.0; canvas], vec![0.0; canvas]);
    for (row, line) in out.chunks_exact_mut(canvas).enumerate() {
        places(row, &mut xs, &mut ys);
        digit.sample(&xs, &ys, line);
    }
}

/// The columns' numbers.
pub(super) fn columns() -> impl Iterator<Item = f64> {
    (0i32..).map(f64::from)
}
