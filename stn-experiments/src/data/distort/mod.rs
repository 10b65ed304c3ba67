//! The paper's distortions of MNIST (section 4.1 and A.4): R, RTS, P, E and TC.
//!
//! Every image is resampled once: bilinear, backwards, black outside the digit's 28x28 frame. All arithmetic is in f64 with
//! transcendental functions from `libm`, and the result is rounded to a byte, so the same seed gives the same bits on every
//! platform and for any number of threads. Points are in pixels, the centre of the first pixel being (0, 0), x to the right and y
//! down.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::mnist::SIDE;
use super::seed::{self, Purpose, uniform};

mod similarity;
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
    /// Projective: scale U(0.75, 1), then each corner of the 28x28 frame moved by N(0, 5 px) in x and in y.
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
            Self::P | Self::E | Self::Tc => unimplemented!(),
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
        match Self::ALL.into_iter().find(|d| d.id().eq_ignore_ascii_case(s)) {
            Some(distortion) => Ok(distortion),
            None => bail!("unknown distortion `{s}`: expected one of {}", Self::ALL.map(Self::id).join(", ")),
        }
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
    /// P: pixels (right, down) by which the frame's corners were moved: top left, top right, bottom right, bottom left.
    /// E: the same for the 16 control points, row by row. Otherwise empty.
    pub displacements: Vec<[f64; 2]>,
}

impl Default for Pose {
    /// The identity.
    fn default() -> Self {
        Self { rotation: 0.0, scale: 1.0, translation: [0.0; 2], displacements: Vec::new() }
    }
}

impl Pose {
    /// Draws `digit` by rotation, scale and translation.
    fn draw(self, digit: &[u8], canvas: usize, out: &mut [u8]) -> Self {
        let Self { rotation, scale, translation, .. } = self;
        similarity::similarity(digit, canvas, out, rotation, scale, translation);
        self
    }
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
