//! The sheet that all figures draw on: points of 1/72 inch in, plotters' PNG or SVG backend behind.

use crate::text::{self, CAP_HEIGHT, FAMILY, Font};
use candle_core::{Error, Result};
use plotters::backend::{BitMapBackend, DrawingBackend, RGBPixel, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle};

/// Backends count in whole numbers; a quarter of a point is fine enough for both.
pub(crate) const QUARTERS: f64 = 4.;

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

pub(crate) fn failed(error: impl std::fmt::Display) -> Error {
    Error::Msg(format!("drawing failed: {error}"))
}

fn quarters((x, y): Point) -> (i32, i32) {
    ((x * QUARTERS).round() as i32, (y * QUARTERS).round() as i32)
}

fn filled(colour: RGBColor) -> ShapeStyle {
    ShapeStyle::from(colour).filled()
}

impl<'a> Canvas<'a> {
    pub(crate) fn png(backend: BitMapBackend<'a, RGBPixel>) -> Self {
        Self { ink: Ink::Png(backend) }
    }

    pub(crate) fn svg(backend: SVGBackend<'a>) -> Self {
        Self { ink: Ink::Svg(backend) }
    }

    /// Completes the drawing; what is missing without this is the end of an SVG.
    pub(crate) fn present(mut self) -> Result<()> {
        with_ink!(self, b => b.present())
    }

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
            // The ends of a closed line meet in a joint, too.
            if width >= 1. && (i > 0 || points.first() == points.last()) {
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
