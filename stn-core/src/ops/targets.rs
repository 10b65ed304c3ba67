//! The regular grid of target coordinates that generators map to sources, and the gradient of a matrix that does so.

use candle_core::WithDType;

/// The target coordinates of a side of `n` pixels. The numerators are whole numbers, so each is rounded once.
pub(crate) fn coordinates(n: usize, align_corners: bool) -> Vec<f64> {
    let last = n as f64 - 1.0;
    let divisor = if align_corners { last } else { n as f64 };
    (0..n).map(|i| if n == 1 { 0.0 } else { (2.0 * i as f64 - last) / divisor }).collect()
}

/// The coordinates (x_t, y_t) of the output's columns and rows.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
}

impl Targets {
    pub(crate) fn new(out_size: (usize, usize), align_corners: bool) -> Self {
        Self { x: coordinates(out_size.1, align_corners), y: coordinates(out_size.0, align_corners) }
    }

    /// (H', W').
    pub(crate) fn out_size(&self) -> (usize, usize) {
        (self.y.len(), self.x.len())
    }
}

/// How many partial sums a row has: column `j` is added to number `j % LANES`. They are the lanes of a vector.
pub(crate) const LANES: usize = 8;

/// One row's part of a matrix's gradient: sums of the points' gradients, by x_s times x_t and alone, by y_s likewise.
pub(crate) fn row_sums<T: WithDType>(grad: &[T], targets: &Targets) -> [f64; 4] {
    let mut sums = [[0.0; LANES]; 4];
    for (points, columns) in grad.chunks(2 * LANES).zip(targets.x.chunks(LANES)) {
        for (i, (point, &x)) in points.chunks_exact(2).zip(columns).enumerate() {
            let (gx, gy) = (point[0].to_f64(), point[1].to_f64());
            sums[0][i] += gx * x;
            sums[1][i] += gx;
            sums[2][i] += gy * x;
            sums[3][i] += gy;
        }
    }
    sums.map(fold)
}

/// The sum of a row's partial sums: by halves, as vectors can.
#[inline(always)]
pub(crate) fn fold(a: [f64; LANES]) -> f64 {
    let b: [f64; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
    (b[0] + b[2]) + (b[1] + b[3])
}

/// A matrix's gradient from the sums of its rows, added in their order.
pub(crate) fn theta_gradient(rows: &[[f64; 4]], targets: &Targets) -> [f64; 6] {
    let mut sum = [0.0; 6];
    for (&[x_x, x_1, y_x, y_1], &y) in rows.iter().zip(&targets.y) {
        for (sum, term) in sum.iter_mut().zip([x_x, y * x_1, x_1, y_x, y * y_1, y_1]) {
            *sum += term;
        }
    }
    sum
}
