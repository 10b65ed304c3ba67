//! A contact sheet of crops with the boxes of their digits, to check both by eye.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use std::path::Path;
use stn_viz::{GalleryFigure, GalleryItem, Outline, gallery};

use super::rows::DigitBox;
use super::{FOLDER, Frame, Hub, REPOSITORY, STAND_IN, Source, VERSION, crop, decode, digits, images, scene};
use crate::data::mnist::Mnist;
use crate::data::stand_in::Chosen;
use crate::data::table::Table;

/// Draws the first `count` test numbers of the hub, or of the synthetic ones, to `path` (.png or .svg). Says what they are.
///
/// # Errors
///
/// With `Hub`, when the hub and its cache have no valid data (with `Auto`, synthetic numbers are taken then); when the sheet cannot be written.
pub fn sheet(hub: &Hub, source: Source, offline: bool, side: usize, count: usize, path: &Path) -> Result<String> {
    let fetch = || {
        let names = hub.names(&REPOSITORY, FOLDER, "test", offline)?;
        hub.file(&REPOSITORY, names.first().context("no test file")?, offline)
    };
    let (numbers, what): (Vec<(RgbImage, Vec<DigitBox>)>, String) =
        match STAND_IN.choose(hub, source, offline, fetch)? {
            Chosen::Hub(fetched) => {
                let table = Table::open_mapped(fetched.files.first().context("no test file")?)?;
                let rows = images(&table, 0)?.into_iter().zip(digits(&table, 0)?);
                // Rows that make no sense are none of the set either.
                let rows = rows.filter_map(|(image, digits)| {
                    let digits = digits.ok().filter(|digits| !digits.is_empty())?;
                    Some((decode(&image).ok()?, digits))
                });
                (rows.take(count).collect(), "SVHN, whose images are not ours to pass on".into())
            }
            Chosen::StandIn { .. } => {
                let digits = Mnist::embedded("asked for")?.test;
                let scenes = (0..count as u64).map(|i| scene(&digits, 1, i));
                (scenes.map(|s| (s.image, s.digits)).collect(), format!("SYNTHETIC house numbers {VERSION}"))
            }
        };
    let mut drawn = Vec::with_capacity(numbers.len());
    for (image, digits) in &numbers {
        let window = Frame::around(digits).context("a number without digits")?.window(side);
        let mut pixels = vec![0; 3 * side * side];
        crop(image, window, side, &mut pixels);
        let tensor = Tensor::from_vec(pixels, (3, side, side), &Device::Cpu)?.to_dtype(DType::F32)?;
        drawn.push(((tensor / 255.0)?, digits.iter().map(|digit| outline(digit, window)).collect::<Vec<_>>()));
    }
    let items: Vec<GalleryItem> =
        drawn.iter().map(|(image, outlines)| GalleryItem { image, outlines, caption: "" }).collect();
    let synthetic = if what.starts_with("SYNTHETIC") { "SYNTHETIC " } else { "" };
    let title = format!("The first {} {synthetic}test numbers, crops of {side} px", items.len());
    let kinds = ["the box of a digit"];
    gallery(
        path,
        &GalleryFigure { title: &title, note: &what, kinds: &kinds, columns: 10, side: 128.0, items: &items },
    )
    .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(what)
}

/// A digit's box on the crop that shows a window of its image.
fn outline(digit: &DigitBox, window: Frame) -> Outline {
    let x = |x: i32| 2.0 * (f64::from(x) - window.left) / window.width - 1.0;
    let y = |y: i32| 2.0 * (f64::from(y) - window.top) / window.height - 1.0;
    let (left, right) = (x(digit.left), x(digit.left + digit.width));
    let (top, bottom) = (y(digit.top), y(digit.top + digit.height));
    Outline { corners: [(left, top), (right, top), (right, bottom), (left, bottom)], kind: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_lie_on_the_crop_as_on_the_image() {
        let digit = DigitBox { class: 1, left: 10, top: 20, width: 10, height: 20 };
        let window = Frame { left: 0.0, top: 0.0, width: 40.0, height: 80.0 };
        assert_eq!(outline(&digit, window).corners, [(-0.5, -0.5), (0.0, -0.5), (0.0, 0.0), (-0.5, 0.0)]);
    }

    #[test]
    fn a_sheet_says_what_it_shows() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sheet.svg");
        let what = sheet(&Hub::new("http://127.0.0.1:9", folder.path()), Source::Embedded, true, 64, 3, &path)?;
        assert!(what.starts_with("SYNTHETIC house numbers"), "{what}");
        assert!(std::fs::read_to_string(&path)?.contains("SYNTHETIC"));
        Ok(())
    }
}
