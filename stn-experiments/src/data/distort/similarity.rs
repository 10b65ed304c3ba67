//! Rotation, scale and translation (R and RTS).

use super::warp::{columns, warp};
use crate::data::mnist::SIDE;

/// Draws a digit turned by `rotation` degrees (positive: counter-clockwise as seen on the screen), scaled and moved by
/// `translation` pixels (right, down) from the canvas's centre.
pub(super) fn similarity(
    digit: &[u8],
    canvas: usize,
    out: &mut [u8],
    rotation: f64,
    scale: f64,
    translation: [f64; 2],
) {
    let angle = rotation.to_radians();
    // Target to source undoes the turn. With y pointing down, a counter-clockwise turn by a is
    // [[cos a, sin a], [-sin a, cos a]]; its inverse, divided by the scale, stands here.
    let (cos, sin) = (libm::cos(angle) / scale, libm::sin(angle) / scale);
    let centre = (canvas as f64 - 1.0) / 2.0;
    let middle = (SIDE as f64 - 1.0) / 2.0;
    let x = |column: f64| column - centre - translation[0];
    let cos_x: Vec<f64> = columns().take(canvas).map(|column| cos * x(column)).collect();
    let sin_x: Vec<f64> = columns().take(canvas).map(|column| sin * x(column)).collect();
    warp(digit, canvas, out, |row, xs, ys| {
        let y = row as f64 - centre - translation[1];
        xs.iter_mut().zip(&cos_x).for_each(|(place, cos_x)| *place = cos_x - sin * y + middle);
        ys.iter_mut().zip(&sin_x).for_each(|(place, sin_x)| *place = sin_x + cos * y + middle);
    });
}
