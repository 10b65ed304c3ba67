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

    /// Writes the patches of a group of images: row (c, ky, kx), column (position, image).
    fn gather<T: Real>(&self, group: &Interleaved<T>, patches: &mut [T]) {
        let (n, stride) = (group.count, self.cfg.stride);
        for (row, line) in patches.chunks_exact_mut(self.positions() * n).enumerate() {
            if self.cfg.padding > 0 {
                line.fill(T::zero());
            }
            self.runs(row, |columns, pixel| {
                let line = &mut line[columns.start * n..columns.end * n];
                let pixels = &group.data[pixel * n..];
                if stride == 1 {
                    line.copy_from_slice(&pixels[..line.len()]);
                } else {
                    let pixels = pixels.chunks(n).step_by(stride);
                    line.chunks_exact_mut(n).zip(pixels).for_each(|(to, from)| to.copy_from_slice(from));
                }
            });
        }
    }

    /// Adds the patches back to the pixels they came from.
    fn scatter<T: Real>(&self, patches: &[T], group: &mut Interleaved<T>) {
        let (n, stride) = (group.count, self.cfg.stride);
        let add = |to: &mut [T], from: &[T]| to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
        for (row, line) in patches.chunks_exact(self.positions() * n).enumerate() {
            self.runs(row, |columns, pixel| {
                let line = &line[columns.start * n..columns.end * n];
                let pixels = &mut group.data[pixel * n..];
                if stride == 1 {
                    add(pixels, line);
                } else {
                    pixels.chunks_mut(n).step_by(stride).zip(line.chunks_exact(n)).for_each(|(to, from)| add(to, from));
                }
            });
        }
    }

    /// The maps of a group of images as a matrix, row o, column (position, image), from (image, o, position).
    fn maps_to_rows<T: Real>(&self, maps: &[T], rows: &mut [T]) {
        let (n, positions) = (maps.len() / self.map_len(), self.positions());
        for (i, map) in maps.chunks_exact(self.map_len()).enumerate() {
            for (line, row) in map.chunks_exact(positions).zip(rows.chunks_exact_mut(positions * n)) {
                row[i..].iter_mut().step_by(n).zip(line).for_each(|(to, &from)| *to = from);
            }
        }
    }

    /// The way back, with a bias added to each row.
    fn rows_to_maps<T: Real>(&self, rows: &[T], bias: &[T], maps: &mut [T]) {
        let (n, positions) = (maps.len() / self.map_len(), self.positions());
        for (i, map) in maps.chunks_exact_mut(self.map_len()).enumerate() {
            let rows = rows.chunks_exact(positions * n).zip(bias);
            for (line, (row, &bias)) in map.chunks_exact_mut(positions).zip(rows) {
                line.iter_mut().zip(row[i..].iter().step_by(n)).for_each(|(to, &from)| *to = from + bias);
            }
        }
    }
}

/// A group of images with the images as the last dimension, (C, H, W, count): what one tap of the kernel sees along a row of positions
/// is then one run of memory, however small the maps.
#[derive(Default)]
struct Interleaved<T> {
    data: Vec<T>,
    count: usize,
}

impl<T: Real> Interleaved<T> {
    /// Takes in (count, C, H, W).
    fn load(&mut self, images: &[T], image_len: usize) {
        self.zeros(images.len(), image_len);
        for (i, image) in images.chunks_exact(image_len).enumerate() {
            self.data[i..].iter_mut().step_by(self.count).zip(image).for_each(|(to, &from)| *to = from);
        }
    }

    /// Gives out (count, C, H, W).
    fn store(&self, images: &mut [T], image_len: usize) {
        for (i, image) in images.chunks_exact_mut(image_len).enumerate() {
            image.iter_mut().zip(self.data[i..].iter().step_by(self.count)).for_each(|(to, &from)| *to = from);
        }
    }

    fn zeros(&mut self, len: usize, image_len: usize) {
        self.count = len / image_len;
        self.data.clear();
        self.data.resize(len, T::zero());
    }
}

/// Buffers that a thread keeps from one group to the next.
#[derive(Default)]
struct Workspace<T> {
    group: Interleaved<T>,
    patches: Vec<T>,
    rows: Vec<T>,
}

/// The first `len` elements of a buffer. What they hold is left over.
fn resized<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::zero());
    }
    &mut buffer[..len]
}

/// The maps, (N, O, H', W').
pub(super) fn forward<T: Real>(problem: &Problem, input: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let (o, k, positions, group) = (problem.kernel.0, problem.patch_len(), problem.positions(), problem.group());
    let mut out = vec![T::zero(); problem.images() * problem.map_len()];
    if out.is_empty() || input.is_empty() {
        // Images without channels, or without pixels but those of the padding: the bias everywhere.
        out.chunks_exact_mut(positions).zip(bias.iter().cycle()).for_each(|(line, &bias)| line.fill(bias));
        return out;
    }
    out.par_chunks_mut(group * problem.map_len()).zip(input.par_chunks(group * problem.image_len())).for_each_init(
        Workspace::default,
        |Workspace { group, patches, rows }, (out, images)| {
            group.load(images, problem.image_len());
            let columns = group.count * positions;
            let patches = resized(patches, k * columns);
            problem.gather(group, patches);
            let rows = resized(rows, o * columns);
            product(rows, Matrix::new(weight, o, k), Matrix::new(patches, k, columns), false);
            problem.rows_to_maps(rows, bias, out);
        },
    );
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
        Workspace::default,
        |Workspace { group, patches, rows }, (images, grad)| {
            group.zeros(images.len(), problem.image_len());
            let columns = group.count * positions;
            let rows = resized(rows, o * columns);
            problem.maps_to_rows(grad, rows);
            let patches = resized(patches, k * columns);
            product(patches, Matrix::new(weight, o, k).t(), Matrix::new(rows, o, columns), false);
            problem.scatter(patches, group);
            group.store(images, problem.image_len());
        },
    );
    out
}

/// The gradient of the weights, (O, C, kh, kw).
pub(super) fn grad_weight<T: Real>(problem: &Problem, input: &[T], grad: &[T]) -> Vec<T> {
    let (o, k, positions, group) = (problem.kernel.0, problem.patch_len(), problem.positions(), problem.group());
    let mut sum = vec![T::zero(); o * k];
    if input.is_empty() || grad.is_empty() {
        return sum;
    }
    let part = problem.images().div_ceil(PARTS).next_multiple_of(group);
    let parts: Vec<Vec<T>> = input
        .par_chunks(part * problem.image_len())
        .zip(grad.par_chunks(part * problem.map_len()))
        .map_init(Workspace::default, |Workspace { group: interleaved, patches, rows }, (images, grad)| {
            let mut sum = vec![T::zero(); o * k];
            let groups = images.chunks(group * problem.image_len()).zip(grad.chunks(group * problem.map_len()));
            for (images, grad) in groups {
                interleaved.load(images, problem.image_len());
                let columns = interleaved.count * positions;
                let patches = resized(patches, k * columns);
                problem.gather(interleaved, patches);
                let rows = resized(rows, o * columns);
                problem.maps_to_rows(grad, rows);
                product(&mut sum, Matrix::new(rows, o, columns), Matrix::new(patches, k, columns).t(), true);
            }
            sum
        })
        .collect();
    for part in &parts {
        sum.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
    }
    sum
}

/// The gradient of the bias, (O,): one sum a map, these summed over the images in their order.
pub(super) fn grad_bias<T: Real>(o: usize, positions: usize, grad: &[T]) -> Vec<T> {
    let mut out = vec![T::zero(); o];
    if grad.is_empty() {
        return out;
    }
    let sums: Vec<T> = grad.par_chunks(positions).with_min_len(16).map(sum).collect();
    for image in sums.chunks_exact(o) {
        out.iter_mut().zip(image).for_each(|(out, &x)| *out += x);
    }
    out
}

/// A sum in sixteen strands, so that it can be vectorised.
fn sum<T: Real>(values: &[T]) -> T {
    let mut strands = [T::zero(); 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        strands.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += x);
    }
    strands.iter().chain(rest).fold(T::zero(), |sum, &x| sum + x)
}
