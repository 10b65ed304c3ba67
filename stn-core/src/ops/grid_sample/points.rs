//! The sampling points: read from a grid, or made from affine matrices as they are needed.

use crate::ops::real::Real;

/// The target coordinates of a side of `n` pixels. The numerators are whole numbers, so each is rounded once.
pub(super) fn target_coordinates(n: usize, align_corners: bool) -> Vec<f64> {
    let last = n as f64 - 1.0;
    let divisor = if align_corners { last } else { n as f64 };
    (0..n).map(|i| if n == 1 { 0.0 } else { (2.0 * i as f64 - last) / divisor }).collect()
}

/// The target coordinates of the output's columns and rows.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub(super) x: Vec<f64>,
    pub(super) y: Vec<f64>,
}

impl Targets {
    pub(super) fn new((height, width): (usize, usize), align_corners: bool) -> Self {
        Self { x: target_coordinates(width, align_corners), y: target_coordinates(height, align_corners) }
    }
}

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

/// One row's part of a matrix's gradient: sums of the points' gradients, by x_s times x_t and alone, by y_s likewise.
pub(super) fn row_sums<T: Real>(grad: &[T], targets: &Targets) -> [f64; 4] {
    let mut sums = [0.0; 4];
    for (point, &x) in grad.chunks_exact(2).zip(&targets.x) {
        let (gx, gy) = (point[0].to_f64(), point[1].to_f64());
        sums[0] += gx * x;
        sums[1] += gx;
        sums[2] += gy * x;
        sums[3] += gy;
    }
    sums
}

/// A matrix's gradient from the sums of its rows, added in their order.
pub(super) fn theta_gradient(rows: &[[f64; 4]], targets: &Targets) -> [f64; 6] {
    let mut sum = [0.0; 6];
    for (&[x_x, x_1, y_x, y_1], &y) in rows.iter().zip(&targets.y) {
        for (sum, term) in sum.iter_mut().zip([x_x, y * x_1, x_1, y_x, y * y_1, y_1]) {
            *sum += term;
        }
    }
    sum
}
