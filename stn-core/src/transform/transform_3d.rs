use crate::ops::{GridSampleConfig, grid_sample_3d};
use candle_core::{Result, Tensor};

/// A family of warps of volumes: theta (N, P) -> sampling grid (N, D', H', W', 3), last dimension (x, y, z) in
/// [-1, 1] across the input.
///
/// [`Transform`](super::Transform) with a depth. Object safe, and `Box<dyn Transform3d>` is a `Transform3d`.
///
/// # Example
///
/// A window of fixed size that moves, three parameters:
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use stn_core::transform::{Transform3d, affine_grid_3d};
///
/// struct Translation3d;
///
/// impl Transform3d for Translation3d {
///     fn num_params(&self) -> usize {
///         3
///     }
///     fn param_names(&self) -> Vec<String> {
///         ["tx", "ty", "tz"].map(String::from).to_vec()
///     }
///     fn identity(&self) -> Vec<f32> {
///         vec![0.0; 3]
///     }
///     fn grid(&self, theta: &Tensor, out_size: (usize, usize, usize), align_corners: bool) -> Result<Tensor> {
///         let linear = Tensor::eye(3, theta.dtype(), theta.device())?.broadcast_as((theta.dim(0)?, 3, 3))?;
///         affine_grid_3d(&Tensor::cat(&[&linear, &theta.unsqueeze(2)?], 2)?, out_size, align_corners)
///     }
/// }
///
/// let theta = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(Translation3d.grid(&theta, (4, 5, 6), true)?.dims(), [2, 4, 5, 6, 3]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Transform3d: Send + Sync {
    /// Counts the parameters, P.
    fn num_params(&self) -> usize;

    /// Names the parameters, in the order of theta's columns.
    fn param_names(&self) -> Vec<String>;

    /// Gives the parameters at which a localisation net starts: the identity, or what comes closest to it in this
    /// family.
    fn identity(&self) -> Vec<f32>;

    /// Generates the sampling grid.
    ///
    /// # Shapes
    ///
    /// theta (N, P), `out_size` (D', H', W') -> (N, D', H', W', 3), last dimension (x, y, z).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, P).
    fn grid(&self, theta: &Tensor, out_size: (usize, usize, usize), align_corners: bool) -> Result<Tensor>;

    /// Warps the volumes: [`grid`](Transform3d::grid), then [`grid_sample_3d`].
    ///
    /// # Shapes
    ///
    /// input (B, C, D, H, W), theta (B k, P) -> (B k, C, D', H', W'); k consecutive windows a volume.
    ///
    /// # Errors
    ///
    /// Those of the two halves.
    fn warp(
        &self,
        input: &Tensor,
        theta: &Tensor,
        out_size: (usize, usize, usize),
        cfg: GridSampleConfig,
    ) -> Result<Tensor> {
        grid_sample_3d(input, &self.grid(theta, out_size, cfg.align_corners)?, cfg)
    }
}

impl<T: Transform3d + ?Sized> Transform3d for Box<T> {
    fn num_params(&self) -> usize {
        (**self).num_params()
    }

    fn param_names(&self) -> Vec<String> {
        (**self).param_names()
    }

    fn identity(&self) -> Vec<f32> {
        (**self).identity()
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize, usize), align_corners: bool) -> Result<Tensor> {
        (**self).grid(theta, out_size, align_corners)
    }

    fn warp(
        &self,
        input: &Tensor,
        theta: &Tensor,
        out_size: (usize, usize, usize),
        cfg: GridSampleConfig,
    ) -> Result<Tensor> {
        (**self).warp(input, theta, out_size, cfg)
    }
}
