//! Products of matrices.

use super::real::Real;
use gemm::Parallelism;

/// Products of fewer multiplications than this are one thread's: waking another takes longer.
const SHARED: usize = 2_000_000;

/// A matrix of a slice: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix.
    pub(super) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row: cols, col: 1 }
    }

    /// The same elements, rows and columns exchanged.
    pub(super) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    /// Some of its columns.
    pub(super) fn columns(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.end <= self.cols, "product: columns {range:?} of {}", self.cols);
        Self { data: &self.data[(range.start * self.col).min(self.data.len())..], cols: range.len(), ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row + (self.cols - 1) * self.col < self.data.len()
    }
}

/// Which threads compute a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling one alone, for callers that have a product for each thread.
    One,
    /// All of them: they share the rows and columns and never a sum.
    All,
}

/// `dst += lhs rhs`; `dst` is row-major.
pub(super) fn add_product<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>, threads: Threads) {
    assert!(dst.len() == lhs.rows * rhs.cols, "product: sizes disagree");
    gemm((dst, rhs.cols), true, lhs, rhs, threads);
}

/// `dst = lhs rhs`; `dst` is row-major, on the calling thread alone.
pub(super) fn product<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    assert!(dst.len() == lhs.rows * rhs.cols, "product: sizes disagree");
    gemm((dst, rhs.cols), false, lhs, rhs, Threads::One);
}

/// `dst = lhs rhs`, where a row of `dst` begins `row` elements behind the one before it; what lies between them stays.
pub(super) fn product_into<T: Real>(dst: (&mut [T], usize), lhs: Matrix<T>, rhs: Matrix<T>, threads: Threads) {
    gemm(dst, false, lhs, rhs, threads);
}

fn gemm<T: Real>((dst, row): (&mut [T], usize), add: bool, lhs: Matrix<T>, rhs: Matrix<T>, threads: Threads) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    let sizes = k == rhs.rows && lhs.fits() && rhs.fits() && row >= n;
    assert!(sizes && (m == 0 || (m - 1) * row + n <= dst.len()), "product: sizes disagree");
    if m == 0 || n == 0 || k == 0 {
        if !add && n > 0 {
            dst.chunks_mut(row).take(m).for_each(|row| row[..n].fill(T::zero()));
        }
        return;
    }
    let shared = threads == Threads::All && m * n * k >= SHARED;
    let parallelism = if shared { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the assertion above keeps every index that gemm forms from these sizes and strides within the three slices, the rows of dst apart; dst is
    // borrowed mutably and so overlaps neither operand; T is f32 or f64, both of which gemm implements.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            row as isize,
            add,
            lhs.data.as_ptr(),
            lhs.col as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.col as isize,
            rhs.row as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_operands_and_accumulation() {
        let a = [1.0f64, 2., 3., 4., 5., 6.]; // 2 x 3
        let b = [1.0f64, -1., 2., 0., 1., 3.]; // 2 x 3
        let mut dst = [100.0f64; 4];
        add_product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t(), Threads::One);
        assert_eq!(dst, [105., 111., 111., 123.]);
        product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t());
        assert_eq!(dst, [5., 11., 11., 23.]);
    }

    #[test]
    fn some_columns_go_between_others() {
        let (a, b) = ([1.0f64, 2.], [1.0f64, 2., 3., 10., 20., 30.]); // 1 x 2, 2 x 3
        let mut dst = [-1.0f64; 7];
        product_into((&mut dst[1..], 3), Matrix::new(&a, 2, 1), Matrix::new(&b[3..], 1, 3).columns(1..3), Threads::All);
        assert_eq!(dst, [-1., 20., 30., -1., 40., 60., -1.]);
        product_into((&mut dst, 3), Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2), Threads::All);
        assert_eq!(dst, [0., 0., 30., 0., 0., 60., -1.]);
    }

    #[test]
    #[should_panic(expected = "sizes disagree")]
    fn a_short_slice_is_refused() {
        product(&mut [0.0f32; 4], Matrix::new(&[0.0; 5], 2, 3), Matrix::new(&[0.0; 6], 3, 2));
    }
}
