use super::{Transform, affine_grid, check_theta, names, widened};
use crate::ops::{GridSampleConfig, affine_grid_sample};
use candle_core::{Result, Tensor};

/// The affine transform, eq. (1): six parameters, row-major `[t11 t12 t13 t21 t22 t23]`.
///
/// `x_s = t11 x_t + t12 y_t + t13`, `y_s = t21 x_t + t22 y_t + t23`: crop, translation, rotation, scale and skew. A
/// determinant `t11 t22 - t12 t21` below 1 in size is a contraction: the output shows a part of the input, enlarged.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::{Affine, Transform};
///
/// let theta = Tensor::from_vec(Affine.identity(), (1, 6), &Device::Cpu)?;
/// let grid = Affine.grid(&theta, (3, 5), true)?; // (1, 3, 5, 2)
/// assert_eq!(grid.get(0)?.get(2)?.get(4)?.to_vec1::<f32>()?, [1.0, 1.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Affine;

impl Affine {
    /// Gives the matrices A_theta of eq. (1).
    ///
    /// # Shapes
    ///
    /// theta (N, 6) -> (N, 2, 3).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, 6).
    pub fn matrix(&self, theta: &Tensor) -> Result<Tensor> {
        check_theta("affine", theta, self.num_params())?;
        widened(theta)?.reshape(((), 2, 3))
    }
}

impl Transform for Affine {
    fn num_params(&self) -> usize {
        6
    }

    fn param_names(&self) -> Vec<String> {
        names(["t11", "t12", "t13", "t21", "t22", "t23"])
    }

    fn identity(&self) -> Vec<f32> {
        vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        affine_grid(&self.matrix(theta)?, out_size, align_corners)
    }

    /// Warps in one pass, without the grid in memory.
    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        affine_grid_sample(input, &self.matrix(theta)?, out_size, cfg)
    }
}
