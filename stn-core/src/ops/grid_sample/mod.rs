//! Sampling an image at the points of a grid, eqs. (3) and (5), with gradients for both, eqs. (6) and (7).

mod cpu;

use super::real::{contiguous, dispatch};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// How the value between pixels is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The weighted mean of the four nearest pixels, eq. (5).
    Bilinear,
}

/// What lies outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros, what eq. (5) implies.
    Zeros,
    /// The nearest pixel of the image's edge. The gradient along a clamped coordinate is zero.
    Border,
}

/// The options of [`grid_sample`].
///
/// There is no default: which convention a grid is in is always said.
///
/// # Example
/// ```
/// use stn_core::ops::{GridSampleConfig, Padding};
/// let cfg = GridSampleConfig::new(true).padding(Padding::Border);
/// assert!(cfg.align_corners);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridSampleConfig {
    /// `true`: -1 and +1 are the centres of the corner pixels, pixel = (g + 1) / 2 * (n - 1). `false`: they are the corner pixels'
    /// outer edges, pixel = ((g + 1) * n - 1) / 2.
    pub align_corners: bool,
    /// How the value between pixels is found; bilinear unless set.
    pub interpolation: Interpolation,
    /// What lies outside the image; zeros unless set.
    pub padding: Padding,
}

impl GridSampleConfig {
    /// Bilinear interpolation, zeros outside.
    pub const fn new(align_corners: bool) -> Self {
        Self { align_corners, interpolation: Interpolation::Bilinear, padding: Padding::Zeros }
    }

    /// Sets how the value between pixels is found.
    pub const fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets what lies outside the image.
    pub const fn padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }
}

/// Samples an image at the points of a grid, eq. (5).
///
/// The equivalent of PyTorch's `torch.nn.functional.grid_sample`, in its bilinear mode, with its conventions.
///
/// # Shapes
/// - `input`: (B, C, H, W), any strides; it is never copied, also where it is broadcast.
/// - `grid`: (B * k, H', W', 2), last dimension **(x, y)**, -1 to 1 across the input. Grids i * k .. (i + 1) * k sample image i, so
///   k windows of one image need no copies of it.
/// - result: (B * k, C, H', W').
///
/// # Gradients
/// For `input` and `grid`; each is computed only where it is asked for. At a coordinate that falls on a pixel, where eq. (7) has a
/// kink, the derivative is the right-hand one: the difference to the next pixel. Under [`Padding::Border`] it is zero where the
/// coordinate is clamped, the edge included.
///
/// A coordinate that is NaN samples zero under [`Padding::Zeros`] and the first pixel under [`Padding::Border`]; an infinite one
/// samples zero or the edge. Their gradient is zero. (Along a side of length 1 with `align_corners` every finite coordinate is the one
/// pixel.) A pixel that is NaN or infinite spreads to every sample that it is one of the four neighbours of, also with weight zero.
///
/// Coordinates are computed in `f64` whatever the tensors' type, so that the identity returns the image also in `f32`.
///
/// # Errors
/// On wrong ranks, a grid count that is no multiple of the image count, empty images, types other than `f32` and `f64` or that
/// differ, and on devices other than the CPU.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{GridSampleConfig, grid_sample};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::new(&[[[[1f32, 2., 3.], [4., 5., 6.]]]], &Device::Cpu)?; // (1, 1, 2, 3)
/// let centre = Tensor::new(&[[[[0f32, 0.]]]], &Device::Cpu)?; // one point: the middle
/// let value = grid_sample(&image, &centre, GridSampleConfig::new(true))?;
/// assert_eq!(value.flatten_all()?.to_vec1::<f32>()?, [3.5]);
/// # Ok(())
/// # }
/// ```
pub fn grid_sample(input: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    let &[b, _, h, w] = input.dims() else { bail!("grid_sample: input must be (B, C, H, W), got {:?}", input.shape()) };
    let &[n, _, _, 2] = grid.dims() else { bail!("grid_sample: grid must be (N, H', W', 2), got {:?}", grid.shape()) };
    if h == 0 || w == 0 {
        bail!("grid_sample: the input's height and width must not be zero, got {:?}", input.shape())
    }
    if if b == 0 { n != 0 } else { n % b != 0 } {
        bail!("grid_sample: the grid's first dimension must be a multiple of the input's, got {n} grids for {b} images")
    }
    if input.dtype() != grid.dtype() {
        bail!("grid_sample: input and grid must have the same dtype, got {:?} and {:?}", input.dtype(), grid.dtype())
    }
    if !input.device().is_cpu() || !grid.device().is_cpu() {
        bail!("grid_sample: there is a kernel for the CPU only; move the tensors with to_device(&Device::Cpu)")
    }
    input.apply_op2(&grid.contiguous()?, GridSample { cfg })
}

const NAME: &str = "grid_sample";

/// V of eq. (5).
struct GridSample {
    cfg: GridSampleConfig,
}

impl GridSample {
    fn forward<T: super::real::Real>(
        &self,
        input: (&CpuStorage, &Layout),
        grid: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(input.1, grid.1.shape(), self.cfg)?;
        let out = cpu::forward(&problem, T::cpu_storage_as_slice(input.0)?, contiguous::<T>(NAME, grid.0, grid.1)?);
        Ok((T::to_cpu_storage_owned(out), problem.output_shape()))
    }
}

impl CustomOp2 for GridSample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }

    fn bwd(
        &self,
        input: &Tensor,
        grid: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let grad_input = if input.track_op() {
            let op = GradInput { cfg: self.cfg, input: input.shape().clone() };
            Some(grid.apply_op2_no_bwd(&grad, &op)?)
        } else {
            None
        };
        let grad_grid = if grid.track_op() {
            Some(input.apply_op3_no_bwd(grid, &grad, &GradGrid { cfg: self.cfg })?)
        } else {
            None
        };
        Ok((grad_input, grad_grid))
    }
}

/// The sum over outputs of eq. (6): every output's gradient goes back to the pixels it was made of.
struct GradInput {
    cfg: GridSampleConfig,
    input: Shape,
}

impl GradInput {
    fn forward<T: super::real::Real>(
        &self,
        grid: (&CpuStorage, &Layout),
        grad: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let input = Layout::contiguous(&self.input);
        let problem = cpu::Problem::new(&input, grid.1.shape(), self.cfg)?;
        let grid = contiguous::<T>(NAME, grid.0, grid.1)?;
        let out = cpu::grad_input(&problem, grid, contiguous::<T>(NAME, grad.0, grad.1)?);
        Ok((T::to_cpu_storage_owned(out), self.input.clone()))
    }
}

impl CustomOp2 for GradInput {
    fn name(&self) -> &'static str {
        "grid_sample_grad_input"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }
}

/// Eq. (7), summed over the channels.
struct GradGrid {
    cfg: GridSampleConfig,
}

impl GradGrid {
    fn forward<T: super::real::Real>(
        &self,
        input: (&CpuStorage, &Layout),
        grid: (&CpuStorage, &Layout),
        grad: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(input.1, grid.1.shape(), self.cfg)?;
        let points = contiguous::<T>(NAME, grid.0, grid.1)?;
        let grad = contiguous::<T>(NAME, grad.0, grad.1)?;
        let out = cpu::grad_grid(&problem, T::cpu_storage_as_slice(input.0)?, points, grad);
        Ok((T::to_cpu_storage_owned(out), grid.1.shape().clone()))
    }
}

impl CustomOp3 for GradGrid {
    fn name(&self) -> &'static str {
        "grid_sample_grad_grid"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2), (s3, l3)))
    }
}
