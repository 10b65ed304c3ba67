//! The sampling points: read from a grid, or made from affine matrices as they are needed.

use super::element::Element;
use super::problem::Problem;
use super::side::RUN;
use crate::ops::targets::Targets;

/// Where the points come from.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Points<'a, T> {
    /// The grids, (N, H', W', 2) or (N, D', H', W', 3).
    Grid(&'a [T]),
    /// The matrices, (N, 2, 3).
    Affine(&'a [T], &'a Targets),
}

impl<T: Element> Points<'_, T> {
    /// The coordinates of the points from number `first` of window `n` on; those behind the window's last point stay what they were.
    #[inline(always)]
    pub(super) fn run<const D: usize>(
        &self,
        problem: &Problem<D>,
        n: usize,
        first: usize,
        coordinates: &mut [[f64; RUN]; D],
    ) {
        let points = problem.points();
        match *self {
            Points::Grid(grid) => {
                let grid = &grid[(n * points + first) * D..(n + 1) * points * D];
                if let Some((grid, _)) = grid.split_at_checked(RUN * D) {
                    for i in 0..RUN {
                        for d in 0..D {
                            coordinates[d][i] = grid[i * D + d].wide();
                        }
                    }
                } else {
                    for (i, point) in grid.chunks_exact(D).enumerate() {
                        for d in 0..D {
                            coordinates[d][i] = point[d].wide();
                        }
                    }
                }
            }
            Points::Affine(theta, targets) => {
                let t: [f64; 6] = std::array::from_fn(|i| theta[6 * n + i].wide());
                let width = targets.x.len();
                let end = RUN.min(points - first);
                let mut i = 0;
                while i < end {
                    let (row, column) = ((first + i) / width, (first + i) % width);
                    let y = targets.y[row];
                    let (row_x, row_y) = (t[1] * y + t[2], t[4] * y + t[5]);
                    let columns = &targets.x[column..][..(width - column).min(end - i)];
                    // Rounded to T, as a grid in memory is: the two ways give the same bits.
                    for (place, &x) in coordinates[0][i..].iter_mut().zip(columns) {
                        *place = T::narrow(t[0] * x + row_x).wide();
                    }
                    for (place, &x) in coordinates[1][i..].iter_mut().zip(columns) {
                        *place = T::narrow(t[3] * x + row_y).wide();
                    }
                    i += columns.len();
                }
            }
        }
    }

    /// The coordinates of one point.
    pub(super) fn point<const D: usize>(&self, problem: &Problem<D>, n: usize, i: usize) -> [f64; D] {
        match *self {
            Points::Grid(grid) => std::array::from_fn(|d| grid[(n * problem.points() + i) * D + d].wide()),
            // There is no fill outside an image that is warped by matrices.
            Points::Affine(..) => [f64::NAN; D],
        }
    }
}
