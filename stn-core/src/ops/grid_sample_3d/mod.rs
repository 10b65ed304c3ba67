//! Sampling a volume at the points of a grid, eq. (9), with gradients for both.

mod cpu;
mod taps;

use super::real::{Real, contiguous, dispatch};
use super::{GridSampleConfig, Interpolation};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use taps::Problem;

/// Samples a volume at the points of a grid, eq. (9).
///
/// The equivalent of PyTorch's `torch.nn.functional.grid_sample` for 5-D inputs, with its conventions;
/// [`grid_sample`](super::grid_sample) with a depth. The options are the same, where [`Interpolation::Bilinear`] means trilinear, the
/// weighted mean of the eight nearest voxels, as it does in PyTorch. [`Interpolation::Nearest`] rounds halves to the even index.
///
/// # Shapes
/// - `input`: (B, C, D, H, W), any strides; it is never copied, also where it is broadcast.
/// - `grid`: (B * k, D', H', W', 3), last dimension **(x, y, z)**, -1 to 1 across the input: x along W, y along H, z along D. Grids
///   i * k .. (i + 1) * k sample volume i, so k windows of one volume need no copies of it.
/// - result: (B * k, C, D', H', W'), of the input's type.
///
/// The paper makes an image of the result by summing over its depth, eq. (11): `result.sum(2)`.
///
/// # Types
/// `f32` and `f64`, the same for both tensors. A volume in `f16` or `bf16` is sampled in `f32`, its gradient comes back in its own type;
/// its grid may be of the same type or, better, `f32`. Coordinates are computed in `f64` whatever the tensors' type.
///
/// # Gradients
/// For `input` and `grid`; each is computed only where it is asked for. At a coordinate that falls on a voxel, where eq. (9) has a kink,
/// the derivative is the right-hand one: the difference to the next voxel. Under [`Padding::Border`](super::Padding::Border) it is zero
/// where the coordinate is clamped, the edge included; under [`Padding::Reflection`](super::Padding::Reflection) it is that of the
/// reflected place, its sign turned with every reflection, and zero where a mirror stands. [`Interpolation::Nearest`] has a gradient of zero for the grid.
///
/// Coordinates that are no place in the volume, NaN, infinite or very large, do what they do in [`grid_sample`](super::grid_sample):
/// they sample zero under zeros; the first voxel (NaN) or the edge under border; the first voxel under reflection; and have no gradient.
/// A voxel that is NaN or infinite spreads to every sample that it is one of the eight neighbours of, also with weight zero.
///
/// # Errors
/// On wrong ranks, a grid count that is no multiple of the volume count, empty volumes, types other than those above, on
/// [`Interpolation::Bicubic`], which there is for images only, and on devices other than the CPU.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{GridSampleConfig, grid_sample_3d};
/// # fn main() -> candle_core::Result<()> {
/// let volume = Tensor::arange(0f32, 8., &Device::Cpu)?.reshape((1, 1, 2, 2, 2))?; // z, y, x count 4, 2 and 1
/// let points = Tensor::new(&[[0f32, 0., 0.], [1., -1., 0.5]], &Device::Cpu)?; // the middle; voxel x = 1, y = 0, z = 0.75
/// let points = points.reshape((1, 1, 1, 2, 3))?;
/// let values = grid_sample_3d(&volume, &points, GridSampleConfig::new(true))?; // (1, 1, 1, 1, 2)
/// assert_eq!(values.flatten_all()?.to_vec1::<f32>()?, [3.5, 4.0]);
/// # Ok(())
/// # }
/// ```
pub fn grid_sample_3d(input: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    let &[b, _, d, h, w] = input.dims() else {
        bail!("{NAME}: input must be (B, C, D, H, W), got {:?}", input.shape())
    };
    let &[n, _, _, _, 3] = grid.dims() else {
        bail!("{NAME}: grid must be (N, D', H', W', 3), got {:?}", grid.shape())
    };
    if cfg.interpolation == Interpolation::Bicubic {
        bail!("{NAME}: the interpolation must be Bilinear (trilinear) or Nearest; Bicubic is for images only")
    }
    if d == 0 || h == 0 || w == 0 {
        bail!("{NAME}: the input's depth, height and width must not be zero, got {:?}", input.shape())
    }
    if !n.is_multiple_of(b) {
        bail!("{NAME}: the grid's first dimension must be a multiple of the input's, got {n} grids for {b} volumes")
    }
    let half = matches!(input.dtype(), DType::F16 | DType::BF16);
    if input.dtype() != grid.dtype() && !(half && grid.dtype() == DType::F32) {
        bail!("{NAME}: input and grid must have the same dtype, got {:?} and {:?}", input.dtype(), grid.dtype())
    }
    if !input.device().is_cpu() || !grid.device().is_cpu() {
        bail!("{NAME}: there is a kernel for the CPU only; move the tensors with to_device(&Device::Cpu)")
    }
    if half {
        let out = grid_sample_3d(&input.to_dtype(DType::F32)?, &grid.to_dtype(DType::F32)?, cfg)?;
        return out.to_dtype(input.dtype());
    }
    input.apply_op2(&grid.contiguous()?, GridSample3d { cfg })
}

const NAME: &str = "grid_sample_3d";

/// A tensor's storage and layout.
type Arg<'a> = (&'a CpuStorage, &'a Layout);

/// V of eq. (9).
struct GridSample3d {
    cfg: GridSampleConfig,
}

impl GridSample3d {
    fn forward<T: Real>(&self, input: Arg, grid: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = Problem::new(input.1, grid.1.shape(), self.cfg)?;
        let (voxels, grid) = (T::cpu_storage_as_slice(input.0)?, contiguous::<T>(NAME, grid.0, grid.1)?);
        let out = match self.cfg.interpolation {
            Interpolation::Nearest => cpu::forward::<T, 1>(&problem, voxels, grid),
            _ => cpu::forward::<T, 2>(&problem, voxels, grid),
        };
        Ok((T::to_cpu_storage_owned(out), problem.output_shape()))
    }
}

impl CustomOp2 for GridSample3d {
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
        let grad_grid = if !grid.track_op() {
            None
        } else if self.cfg.interpolation == Interpolation::Nearest {
            Some(grid.zeros_like()?)
        } else {
            Some(input.apply_op3_no_bwd(grid, &grad, &GradGrid { cfg: self.cfg })?)
        };
        Ok((grad_input, grad_grid))
    }
}

/// Every output's gradient goes back to the voxels it was made of.
struct GradInput {
    cfg: GridSampleConfig,
    input: Shape,
}

impl GradInput {
    fn forward<T: Real>(&self, grid: Arg, grad: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = Problem::new(&Layout::contiguous(&self.input), grid.1.shape(), self.cfg)?;
        let (grid, grad) = (contiguous::<T>(NAME, grid.0, grid.1)?, contiguous::<T>(NAME, grad.0, grad.1)?);
        let out = match self.cfg.interpolation {
            Interpolation::Nearest => cpu::grad_input::<T, 1>(&problem, grid, grad),
            _ => cpu::grad_input::<T, 2>(&problem, grid, grad),
        };
        Ok((T::to_cpu_storage_owned(out), self.input.clone()))
    }
}

impl CustomOp2 for GradInput {
    fn name(&self) -> &'static str {
        "grid_sample_3d_grad_input"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }
}

/// The derivatives of eq. (9) by the coordinates, trilinear, summed over the channels.
struct GradGrid {
    cfg: GridSampleConfig,
}

impl GradGrid {
    fn forward<T: Real>(&self, input: Arg, grid: Arg, grad: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = Problem::new(input.1, grid.1.shape(), self.cfg)?;
        let points = contiguous::<T>(NAME, grid.0, grid.1)?;
        let grad = contiguous::<T>(NAME, grad.0, grad.1)?;
        let out = cpu::grad_grid(&problem, T::cpu_storage_as_slice(input.0)?, points, grad);
        Ok((T::to_cpu_storage_owned(out), grid.1.shape().clone()))
    }
}

impl CustomOp3 for GradGrid {
    fn name(&self) -> &'static str {
        "grid_sample_3d_grad_grid"
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
