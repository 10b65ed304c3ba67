//! The image's gradient: what sixteen points give back.

#![allow(clippy::needless_range_loop)] // the points' numbers index several arrays at once

use super::WIDTH;
use super::locate::Taps;
use super::registers::{numbers, store};
use std::arch::x86_64::*;

/// The places that sixteen points give to.
pub(super) struct Scatter {
    /// The points with their taps of either row within the band.
    pub(super) rows: [__mmask16; 2],
    /// By tap, from the band's start.
    offsets: [[u32; WIDTH]; 4],
}

impl Scatter {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn new(taps: &Taps, start: usize, len: usize) -> Self {
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
    pub(super) unsafe fn add(&self, weights: &[__m512; 4], grad: __m512, band: &mut [f32]) {
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
