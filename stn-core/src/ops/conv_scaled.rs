//! Convolution by filters that are each multiplied by a factor first, offset and activation as one operation: what a batch norm with fixed statistics comes to.

use super::activation::{Activation, activate};
use super::conv2d::{self, Conv2dConfig};
use super::real::{Gradients, Real, STRANDS, contiguous, dispatch, row, tensor_like, vectorised, with_elements};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

const NAME: &str = "conv2d_scaled";

/// Filters that one thread takes at least.
const FILTERS: usize = 8;

/// [`conv2d_activated`](super::conv2d_activated) by `weight` (O, C / groups, kh, kw) times `factor` (O,), with the bias `offset` (O,).
pub(crate) fn conv2d_scaled(
    input: &Tensor,
    weight: &Tensor,
    cfg: Conv2dConfig,
    (factor, offset): (&Tensor, &Tensor),
    activation: Activation,
) -> Result<Tensor> {
    let (conv, rest) = conv2d::operation("conv2d", input, weight, offset, cfg, activation)?;
    if factor.dims() != offset.dims() || factor.dtype() != offset.dtype() {
        let found = [(factor.shape(), factor.dtype()), (offset.shape(), offset.dtype())];
        bail!("{NAME}: factor and offset must be alike, got {found:?}")
    }
    let op = ConvScaled { conv, track: weight.track_op() || factor.track_op(), scaled: OnceLock::new() };
    let vectors = Tensor::stack(&[factor, offset], 0)?; // an operation has three arguments at most
    activate(&input.contiguous()?.apply_op3(&weight.contiguous()?, &vectors, op)?, rest)
}

struct ConvScaled {
    conv: Box<dyn CustomOp3 + Send + Sync>,
    /// Whether a gradient of the products is wanted.
    track: bool,
    /// The products, for the backward pass.
    scaled: OnceLock<Tensor>,
}

impl ConvScaled {
    fn scale<T: Real>(
        &self,
        (weight, weight_layout): (&CpuStorage, &Layout),
        (factor, factor_layout): (&CpuStorage, &Layout),
    ) -> Result<CpuStorage> {
        let weight = contiguous::<T>(NAME, weight, weight_layout)?;
        let factor = contiguous::<T>(NAME, factor, factor_layout)?;
        let taps = (weight.len() / factor.len().max(1)).max(1);
        let mut scaled = vec![T::zero(); weight.len()];
        let filters = scaled.par_chunks_exact_mut(taps).zip(weight.par_chunks_exact(taps)).zip(factor);
        filters.with_min_len(FILTERS).for_each(|((scaled, weight), &factor)| {
            scaled.iter_mut().zip(weight).for_each(|(scaled, &weight)| *scaled = weight * factor);
        });
        Ok(T::to_cpu_storage_owned(scaled))
    }

    /// The gradients of weights and factors, from that of their products.
    fn parted<T: Real>(&self, weight: &Tensor, factor: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let (filters, mut weight_grad) = (factor.dim(0)?, vec![T::zero(); weight.elem_count()]);
        let taps = (weight_grad.len() / filters.max(1)).max(1);
        let factor_grad = with_elements::<T, _>(NAME, weight, |weight| {
            with_elements::<T, _>(NAME, factor, |factor| {
                with_elements::<T, _>(NAME, grad, |grad| {
                    let rows = weight_grad.par_chunks_exact_mut(taps).zip(grad.par_chunks_exact(taps));
                    let rows = rows.zip(weight.par_chunks_exact(taps)).zip(factor).with_min_len(FILTERS);
                    Ok(rows.map(|(((to, grad), weight), &factor)| of_filter(to, grad, weight, factor)).collect())
                })
            })
        })?;
        Ok((tensor_like(weight_grad, weight)?, tensor_like(factor_grad, factor)?))
    }
}

/// Writes a filter's gradient; gives that of its factor.
fn of_filter<T: Real>(to: &mut [T], grad: &[T], weight: &[T], factor: T) -> T {
    vectorised!({
        to.iter_mut().zip(grad).for_each(|(to, &grad)| *to = grad * factor);
        let mut sums = [0.0; STRANDS];
        let ((grad, last_grad), (weight, last_weight)) = (grad.as_chunks::<STRANDS>(), weight.as_chunks::<STRANDS>());
        for (grad, weight) in grad.iter().zip(weight) {
            for i in 0..STRANDS {
                sums[i] += grad[i].to_f64() * weight[i].to_f64();
            }
        }
        for i in 0..last_grad.len() {
            sums[i] += last_grad[i].to_f64() * last_weight[i].to_f64();
        }
        T::from_f64(sums.iter().sum())
    })
}

impl CustomOp3 for ConvScaled {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Of images, weights, and factor and offset in rows.
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let factor = row(l3, 0)?;
        let scaled = dispatch!(NAME, s2, self.scale((s2, l2), (s3, &factor)))?;
        let out = self.conv.cpu_fwd(s1, l1, &scaled, &Layout::contiguous(l2.shape()), s3, &row(l3, 1)?)?;
        let scaled = match scaled {
            CpuStorage::F32(values) => Var::from_vec(values, l2.shape(), &Device::Cpu)?,
            CpuStorage::F64(values) => Var::from_vec(values, l2.shape(), &Device::Cpu)?,
            _ => bail!("{NAME}: the dtype must be f32 or f64"),
        };
        // A node runs forward once. The convolution computes the gradients of variables alone.
        let _ = self.scaled.set(if self.track { scaled.into_inner() } else { scaled.as_detached_tensor() });
        Ok(out)
    }

    fn bwd(&self, input: &Tensor, weight: &Tensor, vectors: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let Some(scaled) = self.scaled.get() else { bail!("{NAME}: backward before forward") };
        let (factor, offset) = (vectors.detach().get(0)?, vectors.get(1)?);
        let (input_grad, scaled_grad, offset_grad) = self.conv.bwd(input, scaled, &offset, out, grad)?;
        let parted = |grad: Tensor| dispatch!(NAME, weight, self.parted(weight, &factor, &grad));
        let (weight_grad, factor_grad) = scaled_grad.map(parted).transpose()?.unzip();
        let vectors_grad = match offset_grad {
            Some(offset) => {
                let factor = factor_grad.map_or_else(|| factor.zeros_like(), Ok)?; // where the offset alone is trained
                Some(Tensor::stack(&[factor, offset], 0)?)
            }
            None => None,
        };
        Ok((input_grad, weight_grad.filter(|_| weight.track_op()), vectors_grad))
    }
}
