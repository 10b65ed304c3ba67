//! The CPU kernels of the sampler: forward and the backward passes are the same walk over the taps of the output's pixels, row by row.

use super::points::Points;
use super::side::{Mode, Side};
use super::taps::{Problem, Taps};
use crate::ops::real::Real;
use crate::ops::targets::{row_sums, theta_gradient};
use rayon::prelude::*;

/// Work is split into about this many parts where there are enough images; what the parts are changes no result.
const PARTS: usize = 16;

/// The sampled windows, (B k, C, H', W'). `fill` is what lies outside the image, one number a channel; zeros if there are none.
pub(super) fn forward<T: Real, M: Mode<K>, const K: usize>(
    problem: &Problem,
    input: &[T],
    points: Points<T>,
    fill: &[T],
) -> Vec<T> {
    let (pixels, (height, width)) = (problem.pixels(), problem.out);
    let mut out = vec![T::zero(); problem.output_shape().elem_count()];
    if out.is_empty() {
        return out;
    }
    let rows = height.div_ceil(PARTS.div_ceil(problem.images * problem.windows));
    out.par_chunks_mut(problem.channels * pixels).enumerate().for_each(|(n, window)| {
        // The same rows of all channels.
        let mut parts: Vec<Vec<&mut [T]>> = (0..height.div_ceil(rows)).map(|_| vec![]).collect();
        for channel in window.chunks_exact_mut(pixels) {
            parts.iter_mut().zip(channel.chunks_mut(rows * width)).for_each(|(part, rows)| part.push(rows));
        }
        parts.into_par_iter().enumerate().for_each(|(i, mut part)| {
            let (mut taps, mut outside) = (Vec::with_capacity(width), vec![]);
            for row in 0..part[0].len() / width {
                let at = (n, i * rows + row);
                problem.taps::<T, M, K, _>(points, at, |side| side.reads, &mut taps);
                if !fill.is_empty() {
                    problem.taps::<T, M, K, _>(points, at, |side| side.outside, &mut outside);
                }
                for (c, out) in part.iter_mut().enumerate() {
                    let channel = problem.channel(input, n / problem.windows, c);
                    let out = &mut out[row * width..][..width];
                    for (out, taps) in out.iter_mut().zip(&taps) {
                        if let Some(taps) = taps {
                            *out = taps.value(channel);
                        }
                    }
                    for (out, outside) in out.iter_mut().zip(&outside) {
                        let weight = outside.map_or(T::one(), |taps| taps.weight());
                        if weight != T::zero() {
                            *out += weight * fill[c];
                        }
                    }
                }
            }
        });
    });
    out
}

/// The gradient of the images, (B, C, H, W), contiguous: the sum over outputs of eq. (6). The windows of one image add up in their order
/// on one thread.
pub(super) fn grad_input<T: Real, M: Mode<K>, const K: usize>(
    problem: &Problem,
    points: Points<T>,
    grad: &[T],
) -> Vec<T> {
    let (pixels, (height, width)) = (problem.pixels(), problem.out);
    let size = problem.x.size * problem.y.size;
    let mut out = vec![T::zero(); problem.images * problem.channels * size];
    if out.is_empty() || grad.is_empty() {
        return out;
    }
    let channels = problem.channels.div_ceil(PARTS.div_ceil(problem.images));
    out.par_chunks_mut(problem.channels * size).enumerate().for_each(|(b, image)| {
        image.par_chunks_mut(channels * size).enumerate().for_each(|(i, part)| {
            let mut taps = Vec::with_capacity(width);
            for (n, row) in
                (b * problem.windows..(b + 1) * problem.windows).flat_map(|n| (0..height).map(move |y| (n, y)))
            {
                problem.taps::<T, M, K, _>(points, (n, row), |side| side.reads, &mut taps);
                for (c, channel) in part.chunks_exact_mut(size).enumerate() {
                    let map = n * problem.channels + i * channels + c;
                    let grad = &grad[map * pixels + row * width..][..width];
                    for (&grad, taps) in grad.iter().zip(&taps) {
                        if let Some(taps) = taps {
                            taps.scatter(channel, grad);
                        }
                    }
                }
            }
        });
    });
    out
}

/// Eq. (7), summed over the channels, for one row of points, which arrives zero.
fn grad_row<T: Real, const K: usize>(
    problem: &Problem,
    (input, grad, fill): (&[T], &[T], &[T]),
    (n, row): (usize, usize),
    taps: &[Option<Taps<Side<T, K>>>],
    out: &mut [T],
) {
    let (pixels, width) = (problem.pixels(), problem.out.1);
    for c in 0..problem.channels {
        let channel = problem.channel(input, n / problem.windows, c);
        let grad = &grad[(n * problem.channels + c) * pixels + row * width..][..width];
        for ((out, &grad), taps) in out.chunks_exact_mut(2).zip(grad).zip(taps) {
            let Some(taps) = taps else { continue };
            let (x, y) = taps.slopes(channel);
            out[0] += grad * x;
            out[1] += grad * y;
        }
        if let Some(&fill) = fill.get(c) {
            for ((out, &grad), taps) in out.chunks_exact_mut(2).zip(grad).zip(taps) {
                let Some(taps) = taps else { continue };
                let (x, y) = taps.outside_slopes();
                out[0] += grad * x * fill;
                out[1] += grad * y * fill;
            }
        }
    }
}

/// The gradient of the points: of the grids, (B k, H', W', 2), or of the matrices, (B k, 2, 3).
pub(super) fn grad_points<T: Real, M: Mode<K>, const K: usize>(
    problem: &Problem,
    input: &[T],
    points: Points<T>,
    grad: &[T],
    fill: &[T],
) -> Vec<T> {
    let ((height, width), n) = (problem.out, problem.images * problem.windows);
    let tensors = (input, grad, fill);
    match points {
        Points::Grid(grid) => {
            let mut out = vec![T::zero(); grid.len()];
            // The nearest pixel stays the same: its derivative is zero everywhere.
            if K == 1 || out.is_empty() || grad.is_empty() {
                return out;
            }
            let rows = out.par_chunks_mut(2 * width).with_min_len(4).enumerate();
            rows.for_each_init(Vec::new, |taps, (i, out)| {
                let at = (i / height, i % height);
                problem.taps::<T, M, K, _>(points, at, |side| side, taps);
                grad_row(problem, tensors, at, taps, out);
            });
            out
        }
        Points::Affine(_, targets) => {
            if K == 1 || grad.is_empty() {
                return vec![T::zero(); 6 * n];
            }
            let rows = (0..n * height).into_par_iter().with_min_len(4).map_init(Default::default, |(taps, out), i| {
                let at = (i / height, i % height);
                problem.taps::<T, M, K, _>(points, at, |side| side, taps);
                let out: &mut Vec<T> = out;
                out.clear();
                out.resize(2 * width, T::zero());
                grad_row(problem, tensors, at, taps, out);
                row_sums(out, targets)
            });
            let rows: Vec<[f64; 4]> = rows.collect();
            rows.chunks_exact(height).flat_map(|rows| theta_gradient(rows, targets)).map(T::from_f64).collect()
        }
    }
}

/// The gradient of what lies outside the image, (C,): summed in f64, window by window.
pub(super) fn grad_fill<T: Real, M: Mode<K>, const K: usize>(
    problem: &Problem,
    points: Points<T>,
    grad: &[T],
) -> Vec<T> {
    let (pixels, (height, width), channels) = (problem.pixels(), problem.out, problem.channels);
    let mut out = vec![0.0; channels];
    if grad.is_empty() {
        return out.into_iter().map(T::from_f64).collect();
    }
    let windows = grad.par_chunks(channels * pixels).enumerate().map(|(n, grad)| {
        let (mut sums, mut taps) = (vec![0.0; channels], Vec::with_capacity(width));
        for row in 0..height {
            problem.taps::<T, M, K, _>(points, (n, row), |side| side.outside, &mut taps);
            for (sum, grad) in sums.iter_mut().zip(grad.chunks_exact(pixels)) {
                for (grad, taps) in grad[row * width..].iter().zip(&taps) {
                    *sum += grad.to_f64() * taps.map_or(1.0, |taps| taps.weight().to_f64());
                }
            }
        }
        sums
    });
    for sums in windows.collect::<Vec<_>>() {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
    out.into_iter().map(T::from_f64).collect()
}
