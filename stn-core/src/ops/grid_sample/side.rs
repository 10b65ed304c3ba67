//! What the modes of interpolation have in common: the taps of a run of coordinates along one side of the image.

use super::element::Element;
use crate::ops::axis::Axis;

pub(in crate::ops) use crate::ops::axis::RUN;

/// What `RUN` coordinates read along a side: `K` pixels each.
///
/// A tap outside the image has weight and slope zero, and the offset of the tap at the edge: to read it is safe and changes nothing.
pub(in crate::ops) struct Side<T, const K: usize> {
    /// From the image's first element, in elements.
    pub(super) offset: [[usize; RUN]; K],
    pub(super) weight: [[T; RUN]; K],
    /// The weights' derivatives by the normalised coordinate.
    pub(super) slope: [[T; RUN]; K],
    /// Zero where no pixel is in reach, and nothing must be read; else one.
    pub(super) live: [T; RUN],
}

impl<T: Element, const K: usize> Side<T, K> {
    pub(super) fn new() -> Self {
        let zeros = [[T::zero(); RUN]; K];
        Self { offset: [[0; RUN]; K], weight: zeros, slope: zeros, live: [T::zero(); RUN] }
    }
}

/// The weight of what lies outside the image along a side, and its derivative by the normalised coordinate.
pub(in crate::ops) struct Outside<T> {
    pub(super) weight: T,
    pub(super) slope: T,
}

/// A way of interpolating, the same along all sides.
pub(in crate::ops) trait Mode<const K: usize>: Send + Sync {
    /// The taps of the normalised coordinates `g`. Every offset is that of a pixel of the side, whatever the coordinate.
    fn taps<T: Element>(axis: &Axis, g: &[f64; RUN], side: &mut Side<T, K>);

    /// What of the coordinate `g` lies outside the image under `Padding::Zeros`; `None` where no pixel is in reach.
    fn outside<T: Element>(axis: &Axis, g: f64) -> Option<Outside<T>>;
}
