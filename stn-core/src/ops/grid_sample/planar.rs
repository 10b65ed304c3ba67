//! The kernels for images of few channels: vectors go along the points, one channel after the other.

use super::cpu::Call;
use super::element::Element;
use super::points::Points;
use super::run::Run;
use super::side::{Mode, RUN};
use super::simd::Work;
#[cfg(target_arch = "x86_64")]
use super::{avx512, bilinear_avx512};
use crate::ops::targets::row_sums;
#[cfg(target_arch = "x86_64")]
use candle_core::DType;
use std::marker::PhantomData;
#[cfg(target_arch = "x86_64")]
use std::mem::{ManuallyDrop, transmute_copy};

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
        #[cfg(target_arch = "x86_64")]
        if WIDE && bilinear_avx512::fits::<T, K, D>(problem) {
            // SAFETY: T is `f32` and D is 2 for a problem that fits, and WIDE says what the processor has.
            return unsafe {
                let call = same::<_, Call<f32, 2>>(self.call);
                let window = bilinear_avx512::Window::new(call.problem, call.points, self.n);
                window.values(self.first, &call.channels(self.n), &mut same::<_, Vec<&mut [f32]>>(self.out));
            };
        }
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

/// Where the gradients of some points go.
pub(super) enum Sums<'o, T> {
    /// To a grid, by point.
    Points(&'o mut [T]),
    /// To the sums of whole rows, of which a matrix's gradient is made.
    Rows(&'o mut [[f64; 4]]),
}

/// A band of an image's gradient: some of its rows, or planes of a volume.
pub(super) struct Band<'o, 'c, T> {
    /// By channel; none where it is not asked for.
    pub(super) channels: &'o mut [&'c mut [T]],
    /// The offset of the band in a channel.
    pub(super) start: usize,
}

/// The gradients of some points of window `n`: eqs. (6) and (7), summed over the channels.
pub(super) struct GradPoints<'a, 'o, T, M, const K: usize, const D: usize> {
    pub(super) call: Call<'a, T, D>,
    pub(super) grad: &'a [T],
    pub(super) n: usize,
    pub(super) first: usize,
    /// The gradients from point `first` on.
    pub(super) out: Sums<'o, T>,
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for GradPoints<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        #[cfg(target_arch = "x86_64")]
        if WIDE && bilinear_avx512::fits::<T, K, D>(self.call.problem) {
            let none = Band { channels: &mut [], start: 0 };
            // SAFETY: the problem fits, and WIDE says what the processor has.
            return unsafe { gradients::<_, D, true>(self.call, self.grad, self.n, self.first, Some(self.out), none) };
        }
        match self.out {
            Sums::Points(out) => points::<T, M, K, D, WIDE>(self.call, self.grad, self.n, self.first, out),
            Sums::Rows(rows) => {
                let Points::Affine(_, targets) = self.call.points else { return };
                let width = targets.x.len();
                let mut grid = vec![T::zero(); rows.len() * width * D];
                points::<T, M, K, D, WIDE>(self.call, self.grad, self.n, self.first, &mut grid);
                for (row, grid) in rows.iter_mut().zip(grid.chunks_exact(width * D)) {
                    *row = row_sums(grid, targets);
                }
            }
        }
    }
}

/// The gradients of the points from number `first` of window `n` on, by point.
#[inline(always)]
fn points<T: Element, M: Mode<K>, const K: usize, const D: usize, const WIDE: bool>(
    call: Call<T, D>,
    grad: &[T],
    n: usize,
    first: usize,
    out: &mut [T],
) {
    let problem = call.problem;
    let points = problem.points();
    let mut taps = Run::<T, K, D>::new();
    for (i, out) in out.chunks_mut(RUN * D).enumerate() {
        let first = first + i * RUN;
        taps.locate::<M>(problem, call.points, (n, first), true);
        let pairs = WIDE && taps.pair(problem);
        let mut sums = [[T::zero(); RUN]; D];
        for c in 0..problem.channels {
            let channel = problem.channel(call.input, n / problem.windows, c);
            let grad = &grad[(n * problem.channels + c) * points + first..][..out.len() / D];
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
        #[cfg(target_arch = "x86_64")]
        if WIDE && bilinear_avx512::fits::<T, K, D>(problem) {
            for n in self.b * problem.windows..(self.b + 1) * problem.windows {
                let band = Band { channels: &mut self.out, start: self.start };
                // SAFETY: the problem fits and has the gradient's strides, and WIDE says what the processor has.
                unsafe { gradients::<_, D, false>(self.call, self.grad, n, 0, None, band) };
            }
            return;
        }
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

/// Both gradients of image `b` and its windows, by a kernel that locates the points once where there is one.
pub(super) struct Both<'a, 'o, T, M, const K: usize, const D: usize> {
    pub(super) call: Call<'a, T, D>,
    pub(super) grad: &'a [T],
    pub(super) b: usize,
    /// The image's gradient, by channel.
    pub(super) image: Vec<&'o mut [T]>,
    /// By window.
    pub(super) windows: Vec<Sums<'o, T>>,
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for Both<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(mut self) {
        let Both { call, grad, b, mode, .. } = self;
        let problem = call.problem;
        let windows = (b * problem.windows..).zip(self.windows);
        #[cfg(target_arch = "x86_64")]
        if WIDE && bilinear_avx512::fits::<T, K, D>(problem) && problem.axes[D - 1].stride == problem.axes[0].size {
            for (n, out) in windows {
                let band = Band { channels: &mut self.image, start: 0 };
                // SAFETY: the problem fits and has the gradient's strides, and WIDE says what the processor has.
                unsafe { gradients::<_, D, true>(call, grad, n, 0, Some(out), band) };
            }
            return;
        }
        for (n, out) in windows {
            GradPoints { call, grad, n, first: 0, out, mode }.run::<WIDE>();
        }
        let call = Call { problem: &problem.contiguous(), ..call };
        GradImage { call, grad, b, start: 0, out: self.image, mode }.run::<WIDE>();
    }
}

/// The gradients of the points from number `first` of window `n` on, and of a band of its image.
///
/// # Safety
/// The processor has AVX-512 F, BW, DQ and VL, and the problem fits. Where a band is given, its rows are as long as the problem's are.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn gradients<T: Element, const D: usize, const POINTS: bool>(
    call: Call<T, D>,
    grad: &[T],
    n: usize,
    first: usize,
    out: Option<Sums<T>>,
    band: Band<T>,
) {
    let size = call.problem.points();
    let len = match &out {
        Some(Sums::Points(out)) => out.len() / D,
        Some(Sums::Rows(rows)) => rows.len() * call.problem.out[D - 1],
        None => size,
    };
    let grad = &grad[n * call.problem.channels * size..][..call.problem.channels * size];
    // SAFETY: T is `f32` and D is 2 for a problem that fits; the rest is the caller's.
    unsafe {
        let call = same::<_, Call<f32, 2>>(call);
        let window = bilinear_avx512::Window::new(call.problem, call.points, n);
        // The image's gradient alone reads no pixels, and they need not lie as its own do: those of a broadcast image do not.
        let channels = if POINTS { call.channels(n) } else { Vec::new() };
        window.gradients::<POINTS>((first, len), same(grad), &channels, same(out), same(band));
    }
}

/// A value as one of another type that is the same type, which generic code doesn't know.
///
/// # Safety
/// `A` and `B` are one type, but for lifetimes, which are the caller's to keep.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn same<A, B>(a: A) -> B {
    // SAFETY: the caller's.
    unsafe { transmute_copy(&ManuallyDrop::new(a)) }
}
