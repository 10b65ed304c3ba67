//! What a filter sees of an image with its channels last: rows, each one run of memory. Sums of such rows, and rows added to an image.

#![allow(clippy::needless_range_loop)] // a block's two indices say more than iterators over its rows

use super::geometry::Geometry;
use super::scattered::Entry;
use crate::ops::real::{Real, first, load, set_first, store, width};
use pulp::{Arch, Simd, WithSimd};

/// The rows that a filter sees.
pub(super) struct Runs {
    /// From where a filter's sight begins to where each row of it begins. (With a dilation, a row is one tap.)
    rows: Vec<usize>,
    /// Elements of a row.
    run: usize,
    /// Elements of an image, of one group's channels.
    pub(super) image: usize,
    channels: usize,
    /// Pixels of an image's row.
    width: usize,
    stride: (usize, usize),
}

impl Runs {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let (channels, (kh, kw), (height, width)) = (geometry.group_channels(), geometry.kernel, geometry.padded());
        let dilation = geometry.cfg.dilation;
        let place = |y: usize, x: usize| (y * dilation.0 * width + x * dilation.1) * channels;
        let (rows, run) = if dilation.1 == 1 {
            ((0..kh).map(|y| place(y, 0)).collect(), kw * channels)
        } else {
            ((0..kh * kw).map(|tap| place(tap / kw, tap % kw)).collect(), channels)
        };
        Self { rows, run, image: height * width * channels, channels, width, stride: geometry.cfg.stride }
    }

    /// Whether rows are so long that adding them to an image, one at each place, is less work than sums over all positions: short rows at
    /// neighbouring places overlap, and each waits for the one before it. (Measured: 9 elements lose sixfold, 224 win by a half.)
    pub(super) fn are_long<T: Real>(&self) -> bool {
        self.run >= 4 * T::LANES
    }

    /// Where a pixel of the padded image is.
    fn pixel(&self, (y, x): (usize, usize)) -> usize {
        (y * self.width + x) * self.channels
    }

    /// Where a filter's sight begins at a position.
    pub(super) fn place(&self, (oy, ox): (usize, usize)) -> usize {
        self.pixel((oy * self.stride.0, ox * self.stride.1))
    }

    /// How far behind the last row of an image a vector may reach: a row is read in whole blocks of vectors.
    pub(super) fn slack<T: Real>(&self) -> usize {
        self.run.next_multiple_of(T::LANES) - self.run + BLOCKS[BLOCKS.len() - 1].0 * T::LANES
    }

    /// A row with zeros up to a whole number of cache lines.
    fn padded_run<T: Real>(&self) -> usize {
        self.run.next_multiple_of(T::LANES)
    }

    pub(super) fn padded_filter<T: Real>(&self) -> usize {
        self.rows.len() * self.padded_run::<T>()
    }

    /// The weights, (O, row, column, channel), with zeros behind each row.
    pub(super) fn padded_weights<T: Real>(&self, geometry: &Geometry, weight: &[T]) -> Vec<T> {
        let (taps, patch) = (geometry.taps(), geometry.patch());
        let mut out = vec![T::zero(); geometry.filters * self.padded_filter::<T>()];
        let rows = out.chunks_exact_mut(self.padded_run::<T>()).enumerate();
        for (i, row) in rows {
            let filter = &weight[i / self.rows.len() * patch..][..patch];
            for (j, to) in row[..self.run].iter_mut().enumerate() {
                let at = i % self.rows.len() * self.run + j; // among (row, column, channel)
                *to = filter[at % self.channels * taps + at / self.channels];
            }
        }
        out
    }
}

/// Blocks of sums that stay in registers: vectors of a row, and the numbers of rows that there are kernels for, largest first.
const BLOCKS: [(usize, &[usize]); 10] = [
    (1, &[9, 7, 5, 3, 1]),
    (2, &[7, 5, 3, 1]),
    (4, &[7, 5, 3, 2, 1]),
    (7, &[4, 3, 2, 1]),
    (10, &[2, 1]),
    (14, &[2, 1]),
    (16, &[1]),
    (20, &[1]),
    (24, &[1]),
    (28, &[1]),
];

/// Adds, for each row of a filter, the sum over the entries of gradient times what the filter sees there.
pub(super) fn sum_rows<T: Real>(runs: &Runs, x: &[T], entries: &[Entry<T>], weights: &mut [T]) {
    let reach = runs.rows.last().map_or(0, |last| last + runs.run + runs.slack::<T>());
    assert!(entries.iter().all(|entry| entry.place + reach <= x.len()), "a place outside the images");
    assert!(weights.len() == runs.rows.len() * runs.run);
    Arch::new().dispatch(SumRows { runs, x, entries, weights });
}

struct SumRows<'a, T> {
    runs: &'a Runs,
    x: &'a [T],
    entries: &'a [Entry<T>],
    weights: &'a mut [T],
}

impl<T: Real> WithSimd for SumRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let registers = if S::REGISTER_COUNT >= 32 { 28 } else { 12 };
        let vectors = self.runs.run.div_ceil(width::<T, S>());
        // As few blocks along a row as the registers allow, all of one size.
        let most = BLOCKS.iter().map(|b| b.0).filter(|&v| v <= registers).max().unwrap_or(1);
        let each = vectors.div_ceil(vectors.div_ceil(most));
        let Some(&(each, heights)) = BLOCKS.iter().find(|block| block.0 >= each) else { return };
        let rows = self.runs.rows.len();
        for vector in (0..vectors).step_by(each) {
            let mut row = 0;
            while row < rows {
                let fits = |&&height: &&usize| height <= rows - row && (height * each <= registers || height == 1);
                let height = heights.iter().find(fits).copied().unwrap_or(1);
                self.block(simd, (row, vector * width::<T, S>()), (height, each));
                row += height;
            }
        }
    }
}

impl<T: Real> SumRows<'_, T> {
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, at: (usize, usize), size: (usize, usize)) {
        macro_rules! by_size {
            ($($rows:literal x $vectors:literal),*) => {
                match size {
                    $(($rows, $vectors) => simd.vectorize(Block::<T, $rows, $vectors> { task: self, at }),)*
                    _ => unreachable!("BLOCKS names no other sizes"),
                }
            };
        }
        by_size!(
            9 x 1, 7 x 1, 5 x 1, 3 x 1, 1 x 1, 7 x 2, 5 x 2, 3 x 2, 1 x 2, 7 x 4, 5 x 4, 3 x 4, 2 x 4, 1 x 4, 4 x 7, 3 x 7, 2 x 7, 1 x 7,
            2 x 10, 1 x 10, 2 x 14, 1 x 14, 1 x 16, 1 x 20, 1 x 24, 1 x 28
        );
    }
}

/// R rows and V vectors of each, from (row, element) `at` on.
struct Block<'a, 'b, T, const R: usize, const V: usize> {
    task: &'a mut SumRows<'b, T>,
    at: (usize, usize),
}

impl<T: Real, const R: usize, const V: usize> WithSimd for Block<'_, '_, T, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let SumRows { runs, x, entries, weights } = self.task;
        let ((row, element), w) = (self.at, width::<T, S>());
        let offsets: [usize; R] = std::array::from_fn(|r| runs.rows[row + r] + element);
        let mut sums = [[T::splat(simd, T::zero()); V]; R];
        for entry in entries.iter() {
            let grad = T::splat(simd, entry.grad);
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: `sum_rows` has asserted that the last row at any place lies in `x` with its slack, which is no less than a block of vectors;
                    // `element` is in the row.
                    let seen = unsafe { load::<T, S>(x.as_ptr().add(entry.place + offsets[r] + v * w)) };
                    sums[r][v] = T::vector_mul_add(simd, seen, grad, sums[r][v]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let row = &mut weights[(row + r) * runs.run..][..runs.run];
            for (to, &sum) in row[element..].chunks_mut(w).zip(sums) {
                if to.len() == w {
                    set_first::<T, S>(to, T::vector_add(simd, first::<T, S>(to), sum));
                } else {
                    let mut lanes = [T::zero(); 16];
                    // SAFETY: a vector has 16 elements at most.
                    unsafe { store::<T, S>(lanes.as_mut_ptr(), sum) };
                    to.iter_mut().zip(&lanes).for_each(|(to, &x)| *to += x);
                }
            }
        }
    }
}

/// Adds to an image, at the place of each entry, the rows of a filter's weights times the entry's gradient.
pub(super) fn add_rows<T: Real>(runs: &Runs, weights: &[T], entries: &[Entry<T>], image: &mut [T]) {
    let reach = runs.rows.last().map_or(0, |last| last + runs.padded_run::<T>());
    assert!(entries.iter().all(|entry| entry.place + reach <= image.len()), "a place outside the image");
    assert!(weights.len() == runs.padded_filter::<T>());
    Arch::new().dispatch(AddRows { runs, weights, entries, image });
}

struct AddRows<'a, T> {
    runs: &'a Runs,
    weights: &'a [T],
    entries: &'a [Entry<T>],
    image: &'a mut [T],
}

impl<T: Real> WithSimd for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { runs, weights, entries, image } = self;
        let (run, image) = (runs.padded_run::<T>(), image.as_mut_ptr());
        for (weights, &offset) in weights.chunks_exact(run).zip(&runs.rows) {
            for entry in entries {
                let grad = T::splat(simd, entry.grad);
                for element in (0..run).step_by(width::<T, S>()) {
                    // SAFETY: `add_rows` has asserted that the last row at any place lies in `image`, with the zeros behind it, whose number makes a
                    // row's length a multiple of the vector's.
                    unsafe {
                        let pixel = image.add(entry.place + offset + element);
                        let weight = load::<T, S>(weights.as_ptr().add(element));
                        store::<T, S>(pixel, T::vector_mul_add(simd, weight, grad, load::<T, S>(pixel)));
                    }
                }
            }
        }
    }
}
