//! What a transformer is doing: where its windows lie, how it turns and scales them, whether it has collapsed.
//!
//! Transformers fail in silence: a window that has left the image samples zeros, gets no gradient and never comes back; one that
//! has shrunk to a point, or grown to many times the image, shows nothing to the classifier. [`observe`] tells it from the
//! sampling grid alone, for every family of transforms; [`gradient_ratio`] compares the gradients of the localisation net with the
//! classifier's; [`outside_penalty`] is a term of a loss that keeps windows inside. But for the penalty, results are plain numbers:
//! no graph is kept.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Result, Tensor, Var, bail};

mod pose;

pub use pose::Pose;

/// How far beyond the edge, in normalised coordinates, a sample still counts as inside: a new identity has its outermost samples
/// there, and rounding must not tell them apart.
const TOLERANCE: f64 = 1e-3;

/// What one window does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The share of its samples that lie outside of the image, 0 to 1. A sample that is NaN is outside.
    pub outside: f64,
    /// Its position, size and rotation; of a transform that isn't affine, those of the affine transform that comes closest.
    pub pose: Pose,
}

/// Observes the windows of sampling grids.
///
/// # Shapes
///
/// grid (N, H', W', 2), from [`SpatialTransformer::grid`](crate::SpatialTransformer::grid) for example, made with the same
/// `align_corners` -> N observations.
///
/// # Errors
///
/// When the grid isn't (N, H', W', 2), or H' or W' is less than 2.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::telemetry::{Collapse, Limits, observe};
/// use stn_core::transform::{Attention, Transform};
///
/// let theta = Tensor::new(&[[1f32, 0., 0.], [0.5, 0., 0.], [0.5, 1.2, 0.]], &Device::Cpu)?;
/// let grid = Attention.grid(&theta, (10, 10), true)?;
/// let [whole, middle, right] = observe(&grid, true)?[..] else { panic!() };
/// assert_eq!((whole.outside, middle.outside), (0.0, 0.0));
/// assert!((middle.pose.determinant - 0.25).abs() < 1e-6);
/// assert_eq!(right.outside, 0.7); // 7 of 10 columns
/// assert_eq!(right.collapse(&Limits::default()), Some(Collapse::Outside));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn observe(grid: &Tensor, align_corners: bool) -> Result<Vec<Observation>> {
    let &[_, height, width, 2] = grid.dims() else {
        bail!("observe: grid must be (N, H', W', 2), got {:?}", grid.dims())
    };
    if height < 2 || width < 2 {
        bail!("observe: a grid must have at least 2 rows and 2 columns, got {:?}", grid.dims())
    }
    let points = grid.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let windows = points.chunks_exact(height * width * 2);
    Ok(windows
        .map(|window| Observation {
            outside: outside(window),
            pose: Pose::of_matrix(pose::fit(window, (height, width), align_corners)),
        })
        .collect())
}

/// The share of points (x, y) outside of the square from -1 to 1.
fn outside(window: &[f64]) -> f64 {
    let is_inside = |point: &&[f64]| point.iter().all(|c| c.abs() <= 1.0 + TOLERANCE); // not for a NaN
    let inside = window.chunks_exact(2).filter(is_inside).count();
    1.0 - inside as f64 / (window.len() / 2) as f64
}

/// Why a window is as good as lost; [`Observation::collapse`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collapse {
    /// Parameters or samples are NaN or infinite: the training has diverged. Points of a projective transform without a place are finite and far away, those of a
    /// theta of NaNs too, and show as [`Vanished`](Self::Vanished).
    NonFinite,
    /// The window has left the image.
    Outside,
    /// The window has shrunk to a point or a line: one spot fills the output.
    Vanished,
    /// The window has grown far beyond the image: the picture is a spot in the output.
    Exploded,
}

/// From where on a window counts as collapsed. What is normal depends on the task: a window that looks for a digit in a large
/// image is small, and a good one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The largest share of samples outside.
    pub outside: f64,
    /// The least size of the determinant: the window's area over the image's.
    pub min_area: f64,
    /// The largest size of the determinant.
    pub max_area: f64,
}

impl Default for Limits {
    /// Half of the samples; a hundredth of the image's area; ten times that area.
    fn default() -> Self {
        Self { outside: 0.5, min_area: 0.01, max_area: 10.0 }
    }
}

impl Observation {
    /// Tells whether the window has collapsed, the gravest cause first: non-finite, vanished, exploded, outside.
    pub fn collapse(&self, limits: &Limits) -> Option<Collapse> {
        let area = self.pose.determinant.abs();
        if !self.pose.is_finite() {
            Some(Collapse::NonFinite)
        } else if area < limits.min_area {
            Some(Collapse::Vanished)
        } else if area > limits.max_area {
            Some(Collapse::Exploded)
        } else if self.outside > limits.outside {
            Some(Collapse::Outside)
        } else {
            None
        }
    }
}

/// Penalises samples outside of the image: the mean over all samples of the squared distance to the image's square.
///
/// A term of a loss, times a weight. The paper has none: its transformers are trained by the task's loss alone. Under zero padding
/// a window outside gets no other gradient.
///
/// # Shapes
///
/// grid (.., 2) -> a scalar.
///
/// # Gradients
///
/// Inside zero, outside 2 (g - edge) / count, continuous at the edge. The grid's gradient goes on to theta, but for points that a projective transform has
/// behind its horizon: they count as a million units outside each way, and their gradient ends there.
///
/// # Errors
///
/// When the last dimension isn't 2, or the grid is empty.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Var};
/// use stn_core::telemetry::outside_penalty;
///
/// let grid = Var::new(&[[[[0.9f64, -1.0], [1.5, 0.0]]]], &Device::Cpu)?; // one sample inside, one half a unit outside
/// let penalty = outside_penalty(&grid)?;
/// assert_eq!(penalty.to_scalar::<f64>()?, 0.25 / 2.0);
/// let gradient = penalty.backward()?.get(&grid).unwrap().flatten_all()?.to_vec1::<f64>()?;
/// assert_eq!(gradient, [0.0, 0.0, 0.5, 0.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn outside_penalty(grid: &Tensor) -> Result<Tensor> {
    if grid.dims().last() != Some(&2) || grid.elem_count() == 0 {
        bail!("outside_penalty: grid must be (.., 2) and not empty, got {:?}", grid.dims())
    }
    // |g| - 1 from two ReLUs: the gradient of Candle's abs at 0 is not 0.
    let beyond = (grid.affine(1.0, -1.0)?.relu()? + grid.affine(-1.0, -1.0)?.relu()?)?;
    beyond.sqr()?.sum(D::Minus1)?.mean_all()
}

/// The Euclidean norm of the gradients of named variables; one without a gradient counts as zero.
///
/// # Errors
///
/// When a gradient isn't of a float type.
pub fn gradient_norm<'a>(grads: &GradStore, vars: impl IntoIterator<Item = &'a (String, Var)>) -> Result<f64> {
    let mut sum = 0.0;
    for (_, var) in vars {
        if let Some(gradient) = grads.get(var) {
            let gradient = gradient.detach().to_device(&Device::Cpu)?; // not every device has f64
            sum += gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        }
    }
    Ok(sum.sqrt())
}

/// Compares the gradients of the localisation nets with all others: norm over norm, after [`gradient_norm`].
///
/// The localisation's variables are those whose names `is_localisation` accepts. Where the ratio is far above 1, people give the
/// localisation net a smaller learning rate, a tenth to a ten-thousandth ([`ParamGroup::lr_scale`](crate::optim::ParamGroup)).
/// Zero means that no gradient reaches it. Without a gradient elsewhere the ratio is infinite or NaN.
///
/// # Errors
///
/// When a gradient isn't of a float type.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use stn_core::telemetry::gradient_ratio;
///
/// let vars: Vec<(String, Var)> = [("localisation.fc.weight", 3f32), ("classifier.weight", 4.)]
///     .into_iter()
///     .map(|(name, value)| Ok((name.to_string(), Var::new(value, &Device::Cpu)?)))
///     .collect::<candle_core::Result<_>>()?;
/// let grads = (vars[0].1.sqr()? + vars[1].1.sqr()?)?.backward()?; // 6 and 8
/// let ratio = gradient_ratio(&grads, &vars, |name| name.starts_with("localisation."))?;
/// assert_eq!(ratio, 0.75);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn gradient_ratio(
    grads: &GradStore,
    vars: &[(String, Var)],
    is_localisation: impl Fn(&str) -> bool,
) -> Result<f64> {
    let (localisation, rest): (Vec<_>, Vec<_>) = vars.iter().partition(|(name, _)| is_localisation(name));
    Ok(gradient_norm(grads, localisation)? / gradient_norm(grads, rest)?)
}
