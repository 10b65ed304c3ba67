//! Batch normalisation with the statistics of the batch, and what follows it, as one operation.

use super::activation::Activation;
use super::real::{Gradients, Real, STRANDS, contiguous, dispatch, tensor_like, vectorised, with_elements};
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

const NAME: &str = "batch_norm";

/// A normalised batch, and its statistics.
#[derive(Debug, Clone)]
pub struct BatchNormed {
    /// (N, C, H, W).
    pub output: Tensor,
    /// The mean of each channel, (C,); no gradient.
    pub mean: Tensor,
    /// The variance of each channel, (C,), divided by the number of values; no gradient.
    pub variance: Tensor,
}

/// Normalises each channel by its mean and variance over the batch, scales and shifts it, and applies an activation.
///
/// The equivalent of PyTorch's `torch.nn.functional.batch_norm(.., training=True)` (Ioffe and Szegedy 2015); running statistics are the
/// caller's: [`ConvNorm`](crate::conv_norm::ConvNorm) keeps them.
///
/// # Shapes
/// `input` (N, C, H, W), `weight` and `bias` (C,) -> (N, C, H, W), mean and variance (C,).
///
/// # Gradients
/// For `input`, through the statistics too, `weight` and `bias`. The same bits for any number of threads.
///
/// # Errors
/// On shapes that do not fit, a channel of less than two values, types other than `f32` and `f64` or that differ, and on devices other than the
/// CPU.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::{Activation, batch_norm};
/// # fn main() -> candle_core::Result<()> {
/// let xs = Tensor::new(&[[[[1f64, 3.]]], [[[5., 7.]]]], &Device::Cpu)?; // mean 4, variance 5
/// let (one, zero) = (Tensor::ones(1, DType::F64, &Device::Cpu)?, Tensor::zeros(1, DType::F64, &Device::Cpu)?);
/// let normed = batch_norm(&xs, &one, &zero, 0.0, Activation::None)?;
/// assert_eq!((normed.mean.to_vec1::<f64>()?, normed.variance.to_vec1::<f64>()?), (vec![4.], vec![5.]));
/// assert!((normed.output.flatten_all()?.to_vec1::<f64>()?[3] - 3. / 5f64.sqrt()).abs() < 1e-12);
/// # Ok(())
/// # }
/// ```
pub fn batch_norm(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    activation: Activation,
) -> Result<BatchNormed> {
    let &[_, c, _, _] = input.dims() else { bail!("{NAME}: input must be (N, C, H, W), got {:?}", input.shape()) };
    check(c, input.dtype(), (weight, bias))?;
    if !input.device().is_cpu() {
        return not_on_cpu();
    }
    let op = BatchNorm::new(eps, activation);
    let statistics = op.statistics();
    statistics.with(input.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?)
}

/// Refuses a scale and a shift that are not for maps of so many channels and this type.
pub(super) fn check(channels: usize, dtype: DType, (weight, bias): (&Tensor, &Tensor)) -> Result<()> {
    if weight.dims() != [channels] || bias.dims() != [channels] {
        bail!("{NAME}: weight and bias must be ({channels},), got {:?} and {:?}", weight.shape(), bias.shape())
    }
    if dtype != weight.dtype() || dtype != bias.dtype() {
        let dtypes = [dtype, weight.dtype(), bias.dtype()];
        bail!("{NAME}: input, weight and bias must have the same dtype, got {dtypes:?}")
    }
    if ![weight, bias].iter().all(|t| t.device().is_cpu()) {
        return not_on_cpu();
    }
    Ok(())
}

fn not_on_cpu<R>() -> Result<R> {
    bail!("{NAME}: there is a kernel for the CPU only; move the tensors with to_device(&Device::Cpu)")
}

/// The statistics of a batch once it has been normalised.
pub(super) struct Later(Arc<OnceLock<Statistics>>);

impl Later {
    /// Puts them beside the batch.
    pub(super) fn with(self, output: Tensor) -> Result<BatchNormed> {
        let Some(Statistics { mean, variance }) = self.0.get() else { bail!("{NAME}: has not run") };
        let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu)?.to_dtype(output.dtype());
        Ok(BatchNormed { mean: tensor(mean)?, variance: tensor(variance)?, output })
    }
}

/// Of each channel, in f64 whatever the maps' type.
#[derive(Debug)]
struct Statistics {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

pub(super) struct BatchNorm {
    eps: f64,
    activation: Activation,
    /// What the forward pass leaves for the backward pass and for the caller.
    statistics: Arc<OnceLock<Statistics>>,
}

impl BatchNorm {
    pub(super) fn new(eps: f64, activation: Activation) -> Self {
        Self { eps, activation, statistics: Default::default() }
    }

    pub(super) fn statistics(&self) -> Later {
        Later(self.statistics.clone())
    }

    /// The gradients of weight and bias, and that of the input if it is wanted.
    pub(super) fn gradients(
        &self,
        input: &Tensor,
        weight: &Tensor,
        out: &Tensor,
        grad: &Tensor,
        wanted: bool,
    ) -> Result<Gradients> {
        dispatch!(NAME, input, self.backward(input, weight, out, grad, wanted))
    }

    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let (shape, activation) = (input.1.shape().clone(), self.activation);
        let maps = Maps::new(&shape)?;
        if maps.values() < 2.0 {
            bail!("{NAME}: a channel must have at least 2 values in the batch, got input {shape:?}")
        }
        let xs = contiguous::<T>(NAME, input.0, input.1)?;
        let (weight, bias) = (contiguous::<T>(NAME, weight.0, weight.1)?, contiguous::<T>(NAME, bias.0, bias.1)?);
        let of_channel = |channel: usize| {
            let sum = maps.sum(channel, xs, |x: T| x.to_f64());
            let mean = sum / maps.values();
            let centre = T::from_f64(mean);
            let squares = maps.sum(channel, xs, |x: T| {
                let x = (x - centre).to_f64();
                x * x
            });
            (mean, squares / maps.values())
        };
        let (mean, variance): (Vec<f64>, Vec<f64>) = (0..maps.channels).into_par_iter().map(of_channel).unzip();
        let mut out = vec![T::zero(); xs.len()];
        out.par_chunks_mut(maps.plane).zip(xs.par_chunks(maps.plane)).with_min_len(4).enumerate().for_each(
            |(i, (out, xs))| {
                let channel = i % maps.channels;
                let scale = weight[channel] * T::from_f64(self.inverse(variance[channel]));
                let (mean, shift) = (T::from_f64(mean[channel]), bias[channel]);
                vectorised!({
                    for (out, &x) in out.iter_mut().zip(xs) {
                        *out = activation.of((x - mean) * scale + shift);
                    }
                });
            },
        );
        // A node runs forward once.
        let _ = self.statistics.set(Statistics { mean, variance });
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    /// One over the standard deviation.
    fn inverse(&self, variance: f64) -> f64 {
        1.0 / (variance + self.eps).sqrt()
    }

    fn backward<T: Real>(
        &self,
        input: &Tensor,
        weight: &Tensor,
        out: &Tensor,
        grad: &Tensor,
        wanted: bool,
    ) -> Result<Gradients> {
        let maps = Maps::new(input.shape())?;
        let Some(statistics) = self.statistics.get() else { bail!("{NAME}: backward before forward") };
        let (grads, sums) = with_elements::<T, _>(NAME, input, |xs| {
            with_elements::<T, _>(NAME, weight, |weight| {
                with_elements::<T, _>(NAME, out, |out| {
                    with_elements::<T, _>(NAME, grad, |grad| {
                        Ok(self.gradients_of_maps(&maps, statistics, wanted, (xs, weight, out, grad)))
                    })
                })
            })
        })?;
        let of_channels = |which: fn(&Sums) -> f64| {
            let values: Vec<f64> = sums.iter().map(which).collect();
            Tensor::new(values, &Device::Cpu)?.to_dtype(weight.dtype())
        };
        Ok((
            if wanted { Some(tensor_like(grads, input)?) } else { None },
            Some(of_channels(|sums| sums.scaled)?),
            Some(of_channels(|sums| sums.plain)?),
        ))
    }

    fn gradients_of_maps<T: Real>(
        &self,
        maps: &Maps,
        statistics: &Statistics,
        wanted: bool,
        (xs, weight, out, grad): (&[T], &[T], &[T], &[T]),
    ) -> (Vec<T>, Vec<Sums>) {
        let activation = self.activation;
        let sums: Vec<Sums> = (0..maps.channels)
            .into_par_iter()
            .map(|channel| {
                let (mean, inverse) = (statistics.mean[channel], self.inverse(statistics.variance[channel]));
                let centre = T::from_f64(mean);
                let mut sums = Sums { plain: 0.0, scaled: 0.0 };
                for image in 0..maps.images {
                    let at = maps.at(image, channel);
                    let (plain, scaled) =
                        gradient_sums(activation, centre, (&xs[at.clone()], &out[at.clone()], &grad[at]));
                    sums.plain += plain;
                    sums.scaled += scaled * inverse;
                }
                sums
            })
            .collect();
        let mut grads = vec![T::zero(); if wanted { xs.len() } else { 0 }];
        grads.par_chunks_mut(maps.plane).with_min_len(4).enumerate().for_each(|(i, grads)| {
            let channel = i % maps.channels;
            let at = i * maps.plane..(i + 1) * maps.plane;
            let (xs, out, grad) = (&xs[at.clone()], &out[at.clone()], &grad[at]);
            let (mean, inverse) = (statistics.mean[channel], self.inverse(statistics.variance[channel]));
            let scale = weight[channel] * T::from_f64(inverse);
            let Sums { plain, scaled } = sums[channel];
            // The mean of the gradient, and its part along the normalised values: changes that the statistics undo.
            let offset = T::from_f64(plain / maps.values());
            let (mean, slope) = (T::from_f64(mean), T::from_f64(inverse * scaled / maps.values()));
            vectorised!({
                for (((to, &x), &y), &grad) in grads.iter_mut().zip(xs).zip(out).zip(grad) {
                    *to = scale * (activation.grad(y, grad) - offset - (x - mean) * slope);
                }
            });
        });
        (grads, sums)
    }
}

impl CustomOp3 for BatchNorm {
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

    fn bwd(&self, input: &Tensor, weight: &Tensor, _bias: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        self.gradients(input, weight, out, &grad.contiguous()?, input.track_op())
    }
}

/// The sums over a map of the gradient before the activation, and of that times what is above the mean.
fn gradient_sums<T: Real>(activation: Activation, mean: T, (xs, out, grad): (&[T], &[T], &[T])) -> (f64, f64) {
    vectorised!({
        let (mut plain, mut scaled) = ([0.0; STRANDS], [0.0; STRANDS]);
        let ((xs, last_xs), (out, last_out)) = (xs.as_chunks::<STRANDS>(), out.as_chunks::<STRANDS>());
        let (grad, last_grad) = grad.as_chunks::<STRANDS>();
        for ((xs, out), grad) in xs.iter().zip(out).zip(grad) {
            let mut masked = [T::zero(); STRANDS];
            for i in 0..STRANDS {
                masked[i] = activation.grad(out[i], grad[i]);
            }
            for i in 0..STRANDS {
                plain[i] += masked[i].to_f64();
                scaled[i] += masked[i].to_f64() * (xs[i] - mean).to_f64();
            }
        }
        for i in 0..last_xs.len() {
            let grad = activation.grad(last_out[i], last_grad[i]).to_f64();
            plain[i] += grad;
            scaled[i] += grad * (last_xs[i] - mean).to_f64();
        }
        (plain.iter().sum::<f64>(), scaled.iter().sum::<f64>())
    })
}

/// A channel's sums: of the gradient, and of the gradient times the normalised value.
struct Sums {
    plain: f64,
    scaled: f64,
}

/// Where a batch has its maps.
struct Maps {
    images: usize,
    channels: usize,
    plane: usize,
}

impl Maps {
    fn new(shape: &Shape) -> Result<Self> {
        let (images, channels, h, w) = shape.dims4()?;
        Ok(Self { images, channels, plane: h * w })
    }

    /// The number of a channel's values.
    fn values(&self) -> f64 {
        (self.images * self.plane) as f64
    }

    fn at(&self, image: usize, channel: usize) -> std::ops::Range<usize> {
        let first = (image * self.channels + channel) * self.plane;
        first..first + self.plane
    }

    /// The sum of `f` over a channel, in an order that the sizes alone decide.
    fn sum<T: Real>(&self, channel: usize, xs: &[T], f: impl Fn(T) -> f64 + Copy) -> f64 {
        let map = |image| {
            let (chunks, last) = xs[self.at(image, channel)].as_chunks::<STRANDS>();
            vectorised!({
                let mut strands = [0.0; STRANDS];
                for chunk in chunks {
                    for i in 0..STRANDS {
                        strands[i] += f(chunk[i]);
                    }
                }
                for i in 0..last.len() {
                    strands[i] += f(last[i]);
                }
                strands.iter().sum::<f64>()
            })
        };
        (0..self.images).map(map).sum()
    }
}
