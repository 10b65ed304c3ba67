//! Matrix products of slices by the `gemm` crate.

use super::real::Real;

/// A matrix of a slice: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row: cols, col: 1 }
    }

    /// The same elements, rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row + (self.cols - 1) * self.col < self.data.len()
    }
}

/// `dst = lhs rhs`, or `dst += lhs rhs` where `accumulate`; `dst` is row-major. One thread: callers parallelise over the batch.
pub(crate) fn product<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>, accumulate: bool) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert!(k == rhs.rows && dst.len() == m * n && lhs.fits() && rhs.fits(), "product: sizes disagree");
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            dst.fill(zero);
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
            accumulate,
            lhs.data.as_ptr(),
            lhs.col as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.col as isize,
            rhs.row as isize,
            if accumulate { one } else { zero },
            one,
            false,
            false,
            false,
            gemm::Parallelism::None,
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
        product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t(), false);
        assert_eq!(dst, [5., 11., 11., 23.]);
        product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t(), true);
        assert_eq!(dst, [10., 22., 22., 46.]);
    }

    #[test]
    #[should_panic(expected = "sizes disagree")]
    fn a_short_slice_is_refused() {
        product(&mut [0.0f32; 4], Matrix::new(&[0.0; 5], 2, 3), Matrix::new(&[0.0; 6], 3, 2), false);
    }
}
