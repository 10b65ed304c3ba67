//! The kernels for images of many channels: vectors go along the channels, so that a tap is one load for all of them.
//!
//! A block of `LANES` channels of an image is copied into a scratch image whose pixels hold a vector each; it is small enough for the
//! processor's cache. The copies back and forth turn squares of `LANES` pixels by `LANES` channels.

use super::cpu::Call;
use super::element::Element;
use super::problem::Problem;
use super::run::Run;
use super::side::{Mode, RUN};
use super::simd::Work;
#[cfg(target_arch = "x86_64")]
use candle_core::DType;
use std::marker::PhantomData;

/// Channels a block, and pixels a square.
pub(super) const LANES: usize = 16;

/// The largest image, in pixels, that is copied.
const LARGEST: usize = 1 << 16;

/// One pixel in the channels of a block.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes<T>([T; LANES]);

type Square<T> = [Lanes<T>; LANES];

/// Whether the copies pay: that there are channels enough to fill a good part of the vectors, points enough to make up for the copies,
/// and blocks enough for several threads.
pub(super) fn pay<const D: usize>(problem: &Problem<D>) -> bool {
    let pixels = problem.pixels();
    problem.channels >= LANES / 2
        && problem.images * problem.channels.div_ceil(LANES) >= 2
        && pixels <= LARGEST
        && pixels <= 2 * problem.windows * problem.points()
}

/// Swaps rows and columns.
#[inline(always)]
fn turn<T: Element, const WIDE: bool>(square: &mut Square<T>) {
    #[cfg(target_arch = "x86_64")]
    if WIDE && T::DTYPE == DType::F32 {
        // SAFETY: WIDE says that the processor has AVX-512; the elements are `f32`, sixteen a row.
        return unsafe { super::avx512::turn(square.as_mut_ptr().cast()) };
    }
    for i in 0..LANES {
        for j in 0..i {
            let swapped = square[i].0[j];
            square[i].0[j] = square[j].0[i];
            square[j].0[i] = swapped;
        }
    }
}

/// The block of image `b` whose first channel is `first`; lanes without a channel are zero.
#[inline(always)]
fn pack<T: Element, const D: usize, const WIDE: bool>(
    call: &Call<T, D>,
    b: usize,
    first: usize,
    out: &mut Vec<Lanes<T>>,
) {
    let problem = call.problem;
    let lanes = LANES.min(problem.channels - first);
    let (row, column) = (problem.axes[0].size, problem.axes[0].stride);
    out.resize(problem.pixels(), Lanes([T::zero(); LANES]));
    for (i, out) in out.chunks_mut(row).enumerate() {
        // The row's offset by its number: y, and the planes before it.
        let (mut offset, mut i) = (0, i);
        for axis in &problem.axes[1..] {
            offset += i % axis.size * axis.stride;
            i /= axis.size;
        }
        for (j, out) in out.chunks_mut(LANES).enumerate() {
            let mut square = [Lanes([T::zero(); LANES]); LANES];
            for (c, row) in square[..lanes].iter_mut().enumerate() {
                let channel = &problem.channel(call.input, b, first + c)[offset + j * LANES * column..];
                if column == 1 && out.len() == LANES {
                    row.0.copy_from_slice(&channel[..LANES]);
                } else {
                    // A broadcast row has its one pixel everywhere.
                    for (i, to) in row.0[..out.len()].iter_mut().enumerate() {
                        *to = channel[i * column];
                    }
                }
            }
            turn::<T, WIDE>(&mut square);
            out.copy_from_slice(&square[..out.len()]);
        }
    }
}

/// Copies a block's pixels to their channels.
#[inline(always)]
fn unpack<T: Element, const WIDE: bool>(pixels: &[Lanes<T>], channels: &mut [&mut [T]]) {
    for (i, pixels) in pixels.chunks(LANES).enumerate() {
        let mut square = [Lanes([T::zero(); LANES]); LANES];
        square[..pixels.len()].copy_from_slice(pixels);
        turn::<T, WIDE>(&mut square);
        for (row, channel) in square.iter().zip(channels.iter_mut()) {
            channel[i * LANES..][..pixels.len()].copy_from_slice(&row.0[..pixels.len()]);
        }
    }
}

/// The values of all windows of image `b` in the block of channels from `first` on.
pub(super) struct Forward<'a, 'o, T, M, const K: usize, const D: usize> {
    pub(super) call: Call<'a, T, D>,
    pub(super) b: usize,
    pub(super) first: usize,
    /// By window and, in that, by channel.
    pub(super) out: Vec<&'o mut [T]>,
    pub(super) image: &'o mut Vec<Lanes<T>>,
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for Forward<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(mut self) {
        let packed = self.call.problem.contiguous();
        let points = packed.points();
        pack::<T, D, WIDE>(&self.call, self.b, self.first, self.image);
        let image = self.image.as_slice();
        let mut taps = Run::<T, K, D>::new();
        let lanes = self.out.len() / packed.windows;
        for (window, out) in self.out.chunks_exact_mut(lanes).enumerate() {
            for start in (0..points).step_by(RUN) {
                taps.locate::<M>(&packed, self.call.points, (self.b * packed.windows + window, start), false);
                for part in (0..RUN.min(points - start)).step_by(LANES) {
                    let mut square = [Lanes([T::zero(); LANES]); LANES];
                    for (i, sum) in (part..part + LANES).zip(&mut square) {
                        if taps.is_live(i) {
                            for t in 0..Run::<T, K, D>::TAPS {
                                let weight = taps.weight(t, i);
                                // SAFETY: `image` has the pixels of the problem that the run was located with.
                                let pixel = unsafe { image.get_unchecked(taps.offset(t, i)) };
                                for (sum, &pixel) in sum.0.iter_mut().zip(&pixel.0) {
                                    *sum += weight * pixel;
                                }
                            }
                        }
                    }
                    turn::<T, WIDE>(&mut square);
                    for (row, out) in square.iter().zip(out.iter_mut()) {
                        let out = &mut out[start + part..];
                        match out.first_chunk_mut() {
                            Some(out) => *out = row.0,
                            None => out.copy_from_slice(&row.0[..out.len()]),
                        }
                    }
                }
            }
        }
    }
}

/// What the block of channels from `first` on of image `b` adds to the gradients.
pub(super) struct Backward<'a, 'o, T, M, const K: usize, const D: usize> {
    pub(super) call: Call<'a, T, D>,
    pub(super) grad: &'a [T],
    pub(super) b: usize,
    pub(super) first: usize,
    /// The image's gradient, by channel; empty where it isn't asked for.
    pub(super) image: Vec<&'o mut [T]>,
    /// The gradients of the points of all windows, by point; empty where they aren't asked for.
    pub(super) points: &'o mut [T],
    /// The image and its gradient.
    pub(super) scratch: &'o mut [Vec<Lanes<T>>; 2],
    pub(super) mode: PhantomData<M>,
}

impl<T: Element, M: Mode<K>, const K: usize, const D: usize> Work for Backward<'_, '_, T, M, K, D> {
    #[inline(always)]
    fn run<const WIDE: bool>(mut self) {
        let packed = self.call.problem.contiguous();
        let (points, channels) = (packed.points(), packed.channels);
        let lanes = LANES.min(channels - self.first);
        let zero = Lanes([T::zero(); LANES]);
        let [pixels, image] = self.scratch;
        image.clear();
        if !self.points.is_empty() {
            pack::<T, D, WIDE>(&self.call, self.b, self.first, pixels);
        }
        if !self.image.is_empty() {
            image.resize(packed.pixels(), zero);
        }
        let mut taps = Run::<T, K, D>::new();
        for window in 0..packed.windows {
            let n = self.b * packed.windows + window;
            let grad = &self.grad[(n * channels + self.first) * points..][..lanes * points];
            for start in (0..points).step_by(RUN) {
                taps.locate::<M>(&packed, self.call.points, (n, start), !pixels.is_empty());
                let len = RUN.min(points - start);
                for part in (0..len).step_by(LANES) {
                    let len = LANES.min(len - part);
                    let mut square = [zero; LANES];
                    for (row, grad) in square.iter_mut().zip(grad.chunks_exact(points)) {
                        let grad = &grad[start + part..];
                        match grad.first_chunk() {
                            Some(grad) => row.0 = *grad,
                            None => row.0[..len].copy_from_slice(&grad[..len]),
                        }
                    }
                    turn::<T, WIDE>(&mut square);
                    for (i, grad) in (part..).zip(&square[..len]) {
                        if !taps.is_live(i) {
                            continue;
                        }
                        if !pixels.is_empty() {
                            let out = &mut self.points[(window * points + start + i) * D..][..D];
                            // SAFETY: `pixels` has the pixels of the problem that the run was located with.
                            out.copy_from_slice(&unsafe { slopes(&taps, i, grad, pixels) });
                        }
                        if !image.is_empty() {
                            // SAFETY: as above.
                            unsafe { scatter(&taps, i, grad, image) };
                        }
                    }
                }
            }
        }
        unpack::<T, WIDE>(image, &mut self.image);
    }
}

/// The gradient of point `i`, summed over a block's channels.
///
/// # Safety
/// The run was located in an image of as many pixels.
#[inline(always)]
unsafe fn slopes<T: Element, const K: usize, const D: usize>(
    taps: &Run<T, K, D>,
    i: usize,
    grad: &Lanes<T>,
    pixels: &[Lanes<T>],
) -> [T; D] {
    let mut sums = [[T::zero(); LANES]; D];
    for t in 0..Run::<T, K, D>::TAPS {
        // SAFETY: the caller's.
        let pixel = unsafe { pixels.get_unchecked(taps.offset(t, i)) };
        for (d, sums) in sums.iter_mut().enumerate() {
            let slope = taps.slope(t, i, d);
            for (sum, &pixel) in sums.iter_mut().zip(&pixel.0) {
                *sum += slope * pixel;
            }
        }
    }
    sums.map(|mut sums| {
        for (sum, &grad) in sums.iter_mut().zip(&grad.0) {
            *sum *= grad;
        }
        // By halves, as vectors can.
        let mut len = LANES / 2;
        while len > 0 {
            for c in 0..len {
                let upper = sums[c + len];
                sums[c] += upper;
            }
            len /= 2;
        }
        sums[0]
    })
}

/// Gives the gradient of point `i` back to the pixels.
///
/// # Safety
/// The run was located in an image of as many pixels.
#[inline(always)]
unsafe fn scatter<T: Element, const K: usize, const D: usize>(
    taps: &Run<T, K, D>,
    i: usize,
    grad: &Lanes<T>,
    image: &mut [Lanes<T>],
) {
    for t in 0..Run::<T, K, D>::TAPS {
        let weight = taps.weight(t, i);
        // SAFETY: the caller's.
        let pixel = unsafe { image.get_unchecked_mut(taps.offset(t, i)) };
        for (pixel, &grad) in pixel.0.iter_mut().zip(&grad.0) {
            *pixel += weight * grad;
        }
    }
}
