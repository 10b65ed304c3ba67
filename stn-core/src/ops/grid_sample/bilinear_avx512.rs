//! Bilinear sampling of images of few channels in `f32`, sixteen points at a time: all that is known of them stays in registers.
//!
//! The same numbers in the same order as the kernels of `planar`, and so the same bits.

#![allow(clippy::needless_range_loop)] // the taps' numbers index several arrays at once

use super::element::Element;
use super::planar::{Band, Sums};
use super::points::Points;
use super::problem::Problem;
use crate::ops::Padding;
use crate::ops::targets::{LANES, fold};
use candle_core::DType;
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

/// One side of the image.
struct Side {
    /// pixel = (g + 1) * scale + shift.
    scale: f64,
    shift: f64,
    last: i32,
    stride: i32,
    border: bool,
}

/// Where sixteen coordinates are along a side.
#[derive(Clone, Copy)]
struct Along {
    live: __mmask16,
    /// The pixel before the coordinate, -1 to the last, and the two that are read: see `grid_sample::side::Side`.
    taps: [__m512i; 2],
    weights: [__m512; 2],
    slopes: [__m512; 2],
}

/// What sixteen points read, as in `grid_sample::run::Run`; the taps are numbered with x running fastest.
struct Taps {
    live: __mmask16,
    /// The offsets of the pairs of neighbours that hold taps 0 and 1, and taps 2 and 3.
    pairs: [__m512i; 2],
    /// Where the taps are in their pairs, 0 or 1: at the ends of a row, both are the same pixel.
    picks: [__m512i; 2],
    weights: [__m512; 4],
    slopes: [[__m512; 4]; 2],
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
        let sides = [0, 1].map(|d| {
            let axis = &problem.axes[d];
            // The middle of the image is within it, whatever the padding.
            let (scale, shift) =
                axis.padded(0.0).map_or((0.0, 0.0), |middle| (middle.slope, middle.pixel - middle.slope));
            let (last, stride) = ((axis.size - 1) as i32, axis.stride as i32);
            Side { scale, shift, last, stride, border: axis.padding == Padding::Border }
        });
        let theta = match points {
            Points::Grid(_) => [0.0; 6],
            Points::Affine(theta, _) => std::array::from_fn(|i| theta[6 * n + i].wide()),
        };
        Self { points, sides, theta, start: n * problem.points(), len: problem.points() }
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

    /// The normalised coordinates: x and y in two halves each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn coordinates(&self, place: Place) -> [[__m512d; 2]; 2] {
        match self.points {
            Points::Grid(grid) => {
                let at = &grid[2 * (self.start + place.first)..];
                let [low, high] = halves(place.mask);
                let pairs = (load(at, low), load(at.get(WIDTH..).unwrap_or(&[]), high));
                let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
                let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
                let (x, y) =
                    (_mm512_permutex2var_ps(pairs.0, even, pairs.1), _mm512_permutex2var_ps(pairs.0, odd, pairs.1));
                [wide(x), wide(y)]
            }
            Points::Affine(_, targets) => {
                let (t, y) = (&self.theta, targets.y[place.row]);
                let x = columns(&targets.x[place.column..], place.mask);
                let (x_rest, y_rest) = (t[1] * y + t[2], t[4] * y + t[5]);
                [line(x, t[0], x_rest), line(x, t[3], y_rest)]
            }
        }
    }

    /// What sixteen points read. The offsets are those of pixels, whatever the points.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn locate<const SLOPES: bool>(&self, place: Place) -> Taps {
        let [x, y] = self.coordinates(place);
        let (x, y) = (self.sides[0].along(x), self.sides[1].along(y));
        let start = _mm512_min_epi32(x.taps[0], _mm512_set1_epi32(self.sides[0].last - 1));
        let stride = _mm512_set1_epi32(self.sides[1].stride);
        let product = |x: [__m512; 2], y: [__m512; 2]| {
            [_mm512_mul_ps(x[0], y[0]), _mm512_mul_ps(x[1], y[0]), _mm512_mul_ps(x[0], y[1]), _mm512_mul_ps(x[1], y[1])]
        };
        Taps {
            live: place.mask & x.live & y.live,
            pairs: y.taps.map(|y| _mm512_add_epi32(start, _mm512_mullo_epi32(y, stride))),
            picks: x.taps.map(|x| _mm512_sub_epi32(x, start)),
            weights: product(x.weights, y.weights),
            slopes: if SLOPES {
                [product(x.slopes, y.weights), product(x.weights, y.slopes)]
            } else {
                [[_mm512_setzero_ps(); 4]; 2]
            },
        }
    }
}

impl Side {
    /// Where the coordinates are along this side.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn along(&self, g: [__m512d; 2]) -> Along {
        let (one, zero, last) = (_mm512_set1_pd(1.0), _mm512_setzero_pd(), _mm512_set1_pd(f64::from(self.last)));
        let (scale, shift) = (_mm512_set1_pd(self.scale), _mm512_set1_pd(self.shift));
        let mut pixel = g.map(|g| _mm512_add_pd(_mm512_mul_pd(_mm512_add_pd(g, one), scale), shift));
        let mut slope = _mm512_set1_ps(self.scale as f32);
        if self.border {
            let inside =
                pixel.map(|p| _mm512_cmp_pd_mask::<_CMP_GT_OQ>(p, zero) & _mm512_cmp_pd_mask::<_CMP_LT_OQ>(p, last));
            slope = _mm512_maskz_mov_ps(_mm512_kunpackb(inside[1].into(), inside[0].into()), slope);
            // Of NaN, `max` makes its second number.
            pixel = pixel.map(|p| _mm512_min_pd(_mm512_max_pd(p, zero), last));
        }
        let floor = pixel.map(|p| _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(p));
        let t = narrow([_mm512_sub_pd(pixel[0], floor[0]), _mm512_sub_pd(pixel[1], floor[1])]);
        // Of what is no 32-bit integer, NaN too, the conversion makes the least one.
        let [low, high] = floor.map(|floor| _mm512_cvttpd_epi32(floor));
        let first = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        let (none, end) = (_mm512_setzero_si512(), _mm512_set1_epi32(self.last));
        let second = _mm512_add_epi32(first, _mm512_set1_epi32(1));
        let clamp = |i| _mm512_max_epi32(_mm512_min_epi32(i, end), none);
        let (has_first, has_second) = (_mm512_cmpge_epi32_mask(first, none), _mm512_cmplt_epi32_mask(first, end));
        Along {
            // Unsigned: -1 to the last pixel.
            live: _mm512_cmple_epu32_mask(second, _mm512_set1_epi32(self.last + 1)),
            taps: [clamp(first), clamp(second)],
            weights: [_mm512_maskz_sub_ps(has_first, _mm512_set1_ps(1.0), t), _mm512_maskz_mov_ps(has_second, t)],
            slopes: [
                _mm512_maskz_sub_ps(has_first, _mm512_set1_ps(-0.0), slope),
                _mm512_maskz_mov_ps(has_second, slope),
            ],
        }
    }
}

/// The places that sixteen points give to.
struct Scatter {
    /// The points with their taps of either row within the band.
    rows: [__mmask16; 2],
    /// By tap, from the band's start.
    offsets: [[u32; WIDTH]; 4],
}

impl Scatter {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn new(taps: &Taps, start: usize, len: usize) -> Self {
        let (start, len) = (_mm512_set1_epi32(start as i32), _mm512_set1_epi32(len as i32));
        let from = taps.pairs.map(|pairs| _mm512_sub_epi32(pairs, start));
        Self {
            // A pair is in the band if its start is, as the band is whole rows. Unsigned: what lies before it is far behind.
            rows: from.map(|from| taps.live & _mm512_cmplt_epu32_mask(from, len)),
            offsets: [0, 1, 2, 3].map(|t| numbers(_mm512_add_epi32(from[t / 2], taps.picks[t % 2]))),
        }
    }

    /// Gives the gradients of one channel to its pixels, in the order of the points and of their taps.
    ///
    /// # Safety
    /// `band` is as long as said to `new`, and starts where said, both whole rows of the image that the points were located in.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn add(&self, weights: &[__m512; 4], grad: __m512, band: &mut [f32]) {
        let terms = weights.map(|weight| {
            let mut terms = [0.0f32; WIDTH];
            store(&mut terms, !0, _mm512_mul_ps(weight, grad));
            terms
        });
        // SAFETY: the caller's: of a point that is live, whose row is in the band, so are the taps in that row.
        let mut give = |t: usize, i: usize| unsafe {
            *band.get_unchecked_mut(self.offsets[t][i] as usize) += terms[t][i];
        };
        if self.rows[0] & self.rows[1] == !0 {
            for i in 0..WIDTH {
                (0..4).for_each(|t| give(t, i));
            }
            return;
        }
        let mut left = self.rows[0] | self.rows[1];
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            for k in 0..2 {
                if self.rows[k] >> i & 1 != 0 {
                    give(2 * k, i);
                    give(2 * k + 1, i);
                }
            }
            left &= left - 1;
        }
    }
}

/// The pixels of two taps of sixteen points: one load of eight bytes a point.
///
/// # Safety
/// The pairs that start at `starts` lie in the channel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pixels(channel: &[f32], starts: &[u32; WIDTH], picks: [__m512i; 2]) -> [__m512; 2] {
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

/// Of sixteen points, the masks of the first and the last eight, with each bit twice: for pairs of numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn halves(mask: __mmask16) -> [__mmask16; 2] {
    let both = (1u64 << (2 * mask.count_ones())) - 1;
    [both as __mmask16, (both >> WIDTH) as __mmask16]
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

/// How many numbers a mask reaches.
#[inline(always)]
fn reach(mask: __mmask16) -> usize {
    WIDTH - mask.leading_zeros() as usize
}

/// The first numbers of a slice that the mask has bits for; zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn load(from: &[f32], mask: __mmask16) -> __m512 {
    assert!(from.len() >= reach(mask));
    // SAFETY: the slice reaches as far as the mask, asserted above, and nothing else is read.
    unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr()) }
}

/// Replaces those of a slice's first numbers that the mask has bits for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn store(to: &mut [f32], mask: __mmask16, numbers: __m512) {
    assert!(to.len() >= reach(mask));
    // SAFETY: the slice reaches as far as the mask, asserted above, and nothing else is written.
    unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, numbers) }
}

/// `by * x + rest`, rounded to `f32` as a grid in memory is: the two ways give the same bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn line([low, high]: [__m512d; 2], by: f64, rest: f64) -> [__m512d; 2] {
    let (by, rest) = (_mm512_set1_pd(by), _mm512_set1_pd(rest));
    let low = _mm512_cvtpd_ps(_mm512_add_pd(_mm512_mul_pd(low, by), rest));
    let high = _mm512_cvtpd_ps(_mm512_add_pd(_mm512_mul_pd(high, by), rest));
    [_mm512_cvtps_pd(low), _mm512_cvtps_pd(high)]
}

/// The target coordinates of sixteen columns that the mask has bits for; zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn columns(x: &[f64], mask: __mmask16) -> [__m512d; 2] {
    assert!(x.len() >= reach(mask));
    let rest = x.get(WIDTH / 2..).unwrap_or(&[]);
    // SAFETY: the slice reaches as far as the mask, asserted above, and nothing else is read.
    unsafe {
        [
            _mm512_maskz_loadu_pd(mask as __mmask8, x.as_ptr()),
            _mm512_maskz_loadu_pd((mask >> (WIDTH / 2)) as __mmask8, rest.as_ptr()),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn wide(x: __m512) -> [__m512d; 2] {
    [_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(x))]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn narrow([low, high]: [__m512d; 2]) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn numbers(x: __m512i) -> [u32; WIDTH] {
    let mut numbers = [0; WIDTH];
    // SAFETY: the array is a whole register long.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), x) };
    numbers
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn lanes(x: __m512d) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array is a whole register long.
    unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), x) };
    lanes
}
