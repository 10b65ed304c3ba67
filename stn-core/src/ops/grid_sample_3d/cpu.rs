//! The CPU kernels of the 3-D sampler: forward and the two backward passes walk over the output's points, plane by plane.
//!
//! Every sum is formed by one task, in the order of the windows and of their points: the bits do not depend on the number of threads.

use super::taps::{Problem, Taps};
use crate::ops::Interpolation;
use crate::ops::real::Real;
use rayon::prelude::*;

/// Cuts each of the volumes that `data` consists of into parts of `part` elements, and gathers the parts of the same place in the
/// `channels` volumes of one image: what one task writes.
fn gather<T>(data: &mut [T], channels: usize, volume: usize, part: usize) -> Vec<Vec<&mut [T]>> {
    let images = data.len() / (channels * volume);
    let parts = volume.div_ceil(part);
    let mut tasks: Vec<Vec<&mut [T]>> = (0..images * parts).map(|_| Vec::with_capacity(channels)).collect();
    for (i, volume) in data.chunks_exact_mut(volume).enumerate() {
        for (j, part) in volume.chunks_mut(part).enumerate() {
            tasks[i / channels * parts + j].push(part);
        }
    }
    tasks
}

/// The sampled windows, (B k, C, D', H', W').
pub(super) fn forward<T: Real>(problem: &Problem, input: &[T], grid: &[T]) -> Vec<T> {
    let (plane, volume) = (problem.plane(), problem.points());
    let mut out = vec![T::zero(); problem.output_shape().elem_count()];
    if out.is_empty() {
        return out;
    }
    let tasks = gather(&mut out, problem.channels, volume, plane);
    tasks.into_par_iter().zip(grid.par_chunks(3 * plane)).enumerate().for_each(|(i, (mut planes, grid))| {
        let image = i / problem.out[0] / problem.windows;
        let sample = |taps: &Taps<T>, channel: &[T]| match problem.interpolation {
            Interpolation::Nearest => taps.value(channel, 0),
            _ => taps.interpolate(channel),
        };
        problem.rows(grid, problem.whole(), |first, taps| {
            for (c, plane) in planes.iter_mut().enumerate() {
                let channel = problem.channel(input, image, c);
                for (out, taps) in plane[first..].iter_mut().zip(taps) {
                    if let Some(taps) = taps {
                        *out = sample(taps, channel);
                    }
                }
            }
        });
    });
    out
}

/// The gradient of the volumes, (B, C, D, H, W), contiguous.
///
/// A task owns some planes of one image and picks from all of the image's points what falls into them. So few images still keep all
/// threads busy, and every voxel's sum has the same order for any number of parts.
pub(super) fn grad_input<T: Real>(problem: &Problem, grid: &[T], grad: &[T]) -> Vec<T> {
    let ([depth, height, width], points) = (problem.size(), problem.points());
    let (plane, volume) = (height * width, depth * height * width);
    let mut out = vec![T::zero(); problem.images * problem.channels * volume];
    if out.is_empty() || grad.is_empty() {
        return out;
    }
    let parts = rayon::current_num_threads().div_ceil(problem.images).clamp(1, depth);
    let planes = depth.div_ceil(parts);
    let parts = depth.div_ceil(planes);
    let window = problem.channels * points;
    gather(&mut out, problem.channels, volume, planes * plane).into_par_iter().enumerate().for_each(|(i, mut out)| {
        let (image, first) = (i / parts, i % parts * planes);
        let range = first..(first + planes).min(depth);
        for n in image * problem.windows..(image + 1) * problem.windows {
            let (grid, grad) = (&grid[3 * n * points..][..3 * points], &grad[n * window..][..window]);
            problem.rows::<T>(grid, range.clone(), |first, taps| {
                for (c, channel) in out.iter_mut().enumerate() {
                    for (&grad, taps) in grad[c * points + first..].iter().zip(taps) {
                        let Some(taps) = taps else { continue };
                        match problem.interpolation {
                            Interpolation::Nearest => taps.add(channel, 0, grad),
                            _ => taps.spread(channel, grad),
                        }
                    }
                }
            });
        }
    });
    out
}

/// The gradient of the grid, (B k, D', H', W', 3).
pub(super) fn grad_grid<T: Real>(problem: &Problem, input: &[T], grid: &[T], grad: &[T]) -> Vec<T> {
    let (plane, points) = (problem.plane(), problem.points());
    let mut out = vec![T::zero(); grid.len()];
    if out.is_empty() || grad.is_empty() || problem.interpolation == Interpolation::Nearest {
        return out;
    }
    out.par_chunks_mut(3 * plane).zip(grid.par_chunks(3 * plane)).enumerate().for_each(|(i, (out, grid))| {
        let (n, z) = (i / problem.out[0], i % problem.out[0]);
        problem.rows(grid, problem.whole(), |first, taps| {
            for c in 0..problem.channels {
                let channel = problem.channel(input, n / problem.windows, c);
                let grad = &grad[(n * problem.channels + c) * points + z * plane + first..];
                for ((out, &grad), taps) in out[3 * first..].chunks_exact_mut(3).zip(grad).zip(taps) {
                    let Some(taps) = taps else { continue };
                    for (out, derivative) in out.iter_mut().zip(taps.derivatives(channel)) {
                        *out += grad * derivative;
                    }
                }
            }
        });
    });
    out
}
