//! Text with the bundled font: measuring, wrapping and, for bitmaps, drawing.
//!
//! plotters draws SVG text well, but its bitmap text drops the space left of each glyph and sits too high;
//! so the bitmap text is drawn here, with the same baseline and size as in the SVG.

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use candle_core::{Result, bail};
use std::sync::OnceLock;

/// The family named in SVG files; the later names serve viewers without the first.
pub(crate) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

static REGULAR: &[u8] = include_bytes!("../assets/DejaVuSans.subset.ttf");
static BOLD: &[u8] = include_bytes!("../assets/DejaVuSans-Bold.subset.ttf");

/// The height of a capital letter over the font size, for DejaVu Sans.
pub(crate) const CAP_HEIGHT: f64 = 0.73;

/// Size in points (or in any unit the caller measures in) and weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Font {
    pub(crate) size: f64,
    pub(crate) bold: bool,
}

pub(crate) const TITLE: Font = Font { size: 14., bold: true };
pub(crate) const HEADING: Font = Font { size: 10., bold: true };
pub(crate) const BODY: Font = Font { size: 10., bold: false };
pub(crate) const SMALL: Font = Font { size: 8.5, bold: false };

fn face(bold: bool) -> Result<&'static FontRef<'static>> {
    static FACES: OnceLock<Option<[FontRef<'static>; 2]>> = OnceLock::new();
    let load = || Some([FontRef::try_from_slice(REGULAR).ok()?, FontRef::try_from_slice(BOLD).ok()?]);
    match FACES.get_or_init(load) {
        Some(faces) => Ok(&faces[usize::from(bold)]),
        None => bail!("text: the bundled font cannot be read; the build is broken, build stn-viz again"),
    }
}

/// ab_glyph measures a font by ascent minus descent, the rest of the world by the em.
fn scale(face: &FontRef<'static>, size: f64) -> PxScale {
    let em = face.units_per_em().unwrap_or(2048.);
    PxScale::from(size as f32 * face.height_unscaled() / em)
}

/// Calls `glyph(id, x)` for each character, `x` from 0; returns the width of the line.
fn lay_out(text: &str, font: Font, mut glyph: impl FnMut(ab_glyph::GlyphId, f32)) -> Result<f64> {
    let face = face(font.bold)?;
    let scaled = face.as_scaled(scale(face, font.size));
    let (mut x, mut last) = (0f32, None);
    for c in text.chars() {
        let id = scaled.glyph_id(c);
        if let Some(last) = last {
            x += scaled.kern(last, id);
        }
        glyph(id, x);
        x += scaled.h_advance(id);
        last = Some(id);
    }
    Ok(f64::from(x))
}

/// The width of one line, in the unit of `font.size`.
pub(crate) fn width(text: &str, font: Font) -> Result<f64> {
    lay_out(text, font, |_, _| ())
}

/// The width of a legend on one line: for each name a stroke, the name, and room behind it.
pub(crate) fn legend_width(names: &[&str]) -> Result<f64> {
    names.iter().try_fold(0., |sum, name| Ok(sum + 23. + width(name, SMALL)? + 18.))
}

/// Breaks a text at spaces and at its own line ends so that no line is wider than `limit`; a single longer
/// word stays whole. An empty text has no lines.
pub(crate) fn wrap(text: &str, font: Font, limit: f64) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
            if line.is_empty() || width(&longer, font)? <= limit {
                line = longer;
            } else {
                lines.push(std::mem::replace(&mut line, word.to_string()));
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Calls `put(x, y, coverage)` for each touched pixel of a line whose baseline starts at (0, 0), y down.
pub(crate) fn rasterize(text: &str, font: Font, mut put: impl FnMut(i32, i32, f32)) -> Result<()> {
    let face = face(font.bold)?;
    let scale = scale(face, font.size);
    lay_out(text, font, |id, x| {
        if let Some(outline) = face.outline_glyph(id.with_scale_and_position(scale, point(x, 0.))) {
            let corner = outline.px_bounds().min;
            outline.draw(|i, j, c| put(i as i32 + corner.x as i32, j as i32 + corner.y as i32, c));
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capital_stands_on_the_baseline_and_is_as_high_as_said() -> Result<()> {
        let font = Font { size: 100., bold: false };
        let (mut top, mut bottom, mut left) = (0, 0, i32::MAX);
        rasterize("H", font, |x, y, c| {
            if c > 0.5 {
                (top, bottom, left) = (top.min(y), bottom.max(y + 1), left.min(x));
            }
        })?;
        assert_eq!(bottom, 0);
        assert!((f64::from(-top) - 100. * CAP_HEIGHT).abs() <= 1.5, "{top}");
        assert!(left >= 8, "the space left of the glyph is lost: {left}");
        Ok(())
    }

    #[test]
    fn the_font_has_the_letters_that_figures_need() -> Result<()> {
        let face = face(false)?;
        for c in "AZaz09 θφ°±−×→≤≥·–…²%".chars() {
            assert_ne!(face.glyph_id(c).0, 0, "the font lacks {c:?}");
        }
        Ok(())
    }

    #[test]
    fn wrapped_lines_fit_and_lose_no_word() -> Result<()> {
        let text = "embedded MNIST, seed 0, quick budget, 1500 steps, test error 3.1 %";
        let lines = wrap(text, SMALL, 120.)?;
        assert!(lines.len() > 2);
        for line in &lines {
            assert!(width(line, SMALL)? <= 120.);
        }
        assert_eq!(lines.join(" "), text);
        assert!(wrap("", SMALL, 120.)?.is_empty());
        Ok(())
    }
}
