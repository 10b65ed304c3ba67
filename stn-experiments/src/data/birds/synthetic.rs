//! Synthetic creatures: what stands in for CUB where its images cannot be had. They are NOT birds.
//!
//! A creature is a body with a disc at its head and a square at its tail, 10 px wide in a picture of 144 px. The pattern on the disc and that on the square, four of each,
//! tell its class; colour, place, direction, size and background say nothing. Discs and squares with other patterns lie around both ends, on no body: a window that is not
//! on the creature's own parts sees them too.

use super::Box4;
use crate::data::seed::{below, normal, uniform};
use crate::data::{Purpose, rng};
use image::{Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;

/// The release of the generator: what it draws must never change under one name.
pub const VERSION: &str = "v1";

/// A class for each pair of patterns.
pub const CLASSES: usize = PATTERNS * PATTERNS;
const PATTERNS: usize = 4;

/// Creatures for training and for testing.
pub const COUNTS: [usize; 2] = [8_000, 2_000];

/// Pixels of a side of the picture.
const SIDE: usize = 144;
/// Parts stay so far from the edge: inside of the square in the middle that is tested on.
const MARGIN: f64 = 18.0;
/// Half the width of a part.
const PART: f64 = 5.0;
/// Things that lie around each end, and how far from it.
const AROUND: usize = 3;
const FAR: [f64; 2] = [38.0, 48.0];
/// How near they may come to either end.
const NEAR: f64 = 24.0;

/// A creature.
#[derive(Debug, Clone)]
pub struct Creature {
    /// The picture, 144x144.
    pub image: RgbImage,
    /// Its box in shares of the picture: left, top, right, bottom.
    pub bird: Box4,
    /// Where head and tail are, in shares of the picture.
    pub parts: [[f64; 2]; 2],
}

type Point = [f64; 2];
type Colour = [f64; 3];

/// A disc (head) or a square (tail) with its pattern.
struct Part {
    at: Point,
    tail: bool,
    pattern: usize,
}

/// Draws creature `index` of a split (0 for training, 1 for testing); classes take turns.
pub fn creature(split: u64, index: u64) -> Creature {
    let rng = &mut rng(0, Purpose::Creature, split, index);
    let mut creature = place(rng);
    let ends = creature.parts.map(|part| part.map(|share| share * SIDE as f64));
    let class = index as usize % CLASSES;
    let patterns = [class / PATTERNS, class % PATTERNS];
    let mut parts: Vec<Part> = (0..2).map(|i| Part { at: ends[i], tail: i == 1, pattern: patterns[i] }).collect();
    for end in 0..2 {
        for _ in 0..AROUND {
            let (angle, far) = (uniform(rng, 0.0, std::f64::consts::TAU), uniform(rng, FAR[0], FAR[1]));
            let at = [ends[end][0] + far * libm::cos(angle), ends[end][1] + far * libm::sin(angle)];
            // One of the other three patterns.
            let pattern = (patterns[end] + 1 + below(rng, PATTERNS - 1)) % PATTERNS;
            if ends.iter().all(|&end| distance(at, end) > NEAR) {
                parts.push(Part { at, tail: end == 1, pattern });
            }
        }
    }
    creature.image = paint(ends, &parts, rng);
    creature
}

/// The box and the parts of a creature, without its picture.
pub(super) fn layout(split: u64, index: u64) -> Creature {
    place(&mut rng(0, Purpose::Creature, split, index))
}

fn place(rng: &mut ChaCha8Rng) -> Creature {
    let inside = |p: Point| p.iter().all(|&v| (MARGIN..=SIDE as f64 - MARGIN).contains(&v));
    let ends = loop {
        let head = [0; 2].map(|_| uniform(rng, MARGIN, SIDE as f64 - MARGIN));
        let (angle, length) = (uniform(rng, 0.0, std::f64::consts::TAU), uniform(rng, 44.0, 64.0));
        let tail = [head[0] + length * libm::cos(angle), head[1] + length * libm::sin(angle)];
        if inside(tail) {
            break [head, tail];
        }
    };
    let low = |axis: usize| (ends[0][axis].min(ends[1][axis]) - 1.4 * PART) / SIDE as f64;
    let high = |axis: usize| (ends[0][axis].max(ends[1][axis]) + 1.4 * PART) / SIDE as f64;
    Creature {
        image: RgbImage::new(0, 0),
        bird: [low(0), low(1), high(0), high(1)],
        parts: ends.map(|end| end.map(|v| v / SIDE as f64)),
    }
}

fn distance(a: Point, b: Point) -> f64 {
    libm::hypot(a[0] - b[0], a[1] - b[1])
}

/// A colour about a shade of grey.
fn colour(rng: &mut ChaCha8Rng, grey: [f64; 2], spread: f64) -> Colour {
    let grey = uniform(rng, grey[0], grey[1]);
    std::array::from_fn(|_| grey + normal(rng, 0.0, spread))
}

fn paint(ends: [Point; 2], parts: &[Part], rng: &mut ChaCha8Rng) -> RgbImage {
    let background = Background::new(rng);
    let (body, width) = (colour(rng, [40.0, 80.0], 12.0), uniform(rng, 3.5, 5.5));
    let bend = uniform(rng, -8.0, 8.0);
    let colours: Vec<[Colour; 2]> =
        parts.iter().map(|_| [colour(rng, [205.0, 245.0], 10.0), colour(rng, [10.0, 45.0], 8.0)]).collect();
    let noise = uniform(rng, 2.0, 8.0);
    let mut image = RgbImage::new(SIDE as u32, SIDE as u32);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let at = [f64::from(x) + 0.5, f64::from(y) + 0.5];
        let mut value = background.at(at);
        blend(&mut value, body, on_body(at, ends, width, bend));
        for (part, colours) in parts.iter().zip(&colours) {
            if distance(at, part.at) < 2.0 * PART {
                let (on, dark) = part.at(at);
                blend(&mut value, if dark { colours[1] } else { colours[0] }, on);
            }
        }
        let grain = noise * (uniform(rng, -1.0, 1.0) + uniform(rng, -1.0, 1.0));
        *pixel = Rgb(value.map(|v| (v + grain + 0.5).clamp(0.0, 255.0) as u8));
    }
    image
}

fn blend(value: &mut Colour, colour: Colour, share: f64) {
    value.iter_mut().zip(colour).for_each(|(value, colour)| *value += share * (colour - *value));
}

/// How much of a pixel the body covers: thick in the middle, and bent.
fn on_body(at: Point, [head, tail]: [Point; 2], width: f64, bend: f64) -> f64 {
    let (dx, dy) = (tail[0] - head[0], tail[1] - head[1]);
    let length = libm::hypot(dx, dy);
    let along = (((at[0] - head[0]) * dx + (at[1] - head[1]) * dy) / (length * length)).clamp(0.0, 1.0);
    let arch = 4.0 * along * (1.0 - along);
    let middle = [head[0] + along * dx - bend * arch * dy / length, head[1] + along * dy + bend * arch * dx / length];
    let half = width * (0.5 + arch);
    (half - distance(at, middle) + 0.5).clamp(0.0, 1.0)
}

impl Part {
    /// How much of a pixel the part covers, and whether its pattern is dark there.
    fn at(&self, at: Point) -> (f64, bool) {
        let (x, y) = (at[0] - self.at[0], at[1] - self.at[1]);
        let edge = if self.tail { x.abs().max(y.abs()) } else { libm::hypot(x, y) };
        let stripe = |v: f64| libm::fabs(libm::fmod(v + 40.0, 4.0)) < 2.0;
        let dark = match self.pattern {
            0 => stripe(x),
            1 => stripe(y),
            2 => stripe(x) ^ stripe(y),
            _ => (1.6..3.6).contains(&edge),
        };
        ((PART - edge + 0.5).clamp(0.0, 1.0), dark)
    }
}

/// A textured ground: a gradient, patches and a grain of waves.
struct Background {
    base: Colour,
    slope: [Colour; 2],
    patches: Vec<f64>,
    cell: f64,
    columns: usize,
    waves: [[f64; 4]; 3],
}

impl Background {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let base = colour(rng, [110.0, 160.0], 22.0);
        let slope = [0; 2].map(|_| std::array::from_fn(|_| normal(rng, 0.0, 0.12)));
        let (cell, depth) = (uniform(rng, 6.0, 20.0), uniform(rng, 8.0, 26.0));
        let columns = (SIDE as f64 / cell) as usize + 2;
        let patches = (0..columns * columns).map(|_| uniform(rng, -depth, depth)).collect();
        let waves = [0; 3].map(|_| {
            let (turn, period) = (uniform(rng, 0.0, std::f64::consts::TAU), uniform(rng, 5.0, 14.0));
            let frequency = std::f64::consts::TAU / period;
            let phase = uniform(rng, 0.0, std::f64::consts::TAU);
            [frequency * libm::cos(turn), frequency * libm::sin(turn), phase, uniform(rng, 1.0, 7.0)]
        });
        Self { base, slope, patches, cell, columns, waves }
    }

    fn at(&self, [x, y]: Point) -> Colour {
        let (u, v) = (x / self.cell, y / self.cell);
        let (i, j) = (u as usize, v as usize);
        let (u, v) = (u - i as f64, v - j as f64);
        let patch = |j: usize, i: usize| self.patches[j * self.columns + i];
        let patch = (patch(j, i) * (1.0 - u) + patch(j, i + 1) * u) * (1.0 - v)
            + (patch(j + 1, i) * (1.0 - u) + patch(j + 1, i + 1) * u) * v;
        let wave: f64 = self.waves.iter().map(|[a, b, phase, height]| height * libm::sin(a * x + b * y + phase)).sum();
        std::array::from_fn(|c| self.base[c] + self.slope[0][c] * x + self.slope[1][c] * y + patch + wave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::hex;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_first_creatures_are_pinned() {
        let mut hash = Sha256::new();
        for split in [0, 1] {
            (0..16).for_each(|index| hash.update(creature(split, index).image.as_raw()));
        }
        let expected = "20982c3909806614051dd43635b7be3d061dede737eff968d57c522be2f2aaca";
        assert_eq!(
            hex(&hash.finalize()),
            expected,
            "a change here changes every published result: give it another VERSION"
        );
    }

    #[test]
    fn parts_are_where_they_are_said_to_be() {
        for index in 0..64 {
            let Creature { image, parts, bird } = creature(1, index);
            let layout = layout(1, index);
            assert_eq!((layout.bird, layout.parts), (bird, parts));
            for [x, y] in parts {
                assert!(bird[0] < x && x < bird[2] && bird[1] < y && y < bird[3]);
                // Light or dark, unlike the ground: some of each within the part.
                let levels: Vec<u8> = (-4..=4)
                    .flat_map(|dy| (-4..=4).map(move |dx| (dx, dy)))
                    .map(|(dx, dy)| {
                        let pixel = |share: f64, d: i32| ((share * SIDE as f64) as i32 + d) as u32;
                        image.get_pixel(pixel(x, dx), pixel(y, dy))[1]
                    })
                    .collect();
                let (low, high) = (levels.iter().min().unwrap(), levels.iter().max().unwrap());
                assert!(*low < 90 && *high > 170, "creature {index}: {low} to {high}");
            }
        }
    }
}
