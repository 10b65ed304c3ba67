//! Synthetic house numbers: what stands in for SVHN where its images cannot be had. They are NOT SVHN.
//!
//! Digits of MNIST in one colour, laid out as those of real house numbers are (`layout`), on a textured background and often on a plate; smaller digits
//! of other colours that belong to no number lie around. The digits of training and test numbers are MNIST's training and test digits.

use image::{Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;

use super::crop::Frame;
use super::layout;
use super::rows::DigitBox;
use crate::data::mnist::SIDE;
use crate::data::seed::{below, normal, uniform};
use crate::data::{Dataset, Purpose, rng};

/// The release of the generator: what it draws must never change under one name.
pub const VERSION: &str = "v2";

/// A scene reaches so many sides of the number's frame from its centre: half as far again as the widest window.
const REACH: f64 = 1.95;

/// A scene with one house number.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The image.
    pub image: RgbImage,
    /// The number's digits from left to right.
    pub digits: Vec<DigitBox>,
}

/// Draws number `index` of a split (0 for training, 1 for testing) from its digits.
///
/// # Panics
///
/// When there are no digits, or they are not (1, 28, 28).
pub fn scene(digits: &Dataset, split: u64, index: u64) -> Scene {
    let rng = &mut rng(0, Purpose::HouseNumber, split, index);
    let chosen: Vec<usize> = (0..layout::digits(rng)).map(|_| below(rng, digits.len())).collect();
    let classes: Vec<u8> = chosen.iter().map(|&i| digits.labels[i]).collect();
    let mut boxes = layout::boxes(&classes, rng);

    // The number in the middle of a canvas.
    let Some(frame) = Frame::around(&boxes) else { unreachable!("a number has a digit") };
    let (width, height) = (2.0 * REACH * frame.width, 2.0 * REACH * frame.height);
    let (x, y) = ((width - frame.width) / 2.0 - frame.left, (height - frame.height) / 2.0 - frame.top);
    for digit in &mut boxes {
        (digit.left, digit.top) = (digit.left + x as i32, digit.top + y as i32);
    }
    let mut canvas = Canvas::new(width.ceil() as usize, height.ceil() as usize);
    let Some(frame) = Frame::around(&boxes) else { unreachable!("a number has a digit") };

    let base = colour(rng);
    canvas.background(base, f64::from(boxes[0].height), rng);
    let mut behind = luminance(base);
    if uniform(rng, 0.0, 1.0) < 0.5 {
        let plate = colour(rng);
        let grown = uniform(rng, 0.1, 0.5) * f64::from(boxes[0].height);
        canvas.plate(frame, grown, plate);
        behind = luminance(plate);
    }
    let ink = contrasting(behind, rng);
    let alpha = uniform(rng, 0.75, 1.0);
    for (digit, &i) in boxes.iter().zip(&chosen) {
        canvas.glyph(digits.image(i), digit, ink, alpha);
    }
    distract(&mut canvas, digits, frame, &boxes[0], rng);
    let noise = uniform(rng, 1.0, 9.0);
    Scene { image: canvas.finish(noise, rng), digits: boxes }
}

type Colour = [f64; 3];

fn colour(rng: &mut ChaCha8Rng) -> Colour {
    let grey = uniform(rng, 30.0, 225.0);
    std::array::from_fn(|_| (grey + normal(rng, 0.0, 30.0)).clamp(0.0, 255.0))
}

fn luminance([r, g, b]: Colour) -> f64 {
    0.3 * r + 0.6 * g + 0.1 * b
}

/// A colour that is 50 to 140 levels lighter or darker.
fn contrasting(behind: f64, rng: &mut ChaCha8Rng) -> Colour {
    let step = uniform(rng, 50.0, 140.0);
    let lighter =
        if behind + step > 255.0 || behind - step < 0.0 { behind < 128.0 } else { uniform(rng, 0.0, 1.0) < 0.5 };
    let grey = if lighter { behind + step } else { behind - step };
    let tint: Colour = std::array::from_fn(|_| normal(rng, 0.0, 20.0));
    let tint = tint.map(|t| t - luminance(tint)); // leaves the luminance
    tint.map(|t| (grey + t).clamp(0.0, 255.0))
}

/// Up to eight digits of half to four fifths of the number's height, beside its frame.
fn distract(canvas: &mut Canvas, digits: &Dataset, frame: Frame, like: &DigitBox, rng: &mut ChaCha8Rng) {
    let height = f64::from(like.height);
    for _ in 0..below(rng, 9) {
        let tall = height * uniform(rng, 0.5, 0.8);
        let (wide, alpha, ink) = (tall * uniform(rng, 0.35, 0.7), uniform(rng, 0.5, 1.0), colour(rng));
        let (x, y) = (uniform(rng, 0.0, canvas.width as f64), uniform(rng, 0.0, canvas.height as f64));
        let glyph = below(rng, digits.len());
        let gap = 0.15 * height;
        let beside = x + wide / 2.0 + gap < frame.left
            || x - wide / 2.0 - gap > frame.left + frame.width
            || y + tall / 2.0 + gap < frame.top
            || y - tall / 2.0 - gap > frame.top + frame.height;
        if beside {
            let place = DigitBox {
                class: digits.labels[glyph],
                left: (x - wide / 2.0) as i32,
                top: (y - tall / 2.0) as i32,
                width: wide as i32 + 1,
                height: tall as i32 + 1,
            };
            canvas.glyph(digits.image(glyph), &place, ink, alpha);
        }
    }
}

/// A picture being painted, (height, width) of colours.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    /// A gradient, patches of light as large as digits, and sometimes stripes.
    fn background(&mut self, base: Colour, height: f64, rng: &mut ChaCha8Rng) {
        let across: Colour = std::array::from_fn(|_| normal(rng, 0.0, 15.0));
        let down: Colour = std::array::from_fn(|_| normal(rng, 0.0, 15.0));
        let (cell, depth) = (height * uniform(rng, 0.4, 1.5), uniform(rng, 4.0, 25.0));
        let (columns, rows) = ((self.width as f64 / cell) as usize + 2, (self.height as f64 / cell) as usize + 2);
        let patches: Vec<f64> = (0..columns * rows).map(|_| uniform(rng, -depth, depth)).collect();
        let stripes = if uniform(rng, 0.0, 1.0) < 0.4 { uniform(rng, 5.0, 25.0) } else { 0.0 };
        let (period, turn) = (height * uniform(rng, 0.2, 1.0), uniform(rng, 0.0, std::f64::consts::PI));
        let (cos, sin) = (libm::cos(turn), libm::sin(turn));
        for y in 0..self.height {
            for x in 0..self.width {
                let (u, v) = (x as f64 / cell, y as f64 / cell);
                let (i, j) = (u as usize, v as usize);
                let (u, v) = (u - i as f64, v - j as f64);
                let at = |j: usize, i: usize| patches[j * columns + i];
                let patch = (at(j, i) * (1.0 - u) + at(j, i + 1) * u) * (1.0 - v)
                    + (at(j + 1, i) * (1.0 - u) + at(j + 1, i + 1) * u) * v;
                let phase = (x as f64 * cos + y as f64 * sin) / period;
                let stripe = if phase - phase.floor() < 0.3 { stripes } else { 0.0 };
                let (right, below) = (x as f64 / self.width as f64 - 0.5, y as f64 / self.height as f64 - 0.5);
                self.pixels[y * self.width + x] =
                    std::array::from_fn(|c| (base[c] + patch + stripe + across[c] * right + down[c] * below) as f32);
            }
        }
    }

    /// A rectangle round the number.
    fn plate(&mut self, frame: Frame, grown: f64, colour: Colour) {
        let clamp = |x: f64, end: usize| (x.max(0.0) as usize).min(end);
        let rows = clamp(frame.top - grown, self.height)..clamp(frame.top + frame.height + grown, self.height);
        let columns = clamp(frame.left - grown, self.width)..clamp(frame.left + frame.width + grown, self.width);
        for y in rows {
            for pixel in &mut self.pixels[y * self.width..][columns.clone()] {
                *pixel = colour.map(|c| c as f32);
            }
        }
    }

    /// A digit's ink, stretched to a box.
    fn glyph(&mut self, digit: &[u8], place: &DigitBox, ink: Colour, alpha: f64) {
        let extent = |inked: &dyn Fn(usize) -> bool| {
            let first = (0..SIDE).find(|&i| inked(i)).unwrap_or(0);
            (first, (0..SIDE).rfind(|&i| inked(i)).unwrap_or(SIDE - 1) + 1 - first)
        };
        let (top, tall) = extent(&|y| (0..SIDE).any(|x| digit[y * SIDE + x] != 0));
        let (left, wide) = extent(&|x| (0..SIDE).any(|y| digit[y * SIDE + x] != 0));
        let value = |y: i64, x: i64| {
            let inside = (0..SIDE as i64).contains(&y) && (0..SIDE as i64).contains(&x);
            if inside { f64::from(digit[y as usize * SIDE + x as usize]) } else { 0.0 }
        };
        for row in 0..place.height {
            let y = (f64::from(row) + 0.5) / f64::from(place.height) * tall as f64 - 0.5 + top as f64;
            for column in 0..place.width {
                let (px, py) = (place.left + column, place.top + row);
                if px < 0 || py < 0 || px as usize >= self.width || py as usize >= self.height {
                    continue;
                }
                let x = (f64::from(column) + 0.5) / f64::from(place.width) * wide as f64 - 0.5 + left as f64;
                let (i, j) = (y.floor(), x.floor());
                let (v, u) = (y - i, x - j);
                let (i, j) = (i as i64, j as i64);
                let ink_here = (value(i, j) * (1.0 - u) + value(i, j + 1) * u) * (1.0 - v)
                    + (value(i + 1, j) * (1.0 - u) + value(i + 1, j + 1) * u) * v;
                let part = (alpha * ink_here / 255.0) as f32;
                let pixel = &mut self.pixels[py as usize * self.width + px as usize];
                for (pixel, ink) in pixel.iter_mut().zip(ink) {
                    *pixel += part * (ink as f32 - *pixel);
                }
            }
        }
    }

    /// Adds the camera's noise and rounds.
    fn finish(self, noise: f64, rng: &mut ChaCha8Rng) -> RgbImage {
        let mut image = RgbImage::new(self.width as u32, self.height as u32);
        for (pixel, colour) in image.pixels_mut().zip(self.pixels) {
            // The sum of two uniform numbers: as good as a normal one here, and cheap.
            let noise = noise * (uniform(rng, -1.0, 1.0) + uniform(rng, -1.0, 1.0));
            *pixel = Rgb(colour.map(|c| (f64::from(c) + noise + 0.5).clamp(0.0, 255.0) as u8));
        }
        image
    }
}
