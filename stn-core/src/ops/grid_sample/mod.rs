//! Sampling an image at the points of a grid, eqs. (3) and (5), with gradients for both, eqs. (6) and (7).

mod affine;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bicubic;
pub(in crate::ops) mod bilinear;
#[cfg(target_arch = "x86_64")]
mod bilinear_avx512;
pub(in crate::ops) mod cpu;
pub(in crate::ops) mod element;
mod fill;
mod lanes;
pub(in crate::ops) mod nearest;
mod op;
mod planar;
pub(in crate::ops) mod points;
pub(in crate::ops) mod problem;
mod reference;
mod run;
mod side;
mod simd;
mod surroundings;

pub use affine::affine_grid_sample;
pub use fill::grid_sample_fill;
pub use reference::grid_sample_reference;

use crate::ops::real::unsupported;
use candle_core::{DType, Result, Tensor, bail};
use op::Sample;

/// How the value between pixels is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The weighted mean of the four nearest pixels, eq. (5).
    Bilinear,
    /// The nearest pixel; half way between two, along either side, the one with the even index. That is PyTorch's rounding; the paper's
    /// eq. (4), `floor(x + 0.5)`, takes the right one. The gradient of the grid is zero.
    Nearest,
    /// Cubic convolution of the 4x4 nearest pixels (Keys, a = -0.75). The value may lie outside the pixels' range. The padding gives each
    /// of the pixels outside a value; the coordinate itself stays as it is, so that the gradient at the edges isn't zero.
    Bicubic,
}

/// What lies outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros, what eq. (5) implies.
    Zeros,
    /// The nearest pixel of the image's edge. The gradient along a clamped coordinate is zero.
    Border,
    /// The image, mirrored again and again: about the centres of its corner pixels with `align_corners`, else about their outer edges.
    Reflection,
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
/// The equivalent of PyTorch's `torch.nn.functional.grid_sample` for images: its modes, its paddings, both its conventions.
///
/// | `F.grid_sample(x, g, ..)` | here |
/// |---|---|
/// | `align_corners=False`, PyTorch's default | `GridSampleConfig::new(false)` |
/// | `align_corners=True` | `GridSampleConfig::new(true)` |
/// | `mode="nearest"` | [`.interpolation(Interpolation::Nearest)`](Interpolation) |
/// | `padding_mode="border"` | [`.padding(Padding::Border)`](Padding) |
///
/// # Shapes
/// - `input`: (B, C, H, W), any strides; it is never copied, also where it is broadcast (but for halves, which are converted).
/// - `grid`: (B * k, H', W', 2), last dimension **(x, y)**, -1 to 1 across the input. Grids i * k .. (i + 1) * k sample image i, so
///   k windows of one image need no copies of it.
/// - result: (B * k, C, H', W'), of the input's type.
///
/// # Types
/// `f32` and `f64`, the same for both tensors. An image in `f16` or `bf16` is sampled in `f32`, its gradient comes back in its own type;
/// its grid may be of the same type or, better, `f32`: halves cannot tell the pixels of a large image apart. Places are computed from the
/// coordinates in `f64` whatever the tensors' type. The coordinates of an `f32` grid are rounded all the same: the identity's lie up to a millionth of a pixel
/// beside most of the pixels of a 28 px image, and more in larger ones. The image comes back to about that; the derivative there, and the
/// nearest of two pixels half-way between them, may be either side's. (PyTorch rounds in other places, and takes the other side at others of them.)
///
/// # Gradients
/// For `input` and `grid`; each is computed only where it is asked for. At a coordinate that falls on a pixel, where eq. (7) has a
/// kink, the derivative is the right-hand one: the difference to the next pixel. Under [`Padding::Border`] it is zero where the
/// coordinate is clamped, the edge included; under [`Padding::Reflection`] its sign turns with every reflection, and it is zero where a
/// mirror stands, without `align_corners` on the half pixels beside it, too. [`Interpolation::Nearest`] has a gradient of zero for the grid,
/// [`Interpolation::Bicubic`] one without kinks.
///
/// # Coordinates that are no place
/// | coordinate | zeros | border | reflection |
/// |---|---|---|---|
/// | NaN | 0 | first pixel | first pixel |
/// | infinite | 0 | the edge | first pixel |
/// | finite, however large | 0 | the edge | as computed up to 2^51 pixels away, then the first pixel |
///
/// The gradient along such a coordinate is zero, up to that of a large finite one under reflection. (Along a side of length 1 with
/// `align_corners` every finite coordinate is the one pixel.) A pixel that is NaN or infinite spreads to every sample that it is one of the
/// neighbours of, also with weight zero, and to no other.
///
/// # Errors
/// On wrong ranks, a grid count that is no multiple of the image count, empty images, types other than those above, and tensors on
/// different devices.
///
/// # Devices
/// There is a kernel for the CPU. On other devices the same function is composed of Candle's tensor operations: many times slower, with
/// coordinates in the tensors' own type, the gradients by Candle's differentiation.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{GridSampleConfig, Interpolation, grid_sample};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::new(&[[[[1f32, 2., 3.], [4., 5., 6.]]]], &Device::Cpu)?; // (1, 1, 2, 3)
/// let centre = Tensor::new(&[[[[0f32, 0.]]]], &Device::Cpu)?; // one point: the middle
/// let cfg = GridSampleConfig::new(true);
/// let value = grid_sample(&image, &centre, cfg)?;
/// assert_eq!(value.flatten_all()?.to_vec1::<f32>()?, [3.5]);
/// let nearest = grid_sample(&image, &centre, cfg.interpolation(Interpolation::Nearest))?;
/// assert_eq!(nearest.flatten_all()?.to_vec1::<f32>()?, [2.0]);
/// # Ok(())
/// # }
/// ```
///
/// Both gradients, by Candle's `backward`: the point half way between 2 and 5, and the middle two of six pixels.
/// ```
/// use candle_core::{Device, Var};
/// use stn_core::ops::{GridSampleConfig, grid_sample};
/// # fn main() -> candle_core::Result<()> {
/// let image = Var::new(&[[[[1f32, 2., 3.], [4., 5., 6.]]]], &Device::Cpu)?;
/// let grid = Var::new(&[[[[0f32, 0.]]]], &Device::Cpu)?;
/// let gradients = grid_sample(&image, &grid, GridSampleConfig::new(true))?.sum_all()?.backward()?;
/// let of = |var: &Var| gradients.get(var).expect("a gradient").flatten_all()?.to_vec1::<f32>();
/// assert_eq!(of(&image)?, [0.0, 0.5, 0.0, 0.0, 0.5, 0.0]);
/// assert_eq!(of(&grid)?, [1.0, 1.5]); // a whole step of x, from -1 to 0, is one pixel; of y, half a one
/// # Ok(())
/// # }
/// ```
pub fn grid_sample(input: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    check_input("grid_sample", "grid", input, check_grid("grid_sample", grid)?)?;
    in_kernel_type("grid_sample", "grid", input, grid, |input, grid| {
        if input.device().is_cpu() {
            input.apply_op2(&grid.contiguous()?, Sample { cfg, targets: None })
        } else {
            reference::sample(input, grid, None, cfg)
        }
    })
}

/// The number of grids; fails unless it is a batch of them.
fn check_grid(op: &str, grid: &Tensor) -> Result<usize> {
    let &[n, _, _, 2] = grid.dims() else { bail!("{op}: grid must be (N, H', W', 2), got {:?}", grid.shape()) };
    Ok(n)
}

/// Fails unless the input is a batch of images that `n` windows can be distributed to.
fn check_input(op: &str, name: &str, input: &Tensor, n: usize) -> Result<()> {
    let &[b, _, h, w] = input.dims() else { bail!("{op}: input must be (B, C, H, W), got {:?}", input.shape()) };
    if h == 0 || w == 0 {
        bail!("{op}: the input's height and width must not be zero, got {:?}", input.shape())
    }
    if !n.is_multiple_of(b) {
        bail!("{op}: the first dimension of {name} must be a multiple of the input's, got {n} for {b} images")
    }
    Ok(())
}

/// Runs `sample(input, points)` in a type that the kernels have, and gives the result the input's type.
fn in_kernel_type(
    op: &str,
    name: &str,
    input: &Tensor,
    points: &Tensor,
    sample: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let half = is_half(input.dtype());
    if input.dtype() != points.dtype() && !(half && points.dtype() == DType::F32) {
        bail!("{op}: input and {name} must have the same dtype, got {:?} and {:?}", input.dtype(), points.dtype())
    }
    if !input.device().same_device(points.device()) {
        bail!("{op}: input and {name} must be on one device, got {:?} and {:?}", input.device(), points.device())
    }
    if !half && !matches!(input.dtype(), DType::F32 | DType::F64) {
        return unsupported(op, input.dtype());
    }
    if half {
        sample(&input.to_dtype(DType::F32)?, &points.to_dtype(DType::F32)?)?.to_dtype(input.dtype())
    } else {
        sample(input, points)
    }
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}
