//! The non-linearities that follow a convolution or a batch norm in one pass, and ReLU6 alone.

use super::real::{Real, contiguous, dispatch, tensor_like, vectorised, with_elements};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Elements that one thread takes at least.
const CHUNK: usize = 1 << 14;

/// What is done to each element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// max(0, x); the gradient at 0 is zero.
    Relu,
    /// min(6, max(0, x)), as the EfficientNet-Lites have it; the gradient at 0 and at 6 is zero.
    Relu6,
}

impl Activation {
    /// The value of an element. NaN passes.
    #[inline(always)]
    pub(crate) fn of<T: Real>(self, x: T) -> T {
        match self {
            Self::None => x,
            Self::Relu => positive(x),
            Self::Relu6 => {
                let (x, six) = (positive(x), T::from_f64(6.0));
                if x >= six { six } else { x }
            }
        }
    }

    /// The gradient of an element, from its value `y` behind the activation: at a bound the activation is flat.
    #[inline(always)]
    pub(crate) fn grad<T: Real>(self, y: T, grad: T) -> T {
        let flat = match self {
            Self::None => false,
            Self::Relu => y <= T::zero(),
            Self::Relu6 => y <= T::zero() || y >= T::from_f64(6.0),
        };
        if flat { T::zero() } else { grad }
    }
}

#[inline(always)]
fn positive<T: Real>(x: T) -> T {
    if x <= T::zero() { T::zero() } else { x }
}

/// The gradient before an activation, of some elements, from their values and gradients behind it.
pub(crate) fn masked_by<T: Real>(activation: Activation, out: &[T], grad: &[T], to: &mut [T]) {
    vectorised!({
        let values = out.iter().zip(grad);
        to.iter_mut().zip(values).for_each(|(to, (&y, &grad))| *to = activation.grad(y, grad));
    });
}

/// Clips each element to 0..6.
///
/// The equivalent of PyTorch's `torch.nn.functional.relu6`. Candle's `clamp` has a gradient of one half at the bounds.
///
/// # Shapes
/// Any -> the same.
///
/// # Gradients
/// Zero outside, and at both bounds.
///
/// # Errors
/// On types other than `f32` and `f64`, and on devices other than the CPU.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::relu6;
/// let clipped = relu6(&Tensor::new(&[-1f32, 2., 7.], &Device::Cpu)?)?;
/// assert_eq!(clipped.to_vec1::<f32>()?, [0., 2., 6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn relu6(xs: &Tensor) -> Result<Tensor> {
    activate(xs, Activation::Relu6)
}

/// Applies an activation as an operation of its own.
pub(crate) fn activate(xs: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::None {
        return Ok(xs.clone());
    }
    if !xs.device().is_cpu() {
        bail!("relu6: there is a kernel for the CPU only; move the tensor with to_device(&Device::Cpu)")
    }
    xs.contiguous()?.apply_op1(Elementwise(activation))
}

struct Elementwise(Activation);

impl Elementwise {
    fn forward<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let activation = self.0;
        let xs = contiguous::<T>(self.name(), storage, layout)?;
        let out = xs.par_iter().with_min_len(CHUNK).map(|&x| activation.of(x)).collect();
        Ok((T::to_cpu_storage_owned(out), layout.shape().clone()))
    }

    fn backward<T: Real>(&self, out: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let activation = self.0;
        let values = with_elements::<T, _>(self.name(), out, |out| {
            with_elements::<T, _>(self.name(), grad, |grad| {
                let pairs = out.par_iter().zip(grad).with_min_len(CHUNK);
                Ok(pairs.map(|(&y, &grad)| activation.grad(y, grad)).collect())
            })
        })?;
        tensor_like(values, out)
    }
}

impl CustomOp1 for Elementwise {
    fn name(&self) -> &'static str {
        match self.0 {
            Activation::None => "identity",
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(self.name(), storage, self.forward(storage, layout))
    }

    fn bwd(&self, xs: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        dispatch!(self.name(), xs, self.backward(out, &grad)).map(Some)
    }
}
