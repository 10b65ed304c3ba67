//! The convolution as products of matrices: weights by what the filters see, which is made a block at a time, or for 1x1 at every position is the image
//! itself.
//!
//! Each image has a thread; a single one has them all. Large batches of small images go faster interleaved.

use super::Conv2dConfig;
use super::geometry::Geometry;
use super::patches::Patches;
use crate::ops::activation::{Activation, masked_by};
use crate::ops::interleave::groups;
use crate::ops::product::{Matrix, Threads, add_product, product_into};
use crate::ops::real::{Gradients, Real, STRANDS, contiguous, dispatch, tensor_like, vectorised, with_elements};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

const NAME: &str = "conv2d";

/// The weights' gradient is summed up by so many tasks, whatever the number of threads.
const TASKS: usize = 8;

/// Multiply-adds a nanosecond of a product, and of sums over interleaved images that the cache holds or doesn't.
const PRODUCT: f64 = 55.;
const CACHED: f64 = 55.;
const UNCACHED: f64 = 25.;

/// Nanoseconds for an element of the matrix of patches.
const ELEMENT: f64 = 0.35;

/// Filters of a product that take no longer than one.
const FILTERS: usize = 16;

/// The bytes of a group of interleaved images that the cache holds.
const CACHE: usize = 5 << 20;

/// Whether the matrix of all channels is the image itself: the product is all there is to do.
pub(super) fn is_plain(geometry: &Geometry) -> bool {
    geometry.cfg.groups == 1 && Patches::new(geometry).are_pixels()
}

/// Whether a product is the shorter way than sums over interleaved images, of which every started group costs as much as a full one. (The rates were measured on an
/// Ice Lake core with AVX-512; what counts is how they compare.)
pub(super) fn pays<T: Real>(geometry: &Geometry) -> bool {
    let (images, filters) = (geometry.images as f64, geometry.group_filters());
    let interleaved = (groups::<T>(geometry.images) * T::LANES) as f64;
    let bytes = geometry.group_channels() * geometry.padded_pixels() * T::LANES * size_of::<T>();
    let direct = interleaved * filters as f64 / if bytes <= CACHE { CACHED } else { UNCACHED };
    let product = images * (filters.max(FILTERS) as f64 / PRODUCT + ELEMENT);
    // A large image alone would take the memory of a whole group, and is not slower this way even where there is one filter.
    product < direct || geometry.images == 1 && bytes > CACHE
}

/// Convolution, bias and activation.
pub(super) struct ByProduct {
    pub(super) cfg: Conv2dConfig,
    pub(super) activation: Activation,
}

/// One call. Its images come in parts: the channels of an image that one group of filters sees.
struct Problem<'a> {
    geometry: &'a Geometry,
    patches: Patches<'a>,
    activation: Activation,
    /// Several parts have a thread each, one has them all.
    threads: Threads,
}

impl<'a> Problem<'a> {
    fn new(geometry: &'a Geometry, activation: Activation) -> Self {
        let parts = geometry.images * geometry.cfg.groups;
        let threads = if parts > 1 { Threads::One } else { Threads::All };
        Self { geometry, patches: Patches::new(geometry), activation, threads }
    }

    fn parts(&self) -> usize {
        self.geometry.images * self.geometry.cfg.groups
    }

    /// Elements of a part.
    fn input_len(&self) -> usize {
        self.geometry.group_channels() * self.geometry.pixels()
    }

    /// Elements of its maps.
    fn maps_len(&self) -> usize {
        self.geometry.group_filters() * self.geometry.positions()
    }

    /// The filters of a part's group.
    fn filters(&self, part: usize) -> Range<usize> {
        let (group, filters) = (part % self.geometry.cfg.groups, self.geometry.group_filters());
        group * filters..(group + 1) * filters
    }

    /// Where their weights lie.
    fn weights(&self, part: usize) -> Range<usize> {
        let (filters, patch) = (self.filters(part), self.geometry.patch());
        filters.start * patch..filters.end * patch
    }

    /// The positions of some rows of a map.
    fn positions(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.geometry.out.1..rows.end * self.geometry.out.1
    }

    /// What the filters see from some rows: (taps, positions).
    fn seen<'m, T: Real>(&self, image: &'m [T], rows: &Range<usize>, matrix: &'m mut Vec<T>) -> Matrix<'m, T> {
        let (taps, positions) = (self.geometry.patch(), self.positions(rows));
        if self.patches.are_pixels() {
            return Matrix::new(image, taps, self.geometry.positions()).columns(positions);
        }
        self.patches.gather(image, rows.clone(), self.threads, matrix);
        Matrix::new(matrix, taps, positions.len())
    }

    /// Computes the maps of a part.
    fn maps<T: Real>(&self, image: &[T], weight: &[T], bias: &[T], maps: &mut [T], matrix: &mut Vec<T>) {
        let (activation, plane) = (self.activation, self.geometry.positions());
        let weight = Matrix::new(weight, bias.len(), self.geometry.patch());
        for rows in self.patches.blocks::<T>() {
            let at = self.positions(&rows);
            product_into((&mut maps[at.start..], plane), weight, self.seen(image, &rows, matrix), self.threads);
            let maps = &mut maps[..];
            vectorised!({
                for (map, &bias) in maps.chunks_exact_mut(plane).zip(bias) {
                    map[at.clone()].iter_mut().for_each(|x| *x = activation.of(*x + bias));
                }
            });
        }
    }

    /// Adds the gradients of a part's weights and bias, and computes that of its image where there is room for it.
    fn gradients<T: Real>(&self, of: &Part<T>, image: Option<&mut [T]>, sums: &mut Sums<T>, scratch: &mut Scratch<T>) {
        let (plane, taps) = (self.geometry.positions(), self.geometry.patch());
        let Scratch { masked, matrix, columns } = scratch;
        let grad = match self.activation {
            Activation::None => of.grad,
            activation => {
                masked.resize(of.grad.len(), T::zero());
                masked_by(activation, of.out, of.grad, masked);
                masked
            }
        };
        let filters = self.filters(of.number);
        for (sum, map) in sums.bias[filters.clone()].iter_mut().zip(grad.chunks_exact(plane)) {
            *sum += strands(map);
        }
        let grad = Matrix::new(grad, filters.len(), plane);
        if !sums.weight.is_empty() {
            let sums = &mut sums.weight[self.weights(of.number)];
            for rows in self.patches.blocks::<T>() {
                let seen = self.seen(of.image, &rows, matrix);
                add_product(sums, grad.columns(self.positions(&rows)), seen.t(), self.threads);
            }
        }
        let Some(image) = image else { return };
        let weight = Matrix::new(of.weight, filters.len(), taps).t();
        for rows in self.patches.blocks::<T>() {
            let at = self.positions(&rows);
            if self.patches.are_pixels() {
                product_into((&mut image[at.start..], plane), weight, grad.columns(at), self.threads);
            } else {
                columns.resize(taps * at.len(), T::zero());
                product_into((columns, at.len()), weight, grad.columns(at.clone()), self.threads);
                self.patches.scatter(columns, rows, self.threads, image);
            }
        }
    }
}

/// A part, and what a backward pass knows of it.
struct Part<'a, T> {
    number: usize,
    image: &'a [T],
    weight: &'a [T],
    /// Its maps, and their gradient.
    out: &'a [T],
    grad: &'a [T],
}

/// Buffers that a task keeps from one part to the next.
#[derive(Default)]
struct Scratch<T> {
    masked: Vec<T>,
    matrix: Vec<T>,
    columns: Vec<T>,
}

/// Gradients, or a task's part of them.
struct Sums<T> {
    input: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

impl ByProduct {
    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let geometry = Geometry::new(input.1.shape(), weight.1.shape(), self.cfg)?;
        let problem = Problem::new(&geometry, self.activation);
        let (input, weight) = (contiguous::<T>(NAME, input.0, input.1)?, contiguous::<T>(NAME, weight.0, weight.1)?);
        let (bias, image_len, maps_len) =
            (contiguous::<T>(NAME, bias.0, bias.1)?, problem.input_len(), problem.maps_len());
        let mut out = vec![T::zero(); problem.parts() * maps_len];
        out.par_chunks_mut(maps_len.max(1)).enumerate().for_each_init(Vec::new, |matrix, (part, maps)| {
            let image = &input[part * image_len..][..image_len];
            let (weight, bias) = (&weight[problem.weights(part)], &bias[problem.filters(part)]);
            problem.maps(image, weight, bias, maps, matrix);
        });
        let shape = Shape::from((geometry.images, geometry.filters, geometry.out.0, geometry.out.1));
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    fn backward<T: Real>(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let geometry = Geometry::new(input.shape(), weight.shape(), self.cfg)?;
        let problem = Problem::new(&geometry, self.activation);
        let wanted = (input.track_op(), weight.track_op());
        let sums = with_elements::<T, _>(NAME, input, |input| {
            with_elements(NAME, weight, |weight| {
                with_elements(NAME, out, |out| {
                    with_elements(NAME, grad, |grad| Ok(gradients(&problem, wanted, (input, weight, out, grad))))
                })
            })
        })?;
        Ok((
            if wanted.0 { Some(tensor_like(sums.input, input)?) } else { None },
            if wanted.1 { Some(tensor_like(sums.weight, weight)?) } else { None },
            if bias.track_op() { Some(tensor_like(sums.bias, bias)?) } else { None },
        ))
    }
}

fn gradients<T: Real>(
    problem: &Problem,
    wanted: (bool, bool),
    (input, weight, out, grad): (&[T], &[T], &[T], &[T]),
) -> Sums<T> {
    let (parts, image_len, maps_len) = (problem.parts(), problem.input_len(), problem.maps_len());
    let zeros = |wanted: bool, len: usize| vec![T::zero(); if wanted { len } else { 0 }];
    let sums =
        || Sums { input: vec![], weight: zeros(wanted.1, weight.len()), bias: zeros(true, problem.geometry.filters) };
    let mut grad_input = zeros(wanted.0, input.len());
    let share = parts.div_ceil(TASKS).max(1);
    let mut inputs: Vec<&mut [T]> = grad_input.chunks_mut((share * image_len).max(1)).collect();
    inputs.resize_with(parts.div_ceil(share), Default::default);
    let tasks = inputs.into_par_iter().enumerate().map(|(task, grad_input)| {
        let (mut sums, mut scratch) = (sums(), Scratch::default());
        let mut grad_images = grad_input.chunks_mut(image_len.max(1));
        for number in task * share..parts.min((task + 1) * share) {
            let maps = number * maps_len..(number + 1) * maps_len;
            let part = Part {
                number,
                image: &input[number * image_len..][..image_len],
                weight: &weight[problem.weights(number)],
                out: &out[maps.clone()],
                grad: &grad[maps],
            };
            problem.gradients(&part, grad_images.next(), &mut sums, &mut scratch);
        }
        sums
    });
    let tasks: Vec<_> = tasks.collect();
    let mut sums = sums();
    for task in tasks {
        add(&mut sums.weight, &task.weight);
        add(&mut sums.bias, &task.bias);
    }
    Sums { input: grad_input, ..sums }
}

pub(super) fn add<T: Real>(sums: &mut [T], part: &[T]) {
    sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
}

/// A sum in strands, so that it can be vectorised.
pub(super) fn strands<T: Real>(values: &[T]) -> T {
    vectorised!({
        let mut strands = [T::zero(); STRANDS];
        let (chunks, last) = values.as_chunks::<STRANDS>();
        for chunk in chunks {
            for i in 0..STRANDS {
                strands[i] += chunk[i];
            }
        }
        add(&mut strands[..last.len()], last);
        strands.iter().fold(T::zero(), |sum, &x| sum + x)
    })
}

impl CustomOp3 for ByProduct {
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
