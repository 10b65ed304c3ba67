use super::{Transform, affine_grid, check_theta, linear_matrix, names};
use crate::ops::{GridSampleConfig, affine_grid_sample};
use candle_core::{Result, Tensor};

/// The attention transform, eq. (2): three parameters, `[s tx ty]`.
///
/// `A = [[s, 0, tx], [0, s, ty]]`: a window of the input, as wide as `s` times the input, with its centre at (tx, ty).
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::{Attention, Transform};
///
/// // The right upper quarter.
/// let theta = Tensor::new(&[[0.5f32, 0.5, -0.5]], &Device::Cpu)?;
/// let grid = Attention.grid(&theta, (3, 3), true)?; // (1, 3, 3, 2)
/// assert_eq!(grid.get(0)?.get(0)?.get(0)?.to_vec1::<f32>()?, [0.0, -1.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attention;

impl Attention {
    /// Gives the matrices A_theta of eq. (2).
    ///
    /// # Shapes
    ///
    /// theta (N, 3) -> (N, 2, 3).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, 3).
    pub fn matrix(&self, theta: &Tensor) -> Result<Tensor> {
        check_theta("attention", theta, self.num_params())?;
        let s = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let tx = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let ty = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        linear_matrix(theta, [s, tx, ty], [0.0; 6])
    }
}

impl Transform for Attention {
    fn num_params(&self) -> usize {
        3
    }

    fn param_names(&self) -> Vec<String> {
        names(["s", "tx", "ty"])
    }

    fn identity(&self) -> Vec<f32> {
        vec![1.0, 0.0, 0.0]
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        affine_grid(&self.matrix(theta)?, out_size, align_corners)
    }

    /// Warps in one pass, without the grid in memory.
    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        affine_grid_sample(input, &self.matrix(theta)?, out_size, cfg)
    }
}
