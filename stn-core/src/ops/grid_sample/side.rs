//! What the modes of interpolation have in common: the taps of one coordinate along one side of the image.

use crate::ops::axis::Axis;
use crate::ops::real::Real;

/// What one coordinate of a sampling point reads: `K` pixels along a side.
///
/// A tap outside the image has weight and slope zero, and the offset of the tap at the edge: to read it is safe and changes nothing.
#[derive(Clone, Copy)]
pub(super) struct Reads<T, const K: usize> {
    pub(super) offset: [usize; K],
    pub(super) weight: [T; K],
}

/// All there is to know of one coordinate of a sampling point.
#[derive(Clone, Copy)]
pub(super) struct Side<T, const K: usize> {
    pub(super) reads: Reads<T, K>,
    /// The weights' derivatives by the pixel coordinate.
    pub(super) slope: [T; K],
    /// The derivative of the pixel coordinate by the normalised one.
    pub(super) scale: T,
    pub(super) outside: Outside<T>,
}

/// The weight of what lies outside the image along a side, and its derivative by the normalised coordinate.
#[derive(Clone, Copy)]
pub(super) struct Outside<T> {
    pub(super) weight: T,
    pub(super) slope: T,
}

/// A way of interpolating, the same along both sides.
pub(super) trait Mode<const K: usize> {
    /// The taps of the normalised coordinate `g`; `None` where no pixel is in reach.
    fn side<T: Real>(axis: &Axis, g: f64) -> Option<Side<T, K>>;
}
