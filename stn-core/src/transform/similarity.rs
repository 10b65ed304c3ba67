use super::{Transform, affine_grid, check_theta, linear_matrix, names};
use crate::ops::{GridSampleConfig, affine_grid_sample};
use candle_core::{Result, Tensor};

/// The similarity transform: four parameters, `[a b tx ty]`.
///
/// `A = [[a, -b, tx], [b, a, ty]]`, eq. (1) with `a = s cos(angle)` and `b = s sin(angle)`: one scale, a rotation and a
/// translation, and never a reflection or skew. Linear in theta, so that no angle wraps round and no scale changes sign
/// by a step too far. Between the attention of eq. (2), which it is where b = 0, and the affine.
///
/// In PyTorch, `torch.nn.functional.affine_grid` of the matrix above.
///
/// # Shapes
///
/// theta (N, 4) -> (N, H', W', 2).
///
/// # Gradients
///
/// By theta.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::{Similarity, Transform};
///
/// // A quarter turn: the output's right upper corner looks at the input's right lower one.
/// let theta = Tensor::new(&[[0f32, 1.0, 0.0, 0.0]], &Device::Cpu)?;
/// let grid = Similarity.grid(&theta, (3, 3), true)?; // (1, 3, 3, 2)
/// assert_eq!(grid.get(0)?.get(0)?.get(2)?.to_vec1::<f32>()?, [1.0, 1.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Similarity;

impl Similarity {
    /// Gives the parameters of a window that is known: turned by `angle` radians, clockwise on the screen, `scale` times as wide and high as the
    /// input, its centre at `centre`, (x, y) in [-1, 1].
    ///
    /// Lengths are those of normalised coordinates: on pictures that aren't square a turn also shears, see [`algebra`](crate::algebra).
    ///
    /// # Example
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use stn_core::transform::{Similarity, Transform};
    ///
    /// // Half as large as the input, upside down, around the middle of its left half.
    /// let window = Similarity::parameters(std::f32::consts::PI, 0.5, (-0.5, 0.0));
    /// let grid = Similarity.grid(&Tensor::new(&[window], &Device::Cpu)?, (3, 3), true)?;
    /// let corner = grid.get(0)?.get(0)?.get(0)?.to_vec1::<f32>()?; // what the upper left pixel looks at
    /// assert!(corner[0].abs() < 1e-6 && (corner[1] - 0.5).abs() < 1e-6);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn parameters(angle: f32, scale: f32, centre: (f32, f32)) -> [f32; 4] {
        [scale * libm::cosf(angle), scale * libm::sinf(angle), centre.0, centre.1]
    }

    /// Gives the matrices A_theta.
    ///
    /// # Shapes
    ///
    /// theta (N, 4) -> (N, 2, 3).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, 4).
    pub fn matrix(&self, theta: &Tensor) -> Result<Tensor> {
        check_theta("similarity", theta, self.num_params())?;
        let a = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let b = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0];
        let tx = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let ty = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        linear_matrix(theta, [a, b, tx, ty], [0.0; 6])
    }
}

impl Transform for Similarity {
    fn num_params(&self) -> usize {
        4
    }

    fn param_names(&self) -> Vec<String> {
        names(["a", "b", "tx", "ty"])
    }

    fn identity(&self) -> Vec<f32> {
        vec![1.0, 0.0, 0.0, 0.0]
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        affine_grid(&self.matrix(theta)?, out_size, align_corners)
    }

    /// Warps in one pass, without the grid in memory.
    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        affine_grid_sample(input, &self.matrix(theta)?, out_size, cfg)
    }
}
