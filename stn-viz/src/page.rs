//! What every figure has around its content: title, subtitle, footnote.

use crate::canvas::{Align, Canvas};
use crate::colours::{GREY, INK};
use crate::text::{BODY, Font, SMALL, TITLE, wrap};
use candle_core::Result;
use plotters::style::RGBColor;

/// The blank border of the sheet, in points.
pub(crate) const MARGIN: f64 = 16.;

/// Title, subtitle and footnote, broken into lines that fit the sheet.
pub(crate) struct Page {
    title: Vec<String>,
    subtitle: Vec<String>,
    note: Vec<String>,
}

impl Page {
    /// Breaks the texts so that they fit a sheet `width` points wide.
    pub(crate) fn new(title: &str, subtitle: &str, note: &str, width: f64) -> Result<Self> {
        let limit = width - 2. * MARGIN;
        let (title, subtitle) = (wrap(title, TITLE, limit)?, wrap(subtitle, BODY, limit)?);
        Ok(Self { title, subtitle, note: wrap(note, SMALL, limit)? })
    }

    /// Where the content starts, in points from the top.
    pub(crate) fn top(&self) -> f64 {
        let gap = if self.title.is_empty() && self.subtitle.is_empty() { 0. } else { 10. };
        MARGIN + pitch(TITLE) * self.title.len() as f64 + pitch(BODY) * self.subtitle.len() as f64 + gap
    }

    /// What must stay free under the content, in points.
    pub(crate) fn bottom(&self) -> f64 {
        let gap = if self.note.is_empty() { 0. } else { 10. };
        MARGIN + pitch(SMALL) * self.note.len() as f64 + gap
    }

    /// Draws the texts on a sheet `height` points high.
    pub(crate) fn draw(&self, canvas: &mut Canvas, height: f64) -> Result<()> {
        let y = lines(canvas, &self.title, MARGIN, TITLE, INK)?;
        lines(canvas, &self.subtitle, y, BODY, INK)?;
        let y = height - MARGIN - pitch(SMALL) * self.note.len() as f64;
        lines(canvas, &self.note, y, SMALL, GREY)?;
        Ok(())
    }
}

fn pitch(font: Font) -> f64 {
    font.size * 1.4
}

fn lines(canvas: &mut Canvas, lines: &[String], mut y: f64, font: Font, colour: RGBColor) -> Result<f64> {
    for line in lines {
        canvas.text(line, (MARGIN, y + pitch(font) / 2.), Align::Left, font, colour)?;
        y += pitch(font);
    }
    Ok(y)
}
