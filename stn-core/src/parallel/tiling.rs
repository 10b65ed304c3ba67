/// Gives the [`Translation`](crate::transform::Translation)s that lay windows side by side over the image, row by row:
/// `[tx ty]` of each, as the start of a localisation net.
///
/// With a scale of 1 / n, n x n windows cover the image without gap or overlap. The paper's two birds' windows are
/// `tiling(1, 2)` at a scale of one half: side by side, across the middle.
///
/// # Example
///
/// ```
/// use stn_core::parallel::tiling;
/// assert_eq!(tiling(1, 2), [-0.5, 0.0, 0.5, 0.0]);
/// assert_eq!(tiling(2, 2), [-0.5, -0.5, 0.5, -0.5, -0.5, 0.5, 0.5, 0.5]);
/// ```
pub fn tiling(rows: usize, columns: usize) -> Vec<f32> {
    centres(rows, columns).flat_map(|centre| centre.map(|c| c as f32)).collect()
}

/// Gives the [`Affine`](crate::transform::Affine) transforms that tile the image with rows x columns windows, row by row,
/// exactly, also where rows and columns differ: `[1/columns 0 tx 0 1/rows ty]` of each.
///
/// # Example
///
/// ```
/// use stn_core::parallel::affine_tiling;
/// assert_eq!(affine_tiling(1, 2), [0.5, 0.0, -0.5, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5, 0.0, 1.0, 0.0]);
/// ```
pub fn affine_tiling(rows: usize, columns: usize) -> Vec<f32> {
    let (width, height) = (1.0 / columns as f64, 1.0 / rows as f64);
    let matrix = |[x, y]: [f64; 2]| [width, 0.0, x, 0.0, height, y].map(|t| t as f32);
    centres(rows, columns).flat_map(matrix).collect()
}

/// The centres (x, y) of rows x columns tiles of the square from -1 to 1.
fn centres(rows: usize, columns: usize) -> impl Iterator<Item = [f64; 2]> {
    let centre = |i: usize, n: usize| (2 * i + 1) as f64 / n as f64 - 1.0;
    (0..rows).flat_map(move |row| (0..columns).map(move |column| [centre(column, columns), centre(row, rows)]))
}
