use super::projective_grid::ProjectiveGrid;
use super::{Transform, check_theta, generate, names, widened};
use candle_core::{DType, Device, Result, Tensor};

/// The plane projective transform (section 3.2): eight parameters, row-major `[h11 h12 h13 h21 h22 h23 h31 h32]`, h33 = 1.
///
/// `x_s = (h11 x_t + h12 y_t + h13) / w`, `y_s = (h21 x_t + h22 y_t + h23) / w`, `w = h31 x_t + h32 y_t + 1`: the affine
/// transform of eq. (1) where h31 = h32 = 0.
///
/// # The horizon
///
/// A point has no image where w vanishes, and a wrong one, seen from behind, where w is negative. Points with w below
/// 1/1000 are therefore moved out of the image, to (±1e6, ±1e6), each sign that of the numerator: the direction in which
/// points before the horizon leave. There the sampler finds zeros, or under border padding the edge on that side.
/// (Reflection has no outside, nor has a side of one pixel with `align_corners`: they show some pixel.) Next to nothing is
/// lost between 0 and 1/1000: a point there is seen only where its numerators are smaller still.
///
/// 1e6 is also the largest coordinate of any point: one beyond it, or one that would be NaN, is set to it, with the
/// numerator's sign. So the grid is finite whatever theta is, NaN and infinities included.
///
/// In Kornia, `warp_grid` of `HomographyWarper`, which divides by whatever w is.
///
/// # Shapes
///
/// theta (N, 8) -> (N, H', W', 2).
///
/// # Gradients
///
/// By theta. A coordinate that was moved to ±1e6 adds nothing to it.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::{Projective, Transform};
///
/// // The right side is twice as far away as the middle.
/// let theta = Tensor::new(&[[1f32, 0., 0., 0., 1., 0., -0.5, 0.]], &Device::Cpu)?;
/// let grid = Projective.grid(&theta, (3, 3), true)?; // (1, 3, 3, 2)
/// assert_eq!(grid.get(0)?.get(0)?.get(2)?.to_vec1::<f32>()?, [2.0, -2.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Projective;

impl Projective {
    /// Gives the homographies of theta, for [`compose`](super::compose) and [`invert`](super::invert).
    ///
    /// # Shapes
    ///
    /// theta (N, 8) -> (N, 3, 3).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, 8).
    pub fn matrix(&self, theta: &Tensor) -> Result<Tensor> {
        check_theta("projective", theta, self.num_params())?;
        let theta = &widened(theta)?;
        let h33 = Tensor::ones((theta.dim(0)?, 1), theta.dtype(), theta.device())?;
        Tensor::cat(&[theta, &h33], 1)?.reshape(((), 3, 3))
    }

    /// Gives the theta of homographies: their entries, divided by h33.
    ///
    /// # Shapes
    ///
    /// (N, 3, 3) -> theta (N, 8).
    ///
    /// # Errors
    ///
    /// When a matrix has an h33 that is not positive: the middle of the output is then on or behind the horizon, which
    /// no theta can say.
    pub fn theta(&self, matrix: &Tensor) -> Result<Tensor> {
        if !matches!(matrix.dims(), [_, 3, 3]) {
            candle_core::bail!("projective: the matrix must be (N, 3, 3), got {:?}", matrix.dims())
        }
        let entries = matrix.reshape(((), 9))?;
        let h33 = entries.narrow(1, 8, 1)?;
        let numbers = h33.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        for (i, h33) in numbers.into_iter().enumerate() {
            if h33.is_nan() || h33 <= 0.0 {
                candle_core::bail!("projective: h33 of matrix {i} must be positive, got {h33}")
            }
        }
        entries.narrow(1, 0, 8)?.broadcast_div(&h33)
    }
}

impl Transform for Projective {
    fn num_params(&self) -> usize {
        8
    }

    fn param_names(&self) -> Vec<String> {
        names(["h11", "h12", "h13", "h21", "h22", "h23", "h31", "h32"])
    }

    fn identity(&self) -> Vec<f32> {
        vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        check_theta("projective", theta, self.num_params())?;
        generate("projective", theta, ProjectiveGrid::new(out_size, align_corners))
    }
}
