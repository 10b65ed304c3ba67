//! An image with its channels last, (padded H, padded W, C / groups), from one with them first, and back: blocks of as many channels as a cache line holds, so
//! that both sides are read and written in whole lines.

use super::geometry::Geometry;
use crate::ops::interleave;
use crate::ops::real::{Real, vectorised};

/// Puts an image, (C / groups, H, W), inside `out`, channels last; `lanes` is room for a row.
pub(super) fn put<T: Real>(geometry: &Geometry, planes: &[T], out: &mut [T], lanes: &mut Vec<T>) {
    let (channels, pixels) = (geometry.group_channels(), geometry.pixels());
    let ((rows, top), (columns, left)) = geometry.inside();
    if channels == 1 {
        for row in rows {
            let start = (top + row) * geometry.padded().1 + left;
            out[start..start + columns.len()].copy_from_slice(&planes[row * geometry.size.1..][..columns.len()]);
        }
        return;
    }
    lanes.resize(columns.len() * T::LANES, T::zero());
    vectorised!({
        for (block, planes) in planes.chunks(T::LANES * pixels).enumerate() {
            let (first, count) = (block * T::LANES, planes.len() / pixels);
            for row in rows.clone() {
                let plane = |lane: usize| &planes[lane * pixels + row * geometry.size.1..][..columns.len()];
                interleave::load::<T, _>(count, plane, lanes);
                let start = ((top + row) * geometry.padded().1 + left) * channels + first;
                for (to, from) in out[start..].chunks_mut(channels).zip(lanes.chunks_exact(T::LANES)) {
                    copy::<T>(count, from, to);
                }
            }
        }
    });
}

/// Takes an image, (C / groups, H, W), out of one with its channels last; `lanes` is room for a row.
pub(super) fn take<T: Real>(geometry: &Geometry, image: &[T], out: &mut [T], lanes: &mut Vec<T>) {
    let (channels, pixels) = (geometry.group_channels(), geometry.pixels());
    let ((rows, top), (columns, left)) = geometry.inside();
    lanes.resize(columns.len() * T::LANES, T::zero());
    let mut planes: Vec<&mut [T]> = out.chunks_exact_mut(pixels).collect();
    vectorised!({
        for (block, planes) in planes.chunks_mut(T::LANES).enumerate() {
            let (first, count) = (block * T::LANES, planes.len());
            for row in rows.clone() {
                let start = ((top + row) * geometry.padded().1 + left) * channels + first;
                for (to, from) in lanes.chunks_exact_mut(T::LANES).zip(image[start..].chunks(channels)) {
                    copy::<T>(count, from, to);
                }
                interleave::store::<T, _>(lanes, planes, row * geometry.size.1);
            }
        }
    });
}

/// Copies some channels of a pixel.
#[inline(always)]
fn copy<T: Real>(count: usize, from: &[T], to: &mut [T]) {
    if count == T::LANES {
        to[..T::LANES].copy_from_slice(&from[..T::LANES]); // a vector, not a call
    } else {
        to[..count].copy_from_slice(&from[..count]);
    }
}
