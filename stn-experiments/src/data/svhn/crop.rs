//! The crop round a house number: the protocol of Goodfellow et al. (2013), and the looser one of Ba et al. (2014).
//!
//! The frame of all digits together is grown by 30 %, and what it then holds is brought to 64x64 pixels, whatever its shape. The 128 px images have the same
//! scale and a window twice as wide and high. Outside the image its edge goes on.

use image::RgbImage;

use super::rows::DigitBox;

/// By how much the digits' frame grows.
const GROWTH: f64 = 1.3;

/// Pixels of a side of the tight crop.
pub const TIGHT: usize = 64;

/// A rectangle in pixels; pixel i covers i to i + 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Columns.
    pub width: f64,
    /// Rows.
    pub height: f64,
}

impl Frame {
    /// The smallest one that holds all digits; `None` for none.
    pub fn around(digits: &[DigitBox]) -> Option<Self> {
        let left = digits.iter().map(|d| d.left).min()?;
        let top = digits.iter().map(|d| d.top).min()?;
        let right = digits.iter().map(|d| d.left + d.width).max()?;
        let bottom = digits.iter().map(|d| d.top + d.height).max()?;
        let [left, top, right, bottom] = [left, top, right, bottom].map(f64::from);
        Some(Self { left, top, width: right - left, height: bottom - top })
    }

    /// What the crop of `side` x `side` pixels shows of the image.
    pub fn window(self, side: usize) -> Self {
        let scale = GROWTH * side as f64 / TIGHT as f64;
        Self {
            left: self.left + self.width / 2.0 - scale * self.width / 2.0,
            top: self.top + self.height / 2.0 - scale * self.height / 2.0,
            width: scale * self.width,
            height: scale * self.height,
        }
    }
}

/// What one output pixel takes along an axis: the first source pixel, and a weight for each from there on.
struct Taps {
    first: i64,
    weights: Vec<f32>,
}

/// A triangle as wide as two output pixels, or two source pixels where these are larger: bilinear where it magnifies, free of aliases where not.
fn taps(start: f64, len: f64, side: usize) -> Vec<Taps> {
    let step = len / side as f64;
    let radius = step.max(1.0);
    let one = |i: usize| {
        let centre = start + (i as f64 + 0.5) * step - 0.5;
        let first = (centre - radius).floor() as i64 + 1;
        let last = (centre + radius).ceil() as i64 - 1;
        let weights: Vec<f64> = (first..=last).map(|j| 1.0 - (j as f64 - centre).abs() / radius).collect();
        let sum: f64 = weights.iter().sum();
        Taps { first, weights: weights.iter().map(|w| (w / sum) as f32).collect() }
    };
    (0..side).map(one).collect()
}

/// Brings a window of an image to (3, side, side) bytes.
///
/// # Panics
///
/// When `out` has another size, or the image has no pixels.
pub fn crop(image: &RgbImage, window: Frame, side: usize, out: &mut [u8]) {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    assert!(out.len() == 3 * side * side && width > 0 && height > 0, "crop: expected pixels and room for them");
    let (columns, rows) = (taps(window.left, window.width, side), taps(window.top, window.height, side));
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
    // The rows of the image that are needed, each brought to its new width: (row, channel, side). A window may reach a million rows beyond it: these are its edge's.
    let inside = |row: i64| row.clamp(0, height - 1);
    let (top, end) = (inside(first.first), inside(last.first + last.weights.len() as i64 - 1) + 1);
    let mut lines = vec![0f32; (end - top) as usize * 3 * side];
    for (row, line) in (top..end).zip(lines.chunks_exact_mut(3 * side)) {
        let source = row * width;
        for (x, taps) in columns.iter().enumerate() {
            let mut sums = [0f32; 3];
            for (j, &weight) in (taps.first..).zip(&taps.weights) {
                let at = 3 * (source + j.clamp(0, width - 1)) as usize;
                for (sum, &value) in sums.iter_mut().zip(&image.as_raw()[at..at + 3]) {
                    *sum += weight * f32::from(value);
                }
            }
            (0..3).for_each(|channel| line[channel * side + x] = sums[channel]);
        }
    }
    let mut sums = vec![0f32; side];
    for (y, taps) in rows.iter().enumerate() {
        for channel in 0..3 {
            sums.fill(0.0);
            for (row, &weight) in (taps.first..).zip(&taps.weights) {
                let line = &lines[((inside(row) - top) as usize * 3 + channel) * side..][..side];
                sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * value);
            }
            let out = &mut out[(channel * side + y) * side..][..side];
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = (sum + 0.5) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(left: i32, top: i32, width: i32, height: i32) -> DigitBox {
        DigitBox { class: 1, left, top, width, height }
    }

    #[test]
    fn windows_follow_the_protocol() {
        assert_eq!(Frame::around(&[]), None);
        let frame = Frame::around(&[digit(10, 20, 5, 10), digit(16, 18, 4, 10)]).unwrap();
        assert_eq!(frame, Frame { left: 10.0, top: 18.0, width: 10.0, height: 12.0 });
        let tight = frame.window(64);
        assert!((tight.left - 8.5).abs() < 1e-12 && (tight.width - 13.0).abs() < 1e-12, "{tight:?}");
        let loose = frame.window(128);
        assert!((loose.left - 2.0).abs() < 1e-12 && (loose.width - 26.0).abs() < 1e-12, "{loose:?}");
    }

    #[test]
    fn pixels_of_the_same_size_are_copied_and_the_edge_goes_on() {
        let image = RgbImage::from_fn(4, 3, |x, y| image::Rgb([(10 * x) as u8, (10 * y) as u8, 7]));
        let mut out = vec![0; 3 * 64];
        crop(&image, Frame { left: -2.0, top: -2.0, width: 8.0, height: 8.0 }, 8, &mut out);
        assert_eq!(out[2 * 8..3 * 8], [0, 0, 0, 10, 20, 30, 30, 30]); // red of the image's first row
        let green: Vec<u8> = (0..8).map(|y| out[64 + 8 * y]).collect();
        assert_eq!(green, [0, 0, 0, 10, 20, 20, 20, 20]);
        assert!(out[128..].iter().all(|&blue| blue == 7));
    }

    /// A box may be wrong and far larger than its image.
    #[test]
    fn a_window_far_larger_than_the_image_is_cropped_too() {
        let image = RgbImage::from_fn(4, 4, |x, _| image::Rgb([if x < 2 { 10 } else { 50 }, 7, 0]));
        let mut out = vec![0; 3 * 64];
        crop(&image, Frame { left: -4e4, top: -4e4, width: 8e4, height: 8e4 }, 8, &mut out);
        let row = [10u8, 10, 10, 15, 45, 50, 50, 50]; // the triangle is as wide as two output pixels
        assert!(
            out[..64].chunks(8).all(|red| red.iter().zip(row).all(|(&a, b)| a.abs_diff(b) <= 1)),
            "{:?}",
            &out[..8]
        );
        assert!(out[64..128].iter().all(|&green| green == 7));
    }

    #[test]
    fn shrinking_keeps_the_mean() {
        let image = RgbImage::from_fn(64, 64, |x, y| image::Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }, 100, 0]));
        let mut out = vec![0; 3 * 16 * 16];
        crop(&image, Frame { left: 0.0, top: 0.0, width: 64.0, height: 64.0 }, 16, &mut out);
        // At the edge, which goes on in one colour, a little less so.
        assert!(out[..256].iter().all(|&red| (120..=136).contains(&red)), "no aliases: {:?}", &out[..16]);
        assert!(out[17..31].iter().all(|&red| (127..=129).contains(&red)), "no aliases: {:?}", &out[17..31]);
        assert!(out[256..512].iter().all(|&green| green == 100));
    }
}
