mod basis;
mod system;

use super::{Transform, check_theta, generate};
use crate::ops::targets::coordinates;
use basis::{Basis, SplineGrid};
use candle_core::{Result, Tensor, bail};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use system::System;

/// The thin plate spline (section 3.2; Bookstein 1989): 2K parameters, the source points `(x, y)` of K control points.
///
/// The smoothest map that takes each control point of the output to the source point that theta gives it:
/// `T(p) = a + B p + sum_k w_k U(|p - c_k|)` with `U(r) = r^2 log r`, `U(0) = 0`, whose weights solve a linear system of
/// K + 3 equations. The control points are constants, so the system is solved once, in `f64`, when the transform is made,
/// and T is linear in theta: `grid = basis theta` with a constant basis (H' W', K). The basis is kept for the output size
/// last asked for.
///
/// The paper uses 16 control points and says no more of them; `new(4, 4)` puts them on a regular grid from edge to edge.
/// Coordinates are absolute and in the sampling grid's frame, (x, y) with -1 and 1 at the sides of the image, by either
/// `align_corners`. Identity: the control points themselves.
///
/// In Kornia, `get_tps_transform` and `warp_image_tps` (which solve per image); in SciPy, `RBFInterpolator` with the
/// kernel `thin_plate_spline`, from the control points to theta.
///
/// # Shapes
///
/// theta (N, 2K), (K, 2) in rows: `[x0 y0 x1 y1 ..]` -> (N, H', W', 2).
///
/// # Gradients
///
/// By theta. The control points are constants.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::{ThinPlateSpline, Transform};
///
/// let spline = ThinPlateSpline::new(3, 3)?;
/// let mut theta = spline.identity(); // 18 numbers, row by row
/// theta[2 * 4] = 0.5; // the middle looks to the right
/// let grid = spline.grid(&Tensor::from_vec(theta, (1, 18), &Device::Cpu)?, (5, 5), true)?; // (1, 5, 5, 2)
/// let middle = grid.get(0)?.get(2)?.get(2)?.to_vec1::<f32>()?;
/// assert!((middle[0] - 0.5).abs() < 1e-6 && middle[1].abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct ThinPlateSpline {
    control: Vec<[f32; 2]>,
    system: Arc<System>,
    /// The basis of the output size last asked for; clones share it.
    basis: Arc<Mutex<Option<Arc<Basis>>>>,
}

impl ThinPlateSpline {
    /// Puts control points on a regular grid over [-1, 1], row by row.
    ///
    /// # Errors
    ///
    /// With fewer than two rows or columns.
    pub fn new(rows: usize, cols: usize) -> Result<Self> {
        Self::with_span(rows, cols, 1.0)
    }

    /// Puts control points on a regular grid over [-span, span], row by row.
    ///
    /// # Errors
    ///
    /// With fewer than two rows or columns, or a span that is not a positive number.
    pub fn with_span(rows: usize, cols: usize, span: f64) -> Result<Self> {
        if rows < 2 || cols < 2 {
            bail!("thin_plate_spline: at least 2 rows and 2 columns are needed, got {rows} and {cols}")
        }
        if !(span.is_finite() && span > 0.0) {
            bail!("thin_plate_spline: the span must be a positive number, got {span}")
        }
        let (x, y) = (coordinates(cols, true), coordinates(rows, true));
        let points = y.iter().flat_map(|y| x.iter().map(move |x| [(x * span) as f32, (y * span) as f32]));
        Self::from_points(&points.collect::<Vec<_>>())
    }

    /// Takes any control points, `(x, y)` in the output.
    ///
    /// They are `f32`, as [`identity`](Transform::identity) is, so that the identity is exact.
    ///
    /// # Errors
    ///
    /// When there are fewer than three, when two coincide, when all lie on one line, or when one isn't finite.
    pub fn from_points(control: &[[f32; 2]]) -> Result<Self> {
        Self::regularised(control, 0.0)
    }

    /// Takes any control points, and lets the map miss its source points to bend less.
    ///
    /// `regularisation` is added to the diagonal of the system, as SciPy's `smoothing` is: 0 interpolates, infinity would be
    /// the affine map of least squares. The identity is exact whatever it is.
    ///
    /// # Errors
    ///
    /// As for [`from_points`](Self::from_points), and when `regularisation` is negative or not finite.
    pub fn regularised(control: &[[f32; 2]], regularisation: f64) -> Result<Self> {
        let system = Arc::new(System::new(control, regularisation)?);
        Ok(Self { control: control.to_vec(), system, basis: Arc::default() })
    }

    /// Returns the control points, `(x, y)` in the output.
    pub fn control_points(&self) -> &[[f32; 2]] {
        &self.control
    }

    /// The basis of an output size: the one that is kept, or a new one in its place.
    fn basis(&self, out_size: (usize, usize), align_corners: bool) -> Arc<Basis> {
        // What a panic elsewhere may have left is a basis or none.
        let kept = || self.basis.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(basis) = kept().as_ref().filter(|basis| basis.is_for(out_size, align_corners)) {
            return Arc::clone(basis);
        }
        // Not under the lock: it is made by many threads, and one that waits for the others may be given work that asks for this lock.
        let basis = Arc::new(Basis::new(&self.system, out_size, align_corners));
        *kept() = Some(Arc::clone(&basis));
        basis
    }
}

impl fmt::Debug for ThinPlateSpline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThinPlateSpline").field("control", &self.control).finish_non_exhaustive()
    }
}

impl Transform for ThinPlateSpline {
    fn num_params(&self) -> usize {
        2 * self.control.len()
    }

    fn param_names(&self) -> Vec<String> {
        (0..self.control.len()).flat_map(|k| [format!("x{k}"), format!("y{k}")]).collect()
    }

    fn identity(&self) -> Vec<f32> {
        self.control.concat()
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        check_theta("thin_plate_spline", theta, self.num_params())?;
        generate("thin_plate_spline", theta, SplineGrid(self.basis(out_size, align_corners)))
    }
}
