//! The CPU kernels of the samplers of images and volumes: how the work is divided.
//!
//! Every sum is formed by one task in an order of its own, so that the bits do not depend on the number of threads.

use super::element::Element;
use super::lanes::{self, LANES};
use super::planar::{self, Sums};
use super::points::Points;
use super::problem::Problem;
use super::side::Mode;
use super::simd::run;
use crate::ops::targets::{Targets, row_sums, theta_gradient};
use rayon::prelude::*;
use std::marker::PhantomData;

/// About as many points are a task.
const PART: usize = 4096;

/// What is sampled, and where.
pub(in crate::ops) struct Call<'a, T, const D: usize> {
    pub(in crate::ops) problem: &'a Problem<D>,
    pub(in crate::ops) input: &'a [T],
    pub(in crate::ops) points: Points<'a, T>,
}

impl<T: Copy, const D: usize> Clone for Call<'_, T, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Copy, const D: usize> Copy for Call<'_, T, D> {}

impl<'a, T, const D: usize> Call<'a, T, D> {
    /// The channels of the image that window `n` is of.
    pub(super) fn channels(&self, n: usize) -> Vec<&'a [T]> {
        let b = n / self.problem.windows;
        (0..self.problem.channels).map(|c| self.problem.channel(self.input, b, c)).collect()
    }
}

/// Cuts each of the maps of `size` that `data` consists of into parts of `part`, and gathers the parts of the same place in `channels`
/// maps that follow one another: what one task writes.
fn cut<T>(data: &mut [T], channels: usize, size: usize, part: usize) -> Vec<Vec<&mut [T]>> {
    let parts = size.div_ceil(part);
    let mut tasks: Vec<Vec<&mut [T]>> = vec![];
    for (i, map) in data.chunks_exact_mut(size).enumerate() {
        if i % channels == 0 {
            tasks.extend((0..parts).map(|_| Vec::with_capacity(channels)));
        }
        let first = tasks.len() - parts;
        tasks[first..].iter_mut().zip(map.chunks_mut(part)).for_each(|(task, part)| task.push(part));
    }
    tasks
}

/// Gathers the maps of `size` that `data` consists of by image and block of channels: `windows` times a part of `channels` maps.
fn blocks<T>(data: &mut [T], windows: usize, channels: usize, size: usize) -> Vec<Vec<&mut [T]>> {
    let blocks = channels.div_ceil(LANES);
    let mut tasks: Vec<Vec<&mut [T]>> = vec![];
    for (i, map) in data.chunks_exact_mut(size).enumerate() {
        if i % (channels * windows) == 0 {
            tasks.extend((0..blocks).map(|_| vec![]));
        }
        let block = tasks.len() - blocks + i % channels / LANES;
        tasks[block].push(map);
    }
    tasks
}

/// Whole rows of a window, about `PART` points of them.
fn part_of<const D: usize>(problem: &Problem<D>) -> usize {
    let width = problem.out[D - 1];
    (PART / width).max(1) * width
}

/// The sampled windows, (B k, C, H', W').
pub(in crate::ops) fn forward<T: Element, M: Mode<K>, const K: usize, const D: usize>(call: Call<T, D>) -> Vec<T> {
    let problem = call.problem;
    let (points, channels) = (problem.points(), problem.channels);
    let mut out = vec![T::zero(); problem.all_windows() * channels * points];
    if out.is_empty() {
        return out;
    }
    let mode = PhantomData::<M>;
    if lanes::pay(problem) {
        let count = channels.div_ceil(LANES);
        let tasks = blocks(&mut out, problem.windows, channels, points).into_par_iter().enumerate();
        // A buffer a thread, more or less: fresh memory is slow.
        tasks.for_each_init(Vec::new, |image, (i, out)| {
            let (b, first) = (i / count, i % count * LANES);
            run(lanes::Forward::<T, M, K, D> { call, b, first, out, image, mode });
        });
    } else {
        let part = part_of(problem);
        let parts = points.div_ceil(part);
        cut(&mut out, channels, points, part).into_par_iter().enumerate().for_each(|(i, out)| {
            run(planar::Forward::<T, M, K, D> { call, n: i / parts, first: i % parts * part, out, mode });
        });
    }
    out
}

/// The gradients of the images, (B, C, H, W), contiguous, and of the points, as they are given; each if it is asked for, else empty.
pub(in crate::ops) fn backward<T: Element, M: Mode<K>, const K: usize, const D: usize>(
    call: Call<T, D>,
    grad: &[T],
    (of_images, of_points): (bool, bool),
) -> (Vec<T>, Vec<T>) {
    let problem = call.problem;
    let zeros = |wanted: bool, len: usize| vec![T::zero(); if wanted { len } else { 0 }];
    let mut images = zeros(of_images, problem.images * problem.channels * problem.pixels());
    let mut points = match call.points {
        Points::Grid(grid) => zeros(of_points, grid.len()),
        Points::Affine(theta, _) => zeros(of_points, theta.len()),
    };
    // The nearest pixel stays the same: the points' derivative is zero everywhere.
    let of_points = of_points && K > 1;
    if grad.is_empty() || !(of_images || of_points) {
        return (images, points);
    }
    if lanes::pay(problem) {
        let mut grids = zeros(of_points, problem.all_windows() * problem.points() * D);
        lanes_backward::<T, M, K, D>(call, grad, &mut images, &mut grids);
        match call.points {
            Points::Grid(_) => points = if of_points { grids } else { points },
            Points::Affine(_, targets) if of_points => {
                let rows: Vec<_> =
                    grids.par_chunks_exact(2 * problem.out[D - 1]).map(|g| row_sums(g, targets)).collect();
                points = thetas(&rows, targets);
            }
            Points::Affine(..) => {}
        }
    } else {
        let mut rows = vec![];
        let windows: Vec<Sums<T>> = match call.points {
            _ if !of_points => vec![],
            Points::Grid(_) => points.chunks_exact_mut(problem.points() * D).map(Sums::Points).collect(),
            Points::Affine(_, targets) => {
                rows.resize(problem.all_windows() * targets.y.len(), [0.0; 4]);
                rows.chunks_exact_mut(targets.y.len()).map(Sums::Rows).collect()
            }
        };
        // Enough images to keep the threads busy with one each.
        if of_images && of_points && problem.images >= 2 * rayon::current_num_threads() {
            both::<T, M, K, D>(call, grad, &mut images, windows);
        } else {
            if of_images {
                grad_images::<T, M, K, D>(call, grad, &mut images);
            }
            grad_points::<T, M, K, D>(call, grad, windows);
        }
        if let (Points::Affine(_, targets), false) = (call.points, rows.is_empty()) {
            points = thetas(&rows, targets);
        }
    }
    (images, points)
}

/// The gradients of matrices from the sums of their windows' rows.
fn thetas<T: Element>(rows: &[[f64; 4]], targets: &Targets) -> Vec<T> {
    rows.chunks_exact(targets.y.len()).flat_map(|rows| theta_gradient(rows, targets)).map(T::narrow).collect()
}

/// Both gradients in one pass, each where there is room for it.
fn lanes_backward<T: Element, M: Mode<K>, const K: usize, const D: usize>(
    call: Call<T, D>,
    grad: &[T],
    images: &mut [T],
    grids: &mut [T],
) {
    let problem = call.problem;
    let (count, mode) = (problem.channels.div_ceil(LANES), PhantomData::<M>);
    let tasks = problem.images * count;
    let window = problem.windows * problem.points() * D;
    let mut images = blocks(images, 1, problem.channels, problem.pixels());
    images.resize_with(tasks, Vec::new);
    // Each block's part of the points' gradients; they add up in the order of the blocks.
    let mut parts = if count > 1 { vec![T::zero(); grids.len() * count] } else { vec![] };
    {
        let whole = if count > 1 { parts.as_mut_slice() } else { &mut *grids };
        let mut points: Vec<&mut [T]> = whole.chunks_exact_mut(window).collect();
        points.resize_with(tasks, Default::default);
        images.into_par_iter().zip(points).enumerate().for_each_init(
            Default::default,
            |scratch, (i, (image, points))| {
                let (b, first) = (i / count, i % count * LANES);
                run(lanes::Backward::<T, M, K, D> { call, grad, b, first, image, points, scratch, mode });
            },
        );
    }
    if !parts.is_empty() {
        grids.par_chunks_exact_mut(window).zip(parts.par_chunks_exact(window * count)).for_each(|(out, parts)| {
            for part in parts.chunks_exact(window) {
                out.iter_mut().zip(part).for_each(|(out, &part)| *out += part);
            }
        });
    }
}

fn grad_images<T: Element, M: Mode<K>, const K: usize, const D: usize>(call: Call<T, D>, grad: &[T], out: &mut [T]) {
    let problem = &call.problem.contiguous();
    let call = Call { problem, ..call };
    // As many bands as keep the threads busy: how the image is divided changes no sum.
    let outer = problem.axes[D - 1];
    let bands = (2 * rayon::current_num_threads()).div_ceil(problem.images).clamp(1, outer.size);
    let bands = if problem.images >= 2 * rayon::current_num_threads() { 1 } else { bands };
    let band = outer.size.div_ceil(bands) * outer.stride;
    let parts = problem.pixels().div_ceil(band);
    cut(out, problem.channels, problem.pixels(), band).into_par_iter().enumerate().for_each(|(i, out)| {
        let (b, start, mode) = (i / parts, i % parts * band, PhantomData::<M>);
        run(planar::GradImage::<T, M, K, D> { call, grad, b, start, out, mode });
    });
}

/// Both gradients, one image after the other.
fn both<T: Element, M: Mode<K>, const K: usize, const D: usize>(
    call: Call<T, D>,
    grad: &[T],
    images: &mut [T],
    windows: Vec<Sums<T>>,
) {
    let (problem, mut windows) = (call.problem, windows.into_iter());
    let images = cut(images, problem.channels, problem.pixels(), problem.pixels());
    let tasks: Vec<_> =
        images.into_iter().map(|image| (image, windows.by_ref().take(problem.windows).collect())).collect();
    tasks.into_par_iter().enumerate().for_each(|(b, (image, windows))| {
        run(planar::Both::<T, M, K, D> { call, grad, b, image, windows, mode: PhantomData });
    });
}

/// The gradients of the points of all windows, of which there are none where they aren't asked for.
fn grad_points<T: Element, M: Mode<K>, const K: usize, const D: usize>(
    call: Call<T, D>,
    grad: &[T],
    windows: Vec<Sums<T>>,
) {
    let part = part_of(call.problem);
    let rows = part / call.problem.out[D - 1];
    let task = |n: usize, i: usize, out: Sums<T>| {
        run(planar::GradPoints::<T, M, K, D> { call, grad, n, first: i * part, out, mode: PhantomData });
    };
    windows.into_par_iter().enumerate().for_each(|(n, window)| match window {
        Sums::Points(out) => {
            out.par_chunks_mut(part * D).enumerate().for_each(|(i, out)| task(n, i, Sums::Points(out)));
        }
        Sums::Rows(out) => out.par_chunks_mut(rows).enumerate().for_each(|(i, out)| task(n, i, Sums::Rows(out))),
    });
}
