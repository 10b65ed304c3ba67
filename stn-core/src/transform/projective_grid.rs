use crate::ops::real::{contiguous, on_elements};
use crate::ops::targets::Targets;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

/// Points with a smaller denominator are on or behind the horizon.
const HORIZON: f64 = 1e-3;

/// Where the points go that have no image, and the largest coordinate.
const FAR: f64 = 1e6;

/// One coordinate, and one over the denominator where the coordinate depends on theta, else zero.
fn divide(numerator: f64, denominator: f64) -> (f64, f64) {
    let quotient = numerator / denominator;
    // NaN fails the comparisons.
    if denominator >= HORIZON && quotient.abs() <= FAR {
        (quotient, 1.0 / denominator)
    } else {
        (if numerator < 0.0 { -FAR } else { FAR }, 0.0)
    }
}

/// theta (N, 8) -> grid (N, H', W', 2).
#[derive(Clone)]
pub(super) struct ProjectiveGrid {
    targets: Targets,
}

impl ProjectiveGrid {
    pub(super) fn new(out_size: (usize, usize), align_corners: bool) -> Self {
        Self { targets: Targets::new(out_size, align_corners) }
    }

    fn forward<T: WithDType>(&self, theta: &[T]) -> Vec<T> {
        let (height, width) = self.targets.out_size();
        let mut grid = vec![T::zero(); theta.len() / 8 * height * width * 2];
        let windows = grid.par_chunks_mut((height * width * 2).max(1)).zip(theta.par_chunks(8));
        windows.for_each(|(grid, theta)| {
            let h: [f64; 8] = std::array::from_fn(|i| theta[i].to_f64());
            for (row, &y) in grid.chunks_exact_mut((width * 2).max(1)).zip(&self.targets.y) {
                let (row_x, row_y, row_w) = (h[1] * y + h[2], h[4] * y + h[5], h[7] * y + 1.0);
                for (point, &x) in row.chunks_exact_mut(2).zip(&self.targets.x) {
                    let w = h[6] * x + row_w;
                    point[0] = T::from_f64(divide(h[0] * x + row_x, w).0);
                    point[1] = T::from_f64(divide(h[3] * x + row_y, w).0);
                }
            }
        });
        grid
    }

    /// Sums in f64. The derivative of x_s = n / w by n is 1 / w, by w it is -x_s / w.
    fn backward<T: WithDType>(&self, theta: &[T], grad_grid: &[T]) -> Vec<T> {
        let (height, width) = self.targets.out_size();
        let mut grad_theta = vec![T::zero(); theta.len()];
        let windows = grad_theta.par_chunks_mut(8).zip(theta.par_chunks(8));
        windows.zip(grad_grid.par_chunks((height * width * 2).max(1))).for_each(|((grad_theta, theta), grad_grid)| {
            let h: [f64; 8] = std::array::from_fn(|i| theta[i].to_f64());
            let mut sum = [0.0; 8];
            for (row, &y) in grad_grid.chunks_exact((width * 2).max(1)).zip(&self.targets.y) {
                let (row_x, row_y, row_w) = (h[1] * y + h[2], h[4] * y + h[5], h[7] * y + 1.0);
                for (point, &x) in row.chunks_exact(2).zip(&self.targets.x) {
                    let w = h[6] * x + row_w;
                    let (source_x, per_x) = divide(h[0] * x + row_x, w);
                    let (source_y, per_y) = divide(h[3] * x + row_y, w);
                    // Not a product with zero, which a NaN or infinity from above would survive.
                    let by_x = if per_x == 0.0 { 0.0 } else { point[0].to_f64() * per_x };
                    let by_y = if per_y == 0.0 { 0.0 } else { point[1].to_f64() * per_y };
                    let by_w = -(by_x * source_x + by_y * source_y);
                    let terms = [by_x * x, by_x * y, by_x, by_y * x, by_y * y, by_y, by_w * x, by_w * y];
                    for (sum, term) in sum.iter_mut().zip(terms) {
                        *sum += term;
                    }
                }
            }
            for (out, sum) in grad_theta.iter_mut().zip(sum) {
                *out = T::from_f64(sum);
            }
        });
        grad_theta
    }
}

impl CustomOp1 for ProjectiveGrid {
    fn name(&self) -> &'static str {
        "projective_grid"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _) = layout.shape().dims2()?;
        let (height, width) = self.targets.out_size();
        let grid = on_elements!("projective", (storage, layout), |theta| self.forward(theta))?;
        Ok((grid, Shape::from((n, height, width, 2))))
    }

    fn bwd(&self, theta: &Tensor, _grid: &Tensor, grad_grid: &Tensor) -> Result<Option<Tensor>> {
        let backward = ProjectiveGridBackward(self.clone());
        Ok(Some(theta.apply_op2_no_bwd(&grad_grid.contiguous()?, &backward)?))
    }
}

/// theta (N, 8), grid's gradient (N, H', W', 2) -> theta's gradient (N, 8).
struct ProjectiveGridBackward(ProjectiveGrid);

impl CustomOp2 for ProjectiveGridBackward {
    fn name(&self) -> &'static str {
        "projective_grid_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let grad_theta =
            on_elements!("projective", (s1, l1), |theta| self.0.backward(theta, contiguous("projective", s2, l2)?))?;
        Ok((grad_theta, l1.shape().clone()))
    }
}
