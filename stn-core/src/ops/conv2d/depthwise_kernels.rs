//! The inner loops of the depthwise convolution: runs of a parted plane, a tap at a time, in vectors.

use super::depthwise::Sizes;
use crate::ops::real::{Real, first, set_first, width};
use pulp::{Arch, Simd, WithSimd};

/// Vectors whose sums are in registers at a time.
const BLOCK: usize = 4;

/// The sum over some taps of weight times pixel, plus a constant, for every element of a run.
struct Weighted<'a, T> {
    xs: &'a [T],
    /// Of each tap where its first pixel lies in `xs`, and its weight.
    taps: &'a [(usize, T)],
    constant: T,
    run: &'a mut [T],
}

impl<T: Real> WithSimd for Weighted<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { xs, taps, constant, run } = self;
        let (lanes, end) = (width::<T, S>(), run.len());
        let mut at = 0;
        while at + BLOCK * lanes <= end {
            let mut sums = [T::splat(simd, constant); BLOCK];
            for &(offset, weight) in taps {
                let (xs, weight) = (&xs[at + offset..][..BLOCK * lanes], T::splat(simd, weight));
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = T::vector_mul_add(simd, weight, first::<T, S>(&xs[i * lanes..]), *sum);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                set_first::<T, S>(&mut run[at + i * lanes..], sum);
            }
            at += BLOCK * lanes;
        }
        while at + lanes <= end {
            let mut sum = T::splat(simd, constant);
            for &(offset, weight) in taps {
                sum = T::vector_mul_add(simd, T::splat(simd, weight), first::<T, S>(&xs[at + offset..]), sum);
            }
            set_first::<T, S>(&mut run[at..], sum);
            at += lanes;
        }
        for at in at..end {
            run[at] = taps.iter().fold(constant, |sum, &(offset, weight)| sum + weight * xs[at + offset]);
        }
    }
}

/// The map of a parted plane, before the activation.
pub(super) fn map<T: Real>(sizes: &Sizes, parted: &[T], weight: &[T], bias: T, run: &mut [T]) {
    let taps: Vec<(usize, T)> = sizes.offsets.iter().copied().zip(weight.iter().copied()).collect();
    Arch::new().dispatch(Weighted { xs: parted, taps: &taps, constant: bias, run });
}

/// The gradient of a parted plane from that of the map, which starts `margin` elements into `around` and has zeros on both
/// sides: those before it, and so many behind it that a parted plane fits there.
pub(super) fn image<T: Real>(sizes: &Sizes, around: &[T], margin: usize, weight: &[T], parted: &mut [T]) {
    for (range, taps) in sizes.phases() {
        // What a tap saw at `offset` further on, gets its gradient from `offset` further back.
        let taps: Vec<(usize, T)> = taps.iter().map(|&(tap, offset)| (margin - offset, weight[tap])).collect();
        Arch::new().dispatch(Weighted { xs: around, taps: &taps, constant: T::zero(), run: &mut parted[range] });
    }
}

/// The sums over a run of gradient times pixel, one for each of A taps from `from` on.
struct Products<'a, T, const A: usize> {
    xs: &'a [T],
    run: &'a [T],
    offsets: &'a [usize],
    sums: &'a mut [T],
}

impl<T: Real, const A: usize> WithSimd for Products<'_, T, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { xs, run, offsets, sums } = self;
        let (lanes, offsets): (usize, [usize; A]) = (width::<T, S>(), std::array::from_fn(|a| offsets[a]));
        let mut vectors = [T::splat(simd, T::zero()); A];
        let mut at = 0;
        while at + lanes <= run.len() {
            let grad = first::<T, S>(&run[at..]);
            for (sum, offset) in vectors.iter_mut().zip(offsets) {
                *sum = T::vector_mul_add(simd, grad, first::<T, S>(&xs[at + offset..]), *sum);
            }
            at += lanes;
        }
        for (a, vector) in vectors.into_iter().enumerate() {
            let rest = (at..run.len()).fold(T::zero(), |sum, at| sum + run[at] * xs[at + offsets[a]]);
            sums[a] = T::vector_sum(simd, vector) + rest;
        }
    }
}

/// The gradient of a channel's weights, from that of its map, whose surplus is zero.
pub(super) fn weights<T: Real>(sizes: &Sizes, parted: &[T], run: &[T], sums: &mut [T]) {
    let (mut offsets, mut sums) = (&sizes.offsets[..], sums);
    while !offsets.is_empty() {
        macro_rules! some {
            ($count:literal) => {{
                let (now, later) = sums.split_at_mut($count);
                Arch::new().dispatch(Products::<T, $count> { xs: parted, run, offsets, sums: now });
                (offsets, sums) = (&offsets[$count..], later);
            }};
        }
        match offsets.len() {
            9.. => some!(9),
            5.. => some!(5),
            _ => some!(1),
        }
    }
}
