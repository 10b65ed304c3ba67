//! From a picture to the square that the network sees, and where boxes and points lie in it.

use super::Truth;
use crate::data::seed::below;
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

/// The size of the square, and of the picture that it is cut out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// Pixels of the square's side.
    pub side: usize,
    /// Pixels of the picture's short side.
    pub short: usize,
}

/// A square of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// (3, side, side), 0 to 1.
    pub pixels: Vec<f32>,
    /// Where the bird is, in coordinates of the square, -1 to 1 from edge to edge.
    pub truth: Truth,
}

/// A place in a picture: `side` pixels from its left upper corner on, mirrored or not.
pub(super) struct Square<'a> {
    picture: &'a RgbImage,
    side: usize,
    left: usize,
    top: usize,
    flipped: bool,
}

impl Crop {
    /// The square in the middle; with a generator a random one, flipped or not.
    pub(super) fn square<'a>(self, picture: &'a RgbImage, rng: Option<&mut ChaCha8Rng>) -> Square<'a> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let slack = (width.saturating_sub(self.side), height.saturating_sub(self.side));
        let (left, top, flipped) = match rng {
            Some(rng) => (below(rng, slack.0 + 1), below(rng, slack.1 + 1), rng.next_u64() & 1 == 1),
            None => (slack.0 / 2, slack.1 / 2, false),
        };
        Square { picture, side: self.side, left, top, flipped }
    }
}

impl Square<'_> {
    /// Cuts it out: (3, side, side), 0 to 1.
    pub(super) fn pixels(&self) -> Vec<f32> {
        let &Self { picture, side, left, top, flipped } = self;
        let (width, height, source) = (picture.width() as usize, picture.height() as usize, picture.as_raw());
        let mut pixels = vec![0.0; 3 * side * side];
        for y in 0..side {
            for x in 0..side {
                let from = if flipped { side - 1 - x } else { x };
                // A picture that is smaller than the square is continued by its edge.
                let at = ((top + y).min(height - 1) * width + (left + from).min(width - 1)) * 3;
                for channel in 0..3 {
                    pixels[(channel * side + y) * side + x] = f32::from(source[at + channel]) / 255.0;
                }
            }
        }
        pixels
    }

    /// What is given in shares of the picture, 0 to 1, in coordinates of the square.
    pub(super) fn place(&self, truth: &Truth) -> Truth {
        let &Self { picture, side, left, top, flipped } = self;
        let place = |[x, y]: [f64; 2]| {
            let x = 2.0 * (x * f64::from(picture.width()) - left as f64) / side as f64 - 1.0;
            let y = 2.0 * (y * f64::from(picture.height()) - top as f64) / side as f64 - 1.0;
            [if flipped { -x } else { x }, y]
        };
        let bird = truth.bird;
        let ([x0, y0], [x1, y1]) = (place([bird[0], bird[1]]), place([bird[2], bird[3]]));
        let parts = truth.parts.iter().map(|&part| place(part)).collect();
        Truth { bird: [x0.min(x1), y0, x0.max(x1), y1], parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Purpose, rng};

    /// Red is the column, green the row.
    fn picture() -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 7]))
    }

    #[test]
    fn the_middle_is_the_middle_and_boxes_go_with_it() {
        let (crop, picture) = (Crop { side: 20, short: 30 }, picture());
        let square = crop.square(&picture, None);
        let pixels = square.pixels();
        let value = |channel: usize, y: usize, x: usize| (pixels[(channel * 20 + y) * 20 + x] * 255.0).round();
        assert_eq!((value(0, 0, 0), value(1, 0, 0), value(2, 3, 3)), (10.0, 5.0, 7.0));
        // Columns 10 and 60, rows 15 and 30, of a square from (10, 5) on.
        let truth = square.place(&Truth { bird: [0.25, 0.5, 1.5, 1.0], parts: vec![[0.5, 0.5]] });
        assert_eq!(truth, Truth { bird: [-1.0, 0.0, 4.0, 1.5], parts: vec![[0.0, 0.0]] });
    }

    #[test]
    fn random_squares_stay_inside_and_flips_turn_boxes_too() {
        let (crop, picture) = (Crop { side: 20, short: 30 }, picture());
        let truth = Truth { bird: [0.25, 0.0, 0.5, 1.0], parts: vec![] };
        let (mut lefts, mut flips) = (std::collections::HashSet::new(), 0);
        for index in 0..200 {
            let square = crop.square(&picture, Some(&mut rng(0, Purpose::BirdCrop, 0, index)));
            let (pixels, [x0, _, x1, _]) = (square.pixels(), square.place(&truth).bird);
            let red = |x: usize| (pixels[x] * 255.0).round() as usize;
            let flipped = red(0) > red(19);
            let left = red(0).min(red(19));
            assert!(left <= 20 && red(0).abs_diff(red(19)) == 19);
            // The box begins at column 10 and ends at 20.
            let edge = |column: usize| 2.0 * (column as f64 - left as f64) / 20.0 - 1.0;
            let expected = if flipped { [-edge(20), -edge(10)] } else { [edge(10), edge(20)] };
            assert!((x0 - expected[0]).abs() < 1e-9 && (x1 - expected[1]).abs() < 1e-9);
            lefts.insert(left);
            flips += usize::from(flipped);
        }
        assert!(lefts.len() == 21 && (70..130).contains(&flips), "{} {flips}", lefts.len());
    }

    #[test]
    fn a_small_picture_is_continued() {
        let pixels = Crop { side: 50, short: 30 }.square(&picture(), None).pixels();
        assert_eq!((pixels[49] * 255.0).round(), 39.0);
    }
}
