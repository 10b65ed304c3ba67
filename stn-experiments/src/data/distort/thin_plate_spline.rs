//! Elastic distortion (E): a thin-plate spline with 4x4 control points over the digit's frame.
//!
//! The spline maps target to source: control point p_k samples the (scaled) digit at p_k + d_k. It reproduces affine maps, hence
//! f(p) = p + sum_k L_k(p) d_k, with weights L that depend only on where p lies: they are solved for once, and an image then
//! costs 16 products a pixel.

use std::sync::LazyLock;

use super::warp::{columns, warp};
use crate::data::mnist::SIDE;

/// Control points along one side of the frame.
pub(super) const POINTS: usize = 4;
/// Control points altogether.
pub(super) const COUNT: usize = POINTS * POINTS;
/// The system's size: a weight for each control point, and an affine part.
const SYSTEM: usize = COUNT + 3;

const END: f64 = SIDE as f64 - 1.0;
const MIDDLE: f64 = END / 2.0;

/// L_k(p) for a row of pixels, control point by control point: adding up a row at a time makes vectors of pixels.
type Row = [[f64; SIDE]; COUNT];

/// L_k(p) for every pixel of the frame.
static WEIGHTS: LazyLock<Vec<Row>> = LazyLock::new(weights);

/// Draws a digit scaled about its centre and bent by the control points' displacements (pixels, row by row).
pub(super) fn elastic(digit: &[u8], out: &mut [u8], scale: f64, displacements: &[[f64; 2]; COUNT]) {
    let weights = &*WEIGHTS;
    warp(digit, SIDE, out, |row, xs, ys| {
        xs.iter_mut().zip(columns()).for_each(|(x, column)| *x = column);
        ys.fill(row as f64);
        for (weights, d) in weights[row].iter().zip(displacements) {
            xs.iter_mut().zip(weights).for_each(|(x, weight)| *x += weight * d[0]);
            ys.iter_mut().zip(weights).for_each(|(y, weight)| *y += weight * d[1]);
        }
        for place in xs.iter_mut().chain(ys) {
            *place = (*place - MIDDLE) / scale + MIDDLE;
        }
    });
}

/// A control point or pixel in -1..1 over the frame, where the system is well conditioned.
fn place(column: f64, row: f64) -> [f64; 2] {
    [(column - MIDDLE) / MIDDLE, (row - MIDDLE) / MIDDLE]
}

fn control(k: usize) -> [f64; 2] {
    let step = END / (POINTS as f64 - 1.0);
    place((k % POINTS) as f64 * step, (k / POINTS) as f64 * step)
}

/// The terms of the spline at `p`: U(|p - p_k|) = r^2 log r^2 for each control point, then 1, x, y.
fn terms(p: [f64; 2]) -> [f64; SYSTEM] {
    let mut terms = [0.0; SYSTEM];
    for (k, term) in terms[..COUNT].iter_mut().enumerate() {
        let q = control(k);
        let r2 = (p[0] - q[0]) * (p[0] - q[0]) + (p[1] - q[1]) * (p[1] - q[1]);
        *term = if r2 > 0.0 { r2 * libm::log(r2) } else { 0.0 };
    }
    terms[COUNT..].copy_from_slice(&[1.0, p[0], p[1]]);
    terms
}

/// Solves the interpolation system for every control point's unit displacement and evaluates it at every pixel.
fn weights() -> Vec<Row> {
    // Rows 0..16: the spline at control point k takes that point's value; rows 16..19: the side conditions.
    let mut left = [[0.0; SYSTEM]; SYSTEM];
    let mut right = [[0.0; COUNT]; SYSTEM];
    for k in 0..COUNT {
        left[k] = terms(control(k));
        right[k][k] = 1.0;
        let [one, x, y] = [left[k][COUNT], left[k][COUNT + 1], left[k][COUNT + 2]];
        (left[COUNT][k], left[COUNT + 1][k], left[COUNT + 2][k]) = (one, x, y);
    }
    solve(&mut left, &mut right);
    let mut weights = vec![[[0.0; SIDE]; COUNT]; SIDE];
    for (row, weights) in weights.iter_mut().enumerate() {
        for column in 0..SIDE {
            for (term, coefficients) in terms(place(column as f64, row as f64)).iter().zip(&right) {
                for (weights, coefficient) in weights.iter_mut().zip(coefficients) {
                    weights[column] += term * coefficient;
                }
            }
        }
    }
    weights
}

/// Gauss-Jordan elimination with partial pivoting; the solution replaces `right`.
fn solve(left: &mut [[f64; SYSTEM]; SYSTEM], right: &mut [[f64; COUNT]; SYSTEM]) {
    for pivot in 0..SYSTEM {
        let best =
            (pivot..SYSTEM).max_by(|&a, &b| left[a][pivot].abs().total_cmp(&left[b][pivot].abs())).unwrap_or(pivot);
        left.swap(pivot, best);
        right.swap(pivot, best);
        let (l, r) = (left[pivot], right[pivot]);
        for row in (0..SYSTEM).filter(|&row| row != pivot) {
            let factor = left[row][pivot] / l[pivot];
            for (value, l) in left[row].iter_mut().zip(l) {
                *value -= factor * l;
            }
            for (value, r) in right[row].iter_mut().zip(r) {
                *value -= factor * r;
            }
        }
    }
    for (row, values) in right.iter_mut().enumerate() {
        for value in values {
            *value /= left[row][row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(displacements: &[[f64; 2]; COUNT], pixel: usize) -> [f64; 2] {
        [0, 1].map(|axis| {
            let terms = WEIGHTS[pixel / SIDE].iter().zip(displacements);
            terms.map(|(weights, d)| weights[pixel % SIDE] * d[axis]).sum::<f64>()
        })
    }

    #[test]
    fn control_points_take_their_displacement() {
        let mut displacements = [[0.0; 2]; COUNT];
        for (k, d) in displacements.iter_mut().enumerate() {
            *d = [k as f64 - 7.0, (k * k % 5) as f64];
        }
        for (k, d) in displacements.iter().enumerate() {
            let pixel = 9 * (k / POINTS) * SIDE + 9 * (k % POINTS);
            let got = at(&displacements, pixel);
            assert!((got[0] - d[0]).abs() < 1e-9 && (got[1] - d[1]).abs() < 1e-9);
        }
    }

    #[test]
    fn affine_displacements_stay_affine() {
        let map = |x: f64, y: f64| [1.0 + 0.3 * x - 0.2 * y, -2.0 + 0.1 * x + 0.4 * y];
        let mut displacements = [[0.0; 2]; COUNT];
        for (k, d) in displacements.iter_mut().enumerate() {
            *d = map(9.0 * (k % POINTS) as f64, 9.0 * (k / POINTS) as f64);
        }
        for pixel in 0..SIDE * SIDE {
            let expected = map((pixel % SIDE) as f64, (pixel / SIDE) as f64);
            let got = at(&displacements, pixel);
            assert!((got[0] - expected[0]).abs() < 1e-9 && (got[1] - expected[1]).abs() < 1e-9);
        }
    }

    #[test]
    fn no_displacement_copies() {
        let digit: Vec<u8> = (0..SIDE * SIDE).map(|i| (i * 31 % 256) as u8).collect();
        let mut out = vec![0; SIDE * SIDE];
        elastic(&digit, &mut out, 1.0, &[[0.0; 2]; COUNT]);
        assert_eq!(out, digit);
    }
}
