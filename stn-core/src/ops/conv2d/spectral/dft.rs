//! The discrete Fourier transform of one length, of as many signals side by side as there are lanes.
//!
//! Stockham's form of the fast transform, with radices 2 to 5: every stage reads one buffer and writes another, in order.

#![allow(clippy::needless_range_loop)] // an element has one index in a stage, another in its butterfly

use crate::ops::real::{Real, first, set_first, width};
use pulp::{Simd, WithSimd};
use std::f64::consts::TAU;

/// X[k] = sum over j of x[j] exp(-2 pi i j k / length).
pub(super) struct Dft<T> {
    pub(super) len: usize,
    stages: Vec<Stage<T>>,
}

/// The transforms of `radix` elements each, and the turns between them and those of the stages behind.
struct Stage<T> {
    radix: usize,
    /// The product of the radices before and of those behind.
    before: usize,
    behind: usize,
    /// For each of the `behind` and each of the `radix`: cosine and sine of the turn.
    turns: Vec<(T, T)>,
    /// Cosine and sine of the whole turn's fractions, 0 to `radix` - 1.
    roots: Vec<(T, T)>,
}

/// The shortest length from `len` on that is a product of twos, threes and fives.
pub(super) fn fast_len(len: usize) -> usize {
    let rest = |mut n: usize| {
        for radix in [2, 3, 5] {
            while n.is_multiple_of(radix) {
                n /= radix;
            }
        }
        n
    };
    (len.max(1)..).find(|&n| rest(n) == 1).unwrap_or(len)
}

impl<T: Real> Dft<T> {
    /// The transform of a length that [`fast_len`] gave.
    pub(super) fn new(len: usize) -> Self {
        let (mut stages, mut before, mut rest) = (vec![], 1, len);
        while rest > 1 {
            let radix = [4, 2, 3, 5].into_iter().find(|&radix| rest.is_multiple_of(radix)).unwrap_or(rest);
            let behind = rest / radix;
            let turn = |part: usize, whole: usize| {
                let (sin, cos) = (TAU * part as f64 / whole as f64).sin_cos();
                (T::from_f64(cos), T::from_f64(sin))
            };
            let turns = (0..behind * radix).map(|i| turn(rest - (i / radix) * (i % radix) % rest, rest)).collect();
            stages.push(Stage { radix, before, behind, turns, roots: (0..radix).map(|i| turn(i, radix)).collect() });
            (before, rest) = (before * radix, behind);
        }
        Self { len, stages }
    }

    /// Elements of a signal's buffer: real parts, then imaginary parts.
    pub(super) fn buffer(&self) -> usize {
        2 * self.len * T::LANES
    }

    /// Transforms `signal`, (re and im, length, lanes), with the help of `other`; the result is in the buffer that it returns.
    #[inline(always)]
    pub(super) fn run<'a, S: Simd>(&self, simd: S, signal: &'a mut [T], other: &'a mut [T]) -> &'a [T] {
        let (mut from, mut to) = (signal, other);
        for stage in &self.stages {
            for lane in (0..T::LANES).step_by(width::<T, S>()) {
                match stage.radix {
                    2 => simd.vectorize(Butterflies::<T, 2> { stage, lane, from, to }),
                    3 => simd.vectorize(Butterflies::<T, 3> { stage, lane, from, to }),
                    4 => simd.vectorize(Butterflies::<T, 4> { stage, lane, from, to }),
                    _ => simd.vectorize(Butterflies::<T, 5> { stage, lane, from, to }),
                }
            }
            std::mem::swap(&mut from, &mut to);
        }
        from
    }
}

/// One stage of a transform, in one vector's lanes.
struct Butterflies<'a, T, const R: usize> {
    stage: &'a Stage<T>,
    lane: usize,
    from: &'a [T],
    to: &'a mut [T],
}

impl<T: Real, const R: usize> WithSimd for Butterflies<'_, T, R> {
    type Output = ();

    // Loops, not closures: what is not inlined here is compiled without the vector instructions.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { stage: Stage { before, behind, turns, roots, .. }, lane, from, to } = self;
        let (from_re, from_im) = from.split_at(from.len() / 2);
        let (to_re, to_im) = to.split_at_mut(from.len() / 2);
        let zero = T::splat(simd, T::zero());
        let mut x = [Complex { re: zero, im: zero }; R];
        for p in 0..*behind {
            for q in 0..*before {
                for j in 0..R {
                    let at = (q + before * (p + behind * j)) * T::LANES + lane;
                    x[j] = Complex { re: first::<T, S>(&from_re[at..]), im: first::<T, S>(&from_im[at..]) };
                }
                let out = transform::<T, S, R>(simd, roots, x);
                for t in 0..R {
                    let out = if t == 0 || p == 0 { out[t] } else { out[t].times(simd, turns[p * R + t]) };
                    let at = (q + before * (R * p + t)) * T::LANES + lane;
                    set_first::<T, S>(&mut to_re[at..], out.re);
                    set_first::<T, S>(&mut to_im[at..], out.im);
                }
            }
        }
    }
}

/// One complex number in each lane.
struct Complex<T: Real, S: Simd> {
    re: T::Vector<S>,
    im: T::Vector<S>,
}

impl<T: Real, S: Simd> Clone for Complex<T, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Real, S: Simd> Copy for Complex<T, S> {}

impl<T: Real, S: Simd> Complex<T, S> {
    #[inline(always)]
    fn plus(self, simd: S, other: Self) -> Self {
        Self { re: T::vector_add(simd, self.re, other.re), im: T::vector_add(simd, self.im, other.im) }
    }

    #[inline(always)]
    fn minus(self, simd: S, other: Self) -> Self {
        Self { re: T::vector_sub(simd, self.re, other.re), im: T::vector_sub(simd, self.im, other.im) }
    }

    /// `self` - i `other`.
    #[inline(always)]
    fn minus_i(self, simd: S, other: Self) -> Self {
        Self { re: T::vector_add(simd, self.re, other.im), im: T::vector_sub(simd, self.im, other.re) }
    }

    /// `self` + i `other`.
    #[inline(always)]
    fn plus_i(self, simd: S, other: Self) -> Self {
        Self { re: T::vector_sub(simd, self.re, other.im), im: T::vector_add(simd, self.im, other.re) }
    }

    /// `self` + `factor` `other`, the factor real.
    #[inline(always)]
    fn plus_times(self, simd: S, factor: T, other: Self) -> Self {
        let factor = T::splat(simd, factor);
        Self {
            re: T::vector_mul_add(simd, factor, other.re, self.re),
            im: T::vector_mul_add(simd, factor, other.im, self.im),
        }
    }

    #[inline(always)]
    fn times(self, simd: S, (cos, sin): (T, T)) -> Self {
        let (cos, sin, minus_sin) = (T::splat(simd, cos), T::splat(simd, sin), T::splat(simd, T::zero() - sin));
        Self {
            re: T::vector_mul_add(simd, self.re, cos, T::vector_mul(simd, self.im, minus_sin)),
            im: T::vector_mul_add(simd, self.re, sin, T::vector_mul(simd, self.im, cos)),
        }
    }
}

/// The transform of R elements.
#[inline(always)]
fn transform<T: Real, S: Simd, const R: usize>(simd: S, roots: &[(T, T)], x: [Complex<T, S>; R]) -> [Complex<T, S>; R] {
    let mut out = x;
    match R {
        2 => (out[0], out[1]) = (x[0].plus(simd, x[1]), x[0].minus(simd, x[1])),
        4 => {
            let (even, odd) = (x[0].plus(simd, x[2]), x[1].plus(simd, x[3]));
            let (even_turned, odd_turned) = (x[0].minus(simd, x[2]), x[1].minus(simd, x[3]));
            (out[0], out[2]) = (even.plus(simd, odd), even.minus(simd, odd));
            (out[1], out[3]) = (even_turned.minus_i(simd, odd_turned), even_turned.plus_i(simd, odd_turned));
        }
        // Elements j and R - j turn against each other: their sum meets cosines alone, their difference sines.
        _ => {
            out[0] = x[0];
            for j in 1..R / 2 + 1 {
                out[0] = out[0].plus(simd, x[j]).plus(simd, x[R - j]);
            }
            let zero = T::splat(simd, T::zero());
            for t in 1..R / 2 + 1 {
                let (mut even, mut odd) = (x[0], Complex { re: zero, im: zero });
                for j in 1..R / 2 + 1 {
                    let (cos, sin) = roots[j * t % R];
                    even = even.plus_times(simd, cos, x[j].plus(simd, x[R - j]));
                    odd = odd.plus_times(simd, sin, x[j].minus(simd, x[R - j]));
                }
                (out[t], out[R - t]) = (even.minus_i(simd, odd), even.plus_i(simd, odd));
            }
        }
    }
    out
}
