//! The taps of a run of sampling points, in arrays by tap: what the kernels' inner loops go along.

use super::element::Element;
use super::points::Points;
use super::problem::Problem;
use super::side::{Mode, RUN, Side};
use std::ops::Range;

/// The most taps a point has: bicubic in two dimensions.
pub(super) const MOST: usize = 16;

/// The taps of `RUN` points in `D` dimensions, `K` along each: `K^D` of them a point, numbered with x running fastest.
pub(in crate::ops) struct Run<T, const K: usize, const D: usize> {
    sides: [Side<T, K>; D],
    /// Zero where no pixel is in reach, else one.
    pub(super) live: [T; RUN],
    /// The places of the taps in the image, counted in elements: less than `Problem::extent`.
    pub(super) offsets: [[usize; RUN]; MOST],
    pub(super) weights: [[T; RUN]; MOST],
    /// The weights' derivatives by the normalised coordinates x, y and z.
    pub(super) slopes: [[[T; RUN]; MOST]; D],
    /// Where a tap is in a pair of neighbours, 0 or 1: see [`Run::pair`].
    pub(super) picks: [[u32; RUN]; 2],
    coordinates: [[f64; RUN]; D],
}

impl<T: Element, const K: usize, const D: usize> Run<T, K, D> {
    /// The number of taps of a point.
    pub(in crate::ops) const TAPS: usize = K.pow(D as u32);

    pub(in crate::ops) fn new() -> Self {
        Self {
            sides: std::array::from_fn(|_| Side::new()),
            live: [T::zero(); RUN],
            offsets: [[0; RUN]; MOST],
            weights: [[T::zero(); RUN]; MOST],
            slopes: [[[T::zero(); RUN]; MOST]; D],
            picks: [[0; RUN]; 2],
            coordinates: [[0.0; RUN]; D],
        }
    }

    /// Finds the taps of the points from number `first` of window `n` on; the slopes only where they are wanted. Behind the window's last
    /// point there are taps too, of any places within the image.
    #[inline(always)]
    pub(in crate::ops) fn locate<M: Mode<K>>(
        &mut self,
        problem: &Problem<D>,
        points: Points<T>,
        (n, first): (usize, usize),
        slopes: bool,
    ) {
        points.run(problem, n, first, &mut self.coordinates);
        self.live = [T::one(); RUN];
        for (d, side) in self.sides.iter_mut().enumerate() {
            M::taps(&problem.axes[d], &self.coordinates[d], side);
            multiply(&mut self.live, &side.live);
        }
        for t in 0..Self::TAPS {
            let mut tap = t;
            (self.offsets[t], self.weights[t]) = ([0; RUN], [T::one(); RUN]);
            for side in &self.sides {
                for (offset, along) in self.offsets[t].iter_mut().zip(&side.offset[tap % K]) {
                    *offset += along;
                }
                multiply(&mut self.weights[t], &side.weight[tap % K]);
                tap /= K;
            }
        }
        if slopes {
            for (along, slopes) in self.slopes.iter_mut().enumerate() {
                for (t, slopes) in slopes[..Self::TAPS].iter_mut().enumerate() {
                    let mut tap = t;
                    *slopes = [T::one(); RUN];
                    for (d, side) in self.sides.iter().enumerate() {
                        let factors = if d == along { &side.slope } else { &side.weight };
                        multiply(slopes, &factors[tap % K]);
                        tap /= K;
                    }
                }
            }
        }
    }

    /// Makes of the two taps along x one load of two neighbours, where that is possible: in rows without gaps, of two pixels at least.
    /// The pair starts `picks[0]` before the first tap: at the end of a row, both taps are its last pixel.
    #[inline(always)]
    pub(in crate::ops) fn pair(&mut self, problem: &Problem<D>) -> bool {
        let possible = K == 2 && problem.axes[0].stride == 1 && problem.axes[0].size >= 2;
        if possible {
            let (last, [first, second]) = (problem.axes[0].size - 2, [0, 1].map(|k| &self.sides[0].offset[k % K]));
            for i in 0..RUN {
                let start = if first[i] < last { first[i] } else { last };
                self.picks[0][i] = (first[i] - start) as u32;
                self.picks[1][i] = (second[i] - start) as u32;
            }
        }
        possible
    }

    /// The place of tap `t` of point `i` in the image, counted in elements: less than `Problem::extent`.
    #[inline(always)]
    pub(in crate::ops) fn offset(&self, t: usize, i: usize) -> usize {
        self.offsets[t][i]
    }

    #[inline(always)]
    pub(in crate::ops) fn weight(&self, t: usize, i: usize) -> T {
        self.weights[t][i]
    }

    /// The derivative of the weight by the normalised coordinate number `along`: x, y, z.
    #[inline(always)]
    pub(in crate::ops) fn slope(&self, t: usize, i: usize, along: usize) -> T {
        self.slopes[along][t][i]
    }

    #[inline(always)]
    pub(in crate::ops) fn is_live(&self, i: usize) -> bool {
        self.live[i] != T::zero()
    }

    /// Whether one of the first `len` points has a tap in the rows (planes) whose offsets are within `band`.
    #[inline(always)]
    pub(in crate::ops) fn reach(&self, band: &Range<usize>, len: usize) -> bool {
        self.sides[D - 1].offset.iter().any(|offset| {
            let (low, high) = offset[..len].iter().fold((usize::MAX, 0), |(low, high), &o| (low.min(o), high.max(o)));
            low < band.end && high >= band.start
        })
    }

    /// The offset along the last side, y or z, of tap `k` of point `i`.
    #[inline(always)]
    pub(in crate::ops) fn outer(&self, k: usize, i: usize) -> usize {
        self.sides[D - 1].offset[k][i]
    }
}

#[inline(always)]
fn multiply<T: Element>(products: &mut [T; RUN], factors: &[T; RUN]) {
    for (product, &factor) in products.iter_mut().zip(factors) {
        *product *= factor;
    }
}
