//! The convolution of 1x1, every position, one group: a matrix product for each image, without any rearrangement of it.

use super::Conv2dConfig;
use crate::ops::activation::Activation;
use crate::ops::product::{Matrix, add_product, add_product_alone};
use crate::ops::real::{Gradients, Real, contiguous, dispatch, tensor_like, with_elements};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::Arch;
use rayon::prelude::*;

const NAME: &str = "conv2d";

/// The weights' gradient is summed up by so many tasks, whatever the number of threads.
const TASKS: usize = 8;

/// Whether a convolution is one of 1x1 at every position.
pub(super) fn fits(cfg: Conv2dConfig, kernel: (usize, usize)) -> bool {
    let plain = Conv2dConfig { dilation: cfg.dilation, ..Conv2dConfig::new() };
    kernel == (1, 1) && cfg == plain
}

/// Convolution, bias and activation.
pub(super) struct Pointwise(pub(super) Activation);

/// Of a call: channels, filters, pixels.
#[derive(Clone, Copy)]
struct Sizes {
    images: usize,
    channels: usize,
    filters: usize,
    pixels: usize,
}

impl Sizes {
    fn new(input: &Shape, weight: &Shape) -> Result<Self> {
        let ((images, channels, h, w), filters) = (input.dims4()?, weight.dims()[0]);
        Ok(Self { images, channels, filters, pixels: h * w })
    }
}

impl Pointwise {
    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let activation = self.0;
        let (images, _, h, w) = input.1.shape().dims4()?;
        let sizes = Sizes::new(input.1.shape(), weight.1.shape())?;
        let Sizes { channels, filters, pixels, .. } = sizes;
        let (input, bias) = (contiguous::<T>(NAME, input.0, input.1)?, contiguous::<T>(NAME, bias.0, bias.1)?);
        let weight = Matrix::new(contiguous::<T>(NAME, weight.0, weight.1)?, filters, channels);
        let mut out = vec![T::zero(); images * filters * pixels];
        if !out.is_empty() {
            out.par_chunks_mut(filters * pixels).enumerate().for_each(|(image, maps)| {
                if channels > 0 {
                    let xs = &input[image * channels * pixels..][..channels * pixels];
                    multiply(images, maps, weight, Matrix::new(xs, channels, pixels));
                }
                Arch::new().dispatch(|| {
                    for (map, &bias) in maps.chunks_exact_mut(pixels).zip(bias) {
                        map.iter_mut().for_each(|x| *x = activation.of(*x + bias));
                    }
                });
            });
        }
        Ok((T::to_cpu_storage_owned(out), Shape::from((images, filters, h, w))))
    }

    fn backward<T: Real>(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let sizes = Sizes::new(input.shape(), weight.shape())?;
        let wanted = (input.track_op(), weight.track_op());
        let sums = with_elements::<T, _>(NAME, input, |input| {
            with_elements(NAME, weight, |weight| {
                with_elements(NAME, out, |out| {
                    with_elements(NAME, grad, |grad| Ok(self.gradients(sizes, wanted, (input, weight, out, grad))))
                })
            })
        })?;
        Ok((
            if wanted.0 { Some(tensor_like(sums.input, input)?) } else { None },
            if wanted.1 { Some(tensor_like(sums.weight, weight)?) } else { None },
            if bias.track_op() { Some(tensor_like(sums.bias, bias)?) } else { None },
        ))
    }

    fn gradients<T: Real>(
        &self,
        sizes: Sizes,
        wanted: (bool, bool),
        (input, weight, out, grad): (&[T], &[T], &[T], &[T]),
    ) -> Sums<T> {
        let Sizes { images, channels, filters, pixels } = sizes;
        let (activation, image_len, maps_len) = (self.0, channels * pixels, filters * pixels);
        let zeros = |wanted: bool, len: usize| vec![T::zero(); if wanted { len } else { 0 }];
        let mut grad_input = zeros(wanted.0, images * image_len);
        let share = images.div_ceil(TASKS).max(1);
        let mut inputs: Vec<&mut [T]> = grad_input.chunks_mut((share * image_len).max(1)).collect();
        inputs.resize_with(images.div_ceil(share), Default::default);
        let parts = inputs.into_par_iter().enumerate().map(|(task, grad_input)| {
            let mut sums =
                Sums { input: vec![], weight: zeros(wanted.1, filters * channels), bias: zeros(true, filters) };
            let mut masked = vec![T::zero(); if activation == Activation::None { 0 } else { maps_len }];
            let mut grad_images = grad_input.chunks_mut(image_len.max(1));
            for image in task * share..images.min((task + 1) * share) {
                let at = image * maps_len..(image + 1) * maps_len;
                let mut maps = &grad[at.clone()];
                if activation != Activation::None {
                    Arch::new().dispatch(|| {
                        let values = out[at.clone()].iter().zip(maps);
                        masked.iter_mut().zip(values).for_each(|(to, (&y, &grad))| *to = activation.grad(y, grad));
                    });
                    maps = &masked;
                }
                for (sum, map) in sums.bias.iter_mut().zip(maps.chunks_exact(pixels.max(1))) {
                    *sum += strands(map);
                }
                let maps = Matrix::new(maps, filters, pixels);
                if wanted.1 {
                    let xs = &input[image * image_len..(image + 1) * image_len];
                    multiply(images, &mut sums.weight, maps, Matrix::new(xs, channels, pixels).t());
                }
                if let Some(grad_image) = grad_images.next() {
                    multiply(images, grad_image, Matrix::new(weight, filters, channels).t(), maps);
                }
            }
            sums
        });
        let parts: Vec<_> = parts.collect();
        let mut sums = Sums { input: vec![], weight: zeros(wanted.1, filters * channels), bias: zeros(true, filters) };
        for part in parts {
            add(&mut sums.weight, &part.weight);
            add(&mut sums.bias, &part.bias);
        }
        Sums { input: grad_input, ..sums }
    }
}

/// `dst += lhs rhs`: images share the threads, and one image has them all.
fn multiply<T: Real>(images: usize, dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    if images > 1 { add_product_alone(dst, lhs, rhs) } else { add_product(dst, lhs, rhs) }
}

/// Gradients, or a task's part of them.
struct Sums<T> {
    input: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

pub(super) fn add<T: Real>(sums: &mut [T], part: &[T]) {
    sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
}

/// A sum in strands, so that it can be vectorised.
pub(super) fn strands<T: Real>(values: &[T]) -> T {
    let mut strands = [T::zero(); 16];
    for chunk in values.chunks(16) {
        strands.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += x);
    }
    strands.iter().fold(T::zero(), |sum, &x| sum + x)
}

impl CustomOp3 for Pointwise {
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
        let grad = grad.contiguous()?;
        dispatch!(NAME, input, self.backward(input, weight, bias, out, &grad))
    }
}
