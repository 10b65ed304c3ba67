//! A digit as a body: extruded along the depth, turned about all three axes and put somewhere into a volume (A.3).
//!
//! Points are in voxels, x to the right, y down, z away from the viewer; a volume is (D, H, W) row-major, so x runs fastest. A voxel takes
//! the body's value at its own place, by one trilinear interpolation, rounded to a byte.

use super::warp::Digit;
use crate::data::mnist::SIDE;
use crate::data::seed::uniform;
use crate::data::{Dataset, Purpose, rng};
use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::ops::Range;

/// The side of a volume in voxels.
pub const VOLUME_SIDE: usize = 60;
/// The voxels of a volume.
pub const VOLUME_LEN: usize = VOLUME_SIDE * VOLUME_SIDE * VOLUME_SIDE;
/// How many voxels thick an extruded digit is.
pub const THICKNESS: usize = 10;
/// The largest angle of a random turn about each axis, either way, in degrees.
pub const MAX_TURN: f64 = 45.0;

/// Where a body stands in its volume.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BodyPose {
    /// Turns in degrees about x, then y, then z, through the centre of the digit's frame.
    pub rotation: [f64; 3],
    /// Voxels (right, down, away) from the centre of the volume to that of the frame.
    pub translation: [f64; 3],
}

impl BodyPose {
    /// Draws three turns from U(-45, 45) degrees, and a place from those at which the turned frame (28 x 28 x 10 voxels) lies inside the
    /// volume.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let rotation = [(); 3].map(|()| uniform(rng, -MAX_TURN, MAX_TURN));
        let pose = Self { rotation, ..Self::default() };
        let half = [SIDE, SIDE, THICKNESS].map(|side| side as f64 / 2.0);
        let translation = pose.matrix().map(|row| {
            let reach: f64 = row.iter().zip(half).map(|(r, half)| r.abs() * half).sum();
            let free = VOLUME_SIDE as f64 / 2.0 - reach;
            uniform(rng, -free, free)
        });
        Self { translation, ..pose }
    }

    /// The rotation matrix, from the digit's own directions to those of the volume: Rz Ry Rx.
    pub fn matrix(&self) -> [[f64; 3]; 3] {
        let [(sa, ca), (sb, cb), (sc, cc)] = self.rotation.map(|degrees| libm::sincos(degrees.to_radians()));
        [
            [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
            [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
            [-sb, cb * sa, cb * ca],
        ]
    }

    /// Draws a (28, 28) digit as a body of this pose into a volume.
    ///
    /// # Panics
    /// When the digit is not 28x28, or `out` has not 60 x 60 x 60 voxels.
    pub fn draw(&self, digit: &[u8], out: &mut [u8]) {
        assert_eq!(digit.len(), SIDE * SIDE, "extrusion: digits must be 28x28");
        assert_eq!(out.len(), VOLUME_LEN, "extrusion: the volume must be {VOLUME_SIDE}x{VOLUME_SIDE}x{VOLUME_SIDE}");
        out.fill(0);
        let digit = Digit::new(digit);
        let [columns, rows] = digit.ink();
        let reach = (THICKNESS as f64 + 1.0) / 2.0;
        // The digit's own coordinates: padded pixels in its plane, voxels from its middle across.
        let bounds = [columns, rows, [-reach, reach]];
        let middle = [(SIDE + 1) as f64 / 2.0, (SIDE + 1) as f64 / 2.0, 0.0];
        let m = self.matrix();
        let centre = self.translation.map(|t| (VOLUME_SIDE as f64 - 1.0) / 2.0 + t);
        // A body's point is R^T (p - centre): a step along x moves it by the first row of R.
        let step = m[0];
        let per_step = step.map(f64::recip);
        for (i, line) in out.chunks_exact_mut(VOLUME_SIDE).enumerate() {
            let [y, z] = [(i % VOLUME_SIDE) as f64 - centre[1], (i / VOLUME_SIDE) as f64 - centre[2]];
            let start: [f64; 3] = std::array::from_fn(|k| middle[k] - centre[0] * m[0][k] + y * m[1][k] + z * m[2][k]);
            let [first, last] = inside(start, per_step, bounds);
            for (x, voxel) in line.iter_mut().enumerate().take(last).skip(first) {
                let [u, v, w]: [f64; 3] = std::array::from_fn(|k| start[k] + x as f64 * step[k]);
                let is_inside = [u, v, w].iter().zip(bounds).all(|(at, [low, high])| *at > low && *at < high);
                if is_inside {
                    *voxel = ((reach - w.abs()).min(1.0) * digit.at(u, v) + 0.5) as u8;
                }
            }
        }
    }
}

/// Makes volumes of the digits of `range`, for testing or validation: draw `draw` of `seed`, the same bits every time. A slice of a volume
/// is a channel of an image, (N, D, H, W).
///
/// # Errors
/// When the images are not (1, 28, 28), or the range leaves them.
pub fn volume_set(digits: &Dataset, range: Range<usize>, seed: u64, draw: u64) -> Result<(Dataset, Vec<BodyPose>)> {
    ensure!(
        range.start <= range.end && range.end <= digits.len() && digits.image_len() == SIDE * SIDE,
        "extrusion: the digits {range:?} must lie in 0..{}, 28x28 pixels each, got {}x{}",
        digits.len(),
        digits.height,
        digits.width
    );
    let mut voxels = vec![0; range.len() * VOLUME_LEN];
    let poses = voxels
        .par_chunks_exact_mut(VOLUME_LEN)
        .zip(range.clone())
        .map(|(out, index)| {
            let pose = BodyPose::random(&mut rng(seed, Purpose::TestDistortion, draw, index as u64));
            pose.draw(digits.image(index), out);
            pose
        })
        .collect();
    let labels = digits.labels[range].to_vec();
    Ok((Dataset::new(voxels, labels, VOLUME_SIDE, VOLUME_SIDE, VOLUME_SIDE)?, poses))
}

/// The voxels of a row, first and one past the last, whose points may lie within the bounds.
fn inside(start: [f64; 3], per_step: [f64; 3], bounds: [[f64; 2]; 3]) -> [usize; 2] {
    let (mut first, mut last) = (0.0f64, VOLUME_SIDE as f64 - 1.0);
    for k in 0..3 {
        let [a, b] = bounds[k].map(|bound| (bound - start[k]) * per_step[k]);
        if a.is_nan() || b.is_nan() {
            continue; // on the edge, and going along it
        }
        (first, last) = (first.max(a.min(b)), last.min(a.max(b)));
    }
    // The saturating casts make an empty row of what lies beside the volume.
    if first <= last { [first as usize, last as usize + 1] } else { [0, 0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Mnist;

    fn drawn(pose: BodyPose, digit: &[u8]) -> Vec<u8> {
        let mut out = vec![1; VOLUME_LEN];
        pose.draw(digit, &mut out);
        out
    }

    /// The centre of mass (x, y, z), from the volume's centre.
    fn mass(volume: &[u8]) -> [f64; 3] {
        let mut sums = [0.0; 4];
        for (i, &v) in volume.iter().enumerate().filter(|(_, v)| **v > 0) {
            let side = VOLUME_SIDE;
            let place = [i % side, i / side % side, i / (side * side)];
            sums[3] += f64::from(v);
            for (sum, at) in sums.iter_mut().zip(place) {
                *sum += f64::from(v) * (at as f64 - 29.5);
            }
        }
        [0, 1, 2].map(|k| sums[k] / sums[3])
    }

    /// A digit of one dot, to the right of and a little above the frame's centre.
    fn dot() -> Vec<u8> {
        let mut digit = vec![0; SIDE * SIDE];
        digit[12 * SIDE + 22] = 255;
        digit
    }

    #[test]
    fn unturned_every_slice_of_the_body_is_the_digit() {
        let digit: Vec<u8> = (0..SIDE * SIDE).map(|i| (i * 31 % 256) as u8).collect();
        let volume = drawn(BodyPose { translation: [5.0, -3.0, 7.0], ..BodyPose::default() }, &digit);
        for (z, slice) in volume.chunks_exact(VOLUME_SIDE * VOLUME_SIDE).enumerate() {
            let is_body = (32..42).contains(&z); // ten voxels about 29.5 + 7
            for (y, row) in slice.chunks_exact(VOLUME_SIDE).enumerate() {
                let expected =
                    is_body.then(|| y.checked_sub(13).and_then(|y| digit.chunks_exact(SIDE).nth(y))).flatten();
                assert_eq!(&row[21..49], expected.unwrap_or(&[0; SIDE]), "slice {z}, row {y}");
            }
        }
    }

    #[test]
    fn each_angle_turns_about_its_axis() {
        let near = |rotation, expected: [f64; 3]| {
            let got = mass(&drawn(BodyPose { rotation, ..BodyPose::default() }, &dot()));
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.1), "{rotation:?}: {got:?}");
        };
        // The dot stands 8.5 to the right and 1.5 up.
        near([90.0, 0.0, 0.0], [8.5, 0.0, -1.5]);
        near([0.0, 90.0, 0.0], [0.0, -1.5, -8.5]);
        near([0.0, 0.0, 90.0], [1.5, 8.5, 0.0]);
        // First about x, last about z.
        near([90.0, 0.0, 90.0], [0.0, 8.5, -1.5]);
    }

    #[test]
    fn random_poses_fill_their_range_and_keep_the_frame_in_the_volume() {
        let poses: Vec<BodyPose> =
            (0..2000).map(|i| BodyPose::random(&mut rng(1, Purpose::TestDistortion, 0, i))).collect();
        for axis in 0..3 {
            let angles = poses.iter().map(|pose| pose.rotation[axis]);
            let (low, high) = angles.fold((f64::MAX, f64::MIN), |(l, h), a| (l.min(a), h.max(a)));
            assert!((-45.0..-44.0).contains(&low) && (44.0..45.0).contains(&high), "{low} {high}");
        }
        for pose in &poses {
            let m = pose.matrix();
            for corner in 0..8 {
                let sign = |bit: usize| if corner >> bit & 1 == 0 { -1.0 } else { 1.0 };
                let at = [14.0 * sign(0), 14.0 * sign(1), 5.0 * sign(2)];
                for (row, t) in m.iter().zip(pose.translation) {
                    let place: f64 = row.iter().zip(at).map(|(r, a)| r * a).sum::<f64>() + t;
                    assert!(place.abs() < 30.0 + 1e-9, "{pose:?}");
                }
            }
        }
    }

    #[test]
    fn a_turned_body_keeps_its_ink() {
        let mnist = Mnist::embedded("asked for").unwrap();
        let ink = |volume: &[u8]| volume.iter().map(|&v| f64::from(v)).sum::<f64>();
        for i in 0..50 {
            let digit = mnist.test.image(i as usize);
            let pose = BodyPose::random(&mut rng(0, Purpose::TestDistortion, 0, i));
            let ratio = ink(&drawn(pose, digit)) / (ink(digit) * THICKNESS as f64);
            assert!((0.97..1.03).contains(&ratio), "{i}: {ratio}");
        }
    }
}
