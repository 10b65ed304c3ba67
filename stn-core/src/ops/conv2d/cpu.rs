//! The CPU kernels of the convolution: patches of a few images at a time, one matrix product for them, groups of images in parallel.
//!
//! How images are grouped depends on the sizes alone, never on the number of threads, and partial sums are added in their order.

use super::Conv2dConfig;
use crate::ops::product::{Matrix, product};
use crate::ops::real::Real;
use candle_core::{Result, Shape};
use rayon::prelude::*;
use std::ops::Range;

/// A product wants about this many columns; small maps share one. (Measured on 64 -> 64 7x7 on 10x10 pixels, 16 columns an image.)
const COLUMNS: usize = 256;

/// The batch is split into at most this many parts whose gradients of the weights are summed apart.
const PARTS: usize = 16;

pub(super) struct Problem {
    cfg: Conv2dConfig,
    /// Input: images, channels, height, width.
    input: (usize, usize, usize, usize),
    /// Kernels: how many, height, width.
    kernel: (usize, usize, usize),
    /// Height and width of the result.
    out: (usize, usize),
}

impl Problem {
    pub(super) fn new(input: &Shape, weight: &Shape, cfg: Conv2dConfig) -> Result<Self> {
        let input @ (_, _, h, w) = input.dims4()?;
        let (o, _, kh, kw) = weight.dims4()?;
        let side = |n: usize, k: usize| (n + 2 * cfg.padding - cfg.dilation * (k - 1) - 1) / cfg.stride + 1;
        Ok(Self { cfg, input, kernel: (o, kh, kw), out: (side(h, kh), side(w, kw)) })
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.input.0, self.kernel.0, self.out.0, self.out.1))
    }

    fn images(&self) -> usize {
        self.input.0
    }

    fn image_len(&self) -> usize {
        self.input.1 * self.input.2 * self.input.3
    }

    /// Elements of a patch: C kh kw.
    fn patch_len(&self) -> usize {
        self.input.1 * self.kernel.1 * self.kernel.2
    }

    /// Positions of the kernel on an image: H' W'.
    fn positions(&self) -> usize {
        self.out.0 * self.out.1
    }

    fn map_len(&self) -> usize {
        self.kernel.0 * self.positions()
    }

    /// Images that share one product.
    fn group(&self) -> usize {
        (COLUMNS / self.positions()).clamp(1, self.images().max(1))
    }

    /// Visits the runs of pixels that one row of the patch matrix shares with an image: for each, the positions of the kernel and
    /// the pixels, the latter `stride` apart. What lies in the padding is not visited.
    fn runs(&self, row: usize, mut visit: impl FnMut(Range<usize>, usize)) {
        let (_, _, h, w) = self.input;
        let (_, kh, kw) = self.kernel;
        let Conv2dConfig { stride, padding, dilation } = self.cfg;
        let (channel, ky, kx) = (row / (kh * kw), row / kw % kh, row % kw);
        // The first and the past-the-end output column whose input column lies inside: 0 <= ox stride + shift < w.
        let inside = |k: usize, n: usize, out: usize| {
            let shift = k * dilation;
            let first = padding.saturating_sub(shift).div_ceil(stride);
            let end = if n + padding > shift { (n + padding - shift).div_ceil(stride) } else { 0 };
            first..end.min(out)
        };
        let columns = inside(kx, w, self.out.1);
        if columns.is_empty() {
            return;
        }
        for oy in inside(ky, h, self.out.0) {
            let y = oy * stride + ky * dilation - padding;
            let x = columns.start * stride + kx * dilation - padding;
            let first = oy * self.out.1;
            visit(first + columns.start..first + columns.end, (channel * h + y) * w + x);
        }
    }

    /// Writes the patches of `images` side by side: row (c, ky, kx), column (image, position).
    fn gather<T: Real>(&self, images: &[T], patches: &mut [T]) {
        let (count, positions, stride) = (images.len() / self.image_len(), self.positions(), self.cfg.stride);
        for (row, line) in patches.chunks_exact_mut(count * positions).enumerate() {
            if self.cfg.padding > 0 {
                line.fill(T::zero());
            }
            for (image, line) in images.chunks_exact(self.image_len()).zip(line.chunks_exact_mut(positions)) {
                self.runs(row, |columns, pixel| {
                    let line = &mut line[columns];
                    if stride == 1 {
                        line.copy_from_slice(&image[pixel..pixel + line.len()]);
                    } else {
                        line.iter_mut().zip(image[pixel..].iter().step_by(stride)).for_each(|(to, &from)| *to = from);
                    }
                });
            }
        }
    }

    /// Adds the patches back to the pixels they came from.
    fn scatter<T: Real>(&self, patches: &[T], images: &mut [T]) {
        let (count, positions, stride) = (images.len() / self.image_len(), self.positions(), self.cfg.stride);
        for (row, line) in patches.chunks_exact(count * positions).enumerate() {
            for (image, line) in images.chunks_exact_mut(self.image_len()).zip(line.chunks_exact(positions)) {
                self.runs(row, |columns, pixel| {
                    let line = &line[columns];
                    if stride == 1 {
                        image[pixel..pixel + line.len()].iter_mut().zip(line).for_each(|(to, &from)| *to += from);
                    } else {
                        image[pixel..].iter_mut().step_by(stride).zip(line).for_each(|(to, &from)| *to += from);
                    }
                });
            }
        }
    }

    /// The maps of a group of images with their channels as rows, (O, images x positions), from (images, O, positions).
    fn channels_first<T: Real>(&self, maps: &[T], rows: &mut [T]) {
        let (count, positions) = (maps.len() / self.map_len(), self.positions());
        for (i, map) in maps.chunks_exact(self.map_len()).enumerate() {
            for (o, line) in map.chunks_exact(positions).enumerate() {
                rows[(o * count + i) * positions..][..positions].copy_from_slice(line);
            }
        }
    }
}

/// The maps, (N, O, H', W').
pub(super) fn forward<T: Real>(problem: &Problem, input: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let (o, k, positions, group) = (problem.kernel.0, problem.patch_len(), problem.positions(), problem.group());
    let mut out = vec![T::zero(); problem.images() * problem.map_len()];
    if out.is_empty() || k == 0 {
        return biased(out, bias, positions);
    }
    out.par_chunks_mut(group * problem.map_len()).zip(input.par_chunks(group * problem.image_len())).for_each_init(
        || (Vec::new(), Vec::new()),
        |(patches, rows), (out, images)| {
            let count = images.len() / problem.image_len();
            let columns = count * positions;
            problem.gather(images, resized(patches, k * columns));
            let rows = resized(rows, o * columns);
            product(rows, Matrix::new(weight, o, k), Matrix::new(&patches[..k * columns], k, columns), false);
            for (i, map) in out.chunks_exact_mut(problem.map_len()).enumerate() {
                for ((o, line), &bias) in map.chunks_exact_mut(positions).enumerate().zip(bias) {
                    let row = &rows[(o * count + i) * positions..][..positions];
                    line.iter_mut().zip(row).for_each(|(to, &from)| *to = from + bias);
                }
            }
        },
    );
    out
}

/// The maps of images without channels: the bias everywhere.
fn biased<T: Real>(mut out: Vec<T>, bias: &[T], positions: usize) -> Vec<T> {
    for (i, line) in out.chunks_exact_mut(positions.max(1)).enumerate() {
        line.fill(bias[i % bias.len()]);
    }
    out
}

/// The gradient of the images, (N, C, H, W).
pub(super) fn grad_input<T: Real>(problem: &Problem, weight: &[T], grad: &[T]) -> Vec<T> {
    let (o, k, positions, group) = (problem.kernel.0, problem.patch_len(), problem.positions(), problem.group());
    let mut out = vec![T::zero(); problem.images() * problem.image_len()];
    if out.is_empty() || grad.is_empty() {
        return out;
    }
    out.par_chunks_mut(group * problem.image_len()).zip(grad.par_chunks(group * problem.map_len())).for_each_init(
        || (Vec::new(), Vec::new()),
        |(patches, rows), (images, grad)| {
            let columns = images.len() / problem.image_len() * positions;
            let rows = resized(rows, o * columns);
            problem.channels_first(grad, rows);
            let patches = resized(patches, k * columns);
            product(patches, Matrix::new(weight, o, k).t(), Matrix::new(rows, o, columns), false);
            problem.scatter(patches, images);
        },
    );
    out
}

/// The gradient of the weights, (O, C, kh, kw).
pub(super) fn grad_weight<T: Real>(problem: &Problem, input: &[T], grad: &[T]) -> Vec<T> {
    let (o, k, positions, group) = (problem.kernel.0, problem.patch_len(), problem.positions(), problem.group());
    if input.is_empty() || grad.is_empty() {
        return vec![T::zero(); o * k];
    }
    let part = problem.images().div_ceil(PARTS).next_multiple_of(group);
    let parts: Vec<Vec<T>> = input
        .par_chunks(part * problem.image_len())
        .zip(grad.par_chunks(part * problem.map_len()))
        .map(|(images, grad)| {
            let mut sum = vec![T::zero(); o * k];
            let (mut patches, mut rows) = (Vec::new(), Vec::new());
            let groups = images.chunks(group * problem.image_len()).zip(grad.chunks(group * problem.map_len()));
            for (images, grad) in groups {
                let columns = images.len() / problem.image_len() * positions;
                problem.gather(images, resized(&mut patches, k * columns));
                let rows = resized(&mut rows, o * columns);
                problem.channels_first(grad, rows);
                let patches = Matrix::new(&patches[..k * columns], k, columns);
                product(&mut sum, Matrix::new(rows, o, columns), patches.t(), true);
            }
            sum
        })
        .collect();
    let mut sum = vec![T::zero(); o * k];
    for part in &parts {
        sum.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
    }
    sum
}

/// The first `len` elements of a buffer that is kept from one group to the next. What they hold is left over.
fn resized<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::zero());
    }
    &mut buffer[..len]
}
