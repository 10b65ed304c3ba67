//! The innermost loops: a block of sums that stays in registers while it runs over channels and taps, over positions, or over filters.
//!
//! Each of the three is generic in the two sides of its block. Pointers are to interleaved images (see `interleave`); strides count
//! elements. One operand of every product is a vector of images, the other one number for all of them (a weight), or a vector too.

#![allow(clippy::needless_range_loop)] // a block's two indices say more than iterators over its rows

use crate::ops::real::{Real, load, store};
use pulp::Simd;
use std::ops::Range;

/// The most positions or taps of a block: as many as the registers hold beside [`TILE`](super::geometry::TILE) filters.
pub(super) const fn most<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// Runs `$call` with the constant `$p` being 4, 2 or 1: the largest that is not above `$rest` and fits the registers of `$s`. Gives `$p`.
macro_rules! largest {
    ($rest:expr, $s:ty, $p:ident => $call:expr) => {
        match $rest.min($crate::ops::conv2d::tiles::most::<$s>()) {
            4.. => {
                const $p: usize = 4;
                $call;
                $p
            }
            2 | 3 => {
                const $p: usize = 2;
                $call;
                $p
            }
            _ => {
                const $p: usize = 1;
                $call;
                $p
            }
        }
    };
}
pub(super) use largest;

/// Runs `$call` with the constant `$b` being `$count`, a number of filters or taps from 1 to [`TILE`](super::geometry::TILE).
macro_rules! by_count {
    ($count:expr, $b:ident => $call:expr) => {
        by_count!(@ $count, $b, $call, 1 2 3 4 5; 6)
    };
    (@ $count:expr, $b:ident, $call:expr, $($n:literal)*; $most:literal) => {
        match $count {
            $($n => {
                const $b: usize = $n;
                $call
            })*
            _ => {
                const $b: usize = $most;
                $call
            }
        }
    };
}
pub(super) use by_count;

/// The taps of a filter on an image.
#[derive(Clone)]
pub(super) struct Taps {
    pub(super) channels: usize,
    /// Rows and columns of the kernel.
    pub(super) kernel: (usize, usize),
    /// The rows that count.
    pub(super) rows: Range<usize>,
    /// From a channel, a row of taps, a tap and a position to the next.
    pub(super) plane: usize,
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) step: usize,
}

/// P positions by B filters of the map, one vector each: the sum over the taps, and the bias.
///
/// # Safety
/// Readable: a vector at `x` + channel, row and column strides times any tap of `taps`, + `step` times up to P - 1; B weights a tap at `w`
/// (channel, row, column, filter), all rows of the kernel counted. Writable: a vector at `out` + `plane` times up to B - 1 + LANES times up to P - 1.
#[inline(always)]
pub(super) unsafe fn forward<T: Real, S: Simd, const P: usize, const B: usize>(
    simd: S,
    taps: &Taps,
    x: *const T,
    w: *const T,
    bias: &[T; B],
    (out, plane): (*mut T, usize),
) {
    let mut sums = [[T::splat(simd, T::zero()); B]; P];
    // SAFETY: all offsets are those that the caller vouches for.
    unsafe {
        for c in 0..taps.channels {
            for ky in taps.rows.clone() {
                let mut x = x.add(c * taps.plane + ky * taps.row);
                let mut w = w.add((c * taps.kernel.0 + ky) * taps.kernel.1 * B);
                for _ in 0..taps.kernel.1 {
                    let pixels: [T::Vector<S>; P] = std::array::from_fn(|p| load::<T, S>(x.add(p * taps.step)));
                    for b in 0..B {
                        let weight = T::splat(simd, *w.add(b));
                        for p in 0..P {
                            sums[p][b] = T::vector_mul_add(simd, pixels[p], weight, sums[p][b]);
                        }
                    }
                    x = x.wrapping_add(taps.column);
                    w = w.add(B);
                }
            }
        }
        for b in 0..B {
            let bias = T::splat(simd, bias[b]);
            for (p, sums) in sums.iter().enumerate() {
                store::<T, S>(out.add(b * plane + p * T::LANES), T::vector_add(simd, sums[b], bias));
            }
        }
    }
}

/// The positions of a map and the pixels under them.
#[derive(Clone)]
pub(super) struct Walk {
    /// Rows of the map that count, and its columns.
    pub(super) rows: Range<usize>,
    pub(super) columns: usize,
    /// From a row of the map to the next, and from a position to the next, in the image.
    pub(super) row: usize,
    pub(super) step: usize,
    /// From a filter's map to the next.
    pub(super) plane: usize,
}

/// A taps by B filters of the weights' gradient: adds the sum over the positions of pixel times gradient, still a vector each.
///
/// # Safety
/// Readable: a vector at each `x` + row and step strides times any row of `walk` and any column; at `grad` + `plane` times up to B - 1 + LANES times any
/// position, row by row.
#[inline(always)]
pub(super) unsafe fn grad_weight<T: Real, S: Simd, const A: usize, const B: usize>(
    simd: S,
    walk: &Walk,
    x: [*const T; A],
    grad: *const T,
    sums: &mut [[T::Vector<S>; B]; A],
) {
    // A copy that the loop keeps in registers.
    let mut local = *sums;
    // SAFETY: all offsets are those that the caller vouches for.
    unsafe {
        for row in walk.rows.clone() {
            let mut offset = row * walk.row;
            let mut grad = grad.add(row * walk.columns * T::LANES);
            for _ in 0..walk.columns {
                let pixels: [T::Vector<S>; A] = std::array::from_fn(|a| load::<T, S>(x[a].add(offset)));
                for b in 0..B {
                    let grad = load::<T, S>(grad.add(b * walk.plane));
                    for a in 0..A {
                        local[a][b] = T::vector_mul_add(simd, pixels[a], grad, local[a][b]);
                    }
                }
                offset += walk.step;
                grad = grad.wrapping_add(T::LANES);
            }
        }
    }
    *sums = local;
}

/// P positions by B taps of the image's gradient: the sum over `filters` of gradient times weight, added to the pixels under the taps.
///
/// # Safety
/// Readable: a vector at `grad` + `plane` times any filter + LANES times up to P - 1; B weights at `w` + `weights` times any filter. Writable: a
/// vector at `image` + each of the `offsets` + `step` times up to P - 1.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn grad_input<T: Real, S: Simd, const P: usize, const B: usize>(
    simd: S,
    filters: usize,
    (grad, plane): (*const T, usize),
    w: *const T,
    image: *mut T,
    offsets: &[usize; B],
    step: usize,
) {
    let mut sums = [[T::splat(simd, T::zero()); B]; P];
    // SAFETY: all offsets are those that the caller vouches for.
    unsafe {
        let (mut grad, mut w) = (grad, w);
        for _ in 0..filters {
            let grads: [T::Vector<S>; P] = std::array::from_fn(|p| load::<T, S>(grad.add(p * T::LANES)));
            for b in 0..B {
                let weight = T::splat(simd, *w.add(b));
                for p in 0..P {
                    sums[p][b] = T::vector_mul_add(simd, grads[p], weight, sums[p][b]);
                }
            }
            grad = grad.wrapping_add(plane);
            w = w.add(B);
        }
        for (p, sums) in sums.iter().enumerate() {
            for b in 0..B {
                let pixel = image.add(offsets[b] + p * step);
                store::<T, S>(pixel, T::vector_add(simd, load::<T, S>(pixel), sums[b]));
            }
        }
    }
}
