//! Sixteen numbers in a register, and their ways from and to memory.

use super::WIDTH;
use crate::ops::targets::LANES;
use std::arch::x86_64::*;

/// Of sixteen points, the masks of the first and the last eight, with each bit twice: for pairs of numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn halves(mask: __mmask16) -> [__mmask16; 2] {
    let both = (1u64 << (2 * mask.count_ones())) - 1;
    [both as __mmask16, (both >> WIDTH) as __mmask16]
}

/// How many numbers a mask reaches.
#[inline(always)]
pub(super) fn reach(mask: __mmask16) -> usize {
    WIDTH - mask.leading_zeros() as usize
}

/// The first numbers of a slice that the mask has bits for; zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn load(from: &[f32], mask: __mmask16) -> __m512 {
    assert!(from.len() >= reach(mask));
    // SAFETY: the slice reaches as far as the mask, asserted above, and nothing else is read.
    unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr()) }
}

/// Replaces those of a slice's first numbers that the mask has bits for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn store(to: &mut [f32], mask: __mmask16, numbers: __m512) {
    assert!(to.len() >= reach(mask));
    // SAFETY: the slice reaches as far as the mask, asserted above, and nothing else is written.
    unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, numbers) }
}

/// The coordinates of sixteen points in memory, or of those in the mask: x and y in two halves each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn pairs(at: &[f32], mask: __mmask16) -> [[__m512d; 2]; 2] {
    let [low, high] = halves(mask);
    let pairs = (load(at, low), load(at.get(WIDTH..).unwrap_or(&[]), high));
    let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    [wide(_mm512_permutex2var_ps(pairs.0, even, pairs.1)), wide(_mm512_permutex2var_ps(pairs.0, odd, pairs.1))]
}

/// The target coordinates of sixteen columns that the mask has bits for; zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn columns(x: &[f64], mask: __mmask16) -> [__m512d; 2] {
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
pub(super) fn wide(x: __m512) -> [__m512d; 2] {
    [_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(x))]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn narrow([low, high]: [__m512d; 2]) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn numbers(x: __m512i) -> [u32; WIDTH] {
    let mut numbers = [0; WIDTH];
    // SAFETY: the array is a whole register long.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), x) };
    numbers
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn lanes(x: __m512d) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array is a whole register long.
    unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), x) };
    lanes
}
