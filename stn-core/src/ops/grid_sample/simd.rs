//! The instruction sets that the sampler's loops are compiled for.
//!
//! There is one source: the compiler vectorises it once for the baseline and once for each wider set. No set fuses multiplications with
//! additions, so that all give the same bits.

/// A piece of work whose loops are worth wider registers than the baseline's.
pub(in crate::ops) trait Work {
    /// Does it. Implementations are `#[inline(always)]`: only what is inlined is compiled for the wider set.
    /// `WIDE` says that the processor has AVX-512 F, BW, DQ and VL.
    fn run<const WIDE: bool>(self);
}

/// Does the work with the widest registers that this processor has.
pub(in crate::ops) fn run(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has these sets.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has this set.
            return unsafe { avx2(work) };
        }
    }
    work.run::<false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512(work: impl Work) {
    work.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(work: impl Work) {
    work.run::<false>()
}
