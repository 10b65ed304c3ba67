//! Two-dimensional convolution, with right gradients for every size.

mod cpu;

use super::real::{Real, contiguous, dispatch};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail};

/// The options of [`conv2d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Pixels from one position of the kernel to the next, along both sides.
    pub stride: usize,
    /// Zeros added at all four edges.
    pub padding: usize,
    /// Pixels from one tap of the kernel to the next.
    pub dilation: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1 }
    }
}

/// Convolves images with a bank of kernels (cross-correlation, as every deep-learning library has it).
///
/// The equivalent of PyTorch's `torch.nn.functional.conv2d` without groups. Candle's own gives wrong or no gradients where a stride
/// does not divide the sides, and always computes the gradient of the image.
///
/// # Shapes
/// - `input`: (N, C, H, W)
/// - `weight`: (O, C, kh, kw)
/// - `bias`: (O,)
/// - result: (N, O, H', W'), H' = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1, rounded down; W' alike.
///
/// # Gradients
/// For `input`, `weight` and `bias`; each is computed only where it is asked for. Sums over the batch have a fixed order: the same
/// bits for any number of threads.
///
/// # Errors
/// On wrong ranks, channels that differ, a kernel larger than the padded image, a stride or dilation of zero, types other than `f32`
/// and `f64` or that differ, and on devices other than the CPU.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::{Conv2dConfig, conv2d};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::ones((1, 1, 8, 7), DType::F32, &Device::Cpu)?;
/// let kernel = Tensor::ones((4, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let map = conv2d(&image, &kernel, None, Conv2dConfig { stride: 2, ..Default::default() })?;
/// assert_eq!(map.dims(), [1, 4, 3, 3]);
/// # Ok(())
/// # }
/// ```
pub fn conv2d(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: Conv2dConfig) -> Result<Tensor> {
    let (&[_, c, h, w], &[o, weight_c, kh, kw]) = (input.dims(), weight.dims()) else {
        bail!(
            "conv2d: input must be (N, C, H, W) and weight (O, C, kh, kw), got {:?} and {:?}",
            input.shape(),
            weight.shape()
        )
    };
    if c != weight_c {
        bail!("conv2d: input has {c} channels, but weight {:?} is for {weight_c}", weight.shape())
    }
    if cfg.stride == 0 || cfg.dilation == 0 || kh == 0 || kw == 0 {
        bail!(
            "conv2d: stride, dilation and kernel sides must be at least 1, got {cfg:?} and weight {:?}",
            weight.shape()
        )
    }
    let reach = |k: usize| cfg.dilation * (k - 1) + 1;
    if h + 2 * cfg.padding < reach(kh) || w + 2 * cfg.padding < reach(kw) {
        bail!(
            "conv2d: a {kh}x{kw} kernel (dilation {}) does not fit an image of {h}x{w} with padding {}",
            cfg.dilation,
            cfg.padding
        )
    }
    let none; // a bias of zeros, which no gradient is asked for
    let bias = match bias {
        Some(bias) => bias,
        None => {
            none = Tensor::zeros(o, weight.dtype(), weight.device())?;
            &none
        }
    };
    if bias.dims() != [o] {
        bail!("conv2d: bias must be ({o},), got {:?}", bias.shape())
    }
    if input.dtype() != weight.dtype() || input.dtype() != bias.dtype() {
        let dtypes: [DType; 3] = [input.dtype(), weight.dtype(), bias.dtype()];
        bail!("conv2d: input, weight and bias must have the same dtype, got {dtypes:?}")
    }
    if ![input, weight, bias].iter().all(|t| matches!(t.device(), Device::Cpu)) {
        bail!("conv2d: there is a kernel for the CPU only; move the tensors with to_device(&Device::Cpu)")
    }
    input.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Conv2d { cfg })
}

const NAME: &str = "conv2d";

struct Conv2d {
    cfg: Conv2dConfig,
}

impl Conv2d {
    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(input.1.shape(), weight.1.shape(), self.cfg)?;
        let (input, weight) = (contiguous::<T>(NAME, input.0, input.1)?, contiguous::<T>(NAME, weight.0, weight.1)?);
        let out = cpu::forward(&problem, input, weight, contiguous(NAME, bias.0, bias.1)?);
        Ok((T::to_cpu_storage_owned(out), problem.output_shape()))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        NAME
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

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let grad_input = if input.track_op() {
            let op = GradInput { cfg: self.cfg, input: input.shape().clone() };
            Some(weight.apply_op2_no_bwd(&grad, &op)?)
        } else {
            None
        };
        let grad_weight = if weight.track_op() {
            let op = GradWeight { cfg: self.cfg, weight: weight.shape().clone() };
            Some(input.apply_op2_no_bwd(&grad, &op)?)
        } else {
            None
        };
        let grad_bias = if bias.track_op() { Some(grad.apply_op1_no_bwd(&GradBias)?) } else { None };
        Ok((grad_input, grad_weight, grad_bias))
    }
}

struct GradInput {
    cfg: Conv2dConfig,
    input: Shape,
}

impl GradInput {
    fn forward<T: Real>(
        &self,
        weight: (&CpuStorage, &Layout),
        grad: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(&self.input, weight.1.shape(), self.cfg)?;
        let weight = contiguous::<T>(NAME, weight.0, weight.1)?;
        let out = cpu::grad_input(&problem, weight, contiguous(NAME, grad.0, grad.1)?);
        Ok((T::to_cpu_storage_owned(out), self.input.clone()))
    }
}

impl CustomOp2 for GradInput {
    fn name(&self) -> &'static str {
        "conv2d_grad_input"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }
}

struct GradWeight {
    cfg: Conv2dConfig,
    weight: Shape,
}

impl GradWeight {
    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        grad: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let problem = cpu::Problem::new(input.1.shape(), &self.weight, self.cfg)?;
        let input = contiguous::<T>(NAME, input.0, input.1)?;
        let out = cpu::grad_weight(&problem, input, contiguous(NAME, grad.0, grad.1)?);
        Ok((T::to_cpu_storage_owned(out), self.weight.clone()))
    }
}

impl CustomOp2 for GradWeight {
    fn name(&self) -> &'static str {
        "conv2d_grad_weight"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }
}

/// Sums over images and positions; Candle's own sum over these dimensions takes longer than the products.
struct GradBias;

impl GradBias {
    fn forward<T: Real>(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, o, h, w) = layout.shape().dims4()?;
        let out = cpu::grad_bias(o, h * w, contiguous::<T>(NAME, grad, layout)?);
        Ok((T::to_cpu_storage_owned(out), Shape::from(o)))
    }
}

impl CustomOp1 for GradBias {
    fn name(&self) -> &'static str {
        "conv2d_grad_bias"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, storage, self.forward(storage, layout))
    }
}
