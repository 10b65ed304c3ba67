//! What `grid_sample_fill` adds to the sampler: the part of each point that lies outside the image. Rare, and one point at a time.

use super::cpu::Call;
use super::element::Element;
use super::side::Mode;
use rayon::prelude::*;

/// The weight of what lies outside at each point of window `n`, and its derivatives by x and y.
fn outside<T: Element, M: Mode<K>, const K: usize>(
    call: Call<'_, T, 2>,
    n: usize,
) -> impl Iterator<Item = (T, [T; 2])> + '_ {
    let [along_x, along_y] = &call.problem.axes;
    (0..call.problem.points()).map(move |i| {
        let [x, y] = call.points.point(call.problem, n, i);
        match M::outside::<T>(along_x, x).zip(M::outside::<T>(along_y, y)) {
            Some((x, y)) => (
                x.weight + y.weight - x.weight * y.weight,
                [x.slope * (T::one() - y.weight), y.slope * (T::one() - x.weight)],
            ),
            None => (T::one(), [T::zero(); 2]),
        }
    })
}

/// Adds the fill, (C,), to the sampled windows.
pub(super) fn add_fill<T: Element, M: Mode<K>, const K: usize>(call: Call<T, 2>, fill: &[T], out: &mut [T]) {
    let (points, channels) = (call.problem.points(), call.problem.channels);
    out.par_chunks_mut((points * channels).max(1)).enumerate().for_each(|(n, window)| {
        for (i, (weight, _)) in outside::<T, M, K>(call, n).enumerate() {
            if weight != T::zero() {
                for (c, &fill) in fill.iter().enumerate() {
                    window[c * points + i] += weight * fill;
                }
            }
        }
    });
}

/// Adds what the fill contributes to the gradients of the grids.
pub(super) fn add_slopes<T: Element, M: Mode<K>, const K: usize>(
    call: Call<T, 2>,
    grad: &[T],
    fill: &[T],
    out: &mut [T],
) {
    let (points, channels) = (call.problem.points(), call.problem.channels);
    let windows = out.par_chunks_mut((2 * points).max(1)).zip(grad.par_chunks((points * channels).max(1)));
    windows.enumerate().for_each(|(n, (out, grad))| {
        for (i, (out, (_, [x, y]))) in out.chunks_exact_mut(2).zip(outside::<T, M, K>(call, n)).enumerate() {
            for (c, &fill) in fill.iter().enumerate() {
                let grad = grad[c * points + i];
                // Where the fill has no part, it may be anything: a NaN that marks what is outside.
                for (out, slope) in out.iter_mut().zip([x, y]) {
                    *out += if slope == T::zero() { slope } else { grad * slope * fill };
                }
            }
        }
    });
}

/// The gradient of the fill, (C,): summed in f64, window by window.
pub(super) fn grad_fill<T: Element, M: Mode<K>, const K: usize>(call: Call<T, 2>, grad: &[T]) -> Vec<T> {
    let (points, channels) = (call.problem.points(), call.problem.channels);
    let windows = grad.par_chunks((points * channels).max(1)).enumerate().map(|(n, grad)| {
        let mut sums = vec![0.0; channels];
        for (i, (weight, _)) in outside::<T, M, K>(call, n).enumerate() {
            for (sum, grad) in sums.iter_mut().zip(grad.chunks_exact(points)) {
                *sum += grad[i].wide() * weight.wide();
            }
        }
        sums
    });
    let mut out = vec![0.0; channels];
    for sums in windows.collect::<Vec<_>>() {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
    out.into_iter().map(T::narrow).collect()
}
