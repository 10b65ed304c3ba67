//! Galleries: pictures with the outlines of windows on them.

use candle_core::{DType, Device, Result, Tensor};
use stn_viz::{GalleryFigure, GalleryItem, Outline, gallery};

const WINDOW: [(f64, f64); 4] = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)];

fn figure<'a>(items: &'a [GalleryItem<'a>], kinds: &'a [&'a str]) -> GalleryFigure<'a> {
    GalleryFigure { title: "windows", note: "", kinds, columns: 2, side: 40., items }
}

fn black() -> Result<Tensor> {
    Tensor::zeros((3, 20, 30), DType::F32, &Device::Cpu)
}

/// The pixels of a PNG, and its width.
fn drawn(figure: &GalleryFigure) -> Result<(Vec<[u8; 3]>, u32)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("gallery.png");
    gallery(&path, figure)?;
    let image = image::open(&path).map_err(candle_core::Error::wrap)?.to_rgb8();
    Ok((image.pixels().map(|pixel| pixel.0).collect(), image.width()))
}

#[test]
fn a_window_is_drawn_where_it_is_and_in_its_colour() -> Result<()> {
    let image = black()?;
    let count = |corners, kind| -> Result<usize> {
        let outlines = [Outline { corners, kind }];
        let items = [GalleryItem { image: &image, outlines: &outlines, caption: "" }];
        let (pixels, _) = drawn(&figure(&items, &["first", "second"]))?;
        let colour = [[0x33, 0x22, 0x88], [0xee, 0x66, 0x77]][kind];
        Ok(pixels.iter().filter(|pixel| **pixel == colour).count())
    };
    // A window of half the size has half the outline; the legend's line is there for both.
    let legend = count([(f64::NAN, 0.); 4], 1)?;
    let (whole, half) = (count(WINDOW.map(|(x, y)| (2. * x, 2. * y)), 1)? - legend, count(WINDOW, 1)? - legend);
    assert!(legend > 0 && half > 50, "{legend} {half}");
    assert!((whole as f64 / half as f64 - 2.).abs() < 0.3, "{whole} {half}");
    assert!(count(WINDOW, 0)? > 50);
    // Far outside, nothing of it is seen.
    assert_eq!(count(WINDOW.map(|(x, y)| (x + 9., y)), 1)?, legend);
    Ok(())
}

#[test]
fn rows_are_filled_from_the_left() -> Result<()> {
    let image = black()?;
    let items = [GalleryItem { image: &image, outlines: &[], caption: "a" }; 3];
    let (three, width) = drawn(&figure(&items, &[]))?;
    let (two, same) = drawn(&figure(&items[..2], &[]))?;
    assert_eq!(width, same);
    assert!(three.len() > two.len(), "the third stands in a second row");
    Ok(())
}

#[test]
fn what_cannot_be_drawn_is_an_error() -> Result<()> {
    let image = black()?;
    let folder = tempfile::tempdir()?;
    let error = |items: &[GalleryItem], kinds: &[&str]| {
        gallery(&folder.path().join("x.png"), &figure(items, kinds)).unwrap_err().to_string()
    };
    assert!(error(&[], &[]).contains("at least one picture"));
    let outlines = [Outline { corners: WINDOW, kind: 1 }];
    let item = GalleryItem { image: &image, outlines: &outlines, caption: "" };
    assert!(error(&[item], &["only"]).contains("of kind 1"));
    assert!(error(&[GalleryItem { outlines: &[], ..item }], &["x"; 11]).contains("colours for 10"));
    let flat = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
    assert!(
        error(&[GalleryItem { image: &flat, outlines: &[], caption: "" }], &[]).contains("picture 0 of the gallery")
    );
    Ok(())
}
