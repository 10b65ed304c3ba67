//! Sampling a volume at the points of a grid, eq. (9), with gradients for both.

use super::grid_sample::bilinear::Bilinear;
use super::grid_sample::cpu::{self, Call};
use super::grid_sample::element::Element;
use super::grid_sample::nearest::Nearest;
use super::grid_sample::points::Points;
use super::grid_sample::problem::Problem;
use super::real::{contiguous, dispatch, tensor_like};
use super::{GridSampleConfig, Interpolation};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Storage, Tensor, bail};

/// Samples a volume at the points of a grid, eq. (9).
///
/// The equivalent of PyTorch's `torch.nn.functional.grid_sample` for 5-D inputs, with its conventions;
/// [`grid_sample`](super::grid_sample) with a depth. The options are the same, where [`Interpolation::Bilinear`] means trilinear, the
/// weighted mean of the eight nearest voxels, as it does in PyTorch. [`Interpolation::Nearest`] rounds halves to the even index.
///
/// # Shapes
/// - `input`: (B, C, D, H, W), any strides; it is never copied, also where it is broadcast (but for halves, which are converted).
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
/// reflected place, its sign turned with every reflection, and zero where a mirror stands, without `align_corners` on the half voxels beside it, too.
/// [`Interpolation::Nearest`] has a gradient of zero for the grid.
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
        bail!("{NAME}: the first dimension of grid must be a multiple of the input's, got {n} for {b} volumes")
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
    fn problem(&self, input: &Layout, grid: &Shape) -> Result<Problem<3>> {
        let (n, depth, height, width, _) = grid.dims5()?;
        Problem::new(input, n, [depth, height, width], self.cfg)
    }

    fn forward<T: Element>(&self, input: Arg, grid: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = self.problem(input.1, grid.1.shape())?;
        let points = Points::Grid(contiguous::<T>(NAME, grid.0, grid.1)?);
        let call = Call { problem: &problem, input: T::cpu_storage_as_slice(input.0)?, points };
        let out = match self.cfg.interpolation {
            Interpolation::Nearest => cpu::forward::<T, Nearest, 1, 3>(call),
            _ => cpu::forward::<T, Bilinear, 2, 3>(call),
        };
        let [depth, height, width] = problem.out;
        let shape = Shape::from((problem.all_windows(), problem.channels, depth, height, width));
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    /// The gradients of the volume and of the grid, each only if it is asked for.
    fn backward<T: Element>(
        &self,
        (input, grid): (&Tensor, &Tensor),
        (voxels, points, grad): (Arg, Arg, Arg),
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let problem = self.problem(voxels.1, grid.shape())?;
        let points = Points::Grid(contiguous::<T>(NAME, points.0, points.1)?);
        let call = Call { problem: &problem, input: T::cpu_storage_as_slice(voxels.0)?, points };
        let grad = contiguous::<T>(NAME, grad.0, grad.1)?;
        let wanted = (input.track_op(), grid.track_op());
        let (volumes, grids) = match self.cfg.interpolation {
            Interpolation::Nearest => cpu::backward::<T, Nearest, 1, 3>(call, grad, wanted),
            _ => cpu::backward::<T, Bilinear, 2, 3>(call, grad, wanted),
        };
        Ok((
            wanted.0.then(|| tensor_like(volumes, input)).transpose()?,
            wanted.1.then(|| tensor_like(grids, grid)).transpose()?,
        ))
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
        let ((voxels, l1), (points, l2), (grad, l3)) =
            (input.storage_and_layout(), grid.storage_and_layout(), grad.storage_and_layout());
        let (Storage::Cpu(voxels), Storage::Cpu(points), Storage::Cpu(grad)) = (&*voxels, &*points, &*grad) else {
            bail!("{NAME}: the kernel's tensors must be on the CPU, got {:?}", input.device())
        };
        dispatch!(NAME, voxels, self.backward((input, grid), ((voxels, l1), (points, l2), (grad, l3))))
    }
}
