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

    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row + (self.cols - 1) * self.col < self.data.len()
    }
}

/// `dst += lhs rhs`; `dst` is row-major. On all threads, which share the rows and columns and never a sum.
pub(super) fn add_product<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    let small = lhs.rows * rhs.cols * lhs.cols < SHARED;
    gemm(dst, true, lhs, rhs, if small { Parallelism::None } else { Parallelism::Rayon(0) });
}

/// The same on the calling thread alone, for callers that have a product for each thread.
pub(super) fn add_product_alone<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    gemm(dst, true, lhs, rhs, Parallelism::None);
}

/// `dst = lhs rhs`; `dst` is row-major. On the calling thread alone.
pub(super) fn product<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    gemm(dst, false, lhs, rhs, Parallelism::None);
}

fn gemm<T: Real>(dst: &mut [T], add: bool, lhs: Matrix<T>, rhs: Matrix<T>, parallelism: Parallelism) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert!(k == rhs.rows && dst.len() == m * n && lhs.fits() && rhs.fits(), "product: sizes disagree");
    if m == 0 || n == 0 || k == 0 {
        if !add {
            dst.fill(T::zero());
        }
        return;
    }
    // SAFETY: the assertion above keeps every index that gemm forms from these sizes and strides within the three slices; dst is
    // borrowed mutably and so overlaps neither operand; T is f32 or f64, both of which gemm implements.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
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
        add_product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t());
        assert_eq!(dst, [105., 111., 111., 123.]);
        product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t());
        assert_eq!(dst, [5., 11., 11., 23.]);
    }

    #[test]
    #[should_panic(expected = "sizes disagree")]
    fn a_short_slice_is_refused() {
        product(&mut [0.0f32; 4], Matrix::new(&[0.0; 5], 2, 3), Matrix::new(&[0.0; 6], 3, 2));
    }
}
