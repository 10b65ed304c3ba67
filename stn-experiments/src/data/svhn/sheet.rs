//! A contact sheet of crops with the boxes of their digits, to check both by eye.

use anyhow::{Context, Result};
use image::{Rgb, RgbImage};

use super::rows::DigitBox;
use super::{FOLDER, Frame, Hub, REPOSITORY, Source, crop, rows, scene};
use crate::data::mnist::Mnist;
use crate::data::table::Table;

/// Crops of a row of the sheet.
const COLUMNS: usize = 10;

/// Boxes are drawn in this colour.
const BOX: Rgb<u8> = Rgb([255, 220, 0]);

/// Draws the first `count` test numbers of the hub, or of the synthetic ones. Says what they are.
///
/// # Errors
///
/// With `Hub`, when the hub and its cache have no valid data; with `Auto`, synthetic numbers are taken then.
pub fn sheet(hub: &Hub, source: Source, offline: bool, side: usize, count: usize) -> Result<(RgbImage, String)> {
    type Number = (RgbImage, Vec<DigitBox>, (f64, f64));
    let from_hub = || -> Result<Vec<Number>> {
        let names = hub.names(&REPOSITORY, FOLDER, "test", offline)?;
        let name = names.first().context("no test file")?;
        let fetched = hub.file(&REPOSITORY, name, offline)?;
        let table = Table::open_file(fetched.files.first().context("no test file")?)?;
        let rows = rows(&table, 0)?;
        rows.into_iter().take(count).map(|row| Ok((row.decode()?, row.digits, (0.0, 0.0)))).collect()
    };
    let numbers = match source {
        Source::Embedded => None,
        Source::Hub => Some(from_hub()?),
        Source::Auto => from_hub().map_err(|error| crate::warn!("not from the hub: {error:#}")).ok(),
    };
    let (numbers, what) = match numbers {
        Some(numbers) => (numbers, "SVHN's test set".to_string()),
        None => {
            let digits = Mnist::embedded("asked for")?.test;
            let scenes = (0..count as u64).map(|i| scene(&digits, 1, i));
            (scenes.map(|s| (s.image, s.digits, s.offset)).collect(), "SYNTHETIC house numbers".into())
        }
    };
    let rows = numbers.len().div_ceil(COLUMNS);
    let mut sheet = RgbImage::new((COLUMNS * (side + 2)) as u32, (rows * (side + 2)) as u32);
    let mut pixels = vec![0; 3 * side * side];
    for (i, (image, digits, offset)) in numbers.iter().enumerate() {
        let window = Frame::around(digits).context("a number without digits")?.window(side, *offset);
        crop(image, window, side, &mut pixels);
        let (left, top) = (i % COLUMNS * (side + 2), i / COLUMNS * (side + 2));
        for (at, pixel) in (0..side * side).map(|at| (at, Rgb([0, 1, 2].map(|c| pixels[c * side * side + at])))) {
            sheet.put_pixel((left + at % side) as u32, (top + at / side) as u32, pixel);
        }
        for digit in digits {
            let scale = (side as f64 / window.width, side as f64 / window.height);
            let x = [digit.left, digit.left + digit.width].map(|x| ((f64::from(x) - window.left) * scale.0) as i64);
            let y = [digit.top, digit.top + digit.height].map(|y| ((f64::from(y) - window.top) * scale.1) as i64);
            let mut dot = |x: i64, y: i64| {
                if (0..side as i64).contains(&x) && (0..side as i64).contains(&y) {
                    sheet.put_pixel(left as u32 + x as u32, top as u32 + y as u32, BOX);
                }
            };
            (x[0]..=x[1]).for_each(|x| y.into_iter().for_each(|y| dot(x, y)));
            (y[0]..=y[1]).for_each(|y| x.into_iter().for_each(|x| dot(x, y)));
        }
    }
    Ok((sheet, what))
}
