//! The sheet that all figures draw on: points of 1/72 inch in, PNG or SVG out, chosen by the file's extension.

use crate::colours::WHITE;
use crate::text::{self, CAP_HEIGHT, FAMILY, Font};
use candle_core::{Error, Result, bail};
use plotters::backend::{BitMapBackend, DrawingBackend, RGBPixel, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle};
use std::path::Path;

/// Backends count in whole numbers; a quarter of a point is fine enough for both.
const QUARTERS: f64 = 4.;
/// A PNG has two pixels a point; each is the mean of 2 x 2 drawn ones, since plotters does not smooth polygons.
const SHRINK: usize = 2;

pub(crate) type Point = (f64, f64);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

enum Ink<'a> {
    Png(BitMapBackend<'a, RGBPixel>),
    Svg(SVGBackend<'a>),
}

/// Drawing primitives in points, y down; colours are opaque.
pub(crate) struct Canvas<'a> {
    ink: Ink<'a>,
}

macro_rules! with_ink {
    ($canvas:expr, $backend:ident => $call:expr) => {
        match &mut $canvas.ink {
            Ink::Png($backend) => $call.map_err(failed),
            Ink::Svg($backend) => $call.map_err(failed),
        }
    };
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Msg(format!("drawing failed: {error}"))
}

fn quarters((x, y): Point) -> (i32, i32) {
    ((x * QUARTERS).round() as i32, (y * QUARTERS).round() as i32)
}

fn filled(colour: RGBColor) -> ShapeStyle {
    ShapeStyle::from(colour).filled()
}

/// Draws a figure of `width` x `height` points in memory, then puts it under `path` in one move.
pub(crate) fn paint(path: &Path, (width, height): Point, draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<()> {
    let svg = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("svg") => true,
        Some("png") => false,
        _ => bail!("figure {}: the file name must end in .png or .svg", path.display()),
    };
    let (columns, rows) = (width.ceil() * QUARTERS, height.ceil() * QUARTERS);
    if !(columns * rows <= 3e8) {
        bail!("figure {}: {width:.0} x {height:.0} points are too many; give it fewer rows", path.display())
    }
    let size = (columns as u32, rows as u32);
    let bytes = if svg { draw_svg(size, draw)? } else { draw_png(size, draw)? };
    save(path, &bytes)
}

fn draw_svg(size: (u32, u32), draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<Vec<u8>> {
    let mut xml = String::new();
    {
        let mut canvas = Canvas { ink: Ink::Svg(SVGBackend::with_string(&mut xml, size)) };
        canvas.rect((0., 0.), (f64::from(size.0) / QUARTERS, f64::from(size.1) / QUARTERS), WHITE)?;
        draw(&mut canvas)?;
        with_ink!(canvas, backend => backend.present())?;
    }
    // The drawing counts in quarters of a point (its viewBox); on a page it should have its size in points.
    let drawn = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let shown = format!("width=\"{}\" height=\"{}\"", size.0 / QUARTERS as u32, size.1 / QUARTERS as u32);
    Ok(xml.replacen(&drawn, &shown, 1).into_bytes())
}

fn draw_png(size: (u32, u32), draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<Vec<u8>> {
    let (w, h) = (size.0 as usize, size.1 as usize);
    let mut drawn = vec![255u8; w * h * 3];
    {
        let backend = BitMapBackend::with_buffer_and_format(&mut drawn, size).map_err(failed)?;
        let mut canvas = Canvas { ink: Ink::Png(backend) };
        draw(&mut canvas)?;
        with_ink!(canvas, backend => backend.present())?;
    }
    let mut shown = Vec::with_capacity(drawn.len() / (SHRINK * SHRINK));
    for pair in drawn.chunks_exact(SHRINK * w * 3) {
        let (upper, lower) = pair.split_at(w * 3);
        for (a, b) in upper.chunks_exact(SHRINK * 3).zip(lower.chunks_exact(SHRINK * 3)) {
            let mean = |c| (u16::from(a[c]) + u16::from(a[c + 3]) + u16::from(b[c]) + u16::from(b[c + 3]) + 2) / 4;
            shown.extend([mean(0) as u8, mean(1) as u8, mean(2) as u8]);
        }
    }
    let (w, h) = (size.0 / SHRINK as u32, size.1 / SHRINK as u32);
    let picture = image::RgbImage::from_raw(w, h, shown).ok_or_else(|| failed("the bitmap has the wrong size"))?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).map_err(failed)?;
    Ok(bytes.into_inner())
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

impl Canvas<'_> {
    pub(crate) fn rect(&mut self, from: Point, to: Point, colour: RGBColor) -> Result<()> {
        with_ink!(self, b => b.draw_rect(quarters(from), quarters(to), &filled(colour), true))
    }

    pub(crate) fn polygon(&mut self, corners: &[Point], colour: RGBColor) -> Result<()> {
        with_ink!(self, b => b.fill_polygon(corners.iter().copied().map(quarters), &filled(colour)))
    }

    pub(crate) fn disc(&mut self, centre: Point, radius: f64, colour: RGBColor) -> Result<()> {
        let radius = (radius * QUARTERS).round() as u32;
        with_ink!(self, b => b.draw_circle(quarters(centre), radius, &filled(colour), true))
    }

    /// Draws a line through the points. In a bitmap each piece is its own quadrilateral with round joints:
    /// plotters' polygon for a thick path breaks at sharp turns.
    pub(crate) fn line(&mut self, points: &[Point], width: f64, colour: RGBColor) -> Result<()> {
        if let Ink::Svg(backend) = &mut self.ink {
            let style = ShapeStyle::from(colour).stroke_width((width * QUARTERS).round().max(1.) as u32);
            return backend.draw_path(points.iter().copied().map(quarters), &style).map_err(failed);
        }
        for (i, pair) in points.windows(2).enumerate() {
            let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
            let length = (bx - ax).hypot(by - ay);
            if length > 0. {
                let (nx, ny) = ((ay - by) / length * width / 2., (bx - ax) / length * width / 2.);
                let corners = [(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)];
                self.polygon(&corners, colour)?;
            }
            if i > 0 && width >= 1. {
                self.disc(pair[0], width / 2., colour)?;
            }
        }
        Ok(())
    }

    pub(crate) fn dashed_line(&mut self, points: &[Point], width: f64, colour: RGBColor) -> Result<()> {
        dashes(points, 5., 3.).iter().try_for_each(|dash| self.line(dash, width, colour))
    }

    /// Draws one line of text; `at.1` is the middle of its capital letters.
    pub(crate) fn text(&mut self, text: &str, at: Point, align: Align, font: Font, colour: RGBColor) -> Result<()> {
        self.any_text(text, at, align, font, colour, false)
    }

    /// Draws one line of text that reads upwards, centred on `at`.
    pub(crate) fn upward_text(&mut self, text: &str, at: Point, font: Font, colour: RGBColor) -> Result<()> {
        self.any_text(text, at, Align::Centre, font, colour, true)
    }

    fn any_text(&mut self, text: &str, at: Point, align: Align, font: Font, colour: RGBColor, up: bool) -> Result<()> {
        let size = font.size * QUARTERS;
        let baseline = CAP_HEIGHT / 2. * size;
        // Turned by a quarter to the left, (x, y) of the text is (y, -x) of the sheet.
        let place = |x: i32, y: i32| if up { (y, -x) } else { (x, y) };
        let (x0, y0) = quarters(at);
        match &mut self.ink {
            Ink::Svg(backend) => {
                // plotters puts `VPos::Top` text 0.76 em below its place and takes sizes in units of 1 / 1.24 em.
                let (dx, dy) = place(0, (baseline - 0.76 * size).round() as i32);
                let style = if font.bold { FontStyle::Bold } else { FontStyle::Normal };
                let turn = if up { FontTransform::Rotate270 } else { FontTransform::None };
                let face = FontDesc::new(FontFamily::Name(FAMILY), size * 1.24, style).transform(turn);
                let h_pos = match align {
                    Align::Left => HPos::Left,
                    Align::Centre => HPos::Center,
                    Align::Right => HPos::Right,
                };
                let style = TextStyle::from(face).color(&colour).pos(Pos::new(h_pos, VPos::Top));
                backend.draw_text(text, &style, (x0 + dx, y0 + dy)).map_err(failed)
            }
            Ink::Png(backend) => {
                let font = Font { size, ..font };
                let width = text::width(text, font)?;
                let left = match align {
                    Align::Left => 0.,
                    Align::Centre => -width / 2.,
                    Align::Right => -width,
                };
                let (left, baseline) = (left.round() as i32, baseline.round() as i32);
                let mut result = Ok(());
                text::rasterize(text, font, |x, y, coverage| {
                    let (dx, dy) = place(x + left, y + baseline);
                    let colour = colour.mix(f64::from(coverage.min(1.))).to_backend_color();
                    if result.is_ok() {
                        result = backend.draw_pixel((x0 + dx, y0 + dy), colour).map_err(failed);
                    }
                })?;
                result
            }
        }
    }
}

/// Cuts a line into dashes `on` long with gaps `off` long.
fn dashes(points: &[Point], on: f64, off: f64) -> Vec<Vec<Point>> {
    let mut dashes = Vec::new();
    let mut dash = points.first().map(|p| vec![*p]).unwrap_or_default();
    let (mut pen_down, mut rest) = (true, on);
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let mut done = 0.;
        while length - done > rest {
            done += rest;
            let t = done / length;
            let turn = (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
            dash.push(turn);
            if pen_down {
                dashes.push(std::mem::take(&mut dash));
            } else {
                dash = vec![turn];
            }
            pen_down = !pen_down;
            rest = if pen_down { on } else { off };
        }
        rest -= length - done;
        if pen_down {
            dash.push(b);
        }
    }
    if pen_down && dash.len() > 1 {
        dashes.push(dash);
    }
    dashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_are_as_long_as_said_also_round_corners() {
        let cut = dashes(&[(0., 0.), (4., 0.), (4., 12.)], 5., 3.);
        assert_eq!(cut, [vec![(0., 0.), (4., 0.), (4., 1.)], vec![(4., 4.), (4., 9.)]]);
    }
}
