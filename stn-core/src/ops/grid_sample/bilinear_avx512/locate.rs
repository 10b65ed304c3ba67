//! Where sixteen points of a window are in the image.

use super::registers::{columns, narrow, pairs};
use super::{Place, Window};
use crate::ops::Padding;
use crate::ops::axis::Axis;
use crate::ops::grid_sample::points::Points;
use std::arch::x86_64::*;

/// One side of the image.
pub(super) struct Side {
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
pub(super) struct Taps {
    pub(super) live: __mmask16,
    /// The offsets of the pairs of neighbours that hold taps 0 and 1, and taps 2 and 3.
    pub(super) pairs: [__m512i; 2],
    /// Where the taps are in their pairs, 0 or 1: at the ends of a row, both are the same pixel.
    pub(super) picks: [__m512i; 2],
    pub(super) weights: [__m512; 4],
    pub(super) slopes: [[__m512; 4]; 2],
}

impl Window<'_> {
    /// The normalised coordinates: x and y in two halves each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn coordinates(&self, place: Place) -> [[__m512d; 2]; 2] {
        match self.points {
            Points::Grid(grid) => pairs(&grid[2 * (self.start + place.first)..], place.mask),
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
    pub(super) fn locate<const SLOPES: bool>(&self, place: Place) -> Taps {
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
    pub(super) fn new(axis: &Axis) -> Self {
        // The middle of the image is within it, whatever the padding.
        let (scale, shift) = axis.padded(0.0).map_or((0.0, 0.0), |middle| (middle.slope, middle.pixel - middle.slope));
        let (last, stride) = ((axis.size - 1) as i32, axis.stride as i32);
        Self { scale, shift, last, stride, border: axis.padding == Padding::Border }
    }

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

/// `by * x + rest`, rounded to `f32` as a grid in memory is: the two ways give the same bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn line([low, high]: [__m512d; 2], by: f64, rest: f64) -> [__m512d; 2] {
    let (by, rest) = (_mm512_set1_pd(by), _mm512_set1_pd(rest));
    let low = _mm512_cvtpd_ps(_mm512_add_pd(_mm512_mul_pd(low, by), rest));
    let high = _mm512_cvtpd_ps(_mm512_add_pd(_mm512_mul_pd(high, by), rest));
    [_mm512_cvtps_pd(low), _mm512_cvtps_pd(high)]
}
