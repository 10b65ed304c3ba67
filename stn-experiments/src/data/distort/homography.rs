//! Plane projective distortion (P): the four corners of a frame round the digit go where they are told.

use super::warp::{columns, warp};
use crate::data::mnist::SIDE;

/// The side of the frame in pixels; the digit's 28x28 pixels are its middle.
const FRAME: usize = 42;
const MIDDLE: f64 = (SIDE as f64 - 1.0) / 2.0;
/// The first and the last pixel of the frame, in the digit's pixels.
const START: f64 = MIDDLE - SPAN / 2.0;
const SPAN: f64 = FRAME as f64 - 1.0;
const END: f64 = START + SPAN;

/// The frame's corners: top left, top right, bottom right, bottom left.
const CORNERS: [[f64; 2]; 4] = [[START, START], [END, START], [END, END], [START, END]];

/// Says whether the moved corners are still a convex, upright-handed quadrilateral, so that the homography is invertible
/// and no point of the frame goes through infinity.
///
/// The bound asks the triangle at each corner for half a square pixel: less is a sliver in which nothing can be seen.
pub(super) fn is_convex(moved: &[[f64; 2]; 4]) -> bool {
    let corner = |i: usize| {
        let at = |i: usize| {
            let (c, d) = (CORNERS[i % 4], moved[i % 4]);
            [c[0] + d[0], c[1] + d[1]]
        };
        let (p, q, r) = (at(i), at(i + 1), at(i + 2));
        (q[0] - p[0]) * (r[1] - q[1]) - (q[1] - p[1]) * (r[0] - q[0])
    };
    (0..4).all(|i| corner(i) > 1.0)
}

/// Draws a digit scaled about its centre, then its frame's corners moved by `moved` pixels.
pub(super) fn projective(digit: &[u8], out: &mut [u8], scale: f64, moved: &[[f64; 2]; 4]) {
    let m = inverse(&square_to_quad(moved));
    warp(digit, SIDE, out, |row, xs, ys| {
        let y = row as f64;
        for ((place_x, place_y), x) in xs.iter_mut().zip(ys).zip(columns()) {
            let w = m[2][0] * x + m[2][1] * y + m[2][2];
            let w = if w <= 0.0 { f64::NAN } else { w }; // behind the horizon: outside
            let u = (m[0][0] * x + m[0][1] * y + m[0][2]) / w;
            let v = (m[1][0] * x + m[1][1] * y + m[1][2]) / w;
            *place_x = (START + u * SPAN - MIDDLE) / scale + MIDDLE;
            *place_y = (START + v * SPAN - MIDDLE) / scale + MIDDLE;
        }
    });
}

/// Solves for the homography that takes the unit square to the moved corners (Heckbert 1989, section 2.2.3).
fn square_to_quad(moved: &[[f64; 2]; 4]) -> [[f64; 3]; 3] {
    let [p0, p1, p2, p3] = [0, 1, 2, 3].map(|i| {
        let (c, d) = (CORNERS[i], moved[i]);
        [c[0] + d[0], c[1] + d[1]]
    });
    let d1 = [p1[0] - p2[0], p1[1] - p2[1]];
    let d2 = [p3[0] - p2[0], p3[1] - p2[1]];
    let s = [p0[0] - p1[0] + p2[0] - p3[0], p0[1] - p1[1] + p2[1] - p3[1]];
    let det = d1[0] * d2[1] - d2[0] * d1[1];
    let g = (s[0] * d2[1] - d2[0] * s[1]) / det;
    let h = (d1[0] * s[1] - s[0] * d1[1]) / det;
    let row = |i: usize| [p1[i] - p0[i] + g * p1[i], p3[i] - p0[i] + h * p3[i], p0[i]];
    [row(0), row(1), [g, h, 1.0]]
}

/// Inverts a 3x3 matrix, the sign of the third row's value included.
fn inverse(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cofactor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let det = m[0][0] * cofactor(0, 0) + m[0][1] * cofactor(0, 1) + m[0][2] * cofactor(0, 2);
    [0, 1, 2].map(|r| [0, 1, 2].map(|c| cofactor(c, r) / det))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_go_where_they_are_told() {
        let moved = [[3.0, -2.0], [-4.0, 5.0], [1.0, 1.5], [-2.0, -6.0]];
        assert!(is_convex(&moved));
        let forward = square_to_quad(&moved);
        let back = inverse(&forward);
        for (i, (corner, d)) in CORNERS.iter().zip(moved).enumerate() {
            let p = [corner[0] + d[0], corner[1] + d[1], 1.0];
            let [u, v, w] = back.map(|r| r[0] * p[0] + r[1] * p[1] + r[2] * p[2]);
            assert!(w > 0.0);
            let expected = corner.map(|place| (place - START) / SPAN);
            assert!((u / w - expected[0]).abs() < 1e-12, "corner {i}");
            assert!((v / w - expected[1]).abs() < 1e-12, "corner {i}");
        }
    }

    #[test]
    fn unmoved_corners_copy() {
        let digit: Vec<u8> = (0..SIDE * SIDE).map(|i| (i * 31 % 256) as u8).collect();
        let mut out = vec![0; SIDE * SIDE];
        projective(&digit, &mut out, 1.0, &[[0.0; 2]; 4]);
        assert_eq!(out, digit);
    }

    #[test]
    fn folded_quads_are_refused() {
        assert!(is_convex(&[[0.0; 2]; 4]));
        let top_left_beyond_the_diagonal = [[30.0, 30.0], [0.0; 2], [0.0; 2], [0.0; 2]];
        assert!(!is_convex(&top_left_beyond_the_diagonal));
        let mirrored = [[SPAN, 0.0], [-SPAN, 0.0], [-SPAN, 0.0], [SPAN, 0.0]];
        assert!(!is_convex(&mirrored));
    }
}
