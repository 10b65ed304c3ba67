//! The paper's distortions of MNIST (section 4.1 and A.4): R, RTS, P, E and TC.
//!
//! Every image is resampled once: bilinear, backwards, black outside the digit's 28x28 frame. All arithmetic is in f64 with
//! transcendental functions from `libm`, and the result is rounded to a byte, so the same seed gives the same bits on every
//! platform and for any number of threads. Points are in pixels, the centre of the first pixel being (0, 0), x to the right and y
//! down.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::mnist::SIDE;
use super::seed::{self, Purpose, normal, uniform};
use crate::named::by_id;

pub mod clutter;
pub mod extrusion;
mod homography;
mod similarity;
mod thin_plate_spline;
mod warp;

/// Names a distortion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Distortion {
    /// Rotation by U(-90, 90) degrees about the centre of the 28x28 frame.
    R,
    /// Rotation by U(-45, 45) degrees, scale U(0.7, 1.2), and a place drawn uniformly from those at which the scaled
    /// (unturned) digit frame lies inside the 42x42 canvas.
    Rts,
    /// Projective: scale U(0.75, 1), then each corner of a 42x42 frame, of which the 28x28 pixels are the middle, moved by N(0, 5 px) in x
    /// and in y.
    P,
    /// Elastic: scale U(0.75, 1), then a thin-plate spline whose 4x4 control points over the frame are moved by
    /// N(0, 1.5 px) in x and in y.
    E,
    /// Translated and cluttered: six 6x6 patches of other digits and the digit itself, at random places of a 60x60 canvas.
    Tc,
}

impl Distortion {
    /// Every distortion, in the order of the paper's table 1.
    pub const ALL: [Self; 5] = [Self::R, Self::Rts, Self::P, Self::E, Self::Tc];

    /// Names the distortion as the paper does.
    pub fn id(self) -> &'static str {
        match self {
            Self::R => "R",
            Self::Rts => "RTS",
            Self::P => "P",
            Self::E => "E",
            Self::Tc => "TC",
        }
    }

    /// Pins the identity of the distorted test set of seed 0, draw 0.
    pub fn test_identity(self) -> &'static str {
        match self {
            Self::R => "9d1393e3f9708b5e750c4b6e09f7de4ce609ad4f8e6ef5a0b4ff3ed4bd3f2679",
            Self::Rts => "1ec3ed15b030092ad18ab0b49fb578876b35eb44d5d9f614b9ebccda35971d0a",
            Self::P => "aab3734d6be0ed9b32dab0dc19cd4320403f16373320e2552ee8e4666514c463",
            Self::E => "8011951bd1f3dc0062ef34b6bd4e355cd94738c82eceb0de733c6470f794bcad",
            Self::Tc => "968fd9b0db38c5f61a6edae16ef6bfd3aaa52ae199fb2b6d095d26d6d508e559",
        }
    }

    /// Says the side of the distorted image in pixels.
    pub fn canvas(self) -> usize {
        match self {
            Self::R | Self::P | Self::E => SIDE,
            Self::Rts => 42,
            Self::Tc => 60,
        }
    }

    /// Distorts image `index` of `digits` into `out`, (canvas, canvas); says what was applied.
    ///
    /// # Panics
    ///
    /// When there is no such image, images are not (1, 28, 28), or `out` has not `canvas * canvas` bytes.
    pub fn apply(self, digits: &Dataset, index: usize, rng: &mut ChaCha8Rng, out: &mut [u8]) -> Pose {
        let canvas = self.canvas();
        let digit = digits.image(index);
        assert_eq!(digit.len(), SIDE * SIDE, "distort: digits must be 28x28");
        assert_eq!(out.len(), canvas * canvas, "distort: {self} needs {canvas}x{canvas}");
        match self {
            Self::R => {
                let rotation = uniform(rng, -90.0, 90.0);
                let pose = Pose { rotation, ..Pose::default() };
                pose.draw(digit, canvas, out)
            }
            Self::Rts => {
                let rotation = uniform(rng, -45.0, 45.0);
                let scale = uniform(rng, 0.7, 1.2);
                let free = (canvas as f64 - scale * SIDE as f64) / 2.0;
                let translation = [uniform(rng, -free, free), uniform(rng, -free, free)];
                let pose = Pose { rotation, scale, translation, ..Pose::default() };
                pose.draw(digit, canvas, out)
            }
            Self::P => {
                let scale = uniform(rng, 0.75, 1.0);
                // A draw may fold the frame over (see `is_convex`): such corners are drawn again.
                let mut moved: [[f64; 2]; 4] = displacements(rng, 5.0);
                while !homography::is_convex(&moved) {
                    moved = displacements(rng, 5.0);
                }
                homography::projective(digit, out, scale, &moved);
                Pose { scale, displacements: moved.to_vec(), ..Pose::default() }
            }
            Self::E => {
                let scale = uniform(rng, 0.75, 1.0);
                let moved = displacements(rng, 1.5);
                thin_plate_spline::elastic(digit, out, scale, &moved);
                Pose { scale, displacements: moved.to_vec(), ..Pose::default() }
            }
            Self::Tc => {
                let place = clutter::place_in_clutter(digits, index, canvas, 6, rng, out);
                let from_centre = |at: usize| at as f64 - (canvas - SIDE) as f64 / 2.0;
                Pose { translation: place.map(from_centre), ..Pose::default() }
            }
        }
    }
}

impl fmt::Display for Distortion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Distortion {
    type Err = anyhow::Error;

    /// Reads an id in upper or lower case.
    fn from_str(s: &str) -> Result<Self> {
        by_id("distortion", s, Self::ALL, Self::id)
    }
}

/// Says what was done to one digit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pose {
    /// Rotation about the digit's centre in degrees; positive is counter-clockwise as seen on the screen (y points down).
    pub rotation: f64,
    /// Scale of the digit; above 1 it is larger than in MNIST.
    pub scale: f64,
    /// Pixels (right, down) from the centre of the canvas to the centre of the digit's frame.
    pub translation: [f64; 2],
    /// P: pixels (right, down) by which the corners of the 42x42 frame were moved: top left, top right, bottom right, bottom left.
    /// E: pixels by which the 16 control points, row by row, sample the scaled digit elsewhere (target to source).
    /// Otherwise empty.
    pub displacements: Vec<[f64; 2]>,
}

impl Default for Pose {
    /// The identity.
    fn default() -> Self {
        Self { rotation: 0.0, scale: 1.0, translation: [0.0; 2], displacements: Vec::new() }
    }
}

impl Pose {
    /// Draws a (28, 28) digit into `out`, (canvas, canvas), by rotation, scale and translation alone; returns itself.
    pub fn draw(self, digit: &[u8], canvas: usize, out: &mut [u8]) -> Self {
        let Self { rotation, scale, translation, .. } = self;
        similarity::similarity(digit, canvas, out, rotation, scale, translation);
        self
    }
}

/// Draws N(0, std) in x and in y for each of K points.
fn displacements<const K: usize>(rng: &mut ChaCha8Rng, std: f64) -> [[f64; 2]; K] {
    [(); K].map(|()| [normal(rng, 0.0, std), normal(rng, 0.0, std)])
}

/// Distorts every image once, for testing or validation: draw `draw` of `seed`, the same bits every time.
///
/// # Errors
///
/// When the images are not (1, 28, 28), or there is none.
pub fn distorted_set(distortion: Distortion, digits: &Dataset, seed: u64, draw: u64) -> Result<(Dataset, Vec<Pose>)> {
    ensure!(
        !digits.is_empty() && (digits.channels, digits.height, digits.width) == (1, SIDE, SIDE),
        "distort: digits must be (N, 1, {SIDE}, {SIDE}) with N > 0, got ({}, {}, {}, {})",
        digits.len(),
        digits.channels,
        digits.height,
        digits.width
    );
    let canvas = distortion.canvas();
    let mut images = vec![0; digits.len() * canvas * canvas];
    let poses = images
        .par_chunks_exact_mut(canvas * canvas)
        .enumerate()
        .map(|(index, out)| {
            let mut rng = seed::rng(seed, Purpose::TestDistortion, draw, index as u64);
            distortion.apply(digits, index, &mut rng, out)
        })
        .collect();
    let set = Dataset::new(images, digits.labels.clone(), 1, canvas, canvas)?;
    Ok((set, poses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Mnist, rng};

    /// A digit of one white dot, `right` and `down` of the frame's centre.
    fn dot(right: f64, down: f64) -> Vec<u8> {
        let mut digit = vec![0; SIDE * SIDE];
        digit[(13.5 + down) as usize * SIDE + (13.5 + right) as usize] = 255;
        digit
    }

    /// The centre of mass, right and down of the canvas's centre.
    fn mass(image: &[u8], canvas: usize) -> [f64; 2] {
        let mut sums = [0.0; 3];
        for (i, &v) in image.iter().enumerate() {
            let (x, y, v) = ((i % canvas) as f64, (i / canvas) as f64, f64::from(v));
            sums = [sums[0] + v, sums[1] + v * x, sums[2] + v * y];
        }
        [1, 2].map(|i| sums[i] / sums[0] - (canvas as f64 - 1.0) / 2.0)
    }

    #[test]
    fn positive_rotation_is_counter_clockwise_on_the_screen() {
        let mut out = vec![0; SIDE * SIDE];
        let turn = |degrees, out: &mut [u8]| {
            let pose = Pose { rotation: degrees, ..Pose::default() };
            pose.draw(&dot(9.5, 0.5), SIDE, out);
            mass(out, SIDE)
        };
        let quarter = turn(90.0, &mut out);
        assert!((quarter[0] - 0.5).abs() < 1e-6 && (quarter[1] + 9.5).abs() < 1e-6, "{quarter:?}");
        let eighth = turn(45.0, &mut out);
        assert!(eighth[0] > 6.0 && eighth[1] < -6.0, "{eighth:?}");
    }

    #[test]
    fn the_identity_copies() {
        let digit: Vec<u8> = (0..SIDE * SIDE).map(|i| (i * 31 % 256) as u8).collect();
        let mut out = vec![0; SIDE * SIDE];
        Pose::default().draw(&digit, SIDE, &mut out);
        assert_eq!(out, digit);
        let mut out = vec![0; 42 * 42];
        let translation = [7.0, -7.0]; // into the top right corner
        Pose { translation, ..Pose::default() }.draw(&digit, 42, &mut out);
        assert!((0..SIDE).all(|row| out[row * 42 + 14..(row + 1) * 42] == digit[row * SIDE..(row + 1) * SIDE]));
    }

    #[test]
    fn scale_and_translation_act_on_the_canvas() {
        let mut out = vec![0; 42 * 42];
        let pose = Pose { scale: 1.2, translation: [3.0, -2.0], ..Pose::default() };
        pose.draw(&dot(5.5, 3.5), 42, &mut out);
        let at = mass(&out, 42);
        assert!((at[0] - (1.2 * 5.5 + 3.0)).abs() < 0.1, "{at:?}");
        assert!((at[1] - (1.2 * 3.5 - 2.0)).abs() < 0.1, "{at:?}");
    }

    #[test]
    fn ids() {
        for distortion in Distortion::ALL {
            assert_eq!(distortion.to_string().parse::<Distortion>().unwrap(), distortion);
            assert_eq!(distortion.id().to_lowercase().parse::<Distortion>().unwrap(), distortion);
            let json = serde_json::to_string(&distortion).unwrap();
            assert_eq!(json, format!("\"{distortion}\""));
        }
        let error = "X".parse::<Distortion>().unwrap_err().to_string();
        assert_eq!(error, "unknown distortion `X`; there are R, RTS, P, E, TC");
    }

    #[test]
    fn poses_follow_the_recipes() {
        let digits = Mnist::embedded("asked for").unwrap().test;
        let spread = |values: Vec<f64>| {
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            let std = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
            (low, high, std)
        };
        for distortion in Distortion::ALL {
            let (_, poses) = distorted_set(distortion, &digits, 1, 0).unwrap();
            let of = |f: fn(&Pose) -> f64| spread(poses.iter().map(f).collect());
            let within = |(low, high, _): (f64, f64, f64), a: f64, b: f64| {
                let slack = 0.02 * (b - a);
                assert!(a <= low && low < a + slack && b - slack < high && high <= b, "{distortion}: {low} {high}");
            };
            let noise = spread(poses.iter().flat_map(|p| p.displacements.iter().flatten().copied()).collect());
            match distortion {
                Distortion::R => within(of(|p| p.rotation), -90.0, 90.0),
                Distortion::Rts => {
                    within(of(|p| p.rotation), -45.0, 45.0);
                    within(of(|p| p.scale), 0.7, 1.2);
                    within(of(|p| p.translation[0] / (21.0 - 14.0 * p.scale)), -1.0, 1.0);
                    within(of(|p| p.translation[1] / (21.0 - 14.0 * p.scale)), -1.0, 1.0);
                }
                Distortion::P => {
                    within(of(|p| p.scale), 0.75, 1.0);
                    assert!((noise.2 - 5.0).abs() < 0.1, "{noise:?}");
                }
                Distortion::E => {
                    within(of(|p| p.scale), 0.75, 1.0);
                    assert!((noise.2 - 1.5).abs() < 0.01, "{noise:?}");
                }
                Distortion::Tc => {
                    within(of(|p| p.translation[0]), -16.0, 16.0);
                    within(of(|p| p.translation[1]), -16.0, 16.0);
                }
            }
        }
    }

    /// The test set's bits: the same on every platform, with any number of threads, in every release.
    #[test]
    fn the_test_sets_are_pinned() {
        let digits = Mnist::embedded("asked for").unwrap().test;
        for distortion in Distortion::ALL {
            let got = distorted_set(distortion, &digits, 0, 0).unwrap().0.identity();
            assert_eq!(got, distortion.test_identity(), "a change here changes every published test error");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let digits = Mnist::embedded("asked for").unwrap().test.range(0..500).unwrap();
        for distortion in Distortion::ALL {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| distorted_set(distortion, &digits, 3, 1).unwrap())
            };
            assert_eq!(with(1), with(4));
            let alone = {
                let mut out = vec![0; distortion.canvas() * distortion.canvas()];
                distortion.apply(&digits, 77, &mut rng(3, Purpose::TestDistortion, 1, 77), &mut out);
                out
            };
            assert_eq!(with(2).0.image(77), alone);
        }
    }
}
