//! A sampling grid as lines over the image it samples: its border (the attention box) and a mesh.

use crate::canvas::Point;
use candle_core::{DType, Device, Result, Tensor, bail};

/// A sampling grid in pixels of the input: (0, 0) is the centre of the top-left pixel, y down.
pub(crate) struct Mesh {
    pub(crate) height: usize,
    pub(crate) width: usize,
    points: Vec<Point>, // row by row
}

/// The pixel, counted from the centre of the first one, that the coordinate `g` of -1..1 means on a side of `n`.
pub(crate) fn to_pixel(g: f64, n: usize, align_corners: bool) -> f64 {
    let n = n as f64;
    if align_corners { (g + 1.) / 2. * (n - 1.) } else { ((g + 1.) * n - 1.) / 2. }
}

impl Mesh {
    /// Reads a grid (H', W', 2) for an input of `height` x `width` pixels; `what` names it in errors.
    pub(crate) fn new(grid: &Tensor, (height, width): (usize, usize), align_corners: bool, what: &str) -> Result<Self> {
        let (rows, columns) = match *grid.dims() {
            [h, w, 2] if h > 0 && w > 0 => (h, w),
            _ => bail!("{what} must be (H', W', 2), got {:?}", grid.dims()),
        };
        let values = grid.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let pixel = |xy: &[f64]| (to_pixel(xy[0], width, align_corners), to_pixel(xy[1], height, align_corners));
        Ok(Self { height: rows, width: columns, points: values.chunks_exact(2).map(pixel).collect() })
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> Point {
        self.points[row * self.width + column]
    }

    pub(crate) fn row(&self, row: usize) -> Vec<Point> {
        (0..self.width).map(|column| self.at(row, column)).collect()
    }

    pub(crate) fn column(&self, column: usize) -> Vec<Point> {
        (0..self.height).map(|row| self.at(row, column)).collect()
    }

    /// The right, bottom and left side, from the output's top-right corner round to its top-left one. The top
    /// side, [`Mesh::row`] 0, is drawn on its own.
    pub(crate) fn sides(&self) -> Vec<Point> {
        let right = self.column(self.width - 1);
        let bottom = self.row(self.height - 1).into_iter().rev().skip(1);
        let left = self.column(0).into_iter().rev().skip(1);
        right.into_iter().chain(bottom).chain(left).collect()
    }

    /// Rows and columns inside the border, about six each way.
    pub(crate) fn inner_lines(&self) -> Vec<Vec<Point>> {
        let rows = every_few(self.height).map(|row| self.row(row));
        let columns = every_few(self.width).map(|column| self.column(column));
        rows.chain(columns).collect()
    }

    pub(crate) fn not_finite(&self) -> usize {
        self.points.iter().filter(|p| !is_finite(**p)).count()
    }

    /// How far the border of the grid reaches beyond an image of `height` x `width` pixels, in pixels; infinite
    /// points don't count.
    pub(crate) fn overshoot(&self, (height, width): (usize, usize)) -> f64 {
        let beyond = |p: f64, n: usize| (-0.5 - p).max(p - (n as f64 - 0.5));
        let finite = self.points.iter().filter(|p| is_finite(**p));
        finite.map(|&(x, y)| beyond(x, width).max(beyond(y, height))).fold(0., f64::max)
    }
}

pub(crate) fn is_finite((x, y): Point) -> bool {
    x.is_finite() && y.is_finite()
}

fn every_few(n: usize) -> impl Iterator<Item = usize> {
    let lines = (n - 1).min(6); // n grid lines have n - 1 gaps
    (1..lines).map(move |i| (i * (n - 1) + lines / 2) / lines)
}

/// The pieces of a line inside the rectangle from `low` to `high`; it is also cut at points that aren't finite.
pub(crate) fn clip(line: &[Point], low: Point, high: Point) -> Vec<Vec<Point>> {
    let mut pieces: Vec<Vec<Point>> = Vec::new();
    for pair in line.windows(2) {
        let Some((from, to)) = clip_segment(pair[0], pair[1], low, high) else { continue };
        match pieces.last_mut() {
            Some(piece) if piece.last() == Some(&from) => piece.push(to),
            _ => pieces.push(vec![from, to]),
        }
    }
    pieces
}

/// Liang and Barsky's clipping: the part t0..t1 of the segment that is inside all four sides.
fn clip_segment(a: Point, b: Point, low: Point, high: Point) -> Option<(Point, Point)> {
    if !is_finite(a) || !is_finite(b) {
        return None;
    }
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut t0, mut t1) = (0f64, 1f64);
    for (speed, room) in [(-dx, a.0 - low.0), (dx, high.0 - a.0), (-dy, a.1 - low.1), (dy, high.1 - a.1)] {
        if speed == 0. {
            if room < 0. {
                return None;
            }
        } else if speed < 0. {
            t0 = t0.max(room / speed);
        } else {
            t1 = t1.min(room / speed);
        }
    }
    // Ends that are inside stay what they are, to the bit: `clip` joins pieces by them.
    let at = |t: f64| ((a.0 + t * dx).clamp(low.0, high.0), (a.1 + t * dy).clamp(low.1, high.1));
    let from = if t0 == 0. { a } else { at(t0) };
    let to = if t1 == 1. { b } else { at(t1) };
    (t0 <= t1).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: usize) -> Result<Tensor> {
        let at = |i: usize| -1. + 2. * i as f64 / (n - 1) as f64;
        let xy: Vec<f64> = (0..n * n).flat_map(|i| [at(i % n), at(i / n)]).collect();
        Tensor::from_vec(xy, (n, n, 2), &Device::Cpu)
    }

    #[test]
    fn identity_with_aligned_corners_runs_through_the_centres_of_the_border_pixels() -> Result<()> {
        let mesh = Mesh::new(&identity(5)?, (9, 28), true, "grid")?;
        assert_eq!(mesh.at(0, 0), (0., 0.));
        assert_eq!(mesh.at(4, 4), (27., 8.));
        assert!(mesh.row(0).iter().all(|p| p.1 == 0.));
        let sides = mesh.sides();
        assert_eq!((sides[0], sides[4], sides[8], sides[12]), ((27., 0.), (27., 8.), (0., 8.), (0., 0.)));
        assert_eq!(sides.len(), 13);
        assert_eq!(mesh.overshoot((9, 28)), 0.);
        Ok(())
    }

    #[test]
    fn without_aligned_corners_one_is_the_outer_edge() -> Result<()> {
        let mesh = Mesh::new(&identity(5)?, (9, 28), false, "grid")?;
        assert_eq!((mesh.at(0, 0), mesh.at(4, 4)), ((-0.5, -0.5), (27.5, 8.5)));
        Ok(())
    }

    #[test]
    fn inner_lines_are_inside_and_few() -> Result<()> {
        assert_eq!(Mesh::new(&identity(28)?, (28, 28), true, "grid")?.inner_lines().len(), 10);
        assert_eq!(Mesh::new(&identity(3)?, (28, 28), true, "grid")?.inner_lines().len(), 2);
        assert_eq!(Mesh::new(&identity(2)?, (28, 28), true, "grid")?.inner_lines().len(), 0);
        assert_eq!(every_few(28).collect::<Vec<_>>(), [5, 9, 14, 18, 23]);
        Ok(())
    }

    #[test]
    fn clipping_keeps_what_is_inside_and_cuts_at_points_that_are_not_finite() {
        let (low, high) = ((0., 0.), (10., 10.));
        assert_eq!(clip(&[(-5., 5.), (5., 5.), (5., 1e38)], low, high), [vec![(0., 5.), (5., 5.), (5., 10.)]]);
        assert_eq!(clip(&[(1., 1.), (2., 2.), (f64::NAN, 3.), (4., 4.), (5., 5.)], low, high).len(), 2);
        assert!(clip(&[(-1., -1.), (-1., 20.), (f64::INFINITY, 20.)], low, high).is_empty());
    }
}
