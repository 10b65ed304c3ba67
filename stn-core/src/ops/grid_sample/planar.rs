//! The kernels for images of few channels: vectors go along the points, one channel after the other.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::cpu::Call;
use super::element::Element;
use super::run::Run;
use super::side::{Mode, RUN};
use super::simd::Work;
use candle_core::DType;
use std::marker::PhantomData;

/// The values of some points of window `n` in all channels.
pub(super) struct Forward<'a, 'o, T, M, const K: usize, const D: usize> {
    pub(super) call: Call<'a, T, D>,
    pub(super) n: usize,
    pub(super) first: usize,
    /// The values from point `first` on, by channel.
    pub(super) out: Vec<&'o mut [T]>,
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for Forward<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(mut self) {
        let problem = self.call.problem;
        let len = self.out.first().map_or(0, |out| out.len());
        let mut taps = Run::<T, K, D>::new();
        for start in (0..len).step_by(RUN) {
            taps.locate::<M>(problem, self.call.points, (self.n, self.first + start), false);
            let pairs = WIDE && taps.pair(problem);
            for (c, out) in self.out.iter_mut().enumerate() {
                let channel = problem.channel(self.call.input, self.n / problem.windows, c);
                let out = &mut out[start..];
                if let Some(out) = out.first_chunk_mut() {
                    values(&taps, pairs, channel, out);
                } else {
                    let mut part = [T::zero(); RUN];
                    values(&taps, pairs, channel, &mut part);
                    out.copy_from_slice(&part[..out.len()]);
                }
            }
        }
    }
}

/// The values of a run in one channel. `pairs` says that the processor has AVX-512 and that the run is paired.
#[inline(always)]
fn values<T: Element, const K: usize, const D: usize>(
    taps: &Run<T, K, D>,
    pairs: bool,
    channel: &[T],
    out: &mut [T; RUN],
) {
    #[cfg(target_arch = "x86_64")]
    if pairs && T::DTYPE == DType::F32 {
        let (taps, out) = ((&raw const *taps).cast(), (&raw mut *out).cast());
        // SAFETY: T is `f32`; the run is paired, and the channel `Problem::extent` long, which no offset of a located run reaches.
        return unsafe { avx512::values::<K, D>(&*taps, channel.as_ptr().cast(), &mut *out) };
    }
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = T::zero();
        for t in 0..Run::<T, K, D>::TAPS {
            // SAFETY: the channel is `Problem::extent` long, which no offset of a located run reaches.
            sum += taps.weight(t, i) * unsafe { *channel.get_unchecked(taps.offset(t, i)) };
        }
        *out = if taps.is_live(i) { sum } else { T::zero() };
    }
}

/// The gradients of some points of window `n`: eqs. (6) and (7), summed over the channels.
pub(super) struct GradPoints<'a, 'o, T, M, const K: usize, const D: usize> {
    pub(super) call: Call<'a, T, D>,
    pub(super) grad: &'a [T],
    pub(super) n: usize,
    pub(super) first: usize,
    /// The gradients from point `first` on, by point.
    pub(super) out: &'o mut [T],
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for GradPoints<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        let problem = self.call.problem;
        let points = problem.points();
        let mut taps = Run::<T, K, D>::new();
        for (i, out) in self.out.chunks_mut(RUN * D).enumerate() {
            let first = self.first + i * RUN;
            taps.locate::<M>(problem, self.call.points, (self.n, first), true);
            let pairs = WIDE && taps.pair(problem);
            let mut sums = [[T::zero(); RUN]; D];
            for c in 0..problem.channels {
                let channel = problem.channel(self.call.input, self.n / problem.windows, c);
                let grad = &self.grad[(self.n * problem.channels + c) * points + first..][..out.len() / D];
                if let Some(grad) = grad.first_chunk() {
                    add_slopes(&taps, pairs, channel, grad, &mut sums);
                } else {
                    let mut part = [T::zero(); RUN];
                    part[..grad.len()].copy_from_slice(grad);
                    add_slopes(&taps, pairs, channel, &part, &mut sums);
                }
            }
            for (i, out) in out.chunks_exact_mut(D).enumerate() {
                for (out, sums) in out.iter_mut().zip(&sums) {
                    *out = if taps.is_live(i) { sums[i] } else { T::zero() };
                }
            }
        }
    }
}

/// Adds the gradients of a run that come from one channel; `pairs` as above.
#[inline(always)]
fn add_slopes<T: Element, const K: usize, const D: usize>(
    taps: &Run<T, K, D>,
    pairs: bool,
    channel: &[T],
    grad: &[T; RUN],
    sums: &mut [[T; RUN]; D],
) {
    #[cfg(target_arch = "x86_64")]
    if pairs && T::DTYPE == DType::F32 {
        let (taps, grad, sums) = ((&raw const *taps).cast(), (&raw const *grad).cast(), (&raw mut *sums).cast());
        // SAFETY: T is `f32`; the run is paired, and the channel `Problem::extent` long, which no offset of a located run reaches.
        return unsafe { avx512::add_slopes::<K, D>(&*taps, channel.as_ptr().cast(), &*grad, &mut *sums) };
    }
    for i in 0..RUN {
        let mut slopes = [T::zero(); D];
        for t in 0..Run::<T, K, D>::TAPS {
            // SAFETY: the channel is `Problem::extent` long, which no offset of a located run reaches.
            let pixel = unsafe { *channel.get_unchecked(taps.offset(t, i)) };
            for (d, slope) in slopes.iter_mut().enumerate() {
                *slope += taps.slope(t, i, d) * pixel;
            }
        }
        for (sum, slope) in sums.iter_mut().zip(slopes) {
            sum[i] += grad[i] * slope;
        }
    }
}

/// The gradient of a band of image `b`: what its points give back, in the order of the windows and of their points. A band is some rows
/// of an image, or planes of a volume, so that one image keeps several threads busy; each picks from all points what falls into its own.
pub(super) struct GradImage<'a, 'o, T, M, const K: usize, const D: usize> {
    /// With the strides of the gradient, which is contiguous; the pixels are not read.
    pub(super) call: Call<'a, T, D>,
    pub(super) grad: &'a [T],
    pub(super) b: usize,
    /// The offset of the band in a channel.
    pub(super) start: usize,
    /// The band, by channel.
    pub(super) out: Vec<&'o mut [T]>,
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for GradImage<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(mut self) {
        let problem = self.call.problem;
        let points = problem.points();
        let band = self.start..self.start + self.out.first().map_or(0, |out| out.len());
        let mut taps = Run::<T, K, D>::new();
        for n in self.b * problem.windows..(self.b + 1) * problem.windows {
            for first in (0..points).step_by(RUN) {
                taps.locate::<M>(problem, self.call.points, (n, first), false);
                let len = RUN.min(points - first);
                if !taps.reach(&band, len) {
                    continue;
                }
                for (c, channel) in self.out.iter_mut().enumerate() {
                    let grad = &self.grad[(n * problem.channels + c) * points + first..][..len];
                    scatter(&taps, grad, band.start, channel);
                }
            }
        }
    }
}

/// Gives the gradients of a run back to the pixels of one channel, of which `band` holds those from offset `start` on.
#[inline(always)]
fn scatter<T: Element, const K: usize, const D: usize>(taps: &Run<T, K, D>, grad: &[T], start: usize, band: &mut [T]) {
    let inner = Run::<T, K, D>::TAPS / K;
    for (i, &grad) in grad.iter().enumerate() {
        if !taps.is_live(i) {
            continue;
        }
        for k in 0..K {
            let outer = taps.outer(k, i);
            if outer.wrapping_sub(start) >= band.len() {
                continue;
            }
            for t in k * inner..(k + 1) * inner {
                // SAFETY: the outer offset is that of a whole row (plane) of the band, a multiple of the rows' length as the band's
                // length is; the inner offsets stay within the row.
                *unsafe { band.get_unchecked_mut(taps.offset(t, i) - start) } += taps.weight(t, i) * grad;
            }
        }
    }
}
