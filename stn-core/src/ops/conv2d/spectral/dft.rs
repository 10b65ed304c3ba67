//! The discrete Fourier transform of one length, of as many signals side by side as there are lanes.
//!
//! Stockham's form of the fast transform, with radices 2 to 5: every pass reads one buffer and writes another, in order. A pass is one stage, or two whose
//! numbers the registers hold in between.

#![allow(clippy::needless_range_loop)] // an element has one index in a stage, another in its butterfly

use crate::ops::real::{Real, first, set_first, width};
use pulp::{Simd, WithSimd};
use std::f64::consts::TAU;

/// X[k] = sum over j of x[j] exp(-2 pi i j k / length).
pub(super) struct Dft<T> {
    pub(super) len: usize,
    /// None for a length of one, else two at least.
    passes: Vec<[Stage<T>; 2]>,
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

/// Two stages are one pass where so many numbers, complex ones, are in registers.
const FUSED: usize = 12;

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

/// The radices of the passes of a length that [`fast_len`] gave.
fn radices(len: usize) -> Vec<[usize; 2]> {
    let (mut rest, mut stages) = (len, vec![]);
    while rest > 1 {
        let radix = [4, 2, 3, 5].into_iter().find(|&radix| rest.is_multiple_of(radix)).unwrap_or(rest);
        stages.push(radix);
        rest /= radix;
    }
    let (mut passes, mut next) = (vec![], 0);
    while next < stages.len() {
        let fused = stages.len() > 2 && next + 1 < stages.len() && stages[next] * stages[next + 1] <= FUSED;
        passes.push([stages[next], if fused { stages[next + 1] } else { 1 }]);
        next += 1 + usize::from(fused);
    }
    if passes.len() == 1 {
        passes.push([1, 1]);
    }
    passes
}

impl<T: Real> Stage<T> {
    /// The stage of some radix after those of `before` elements, of `rest` elements with all that are behind it.
    fn new(radix: usize, before: usize, rest: usize) -> Self {
        let behind = rest / radix;
        let turn = |part: usize, whole: usize| {
            let (sin, cos) = (TAU * part as f64 / whole as f64).sin_cos();
            (T::from_f64(cos), T::from_f64(sin))
        };
        let turns = (0..behind * radix).map(|i| turn(rest - (i / radix) * (i % radix) % rest, rest)).collect();
        Self { radix, before, behind, turns, roots: (0..radix).map(|i| turn(i, radix)).collect() }
    }
}

/// Elements of a signal in planes of real and of imaginary parts: from pixel `first` on, `step` apart.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) first: usize,
    pub(super) step: usize,
}

impl Line {
    /// Elements one after the other.
    const WHOLE: Self = Self { first: 0, step: 1 };

    #[inline(always)]
    fn at<T: Real>(self, element: usize) -> usize {
        (self.first + element * self.step) * T::LANES
    }
}

impl<T: Real> Dft<T> {
    /// The transform of a length that [`fast_len`] gave.
    pub(super) fn new(len: usize) -> Self {
        let (mut before, mut rest) = (1, len);
        let passes = radices(len).into_iter().map(|radices| {
            radices.map(|radix| {
                let stage = Stage::new(radix, before, rest);
                (before, rest) = (before * radix, stage.behind);
                stage
            })
        });
        Self { len, passes: passes.collect() }
    }

    /// Numbers of a buffer for a signal: real parts, then imaginary parts.
    pub(super) fn buffer(&self) -> usize {
        2 * self.len * T::LANES
    }

    /// Transforms a line of two planes, (pixels, lanes), with the help of two buffers.
    #[inline(always)]
    pub(super) fn run<S: Simd>(&self, simd: S, re: &mut [T], im: &mut [T], line: Line, buffers: &mut [Vec<T>; 2]) {
        let [mut from, mut to] =
            buffers.each_mut().map(|buffer| buffer[..self.buffer()].split_at_mut(self.len * T::LANES));
        let [first, between @ .., last] = &self.passes[..] else { return };
        pass(simd, first, (&*re, &*im, line), (&mut *from.0, &mut *from.1, Line::WHOLE));
        for stages in between {
            pass(simd, stages, (&*from.0, &*from.1, Line::WHOLE), (&mut *to.0, &mut *to.1, Line::WHOLE));
            std::mem::swap(&mut from, &mut to);
        }
        pass(simd, last, (&*from.0, &*from.1, Line::WHOLE), (re, im, line));
    }
}

/// One pass over a signal.
#[inline(always)]
fn pass<T: Real, S: Simd>(simd: S, stages: &[Stage<T>; 2], from: (&[T], &[T], Line), to: (&mut [T], &mut [T], Line)) {
    for lane in (0..T::LANES).step_by(width::<T, S>()) {
        macro_rules! butterflies {
            ($($a:literal, $b:literal;)*) => {
                match stages.each_ref().map(|stage| stage.radix) {
                    $([$a, $b] => simd.vectorize(Butterflies::<T, $a, $b> {
                        stages, lane, from, to: (&mut *to.0, &mut *to.1, to.2)
                    }),)*
                    radices => unreachable!("no pass of radices {radices:?}"),
                }
            };
        }
        butterflies!(1, 1; 2, 1; 3, 1; 4, 1; 5, 1; 2, 3; 2, 5; 3, 3; 4, 2; 4, 3;);
    }
}

/// One pass of a transform, in one vector's lanes: stages of radices A and B.
struct Butterflies<'a, T, const A: usize, const B: usize> {
    stages: &'a [Stage<T>; 2],
    lane: usize,
    from: (&'a [T], &'a [T], Line),
    to: (&'a mut [T], &'a mut [T], Line),
}

impl<T: Real, const A: usize, const B: usize> WithSimd for Butterflies<'_, T, A, B> {
    type Output = ();

    // Loops, not closures: what is not inlined here is compiled without the vector instructions.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { stages: [one, two], lane, from: (from_re, from_im, from), to: (to_re, to_im, to) } = self;
        let zero = T::splat(simd, T::zero());
        let zero = Complex { re: zero, im: zero };
        let (mut x, mut y, mut between) = ([zero; A], [zero; B], [[zero; A]; B]);
        for p in 0..two.behind {
            for q in 0..one.before {
                for b in 0..B {
                    let p = p + two.behind * b;
                    for a in 0..A {
                        let at = from.at::<T>(q + one.before * (p + one.behind * a)) + lane;
                        x[a] = Complex { re: first::<T, S>(&from_re[at..]), im: first::<T, S>(&from_im[at..]) };
                    }
                    between[b] = turned::<T, S, A>(simd, one, p, x);
                }
                for a in 0..A {
                    for b in 0..B {
                        y[b] = between[b][a];
                    }
                    let out = turned::<T, S, B>(simd, two, p, y);
                    for b in 0..B {
                        let at = to.at::<T>(q + one.before * a + two.before * (B * p + b)) + lane;
                        set_first::<T, S>(&mut to_re[at..], out[b].re);
                        set_first::<T, S>(&mut to_im[at..], out[b].im);
                    }
                }
            }
        }
    }
}

/// The transform of R elements and the turns of place `p` of those behind.
#[inline(always)]
fn turned<T: Real, S: Simd, const R: usize>(
    simd: S,
    stage: &Stage<T>,
    p: usize,
    x: [Complex<T, S>; R],
) -> [Complex<T, S>; R] {
    let mut out = transform::<T, S, R>(simd, &stage.roots, x);
    if p != 0 {
        for t in 1..R {
            out[t] = out[t].times(simd, stage.turns[p * R + t]);
        }
    }
    out
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
