//! Convolution, batch normalisation and activation as one operation: the map between them gets its gradient at once, which Candle would
//! add to a tensor of zeros first.

use super::activation::Activation;
use super::batch_norm::{BatchNorm, BatchNormed, check};
use super::conv2d::{self, Conv2dConfig};
use super::real::{Gradients, row};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

const NAME: &str = "conv2d_batch_norm";

/// [`conv2d`](super::conv2d()) and [`batch_norm`](super::batch_norm()); scale and shift are the norm's `weight` and `bias`.
pub(crate) fn conv2d_batch_norm(
    input: &Tensor,
    (weight, bias): (&Tensor, Option<&Tensor>),
    cfg: Conv2dConfig,
    (scale, shift): (&Tensor, &Tensor),
    eps: f64,
    activation: Activation,
) -> Result<BatchNormed> {
    let none;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            none = Tensor::zeros(weight.dim(0)?, weight.dtype(), weight.device())?;
            &none
        }
    };
    let (conv, _) = conv2d::operation("conv2d", input, weight, bias, cfg, Activation::None)?;
    check(weight.dim(0)?, input.dtype(), (scale, shift))?;
    let norm = BatchNorm::new(eps, activation);
    let statistics = norm.statistics();
    let op = ConvBatchNorm { conv, norm, maps: OnceLock::new() };
    let vectors = Tensor::stack(&[scale, shift, bias], 0)?; // an operation has three arguments at most
    statistics.with(input.contiguous()?.apply_op3(&weight.contiguous()?, &vectors.contiguous()?, op)?)
}

struct ConvBatchNorm {
    conv: Box<dyn CustomOp3 + Send + Sync>,
    norm: BatchNorm,
    /// What the convolution gave.
    maps: OnceLock<Tensor>,
}

impl CustomOp3 for ConvBatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Of images, weights, and scale, shift and bias in rows.
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (maps, shape) = self.conv.cpu_fwd(s1, l1, s2, l2, s3, &row(l3, 2)?)?;
        let layout = Layout::contiguous(&shape);
        let out = self.norm.cpu_fwd(&maps, &layout, s3, &row(l3, 0)?, s3, &row(l3, 1)?)?;
        let maps = match maps {
            CpuStorage::F32(values) => Tensor::from_vec(values, &shape, &Device::Cpu)?,
            CpuStorage::F64(values) => Tensor::from_vec(values, &shape, &Device::Cpu)?,
            _ => bail!("{NAME}: the dtype must be f32 or f64"),
        };
        // A node runs forward once.
        let _ = self.maps.set(maps);
        Ok(out)
    }

    fn bwd(&self, input: &Tensor, weight: &Tensor, vectors: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let Some(maps) = self.maps.get() else { bail!("{NAME}: backward before forward") };
        let (scale, bias) = (vectors.detach().get(0)?, vectors.get(2)?);
        let (maps_grad, scale_grad, shift_grad) = self.norm.gradients(maps, &scale, out, &grad.contiguous()?, true)?;
        let Some(maps_grad) = maps_grad else { bail!("{NAME}: no gradient of the maps") };
        let (input_grad, weight_grad, bias_grad) = self.conv.bwd(input, weight, &bias, maps, &maps_grad)?;
        let rows = [scale_grad, shift_grad, bias_grad].into_iter().flatten().collect::<Vec<_>>();
        Ok((input_grad, weight_grad, if vectors.track_op() { Some(Tensor::stack(&rows, 0)?) } else { None }))
    }
}
