//! A figure's way to disk: drawn in memory, encoded as PNG or SVG, put in place in one move.

use crate::canvas::{Canvas, Point, QUARTERS, failed};
use crate::colours::WHITE;
use candle_core::{Error, Result, bail};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::backend::{BitMapBackend, SVGBackend};
use std::path::Path;

/// A PNG has two pixels a point; each is the mean of 2 x 2 drawn ones, since plotters does not smooth polygons.
const SHRINK: usize = 2;

/// Draws a figure of `width` x `height` points in memory, then puts it under `path` in one move.
pub(crate) fn paint(path: &Path, (width, height): Point, draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<()> {
    let svg = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("svg") => true,
        Some("png") => false,
        _ => bail!("figure {}: the file name must end in .png or .svg", path.display()),
    };
    let (columns, rows) = (width.ceil() * QUARTERS, height.ceil() * QUARTERS);
    if columns * rows > 3e8 {
        bail!("figure {}: {width:.0} x {height:.0} points are too many; give it fewer rows", path.display())
    }
    let size = (columns as u32, rows as u32);
    let bytes = if svg { draw_svg(size, draw)? } else { draw_png(size, draw)? };
    save(path, &bytes)
}

fn draw_svg(size: (u32, u32), draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<Vec<u8>> {
    let mut xml = String::new();
    let mut canvas = Canvas::svg(SVGBackend::with_string(&mut xml, size));
    canvas.rect((0., 0.), (f64::from(size.0) / QUARTERS, f64::from(size.1) / QUARTERS), WHITE)?;
    draw(&mut canvas)?;
    canvas.present()?;
    // The drawing counts in quarters of a point (its viewBox); on a page it should have its size in points.
    let drawn = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let shown = format!("width=\"{}\" height=\"{}\"", size.0 / QUARTERS as u32, size.1 / QUARTERS as u32);
    // Attributes that say the default are a third of the file; in texts the quotes are escaped.
    let xml = xml.replacen(&drawn, &shown, 1).replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "");
    Ok(xml.into_bytes())
}

fn draw_png(size: (u32, u32), draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<Vec<u8>> {
    let (w, h) = (size.0 as usize, size.1 as usize);
    let mut drawn = vec![255u8; w * h * 3];
    let mut canvas = Canvas::png(BitMapBackend::with_buffer_and_format(&mut drawn, size).map_err(failed)?);
    draw(&mut canvas)?;
    canvas.present()?;
    let mut shown = Vec::with_capacity(drawn.len() / (SHRINK * SHRINK));
    for pair in drawn.chunks_exact(SHRINK * w * 3) {
        let (upper, lower) = pair.split_at(w * 3);
        for (a, b) in upper.chunks_exact(SHRINK * 3).zip(lower.chunks_exact(SHRINK * 3)) {
            let mean = |c| (u16::from(a[c]) + u16::from(a[c + 3]) + u16::from(b[c]) + u16::from(b[c + 3]) + 2) / 4;
            shown.extend([mean(0) as u8, mean(1) as u8, mean(2) as u8]);
        }
    }
    let (w, h) = (size.0 / SHRINK as u32, size.1 / SHRINK as u32);
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter);
    encoder.write_image(&shown, w, h, ExtendedColorType::Rgb8).map_err(failed)?;
    Ok(bytes)
}

/// Writes beside the file, then renames: a full disk or a stopped run leaves no half figure.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path)).map_err(|error| {
        std::fs::remove_file(&beside).ok();
        let hint = "the folder must exist and be writable, with space left";
        Error::Msg(format!("figure {}: cannot be written ({error}); {hint}", path.display()))
    })
}
