//! Max- and average-pooling, with right gradients for every window, stride and size.

mod cpu;
mod windows;

use super::real::{Real, contiguous, dispatch};
pub(crate) use windows::Windows;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// The window of [`max_pool2d`] and [`avg_pool2d`]; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2dConfig {
    /// Sides of the window.
    pub kernel: (usize, usize),
    /// Pixels from one window to the next.
    pub stride: (usize, usize),
    /// Pixels added at the edges, at most half of the kernel: never the maximum; zeros in the average.
    pub padding: (usize, usize),
    /// Rounds the number of windows up instead of down, so that the last one may reach past the edge.
    pub ceil_mode: bool,
}

impl Pool2dConfig {
    /// A square window; windows lie side by side.
    pub const fn new(kernel: usize) -> Self {
        Self { kernel: (kernel, kernel), stride: (kernel, kernel), padding: (0, 0), ceil_mode: false }
    }

    /// Sets the pixels from one window to the next.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride: (stride, stride), ..self }
    }

    /// Sets the pixels added at all four edges.
    pub const fn padding(self, padding: usize) -> Self {
        Self { padding: (padding, padding), ..self }
    }

    /// Sets whether the number of windows is rounded up.
    pub const fn ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// The number of windows along a side of `n` pixels; `None` if not even one fits.
    fn windows(&self, n: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
        let padded = n.checked_add(padding.checked_mul(2)?)?;
        // One that leads out of the side, and of a window that reaches over it, as the shortest that does: there is one window whatever it is.
        let stride = stride.min(padded.max(kernel));
        let rounding = if self.ceil_mode { stride - 1 } else { 0 };
        let count = padded.checked_add(rounding)?.checked_sub(kernel)? / stride + 1;
        // The last window must start on the image or in the padding before it.
        let behind = self.ceil_mode && (count - 1) * stride >= n + padding;
        Some(if behind { count - 1 } else { count })
    }

    /// The same pool of an image of `h` x `w` pixels, windows and strides no longer than its padded sides: kernels set their memory aside.
    fn on(self, (h, w): (usize, usize)) -> Self {
        let (h, w) = (h + 2 * self.padding.0, w + 2 * self.padding.1);
        let within = |(rows, columns): (usize, usize)| (rows.min(h), columns.min(w));
        Self { kernel: within(self.kernel), stride: within(self.stride), ..self }
    }

    /// Height and width of the result for an image of `h` x `w` pixels.
    fn out_size(&self, (h, w): (usize, usize)) -> Option<(usize, usize)> {
        Some((
            self.windows(h, self.kernel.0, self.stride.0, self.padding.0)?,
            self.windows(w, self.kernel.1, self.stride.1, self.padding.1)?,
        ))
    }

    /// Fails unless there are windows on an image of `h` x `w` pixels, with a pixel in each.
    pub(crate) fn check(&self, op: &str, (h, w): (usize, usize)) -> Result<()> {
        let Self { kernel, stride, padding, .. } = *self;
        if [kernel.0, kernel.1, stride.0, stride.1].contains(&0) {
            bail!("{op}: kernel and stride must be at least 1, got {kernel:?} and {stride:?}")
        }
        if padding.0 > kernel.0 / 2 || padding.1 > kernel.1 / 2 {
            bail!("{op}: padding must be at most half of the kernel, got padding {padding:?} for kernel {kernel:?}")
        }
        if h == 0 || w == 0 || self.out_size((h, w)).is_none() {
            bail!("{op}: a window of {kernel:?} does not fit an image of {h}x{w} with padding {padding:?}")
        }
        if (h + 2 * padding.0).max(w + 2 * padding.1) > u32::MAX as usize {
            bail!(
                "{op}: a padded side must have fewer than 2^32 pixels, got padding {padding:?} for an image of {h}x{w}"
            )
        }
        if kernel.0.min(h + 2 * padding.0).saturating_mul(w) > u32::MAX as usize {
            bail!("{op}: the rows of a window must have fewer than 2^32 pixels, got {kernel:?} on an image of {h}x{w}")
        }
        Ok(())
    }
}

/// Takes the largest value of each window.
///
/// The equivalent of PyTorch's `torch.nn.functional.max_pool2d`. Candle's own `max_pool2d` scales the gradient by 1/k², spreads it
/// over ties and loses part of it where the window does not divide the sides.
///
/// # Shapes
/// (N, C, H, W) to (N, C, H', W'), H' = (H + 2 padding - kernel) / stride + 1, rounded down, or up with `ceil_mode` (a window that
/// would start in the padding behind the image is left out).
///
/// # Gradients
/// All of it goes to the window's largest value, the first in row-major order among equals. A NaN counts as
/// largest; of several, the last.
///
/// # Errors
/// On wrong ranks, a kernel or stride of zero, padding of more than half the kernel, a window larger than the padded image (without `ceil_mode`), types
/// other than `f32` and `f64`, and on devices other than the CPU.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{Pool2dConfig, max_pool2d};
/// # fn main() -> candle_core::Result<()> {
/// let map = Tensor::arange(0f32, 25., &Device::Cpu)?.reshape((1, 1, 5, 5))?;
/// let pooled = max_pool2d(&map, Pool2dConfig::new(2).ceil_mode(true))?;
/// assert_eq!(pooled.flatten_all()?.to_vec1::<f32>()?, [6., 8., 9., 16., 18., 19., 21., 23., 24.]);
/// # Ok(())
/// # }
/// ```
pub fn max_pool2d(xs: &Tensor, cfg: Pool2dConfig) -> Result<Tensor> {
    check("max_pool2d", xs, cfg)?;
    xs.contiguous()?.apply_op1(MaxPool { cfg })
}

/// Takes the mean of each window.
///
/// The equivalent of PyTorch's `torch.nn.functional.avg_pool2d` with its defaults: zeros of the padding count, pixels behind it
/// (`ceil_mode`) do not. Candle's own gives wrong gradients where the window does not divide the sides.
///
/// # Shapes
/// As [`max_pool2d`].
///
/// # Gradients
/// Spread evenly over the window.
///
/// # Errors
/// As [`max_pool2d`].
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{Pool2dConfig, avg_pool2d};
/// # fn main() -> candle_core::Result<()> {
/// let map = Tensor::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu)?;
/// assert_eq!(avg_pool2d(&map, Pool2dConfig::new(2))?.flatten_all()?.to_vec1::<f32>()?, [2.5]);
/// # Ok(())
/// # }
/// ```
pub fn avg_pool2d(xs: &Tensor, cfg: Pool2dConfig) -> Result<Tensor> {
    check("avg_pool2d", xs, cfg)?;
    xs.contiguous()?.apply_op1(AvgPool { cfg })
}

fn check(op: &str, xs: &Tensor, cfg: Pool2dConfig) -> Result<()> {
    let &[_, _, h, w] = xs.dims() else { bail!("{op}: input must be (N, C, H, W), got {:?}", xs.shape()) };
    cfg.check(op, (h, w))?;
    if !xs.device().is_cpu() {
        bail!("{op}: there is a kernel for the CPU only; move the tensor with to_device(&Device::Cpu)")
    }
    Ok(())
}

struct MaxPool {
    cfg: Pool2dConfig,
}

impl MaxPool {
    fn forward<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(layout.shape(), self.cfg)?;
        let out = cpu::max(&problem, contiguous::<T>(self.name(), storage, layout)?);
        Ok((T::to_cpu_storage_owned(out), problem.output_shape()))
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(self.name(), storage, self.forward(storage, layout))
    }

    fn bwd(&self, xs: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // Finding the maximum again costs less than keeping its index.
        Ok(Some(xs.apply_op2_no_bwd(&grad.contiguous()?, &MaxPoolGrad { cfg: self.cfg })?))
    }
}

struct MaxPoolGrad {
    cfg: Pool2dConfig,
}

impl MaxPoolGrad {
    fn forward<T: Real>(
        &self,
        xs: (&CpuStorage, &Layout),
        grad: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(xs.1.shape(), self.cfg)?;
        let values = contiguous::<T>(self.name(), xs.0, xs.1)?;
        let out = cpu::max_grad(&problem, values, contiguous(self.name(), grad.0, grad.1)?);
        Ok((T::to_cpu_storage_owned(out), xs.1.shape().clone()))
    }
}

impl CustomOp2 for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool2d_grad"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(self.name(), s1, self.forward((s1, l1), (s2, l2)))
    }
}

struct AvgPool {
    cfg: Pool2dConfig,
}

impl AvgPool {
    fn forward<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(layout.shape(), self.cfg)?;
        let out = cpu::avg(&problem, contiguous::<T>(self.name(), storage, layout)?);
        Ok((T::to_cpu_storage_owned(out), problem.output_shape()))
    }
}

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(self.name(), storage, self.forward(storage, layout))
    }

    fn bwd(&self, xs: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = AvgPoolGrad { cfg: self.cfg, input: xs.shape().clone() };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&op)?))
    }
}

struct AvgPoolGrad {
    cfg: Pool2dConfig,
    input: Shape,
}

impl AvgPoolGrad {
    fn forward<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(&self.input, self.cfg)?;
        let out = cpu::avg_grad(&problem, contiguous::<T>(self.name(), storage, layout)?);
        Ok((T::to_cpu_storage_owned(out), self.input.clone()))
    }
}

impl CustomOp1 for AvgPoolGrad {
    fn name(&self) -> &'static str {
        "avg_pool2d_grad"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(self.name(), storage, self.forward(storage, layout))
    }
}
