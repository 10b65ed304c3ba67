//! Bilinear sampling of images of few channels in `f32`, sixteen points at a time: all that is known of them stays in registers.
//!
//! The same numbers in the same order as the kernels of `planar`, and so the same bits.

#![allow(clippy::needless_range_loop)] // the taps' numbers index several arrays at once

mod locate;
mod registers;
mod scatter;

use super::element::Element;
use super::planar::{Band, Sums};
use super::points::Points;
use super::problem::Problem;
use crate::ops::Padding;
use crate::ops::targets::fold;
use candle_core::DType;
use locate::Side;
use registers::*;
use scatter::Scatter;
use std::arch::x86_64::*;

/// Points at a time.
const WIDTH: usize = 16;

/// Whether there is a kernel for the problem here: `f32`, two taps along each of two sides, rows without gaps of two pixels at least,
/// and offsets that are 32-bit integers. Reflections are left to the kernels for all modes.
pub(super) fn fits<T: Element, const K: usize, const D: usize>(problem: &Problem<D>) -> bool {
    T::DTYPE == DType::F32
        && (K, D) == (2, 2)
        && problem.axes[0].stride == 1
        && problem.axes[0].size >= 2
        && problem.axes.iter().all(|axis| axis.padding != Padding::Reflection && axis.size < i32::MAX as usize)
        && problem.extent() <= i32::MAX as usize
}

/// The points of a window, and the image that they are in.
pub(super) struct Window<'a> {
    points: Points<'a, f32>,
    sides: [Side; 2],
    /// The matrix, if there is one.
    theta: [f64; 6],
    /// The number of the window's first point, and of points.
    start: usize,
    len: usize,
}

/// Sixteen points of a window, or what is left of its row.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    /// Of a window that matrices make; of one in memory all points are one row.
    row: usize,
    column: usize,
    mask: __mmask16,
}

impl<'a> Window<'a> {
    /// Window `n` of a problem that fits.
    pub(super) fn new(problem: &Problem<2>, points: Points<'a, f32>, n: usize) -> Self {
        let theta = match points {
            Points::Grid(_) => [0.0; 6],
            Points::Affine(theta, _) => std::array::from_fn(|i| theta[6 * n + i].wide()),
        };
        Self {
            points,
            sides: [0, 1].map(|d| Side::new(&problem.axes[d])),
            theta,
            start: n * problem.points(),
            len: problem.points(),
        }
    }

    /// The values of the points from number `first` on in some channels of the image, `out` by channel.
    ///
    /// # Safety
    /// The processor has AVX-512 F, BW, DQ and VL; the channels are `Problem::extent` long, and as many as `out`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn values(&self, first: usize, channels: &[&[f32]], out: &mut [&mut [f32]]) {
        let len = out.first().map_or(0, |out| out.len());
        for place in self.places(first, len) {
            let taps = self.locate::<false>(place);
            let starts = taps.pairs.map(|pairs| numbers(pairs));
            for (channel, out) in channels.iter().zip(out.iter_mut()) {
                let mut sum = _mm512_setzero_ps();
                for k in 0..2 {
                    // SAFETY: the pairs of located points lie in the image's rows.
                    let pixels = unsafe { pixels(channel, &starts[k], taps.picks) };
                    sum = _mm512_add_ps(sum, _mm512_mul_ps(taps.weights[2 * k], pixels[0]));
                    sum = _mm512_add_ps(sum, _mm512_mul_ps(taps.weights[2 * k + 1], pixels[1]));
                }
                store(&mut out[place.first - first..], place.mask, _mm512_maskz_mov_ps(taps.live, sum));
            }
        }
    }

    /// What `len` points from number `first` on give to the gradients of the points, if `POINTS`, and of the image. `grad` has the
    /// gradients of the values of the whole window, by channel.
    ///
    /// # Safety
    /// As for `values`. The image's gradient, where it is asked for, has as many channels as `grad`; a band is whole rows without gaps,
    /// as the rows of the problem are.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn gradients<const POINTS: bool>(
        &self,
        (first, len): (usize, usize),
        grad: &[f32],
        channels: &[&[f32]],
        mut sums: Option<Sums<f32>>,
        image: Band<f32>,
    ) {
        let zero = _mm512_setzero_ps();
        let mut row = [_mm512_setzero_pd(); 4];
        for place in self.places(first, len) {
            let taps = self.locate::<POINTS>(place);
            if POINTS {
                let starts = taps.pairs.map(|pairs| numbers(pairs));
                let mut total = [zero; 2];
                for (channel, grad) in channels.iter().zip(grad.chunks_exact(self.len)) {
                    let grad = load(&grad[place.first..], place.mask);
                    let mut by = [zero; 2];
                    for k in 0..2 {
                        // SAFETY: the pairs of located points lie in the image's rows.
                        let pixels = unsafe { pixels(channel, &starts[k], taps.picks) };
                        for (by, slopes) in by.iter_mut().zip(&taps.slopes) {
                            *by = _mm512_add_ps(*by, _mm512_mul_ps(slopes[2 * k], pixels[0]));
                            *by = _mm512_add_ps(*by, _mm512_mul_ps(slopes[2 * k + 1], pixels[1]));
                        }
                    }
                    for (total, by) in total.iter_mut().zip(by) {
                        *total = _mm512_add_ps(*total, _mm512_mul_ps(grad, by));
                    }
                }
                let total = total.map(|total| _mm512_maskz_mov_ps(taps.live, total));
                match (&mut sums, self.points) {
                    (Some(Sums::Points(out)), _) => {
                        store_points(&mut out[2 * (place.first - first)..], place.mask, total)
                    }
                    (Some(Sums::Rows(out)), Points::Affine(_, targets)) => {
                        add_row(&mut row, total, columns(&targets.x[place.column..], place.mask));
                        if place.column + WIDTH >= targets.x.len() {
                            out[place.row - first / targets.x.len()] = row.map(|sums| fold(lanes(sums)));
                            row = [_mm512_setzero_pd(); 4];
                        }
                    }
                    _ => {}
                }
            }
            if !image.channels.is_empty() {
                let scatter = Scatter::new(&taps, image.start, image.channels[0].len());
                if scatter.rows == [0; 2] {
                    continue;
                }
                for (channel, grad) in image.channels.iter_mut().zip(grad.chunks_exact(self.len)) {
                    let grad = load(&grad[place.first..], place.mask);
                    // SAFETY: all channels of a band are of one length.
                    unsafe { scatter.add(&taps.weights, grad, channel) };
                }
            }
        }
    }

    /// `len` points from number `first` on, in sixteens that do not go over the ends of rows.
    fn places(&self, first: usize, len: usize) -> impl Iterator<Item = Place> + use<> {
        let width = match self.points {
            Points::Grid(_) => self.len,
            Points::Affine(_, targets) => targets.x.len(),
        };
        let (mut row, mut column) = (first / width, first % width);
        let (mut first, end) = (first, first + len);
        std::iter::from_fn(move || {
            if first >= end {
                return None;
            }
            let len = WIDTH.min(width - column).min(end - first);
            let place = Place { first, row, column, mask: ((1u32 << len) - 1) as __mmask16 };
            first += len;
            column += len;
            if column == width {
                (row, column) = (row + 1, 0);
            }
            Some(place)
        })
    }
}

/// The pixels of two taps of sixteen points: one load of eight bytes a point, which gathers don't better.
///
/// # Safety
/// The pairs that start at `starts` lie in the channel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pixels(channel: &[f32], starts: &[u32; WIDTH], picks: [__m512i; 2]) -> [__m512; 2] {
    debug_assert!(starts.iter().all(|&start| start as usize + 1 < channel.len()), "{starts:?} of {}", channel.len());
    let half = |at: usize| {
        let mut pairs = [_mm_setzero_pd(); 4];
        for (k, pair) in pairs.iter_mut().enumerate() {
            let [first, second] = [at + 2 * k, at + 2 * k + 1].map(|i| starts[i] as usize);
            // SAFETY: the caller's.
            unsafe {
                let from = channel.as_ptr();
                *pair = _mm_loadh_pd(_mm_load_sd(from.add(first).cast()), from.add(second).cast());
            }
        }
        let (low, high) = (_mm256_set_m128d(pairs[1], pairs[0]), _mm256_set_m128d(pairs[3], pairs[2]));
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(low), high))
    };
    let (low, high) = (half(0), half(WIDTH / 2));
    let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    picks.map(|pick| _mm512_permutex2var_ps(low, _mm512_add_epi32(even, pick), high))
}

/// Adds sixteen points' gradients to a row's partial sums, as `row_sums` does.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn add_row(row: &mut [__m512d; 4], grad: [__m512; 2], x: [__m512d; 2]) {
    let [gx, gy] = grad.map(|grad| wide(grad));
    for half in 0..2 {
        row[0] = _mm512_add_pd(row[0], _mm512_mul_pd(gx[half], x[half]));
        row[1] = _mm512_add_pd(row[1], gx[half]);
        row[2] = _mm512_add_pd(row[2], _mm512_mul_pd(gy[half], x[half]));
        row[3] = _mm512_add_pd(row[3], gy[half]);
    }
}

/// Writes the gradients by x and y of sixteen points, or of those in the mask, side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn store_points(out: &mut [f32], mask: __mmask16, [x, y]: [__m512; 2]) {
    let low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    let masks = halves(mask);
    store(out, masks[0], _mm512_permutex2var_ps(x, low, y));
    if masks[1] != 0 {
        store(&mut out[WIDTH..], masks[1], _mm512_permutex2var_ps(x, high, y));
    }
}
