//! The discrete Fourier transform of one length, of as many signals side by side as there are lanes.
//!
//! Stockham's form of the fast transform, with radices 2 to 5: every stage reads one buffer and writes another, in order.

use crate::ops::real::{Real, first, set_first, width};
use pulp::Simd;
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

    /// Butterflies of all stages: what a transform costs.
    pub(super) fn work(&self) -> usize {
        self.stages.iter().map(|stage| self.len * (stage.radix + 2)).sum()
    }

    /// Transforms `signal`, (re and im, length, lanes), with the help of `other`; the result is in the buffer that it returns.
    #[inline(always)]
    pub(super) fn run<'a, S: Simd>(&self, simd: S, signal: &'a mut [T], other: &'a mut [T]) -> &'a [T] {
        let (mut from, mut to) = (signal, other);
        for stage in &self.stages {
            for lane in (0..T::LANES).step_by(width::<T, S>()) {
                match stage.radix {
                    2 => stage.run::<S, 2>(simd, lane, from, to),
                    3 => stage.run::<S, 3>(simd, lane, from, to),
                    4 => stage.run::<S, 4>(simd, lane, from, to),
                    _ => stage.run::<S, 5>(simd, lane, from, to),
                }
            }
            std::mem::swap(&mut from, &mut to);
        }
        from
    }
}

impl<T: Real> Stage<T> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(&self, simd: S, lane: usize, from: &[T], to: &mut [T]) {
        let Self { before, behind, turns, roots, .. } = self;
        let roots: [(T, T); R] = std::array::from_fn(|i| roots[i]);
        let (from_re, from_im) = from.split_at(from.len() / 2);
        let (to_re, to_im) = to.split_at_mut(from.len() / 2);
        for (p, turns) in turns.chunks_exact(R).enumerate() {
            for q in 0..*before {
                let input: [Complex<T, S>; R] = std::array::from_fn(|j| {
                    let at = (q + before * (p + behind * j)) * T::LANES + lane;
                    Complex { re: first::<T, S>(&from_re[at..]), im: first::<T, S>(&from_im[at..]) }
                });
                let output = transform::<T, S, R>(simd, &roots, input);
                for (t, (&x, &turn)) in output.iter().zip(turns).enumerate() {
                    let x = if p == 0 || t == 0 { x } else { x.times(simd, turn) };
                    let at = (q + before * (R * p + t)) * T::LANES + lane;
                    set_first::<T, S>(&mut to_re[at..], x.re);
                    set_first::<T, S>(&mut to_im[at..], x.im);
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
fn transform<T: Real, S: Simd, const R: usize>(
    simd: S,
    roots: &[(T, T); R],
    x: [Complex<T, S>; R],
) -> [Complex<T, S>; R] {
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
            let half = R / 2;
            let sums: [Complex<T, S>; R] =
                std::array::from_fn(|j| if j == 0 { x[0] } else { x[j].plus(simd, x[R - j]) });
            let differences: [Complex<T, S>; R] =
                std::array::from_fn(|j| if j == 0 { x[0] } else { x[j].minus(simd, x[R - j]) });
            out[0] = (1..=half).fold(x[0], |sum, j| sum.plus(simd, sums[j]));
            for t in 1..=half {
                let zero = T::splat(simd, T::zero());
                let (mut even, mut odd) = (x[0], Complex { re: zero, im: zero });
                for j in 1..=half {
                    let (cos, sin) = roots[j * t % R];
                    even = even.plus_times(simd, cos, sums[j]);
                    odd = odd.plus_times(simd, sin, differences[j]);
                }
                (out[t], out[R - t]) = (even.minus_i(simd, odd), even.plus_i(simd, odd));
            }
        }
    }
    out
}
