//! Synthetic creatures: what stands in for CUB where its images cannot be had. They are NOT birds.
//!
//! A creature lies more or less level somewhere in a picture of 144 px: a body with a light disc at its head and a dark square at its tail, 36 px wide. Three small bars stand
//! near the rim of each; how many of them lie flat, at the head and at the tail, is its class. Colour, place, direction, size and background say nothing, and bars that belong
//! to no creature lie on the ground. A window that does not have the whole part in it cannot count, and at half the picture's size a bar is less than a pixel thick.

use super::Box4;
use crate::data::seed::{below, normal, uniform};
use crate::data::{Purpose, rng};
use image::{Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{PI, TAU};

/// The release of the generator: what it draws must never change under one name.
pub const VERSION: &str = "v2";

/// A class for each pair of counts.
pub const CLASSES: usize = COUNTED * COUNTED;
/// Counts of flat bars: none to all.
const COUNTED: usize = BARS + 1;

/// Creatures for training and for testing.
pub const COUNTS: [usize; 2] = [8_000, 2_000];

/// Pixels of a side of the picture.
const SIDE: usize = 144;
/// Half the width of a part.
const PART: f64 = 18.0;
/// The centres of parts stay so far from the edge: the parts are inside of every square that is cut out.
const MARGIN: f64 = 36.0;
/// How far apart the centres of head and tail are.
const LENGTH: [f64; 2] = [46.0, 62.0];
/// How much a creature tilts either way.
const TILT: f64 = 0.7;
/// Bars on each part, and how far from its centre they are.
const BARS: usize = 3;
const FROM_CENTRE: [f64; 2] = [10.0, 13.0];
/// Half the length and half the thickness of a bar.
const BAR: [f64; 2] = [3.0, 0.9];
/// Bars on the ground, and how near they may come to a part's centre.
const ON_GROUND: [usize; 2] = [6, 14];
const NEAR: f64 = 30.0;

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

/// A bar, flat or upright.
struct Bar {
    at: Point,
    flat: bool,
}

/// Names a class of creatures.
pub fn class_name(class: usize) -> String {
    format!("{} flat on the head, {} on the tail", class / COUNTED, class % COUNTED)
}

/// Draws creature `index` of a split (0 for training, 1 for testing); classes take turns.
pub fn creature(split: u64, index: u64) -> Creature {
    let rng = &mut rng(0, Purpose::Creature, split, index);
    let mut creature = place(rng);
    let ends = creature.parts.map(|part| part.map(|share| share * SIDE as f64));
    let class = index as usize % CLASSES;
    let on_parts = [0, 1].map(|end| bars(ends[end], [class / COUNTED, class % COUNTED][end], rng));
    let mut on_ground = Vec::new();
    for _ in 0..ON_GROUND[0] + below(rng, ON_GROUND[1] - ON_GROUND[0] + 1) {
        let (at, flat) = ([0; 2].map(|_| uniform(rng, 0.0, SIDE as f64)), below(rng, 2) == 0);
        if ends.iter().all(|&end| distance(at, end) > NEAR) {
            on_ground.push(Bar { at, flat });
        }
    }
    creature.image = paint(ends, &on_parts, &on_ground, rng);
    creature
}

/// The bars of a part about its centre, evenly round it; so many of them are flat.
fn bars(centre: Point, flat: usize, rng: &mut ChaCha8Rng) -> Vec<Bar> {
    let (turn, first) = (uniform(rng, 0.0, TAU), below(rng, BARS));
    let bar = |i: usize| {
        let (angle, far) = (turn + TAU * i as f64 / BARS as f64, uniform(rng, FROM_CENTRE[0], FROM_CENTRE[1]));
        let at = [centre[0] + far * libm::cos(angle), centre[1] + far * libm::sin(angle)];
        Bar { at, flat: (i + first) % BARS < flat }
    };
    (0..BARS).map(bar).collect()
}

/// The box and the parts of a creature, without its picture.
pub(super) fn layout(split: u64, index: u64) -> Creature {
    place(&mut rng(0, Purpose::Creature, split, index))
}

fn place(rng: &mut ChaCha8Rng) -> Creature {
    let inside = |p: Point| p.iter().all(|&v| (MARGIN..=SIDE as f64 - MARGIN).contains(&v));
    let ends = loop {
        let head = [0; 2].map(|_| uniform(rng, MARGIN, SIDE as f64 - MARGIN));
        let facing = if below(rng, 2) == 0 { 0.0 } else { PI };
        let (angle, length) = (facing + uniform(rng, -TILT, TILT), uniform(rng, LENGTH[0], LENGTH[1]));
        let tail = [head[0] + length * libm::cos(angle), head[1] + length * libm::sin(angle)];
        if inside(tail) {
            break [head, tail];
        }
    };
    let low = |axis: usize| (ends[0][axis].min(ends[1][axis]) - PART) / SIDE as f64;
    let high = |axis: usize| (ends[0][axis].max(ends[1][axis]) + PART) / SIDE as f64;
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

fn paint(ends: [Point; 2], on_parts: &[Vec<Bar>; 2], on_ground: &[Bar], rng: &mut ChaCha8Rng) -> RgbImage {
    let background = Background::new(rng);
    let (body, width) = (colour(rng, [60.0, 110.0], 12.0), uniform(rng, 3.5, 5.5));
    let bend = uniform(rng, -8.0, 8.0);
    let (light, dark) = (colour(rng, [205.0, 245.0], 10.0), colour(rng, [10.0, 45.0], 8.0));
    let loose: Vec<Colour> = on_ground.iter().map(|_| if below(rng, 2) == 0 { light } else { dark }).collect();
    let noise = uniform(rng, 2.0, 8.0);
    let mut image = RgbImage::new(SIDE as u32, SIDE as u32);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let at = [f64::from(x) + 0.5, f64::from(y) + 0.5];
        let mut value = background.at(at);
        blend(&mut value, body, on_body(at, ends, width, bend));
        for (bar, colour) in on_ground.iter().zip(&loose) {
            blend(&mut value, *colour, bar.covers(at));
        }
        // The head is light with dark bars, the tail dark with light ones.
        for (end, [part, bar]) in [[light, dark], [dark, light]].into_iter().enumerate() {
            blend(&mut value, part, on_part(at, ends[end], end == 1));
            on_parts[end].iter().for_each(|on| blend(&mut value, bar, on.covers(at)));
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

/// How much of a pixel a disc (head) or a square (tail) covers.
fn on_part(at: Point, centre: Point, square: bool) -> f64 {
    let (x, y) = (at[0] - centre[0], at[1] - centre[1]);
    let edge = if square { x.abs().max(y.abs()) } else { libm::hypot(x, y) };
    (PART - edge + 0.5).clamp(0.0, 1.0)
}

impl Bar {
    /// How much of a pixel it covers.
    fn covers(&self, at: Point) -> f64 {
        let (x, y) = ((at[0] - self.at[0]).abs(), (at[1] - self.at[1]).abs());
        let (along, across) = if self.flat { (x, y) } else { (y, x) };
        (BAR[0] - along + 0.5).clamp(0.0, 1.0) * (BAR[1] - across + 0.5).clamp(0.0, 1.0)
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
            let (turn, period) = (uniform(rng, 0.0, TAU), uniform(rng, 5.0, 14.0));
            let frequency = TAU / period;
            let phase = uniform(rng, 0.0, TAU);
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
        let expected = "b7a9763f52cd878be885e22f164bd6bf35cece6ee3b4f2d6a9642f50befbda5b";
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
            for (end, [x, y]) in parts.into_iter().enumerate() {
                assert!(bird[0] < x && x < bird[2] && bird[1] < y && y < bird[3]);
                // The middle of the head is light and that of the tail dark: bars are further out.
                let level = image.get_pixel((x * SIDE as f64) as u32, (y * SIDE as f64) as u32)[1];
                assert!(if end == 0 { level > 150 } else { level < 100 }, "creature {index}, end {end}: {level}");
            }
        }
    }

    #[test]
    fn as_many_bars_lie_flat_as_the_class_says() {
        for flat in 0..=BARS {
            let bars = bars([72.0, 72.0], flat, &mut rng(0, Purpose::Creature, 9, flat as u64));
            assert_eq!((bars.len(), bars.iter().filter(|bar| bar.flat).count()), (BARS, flat));
            let inside = |bar: &Bar| distance(bar.at, [72.0, 72.0]) + BAR[0] < PART;
            assert!(bars.iter().all(inside));
        }
        let across = Bar { at: [5.0, 5.0], flat: true };
        assert!(across.covers([7.5, 5.0]) > 0.9 && across.covers([5.0, 7.5]) == 0.0);
    }
}
