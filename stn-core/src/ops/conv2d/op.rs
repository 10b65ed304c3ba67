//! The convolution and what follows it as one node of Candle's graph.

use super::backward::{self, Saved, Wanted};
use super::epilogue::Epilogue;
use super::geometry::Geometry;
use super::{Conv2dConfig, forward, spectral};
use crate::ops::pool2d::Pool2dConfig;
use crate::ops::real::{Gradients, Real, contiguous, dispatch, tensor_like, with_elements};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use std::any::Any;
use std::sync::OnceLock;

const NAME: &str = "conv2d";

/// Convolution and bias; ReLU and max-pooling if they are asked for.
pub(super) struct ConvBlock {
    cfg: Conv2dConfig,
    relu: bool,
    pool: Option<Pool2dConfig>,
    left: OnceLock<Left>,
}

/// What the forward pass leaves for the backward pass.
struct Left {
    /// Which pixel of each window was the largest.
    cells: Vec<u8>,
    /// [`spectral::Known`] of the element type, if anything is.
    spectra: Option<Box<dyn Any + Send + Sync>>,
}

impl ConvBlock {
    pub(super) fn new(cfg: Conv2dConfig, relu: bool, pool: Option<Pool2dConfig>) -> Self {
        Self { cfg, relu, pool, left: OnceLock::new() }
    }

    fn problem(&self, input: &Shape, weight: &Shape) -> Result<(Geometry, Epilogue)> {
        let geometry = Geometry::new(input, weight, self.cfg)?;
        let epilogue = Epilogue::new(geometry.out, self.relu, self.pool)?;
        Ok((geometry, epilogue))
    }

    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let (geometry, epilogue) = self.problem(input.1.shape(), weight.1.shape())?;
        let (input, weight) = (contiguous::<T>(NAME, input.0, input.1)?, contiguous::<T>(NAME, weight.0, weight.1)?);
        let forward = forward::run(&geometry, &epilogue, input, weight, contiguous(NAME, bias.0, bias.1)?);
        // A node runs forward once.
        let spectra = forward.spectra.map(|spectra| Box::new(spectra) as Box<dyn Any + Send + Sync>);
        let _ = self.left.set(Left { cells: forward.cells, spectra });
        let (height, width) = epilogue.size();
        let shape = Shape::from((geometry.images, geometry.filters, height, width));
        Ok((T::to_cpu_storage_owned(forward.out), shape))
    }

    fn backward<T: Real>(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let (geometry, epilogue) = self.problem(input.shape(), weight.shape())?;
        let wanted = Wanted { input: input.track_op(), weight: weight.track_op() };
        let left = self.left.get();
        let cells = left.map_or(&[][..], |left| &left.cells);
        let spectra = left.and_then(|left| left.spectra.as_ref()?.downcast_ref::<spectral::Known<T>>());
        let gradients = with_elements::<T, _>(NAME, input, |input| {
            with_elements(NAME, weight, |weight| {
                with_elements(NAME, out, |out| {
                    with_elements(NAME, &grad.contiguous()?, |grad| {
                        let saved = Saved { input, weight, out, cells, spectra };
                        Ok(backward::run(&geometry, &epilogue, &saved, grad, wanted))
                    })
                })
            })
        })?;
        Ok((
            gradients.input.map(|values| tensor_like(values, input)).transpose()?,
            gradients.weight.map(|values| tensor_like(values, weight)).transpose()?,
            if bias.track_op() { Some(tensor_like(gradients.bias, bias)?) } else { None },
        ))
    }
}

impl CustomOp3 for ConvBlock {
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

    fn bwd(&self, input: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        dispatch!(NAME, input, self.backward(input, weight, bias, out, grad))
    }
}
