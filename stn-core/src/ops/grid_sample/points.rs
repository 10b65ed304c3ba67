//! The sampling points: read from a grid, or made from affine matrices as they are needed.

use crate::ops::real::Real;
use crate::ops::targets::Targets;

/// Where the points come from.
#[derive(Clone, Copy)]
pub(super) enum Points<'a, T> {
    /// The grids, (N, H', W', 2).
    Grid(&'a [T]),
    /// The matrices, (N, 2, 3).
    Affine(&'a [T], &'a Targets),
}

impl<T: Real> Points<'_, T> {
    /// Calls `visit(x, y)` for the points of a row, `row` of window `n`, in an output (H', W').
    pub(super) fn row(&self, n: usize, row: usize, (height, width): (usize, usize), mut visit: impl FnMut(f64, f64)) {
        match *self {
            Points::Grid(grid) => {
                let points = &grid[(n * height + row) * width * 2..][..width * 2];
                points.chunks_exact(2).for_each(|p| visit(p[0].to_f64(), p[1].to_f64()));
            }
            Points::Affine(theta, targets) => {
                let t: [f64; 6] = std::array::from_fn(|i| theta[6 * n + i].to_f64());
                let y = targets.y[row];
                let (row_x, row_y) = (t[1] * y + t[2], t[4] * y + t[5]);
                for &x in &targets.x {
                    // Rounded to T, as a grid in memory is: the two ways give the same bits.
                    let rounded = |p: f64| T::from_f64(p).to_f64();
                    visit(rounded(t[0] * x + row_x), rounded(t[3] * x + row_y));
                }
            }
        }
    }
}
