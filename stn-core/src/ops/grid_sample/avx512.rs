//! What the compiler doesn't find by itself: shuffles and loads of AVX-512, for `f32`.

use super::run::Run;
use super::side::RUN;
use std::arch::x86_64::*;

/// Numbers a register.
const WIDTH: usize = 16;

/// The values of a run in one channel, the same bits as without pairs.
///
/// # Safety
/// The processor has AVX-512F; the run is paired, and the channel as long as the image that it was located in.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn values<const K: usize, const D: usize>(
    taps: &Run<f32, K, D>,
    channel: *const f32,
    out: &mut [f32; RUN],
) {
    for at in (0..RUN).step_by(WIDTH) {
        let mut sum = _mm512_setzero_ps();
        for t in (0..Run::<f32, K, D>::TAPS).step_by(2) {
            // SAFETY: the caller's; `at` starts a whole register of each array.
            unsafe {
                let pixels = pair(taps, channel, t, at);
                sum = _mm512_add_ps(sum, _mm512_mul_ps(load(&taps.weights[t], at), pixels[0]));
                sum = _mm512_add_ps(sum, _mm512_mul_ps(load(&taps.weights[t + 1], at), pixels[1]));
            }
        }
        // SAFETY: as above.
        unsafe {
            let live = _mm512_cmpneq_ps_mask(load(&taps.live, at), _mm512_setzero_ps());
            _mm512_storeu_ps(out.as_mut_ptr().add(at), _mm512_maskz_mov_ps(live, sum));
        }
    }
}

/// Adds the gradients of a run that come from one channel, the same bits as without pairs.
///
/// # Safety
/// As for [`values`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_slopes<const K: usize, const D: usize>(
    taps: &Run<f32, K, D>,
    channel: *const f32,
    grad: &[f32; RUN],
    sums: &mut [[f32; RUN]; D],
) {
    for at in (0..RUN).step_by(WIDTH) {
        let mut slopes = [_mm512_setzero_ps(); D];
        for t in (0..Run::<f32, K, D>::TAPS).step_by(2) {
            // SAFETY: the caller's; `at` starts a whole register of each array.
            unsafe {
                let pixels = pair(taps, channel, t, at);
                for (slope, by) in slopes.iter_mut().zip(&taps.slopes) {
                    *slope = _mm512_add_ps(*slope, _mm512_mul_ps(load(&by[t], at), pixels[0]));
                    *slope = _mm512_add_ps(*slope, _mm512_mul_ps(load(&by[t + 1], at), pixels[1]));
                }
            }
        }
        for (sum, slope) in sums.iter_mut().zip(slopes) {
            // SAFETY: as above.
            unsafe {
                let added = _mm512_add_ps(load(sum, at), _mm512_mul_ps(load(grad, at), slope));
                _mm512_storeu_ps(sum.as_mut_ptr().add(at), added);
            }
        }
    }
}

/// The pixels of taps `t` and `t + 1` of the points from `at` on: one load of eight bytes a point.
///
/// # Safety
/// As for [`values`]; `t` is even and less than the number of taps.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pair<const K: usize, const D: usize>(
    taps: &Run<f32, K, D>,
    channel: *const f32,
    t: usize,
    at: usize,
) -> [__m512; 2] {
    let (offsets, picks) = (&taps.offsets[t], &taps.picks);
    let half = |at: usize| {
        let mut pairs = [_mm_setzero_pd(); 4];
        for (k, pair) in pairs.iter_mut().enumerate() {
            let [first, second] = [at + 2 * k, at + 2 * k + 1].map(|i| offsets[i] - picks[0][i] as usize);
            // SAFETY: a paired run's pairs lie in the image's rows.
            unsafe { *pair = _mm_loadh_pd(_mm_load_sd(channel.add(first).cast()), channel.add(second).cast()) };
        }
        let (low, high) = (_mm256_set_m128d(pairs[1], pairs[0]), _mm256_set_m128d(pairs[3], pairs[2]));
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(low), high))
    };
    let (low, high) = (half(at), half(at + WIDTH / 2));
    let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    [0, 1].map(|k| {
        // SAFETY: the arrays are `RUN` long, of which `at` starts a whole register.
        let pick = unsafe { _mm512_loadu_si512(picks[k].as_ptr().add(at).cast()) };
        _mm512_permutex2var_ps(low, _mm512_add_epi32(even, pick), high)
    })
}

/// # Safety
/// A whole register of the array starts at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(array: &[f32; RUN], at: usize) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_ps(array.as_ptr().add(at)) }
}

/// Swaps rows and columns of a square of 16 by 16.
///
/// # Safety
/// The processor has AVX-512F; `square` points to 256 numbers that may be written.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn turn(square: *mut f32) {
    let mut a = [_mm512_setzero_ps(); 16];
    for (i, row) in a.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *row = unsafe { _mm512_loadu_ps(square.add(16 * i)) };
    }
    // Pairs of numbers, then fours, then the fours' places in the rows.
    let mut b = a;
    for i in (0..16).step_by(2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    let pd = |x| _mm512_castps_pd(x);
    for i in (0..16).step_by(4) {
        for j in 0..2 {
            a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(b[i + j]), pd(b[i + j + 2])));
            a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(b[i + j]), pd(b[i + j + 2])));
        }
    }
    for i in 0..4 {
        for j in [0, 8] {
            b[j + i] = _mm512_shuffle_f32x4::<0x88>(a[j + i], a[j + i + 4]);
            b[j + i + 4] = _mm512_shuffle_f32x4::<0xdd>(a[j + i], a[j + i + 4]);
        }
    }
    for i in 0..8 {
        a[i] = _mm512_shuffle_f32x4::<0x88>(b[i], b[i + 8]);
        a[i + 8] = _mm512_shuffle_f32x4::<0xdd>(b[i], b[i + 8]);
    }
    for (i, row) in a.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(square.add(16 * i), *row) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn turns() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        let mut square: [f32; 256] = std::array::from_fn(|i| i as f32);
        // SAFETY: the processor has the set.
        unsafe { super::turn(square.as_mut_ptr()) };
        assert!((0..256).all(|i| square[i] == (i % 16 * 16 + i / 16) as f32));
    }
}
