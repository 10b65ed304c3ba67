use super::system::System;
use crate::ops::real::{on_elements, vectorised};
use crate::ops::targets::Targets;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;
use std::sync::Arc;

/// Pixels that are computed together: their sums stay in the nearest cache.
const BLOCK: usize = 64;

/// The weight of each source point in each point of the grid.
pub(super) struct Basis {
    out_size: (usize, usize),
    align_corners: bool,
    control_points: usize,
    /// (blocks of pixels, K, `BLOCK`); the last block is filled up with zeros.
    weights: Vec<f64>,
}

impl Basis {
    pub(super) fn new(system: &System, out_size: (usize, usize), align_corners: bool) -> Self {
        let control_points = system.control_points();
        let targets = Targets::new(out_size, align_corners);
        let points: Vec<[f64; 2]> = targets.y.iter().flat_map(|&y| targets.x.iter().map(move |&x| [x, y])).collect();
        let mut weights = vec![0.0; points.len().div_ceil(BLOCK) * control_points * BLOCK];
        let blocks = weights.par_chunks_exact_mut(control_points * BLOCK).zip(points.par_chunks(BLOCK));
        blocks.for_each(|(block, points)| {
            for (i, &point) in points.iter().enumerate() {
                for (k, weight) in system.weights(point).into_iter().enumerate() {
                    block[k * BLOCK + i] = weight;
                }
            }
        });
        Self { out_size, align_corners, control_points, weights }
    }

    pub(super) fn is_for(&self, out_size: (usize, usize), align_corners: bool) -> bool {
        self.out_size == out_size && self.align_corners == align_corners
    }

    fn pixels(&self) -> usize {
        self.out_size.0 * self.out_size.1
    }

    /// The weights of a block of pixels, by source point.
    fn blocks(&self) -> impl Iterator<Item = std::slice::ChunksExact<'_, f64>> {
        self.weights.chunks_exact(self.control_points * BLOCK).map(|block| block.chunks_exact(BLOCK))
    }

    /// Sums in f64, whatever the type, so that the identity returns the image also in f32.
    fn forward<T: WithDType>(&self, theta: &[T], n: usize) -> Vec<T> {
        let mut grid = vec![T::zero(); n * self.pixels() * 2];
        let windows = grid.par_chunks_mut((self.pixels() * 2).max(1)).zip(theta.par_chunks(self.control_points * 2));
        windows.for_each(|(grid, theta)| vectorised!(self.window(theta, grid)));
        grid
    }

    /// The transposed product: the pixels' gradients, weighted as the pixels are, summed in the order of the blocks.
    fn backward<T: WithDType>(&self, grad_grid: &[T], n: usize) -> Vec<T> {
        let mut grad_theta = vec![T::zero(); n * self.control_points * 2];
        let windows = grad_theta.par_chunks_mut(self.control_points * 2);
        let windows = windows.zip(grad_grid.par_chunks((self.pixels() * 2).max(1)));
        windows.for_each(|(grad_theta, grad_grid)| vectorised!(self.grad_window(grad_grid, grad_theta)));
        grad_theta
    }

    /// The grid of one window.
    #[inline(always)]
    fn window<T: WithDType>(&self, theta: &[T], grid: &mut [T]) {
        for (points, block) in grid.chunks_mut(2 * BLOCK).zip(self.blocks()) {
            let (mut x, mut y) = ([0.0; BLOCK], [0.0; BLOCK]);
            for (weights, source) in block.zip(theta.chunks_exact(2)) {
                add_scaled(&mut x, weights, source[0].to_f64());
                add_scaled(&mut y, weights, source[1].to_f64());
            }
            for (point, (x, y)) in points.chunks_exact_mut(2).zip(x.into_iter().zip(y)) {
                point[0] = T::from_f64(x);
                point[1] = T::from_f64(y);
            }
        }
    }

    /// The gradient of one window's theta.
    #[inline(always)]
    fn grad_window<T: WithDType>(&self, grad_grid: &[T], grad_theta: &mut [T]) {
        let mut sums = vec![[0.0; 2]; self.control_points];
        for (points, block) in grad_grid.chunks(2 * BLOCK).zip(self.blocks()) {
            let (mut x, mut y) = ([0.0; BLOCK], [0.0; BLOCK]);
            for (point, (x, y)) in points.chunks_exact(2).zip(x.iter_mut().zip(&mut y)) {
                (*x, *y) = (point[0].to_f64(), point[1].to_f64());
            }
            for (sum, weights) in sums.iter_mut().zip(block) {
                sum[0] += dot(&x, weights);
                sum[1] += dot(&y, weights);
            }
        }
        for (out, sum) in grad_theta.iter_mut().zip(sums.into_iter().flatten()) {
            *out = T::from_f64(sum);
        }
    }
}

#[inline(always)]
fn add_scaled(sums: &mut [f64; BLOCK], weights: &[f64], scale: f64) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum += weight * scale;
    }
}

/// In eight sums, which the processor can add side by side.
#[inline(always)]
fn dot(a: &[f64; BLOCK], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// theta (N, 2K) -> grid (N, H', W', 2).
pub(super) struct SplineGrid(pub(super) Arc<Basis>);

impl CustomOp1 for SplineGrid {
    fn name(&self) -> &'static str {
        "thin_plate_spline_grid"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _) = layout.shape().dims2()?;
        let grid = on_elements!("thin_plate_spline", (storage, layout), |theta| self.0.forward(theta, n))?;
        let (height, width) = self.0.out_size;
        Ok((grid, Shape::from((n, height, width, 2))))
    }

    fn bwd(&self, _theta: &Tensor, _grid: &Tensor, grad_grid: &Tensor) -> Result<Option<Tensor>> {
        let backward = SplineGridBackward(Arc::clone(&self.0));
        Ok(Some(grad_grid.contiguous()?.apply_op1_no_bwd(&backward)?))
    }
}

/// grid's gradient (N, H', W', 2) -> theta's (N, 2K).
struct SplineGridBackward(Arc<Basis>);

impl CustomOp1 for SplineGridBackward {
    fn name(&self) -> &'static str {
        "thin_plate_spline_grid_backward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _, _, _) = layout.shape().dims4()?;
        let grad_theta = on_elements!("thin_plate_spline", (storage, layout), |grad| self.0.backward(grad, n))?;
        Ok((grad_theta, Shape::from((n, 2 * self.0.control_points))))
    }
}
