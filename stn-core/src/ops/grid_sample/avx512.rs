//! What the compiler doesn't find by itself: shuffles and loads of AVX-512, for `f32`.

use std::arch::x86_64::*;

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
