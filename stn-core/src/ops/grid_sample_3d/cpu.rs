//! The CPU kernels of the 3-D sampler: forward and the two backward passes walk over the output's points, plane by plane.
//!
//! `K` is the number of voxels that a coordinate reads along its side: two for trilinear interpolation, one for nearest.
//!
//! Every sum is formed by one task, in the order of the windows and of their points: the bits do not depend on the number of threads.

use super::taps::Problem;
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
pub(super) fn forward<T: Real, const K: usize>(problem: &Problem, input: &[T], grid: &[T]) -> Vec<T> {
    let (plane, volume) = (problem.plane(), problem.points());
    let mut out = vec![T::zero(); problem.output_shape().elem_count()];
    if out.is_empty() {
        return out;
    }
    let tasks = gather(&mut out, problem.channels, volume, plane);
    tasks.into_par_iter().zip(grid.par_chunks(3 * plane)).enumerate().for_each(|(i, (mut planes, grid))| {
        let image = i / problem.out[0] / problem.windows;
        problem.rows::<T, K>(grid, problem.whole(), |first, taps| {
            for (c, plane) in planes.iter_mut().enumerate() {
                let channel = problem.channel(input, image, c);
                for (out, taps) in plane[first..].iter_mut().zip(taps) {
                    if let Some(taps) = taps {
                        *out = taps.value(channel);
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
pub(super) fn grad_input<T: Real, const K: usize>(problem: &Problem, grid: &[T], grad: &[T]) -> Vec<T> {
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
            problem.rows::<T, K>(grid, range.clone(), |first, taps| {
                for (c, channel) in out.iter_mut().enumerate() {
                    for (&grad, taps) in grad[c * points + first..].iter().zip(taps) {
                        if let Some(taps) = taps {
                            taps.scatter(channel, grad);
                        }
                    }
                }
            });
        }
    });
    out
}

/// The gradient of the grid, (B k, D', H', W', 3), with trilinear interpolation.
pub(super) fn grad_grid<T: Real>(problem: &Problem, input: &[T], grid: &[T], grad: &[T]) -> Vec<T> {
    let (plane, points) = (problem.plane(), problem.points());
    let mut out = vec![T::zero(); grid.len()];
    if out.is_empty() || grad.is_empty() {
        return out;
    }
    out.par_chunks_mut(3 * plane).zip(grid.par_chunks(3 * plane)).enumerate().for_each(|(i, (out, grid))| {
        let (n, z) = (i / problem.out[0], i % problem.out[0]);
        problem.rows::<T, 2>(grid, problem.whole(), |first, taps| {
            for c in 0..problem.channels {
                let channel = problem.channel(input, n / problem.windows, c);
                let grad = &grad[(n * problem.channels + c) * points + z * plane + first..];
                for ((out, &grad), taps) in out[3 * first..].chunks_exact_mut(3).zip(grad).zip(taps) {
                    let Some(taps) = taps else { continue };
                    for (out, derivative) in out.iter_mut().zip(taps.slopes(channel)) {
                        *out += grad * derivative;
                    }
                }
            }
        });
    });
    out
}
