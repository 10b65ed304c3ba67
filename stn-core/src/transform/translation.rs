use super::{Transform, affine_grid, check_theta, linear_matrix, names};
use crate::ops::{GridSampleConfig, affine_grid_sample};
use candle_core::{Result, Tensor};

/// The translation of a window of fixed size: two parameters, `[tx ty]`.
///
/// `A = [[scale, 0, tx], [0, scale, ty]]`: eq. (2) with `s` given, as the bird networks use it with a scale of one
/// half.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::{Transform, Translation};
///
/// let window = Translation { scale: 0.5 };
/// let theta = Tensor::new(&[[-0.5f32, 0.0]], &Device::Cpu)?; // the left half's middle
/// let grid = window.grid(&theta, (3, 3), true)?; // (1, 3, 3, 2)
/// assert_eq!(grid.get(0)?.get(0)?.get(0)?.to_vec1::<f32>()?, [-1.0, -0.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Translation {
    /// The window's side over the input's; 1 for the whole image.
    pub scale: f64,
}

impl Translation {
    /// Gives the matrices of eq. (2) with the fixed scale.
    ///
    /// # Shapes
    ///
    /// theta (N, 2) -> (N, 2, 3).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, 2).
    pub fn matrix(&self, theta: &Tensor) -> Result<Tensor> {
        check_theta("translation", theta, self.num_params())?;
        let tx = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let ty = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        linear_matrix(theta, [tx, ty], [self.scale, 0.0, 0.0, 0.0, self.scale, 0.0])
    }
}

impl Transform for Translation {
    fn num_params(&self) -> usize {
        2
    }

    fn param_names(&self) -> Vec<String> {
        names(["tx", "ty"])
    }

    /// No shift: the window sits in the middle. That is the identity only where the scale is 1.
    fn identity(&self) -> Vec<f32> {
        vec![0.0, 0.0]
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        affine_grid(&self.matrix(theta)?, out_size, align_corners)
    }

    /// Warps in one pass, without the grid in memory.
    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        affine_grid_sample(input, &self.matrix(theta)?, out_size, cfg)
    }
}
