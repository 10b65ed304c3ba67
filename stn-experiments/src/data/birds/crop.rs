//! From a picture to the square that the network sees, and where boxes and points lie in it.

use super::Box4;
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
    /// The bird's box in coordinates of the square, -1 to 1 from edge to edge: left, top, right, bottom.
    pub bird: Box4,
    /// The parts whose places are known, in the same coordinates.
    pub parts: Vec<[f64; 2]>,
}

impl Crop {
    /// Cuts the square out. `bird` and `parts` are in shares of the picture, 0 to 1.
    pub(super) fn view(self, picture: &RgbImage, bird: Box4, parts: &[[f64; 2]], rng: Option<&mut ChaCha8Rng>) -> View {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let slack = (width.saturating_sub(self.side), height.saturating_sub(self.side));
        let (left, top, flipped) = match rng {
            Some(rng) => (below(rng, slack.0 + 1), below(rng, slack.1 + 1), rng.next_u64() & 1 == 1),
            None => (slack.0 / 2, slack.1 / 2, false),
        };
        let (side, source) = (self.side, picture.as_raw());
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
        let place = |[x, y]: [f64; 2]| {
            let x = 2.0 * (x * width as f64 - left as f64) / side as f64 - 1.0;
            [if flipped { -x } else { x }, 2.0 * (y * height as f64 - top as f64) / side as f64 - 1.0]
        };
        let ([x0, y0], [x1, y1]) = (place([bird[0], bird[1]]), place([bird[2], bird[3]]));
        View { pixels, bird: [x0.min(x1), y0, x0.max(x1), y1], parts: parts.iter().map(|&part| place(part)).collect() }
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
        let crop = Crop { side: 20, short: 30 };
        let view = crop.view(&picture(), [0.25, 0.5, 1.5, 1.0], &[[0.5, 0.5]], None);
        let value = |channel: usize, y: usize, x: usize| (view.pixels[(channel * 20 + y) * 20 + x] * 255.0).round();
        assert_eq!((value(0, 0, 0), value(1, 0, 0), value(2, 3, 3)), (10.0, 5.0, 7.0));
        // Columns 10 and 60, rows 15 and 30, of a square from (10, 5) on.
        assert_eq!(view.bird, [-1.0, 0.0, 4.0, 1.5]);
        assert_eq!(view.parts, [[0.0, 0.0]]);
    }

    #[test]
    fn random_squares_stay_inside_and_flips_turn_boxes_too() {
        let crop = Crop { side: 20, short: 30 };
        let (mut lefts, mut flips) = (std::collections::HashSet::new(), 0);
        for index in 0..200 {
            let view =
                crop.view(&picture(), [0.25, 0.0, 0.5, 1.0], &[], Some(&mut rng(0, Purpose::BirdCrop, 0, index)));
            let red = |x: usize| (view.pixels[x] * 255.0).round() as usize;
            let flipped = red(0) > red(19);
            let left = red(0).min(red(19));
            assert!(left <= 20 && red(0).abs_diff(red(19)) == 19);
            // The box begins at column 10 and ends at 20.
            let edge = |column: usize| 2.0 * (column as f64 - left as f64) / 20.0 - 1.0;
            let expected = if flipped { [-edge(20), -edge(10)] } else { [edge(10), edge(20)] };
            assert!((view.bird[0] - expected[0]).abs() < 1e-9 && (view.bird[2] - expected[1]).abs() < 1e-9);
            lefts.insert(left);
            flips += usize::from(flipped);
        }
        assert!(lefts.len() == 21 && (70..130).contains(&flips), "{} {flips}", lefts.len());
    }

    #[test]
    fn a_small_picture_is_continued() {
        let view = Crop { side: 50, short: 30 }.view(&picture(), [0.0; 4], &[], None);
        assert_eq!((view.pixels[49] * 255.0).round(), 39.0);
    }
}
