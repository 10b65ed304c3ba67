//! An affine matrix in words: how large, how far turned, where.

use candle_core::{DType, Device, Result, Tensor, bail};

/// What an affine transform does, in numbers. Like the transform, it speaks of the window in the input, not of the picture in the
/// output: a window of scale 0.5 enlarges what it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// The determinant of the left 2 x 2: the window's area over the image's; negative where the picture is mirrored.
    pub determinant: f64,
    /// The singular values of the left 2 x 2, the larger first: the window's scale along its longest and its shortest
    /// direction. Equal for a similarity; their product is the size of the determinant.
    pub scale: [f64; 2],
    /// The window's rotation in degrees, -180 to 180: that of the rotation which comes closest to the left 2 x 2. With a positive
    /// angle the window is turned clockwise on the screen, so the picture in the output counter-clockwise. Says little of a mirrored
    /// picture, and is taken in normalised coordinates: on an image that isn't square it isn't the angle on the screen.
    pub rotation: f64,
    /// The window's centre (x, y) in the input.
    pub translation: [f64; 2],
    /// The distance from the identity: the root of the sum of the squared differences of the six entries.
    pub from_identity: f64,
}

impl Pose {
    /// Reads a matrix `[[t11, t12, t13], [t21, t22, t23]]`.
    ///
    /// # Example
    ///
    /// ```
    /// use stn_core::telemetry::Pose;
    ///
    /// // A quarter turn of a window half as wide and as high as the image, right of the centre.
    /// let pose = Pose::of_matrix([[0.0, -0.5, 0.25], [0.5, 0.0, 0.0]]);
    /// assert_eq!((pose.determinant, pose.scale, pose.translation), (0.25, [0.5, 0.5], [0.25, 0.0]));
    /// assert!((pose.rotation - 90.0).abs() < 1e-12);
    /// ```
    pub fn of_matrix(matrix: [[f64; 3]; 2]) -> Self {
        let [[a, b, tx], [c, d, ty]] = matrix;
        // The 2 x 2 is a similarity plus a mirrored one; they turn apart, so the singular values are sum and difference of
        // their sizes.
        let (similarity, mirrored) = ((a + d).hypot(c - b) / 2.0, (a - d).hypot(b + c) / 2.0);
        let from_identity = [a - 1.0, b, tx, c, d - 1.0, ty].iter().map(|e| e * e).sum::<f64>().sqrt();
        Self {
            determinant: a * d - b * c,
            scale: [similarity + mirrored, (similarity - mirrored).abs()],
            rotation: (c - b).atan2(a + d).to_degrees(),
            translation: [tx, ty],
            from_identity,
        }
    }

    /// Reads a batch of matrices, as [`Affine::matrix`](crate::transform::Affine::matrix) gives them.
    ///
    /// # Shapes
    ///
    /// (N, 2, 3) -> N poses.
    ///
    /// # Errors
    ///
    /// When the matrices aren't (N, 2, 3).
    pub fn of_matrices(matrices: &Tensor) -> Result<Vec<Self>> {
        let &[_, 2, 3] = matrices.dims() else { bail!("pose: matrices must be (N, 2, 3), got {:?}", matrices.dims()) };
        let entries =
            matrices.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let matrix = |t: &[f64]| Self::of_matrix([[t[0], t[1], t[2]], [t[3], t[4], t[5]]]);
        Ok(entries.chunks_exact(6).map(matrix).collect())
    }

    /// Tells whether all entries of the matrix were finite, and small enough for their squares to be.
    pub fn is_finite(&self) -> bool {
        self.from_identity.is_finite()
    }
}

/// The affine matrix that comes closest to a grid, by least squares.
///
/// The targets lie symmetrically about 0 along both axes, so the normal equations fall apart into one for each entry.
pub(super) fn fit(window: &[f64], (height, width): (usize, usize), align_corners: bool) -> [[f64; 3]; 2] {
    let coordinate = |i: usize, n: usize| {
        let last = n as f64 - 1.0;
        (2.0 * i as f64 - last) / if align_corners { last } else { n as f64 }
    };
    let mut matrix = [[0.0; 3]; 2];
    let (mut xx, mut yy) = (0.0, 0.0);
    for (i, point) in window.chunks_exact(2).enumerate() {
        let (x, y) = (coordinate(i % width, width), coordinate(i / width, height));
        for (row, &source) in matrix.iter_mut().zip(point) {
            row[0] += source * x;
            row[1] += source * y;
            row[2] += source;
        }
        xx += x * x;
        yy += y * y;
    }
    let count = (height * width) as f64;
    matrix.map(|[x, y, one]| [x / xx, y / yy, one / count])
}
