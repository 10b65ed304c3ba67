//! The two-dimensional transform of a plane of pixels, in every lane one.

use super::dft::{Dft, Line, fast_len};
use crate::ops::real::Real;
use pulp::{Arch, Simd, WithSimd};

/// The transform of planes of one size.
pub(super) struct Plane<T> {
    rows: Dft<T>,
    columns: Dft<T>,
}

/// Planes of complex numbers, (height, width, lanes) each, and room for one row or column at a time.
pub(super) struct Canvas<T> {
    pub(super) re: Vec<T>,
    pub(super) im: Vec<T>,
    signals: [Vec<T>; 2],
}

impl<T> Default for Canvas<T> {
    fn default() -> Self {
        Self { re: vec![], im: vec![], signals: [vec![], vec![]] }
    }
}

/// Pixels of a plane for images of at most these sides.
pub(super) fn padded_pixels((height, width): (usize, usize)) -> usize {
    fast_len(height) * fast_len(width)
}

impl<T: Real> Plane<T> {
    /// For images of at most these sides, which it rounds up.
    pub(super) fn new((height, width): (usize, usize)) -> Self {
        Self { rows: Dft::new(fast_len(width)), columns: Dft::new(fast_len(height)) }
    }

    /// Height and width.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.columns.len, self.rows.len)
    }

    pub(super) fn pixels(&self) -> usize {
        self.columns.len * self.rows.len
    }

    /// Makes room for a plane, all zero.
    pub(super) fn clear(&self, canvas: &mut Canvas<T>) {
        canvas.re.clear();
        canvas.im.clear();
        self.resize(canvas);
    }

    /// Makes room for a plane, whatever is in it.
    pub(super) fn resize(&self, canvas: &mut Canvas<T>) {
        for part in [&mut canvas.re, &mut canvas.im] {
            part.resize(self.pixels() * T::LANES, T::zero());
        }
        for signal in &mut canvas.signals {
            signal.resize(self.rows.buffer().max(self.columns.buffer()), T::zero());
        }
    }

    /// Transforms planes of which only the first `rows` rows are not zero.
    pub(super) fn forward(&self, rows: usize, canvas: &mut Canvas<T>) {
        let Canvas { re, im, signals } = canvas;
        Arch::new().dispatch(Transform { plane: self, rows, re, im, signals, rows_first: true });
    }

    /// The inverse, times the number of pixels: sound in the first `rows` rows only.
    pub(super) fn inverse(&self, rows: usize, canvas: &mut Canvas<T>) {
        let Canvas { re, im, signals } = canvas;
        // The conjugate's transform is the inverse's conjugate; with real and imaginary part exchanged, no sign changes.
        Arch::new().dispatch(Transform { plane: self, rows, re: im, im: re, signals, rows_first: false });
    }
}

struct Transform<'a, T> {
    plane: &'a Plane<T>,
    rows: usize,
    re: &'a mut [T],
    im: &'a mut [T],
    signals: &'a mut [Vec<T>; 2],
    rows_first: bool,
}

impl<T: Real> WithSimd for Transform<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Plane { rows, columns } = self.plane;
        let (width, signals) = (rows.len, self.signals);
        for rows_now in [self.rows_first, !self.rows_first] {
            if rows_now {
                for y in 0..self.rows {
                    rows.run(simd, self.re, self.im, Line { first: y * width, step: 1 }, signals);
                }
            } else {
                for x in 0..width {
                    columns.run(simd, self.re, self.im, Line { first: x, step: width }, signals);
                }
            }
        }
    }
}
