//! Transforms: from the parameters `theta` to a sampling grid.
//!
//! A transform T_theta maps **target to source**: where in the input each pixel of the output looks (backward warping).
//! Each family is a small value that implements [`Transform`]; a family of your own is one more implementation. Volumes have
//! [`Transform3d`], with [`Affine3d`], eq. (10).
//!
//! | family | theta | map |
//! |---|---|---|
//! | [`Translation`] | `tx ty` | a window of fixed size, moved |
//! | [`Attention`], eq. (2) | `s tx ty` | a window of any size |
//! | [`Similarity`] | `a b tx ty` | the same, turned |
//! | [`Affine`], eq. (1) | `t11 t12 t13 t21 t22 t23` | the same, stretched and skewed |
//! | [`Projective`] | `h11 h12 h13 h21 h22 h23 h31 h32` | a plane seen in perspective |
//! | [`ThinPlateSpline`] | `x0 y0 x1 y1 ..` | the smoothest map through K control points |
//!
//! [`Filled`] makes of any family one that sees a constant of your own outside the image, [`supersample`](crate::antialias::supersample)
//! one that shrinks without aliasing.
//!
//! The matrices of all but the last can be multiplied with [`compose`] and inverted with [`invert`]; two families can't be
//! joined to a third, for a [`Transform`] says where the pixels of an output look, not any point.
//!
//! No family bounds its parameters, as the paper's don't: through a tanh or sigmoid gradients vanish towards the bounds, and
//! the start at the identity would have to be bent to fit. Whoever wants bounds puts them into a family of their own, between
//! theta and [`affine_grid`].

mod affine;
mod affine_3d;
mod affine_grid;
mod affine_grid_3d;
mod attention;
mod compose;
mod filled;
mod invert;
mod projective;
mod projective_grid;
mod similarity;
mod thin_plate_spline;
mod transform_3d;
mod translation;

pub use affine::Affine;
pub use affine_3d::Affine3d;
pub use affine_grid::affine_grid;
pub use affine_grid_3d::affine_grid_3d;
pub use attention::Attention;
pub use compose::compose;
pub use filled::Filled;
pub use invert::invert;
pub use projective::Projective;
pub use similarity::Similarity;
pub use thin_plate_spline::ThinPlateSpline;
pub use transform_3d::Transform3d;
pub use translation::Translation;

use crate::ops::real::unsupported;
use crate::ops::{GridSampleConfig, grid_sample, grid_sample_fill};
use candle_core::{CustomOp1, DType, Device, NdArray, Result, Tensor};

/// A family of warps: theta (N, P) -> sampling grid (N, H', W', 2), last dimension (x, y) in [-1, 1] across the input.
///
/// Object safe, and `Box<dyn Transform>` is a `Transform`, for programs that choose a family by name.
///
/// # Example
///
/// A rotation about the centre, one parameter:
///
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use stn_core::transform::{Transform, affine_grid};
///
/// struct Rotation;
///
/// impl Transform for Rotation {
///     fn num_params(&self) -> usize {
///         1
///     }
///     fn param_names(&self) -> Vec<String> {
///         vec!["angle".into()]
///     }
///     fn identity(&self) -> Vec<f32> {
///         vec![0.0]
///     }
///     fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
///         let (sin, cos) = (theta.sin()?, theta.cos()?); // (N, 1)
///         let zero = theta.zeros_like()?;
///         let matrix = Tensor::cat(&[&cos, &sin.neg()?, &zero, &sin, &cos, &zero], 1)?; // (N, 6)
///         affine_grid(&matrix.reshape(((), 2, 3))?, out_size, align_corners)
///     }
/// }
///
/// let theta = Tensor::zeros((4, 1), candle_core::DType::F32, &Device::Cpu)?;
/// assert_eq!(Rotation.grid(&theta, (10, 20), true)?.dims(), [4, 10, 20, 2]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Transform: Send + Sync {
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
    /// theta (N, P), `out_size` (H', W') -> (N, H', W', 2), last dimension (x, y).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, P).
    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor>;

    /// Warps the input: [`grid`](Transform::grid), then [`grid_sample`].
    ///
    /// A family that can do both in one pass, without writing the grid to memory, overrides this.
    ///
    /// # Shapes
    ///
    /// input (B, C, H, W), theta (B k, P) -> (B k, C, H', W'); k consecutive windows an image.
    ///
    /// # Errors
    ///
    /// Those of the two halves.
    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        grid_sample(input, &self.grid(theta, out_size, cfg.align_corners)?, cfg)
    }

    /// Warps the input, with a constant of its own for each channel outside of it: [`grid`](Transform::grid), then [`grid_sample_fill`].
    /// [`Filled`] is the layer's way to it.
    ///
    /// A family whose [`warp`](Transform::warp) is more than the two overrides this as well.
    ///
    /// # Shapes
    ///
    /// As for [`warp`](Transform::warp); fill (C,).
    ///
    /// # Errors
    ///
    /// Those of the two halves.
    fn warp_filled(
        &self,
        input: &Tensor,
        theta: &Tensor,
        out_size: (usize, usize),
        fill: &Tensor,
        cfg: GridSampleConfig,
    ) -> Result<Tensor> {
        grid_sample_fill(input, &self.grid(theta, out_size, cfg.align_corners)?, fill, cfg)
    }
}

impl<T: Transform + ?Sized> Transform for Box<T> {
    fn num_params(&self) -> usize {
        (**self).num_params()
    }

    fn param_names(&self) -> Vec<String> {
        (**self).param_names()
    }

    fn identity(&self) -> Vec<f32> {
        (**self).identity()
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        (**self).grid(theta, out_size, align_corners)
    }

    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        (**self).warp(input, theta, out_size, cfg)
    }

    fn warp_filled(
        &self,
        input: &Tensor,
        theta: &Tensor,
        out_size: (usize, usize),
        fill: &Tensor,
        cfg: GridSampleConfig,
    ) -> Result<Tensor> {
        (**self).warp_filled(input, theta, out_size, fill, cfg)
    }
}

/// Fails unless theta is (N, `num_params`).
fn check_theta(family: &str, theta: &Tensor, num_params: usize) -> Result<()> {
    match theta.dims() {
        &[_, p] if p == num_params => Ok(()),
        dims => candle_core::bail!("{family}: theta must be (N, {num_params}), got {dims:?}"),
    }
}

/// Applies an op that has a kernel for the CPU only; from and to another device theta and the grid are copied.
fn generate(name: &str, theta: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    let theta = &widened(theta)?;
    if !matches!(theta.dtype(), DType::F32 | DType::F64) {
        return unsupported(name, theta.dtype());
    }
    theta.to_device(&Device::Cpu)?.contiguous()?.apply_op1(op)?.to_device(theta.device())
}

/// Theta in f32 where it is of half precision: a grid of halves could not tell the pixels of a large image apart.
fn widened(theta: &Tensor) -> Result<Tensor> {
    match theta.dtype() {
        DType::F16 | DType::BF16 => theta.to_dtype(DType::F32),
        _ => Ok(theta.clone()),
    }
}

/// The matrices of a family whose entries are linear in theta: theta (N, P) -> `theta columns + constant`, (N, 2, 3).
fn linear_matrix<const P: usize>(theta: &Tensor, columns: [[f64; 6]; P], constant: [f64; 6]) -> Result<Tensor> {
    let theta = &widened(theta)?;
    let columns = constants(&columns, theta)?; // (P, 6)
    let constant = constants(&constant, theta)?; // (6,)
    theta.contiguous()?.matmul(&columns)?.broadcast_add(&constant)?.reshape(((), 2, 3))
}

/// Numbers as a tensor of another's type, on its device. They are cast here: not every device has `f64`.
fn constants(numbers: impl NdArray, like: &Tensor) -> Result<Tensor> {
    Tensor::new(numbers, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())
}

/// A family's parameter names as owned strings.
fn names<const P: usize>(names: [&str; P]) -> Vec<String> {
    names.map(String::from).to_vec()
}
