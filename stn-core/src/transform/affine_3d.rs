use super::{Transform3d, affine_grid_3d, check_theta, names};
use candle_core::{Result, Tensor};

/// The affine transform of volumes, eq. (10): twelve parameters, the rows of a 3 x 4 matrix one after the other.
///
/// `(x_s, y_s, z_s)^T = A_theta (x_t, y_t, z_t, 1)^T`: `t14`, `t24` and `t34` translate.
///
/// # Example
///
/// The paper's way from a volume to an image: warp it, then flatten the depth by a sum, eq. (11), `sum(2)`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::transform::{Affine3d, Transform3d};
///
/// let volume = Tensor::ones((1, 1, 4, 5, 6), DType::F32, &Device::Cpu)?; // (N, C, D, H, W)
/// let theta = Tensor::from_vec(Affine3d.identity(), (1, 12), &Device::Cpu)?;
/// let warped = Affine3d.warp(&volume, &theta, (4, 5, 6), GridSampleConfig::new(true))?;
/// let projection = warped.sum(2)?; // (N, C, H', W')
/// assert_eq!(projection.dims(), [1, 1, 5, 6]);
/// assert_eq!(projection.min_all()?.to_scalar::<f32>()?, 4.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Affine3d;

impl Affine3d {
    /// Gives the matrices A_theta of eq. (10).
    ///
    /// # Shapes
    ///
    /// theta (N, 12) -> (N, 3, 4).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, 12).
    pub fn matrix(&self, theta: &Tensor) -> Result<Tensor> {
        check_theta("affine 3-D", theta, self.num_params())?;
        theta.reshape(((), 3, 4))
    }
}

impl Transform3d for Affine3d {
    fn num_params(&self) -> usize {
        12
    }

    fn param_names(&self) -> Vec<String> {
        names(["t11", "t12", "t13", "t14", "t21", "t22", "t23", "t24", "t31", "t32", "t33", "t34"])
    }

    fn identity(&self) -> Vec<f32> {
        vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize, usize), align_corners: bool) -> Result<Tensor> {
        affine_grid_3d(&self.matrix(theta)?, out_size, align_corners)
    }
}
