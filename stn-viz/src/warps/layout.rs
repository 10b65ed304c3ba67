//! Where the parts of a block of rows stand, and how they are drawn.

use super::Row;
use crate::canvas::{Align, Canvas, Point};
use crate::colours::{GREY, INK, PALE, WHITE};
use crate::mesh::clip;
use crate::picture::Picture;
use crate::text::{BODY, HEADING, SMALL, width};
use candle_core::Result;
use plotters::style::RGBColor;

const SIDE: f64 = 112.; // of the input's longer side, in points, about
const GAP: f64 = 14.; // between columns
pub(super) const ROW_GAP: f64 = 10.;
pub(super) const BLOCK_GAP: f64 = 34.;
pub(super) const HEADING_HEIGHT: f64 = 20.;
pub(super) const LEGEND_HEIGHT: f64 = 26.;

const BOX: RGBColor = RGBColor(0xff, 0x5a, 0x1f);
const TOP_EDGE: RGBColor = RGBColor(0xff, 0xd0, 0x2e);
const MESH: RGBColor = RGBColor(0x3f, 0xa9, 0xf5);
const SURROUNDINGS: RGBColor = RGBColor(0xb4, 0xb8, 0xbd);

/// The widths of a block's parts and the height of its rows, in points.
pub(super) struct Layout {
    label: f64,
    columns: [f64; 3],
    pub(super) row: f64,
    /// The room around the image in the middle column.
    margin: f64,
}

impl Layout {
    pub(super) fn new(rows: &[Row], headings: [&str; 3]) -> Result<Self> {
        let mut layout = Self { label: 0., columns: [0.; 3], row: 0., margin: 0. };
        let [mut input, mut output] = [(0f64, 0f64); 2];
        for row in rows {
            let cell = row.input.cell(SIDE);
            input = larger(input, row.input.size(cell));
            output = larger(output, row.output.size(row.output.cell(SIDE)));
            let beyond = row.mesh.overshoot((row.input.height, row.input.width)) * cell;
            layout.margin = layout.margin.max(beyond);
            layout.label = layout.label.max(width(row.label, BODY)?);
        }
        // A third of a picture on each side is enough to see where a grid went, and one far grid does not make
        // all pictures small.
        layout.margin = (layout.margin + 5.).clamp(12., SIDE / 3.).ceil();
        let middle = (input.0 + 2. * layout.margin, input.1 + 2. * layout.margin);
        layout.row = middle.1.max(output.1);
        for (i, picture) in [input.0, middle.0, output.0].into_iter().enumerate() {
            layout.columns[i] = picture.max(width(headings[i], HEADING)?).ceil();
        }
        layout.label = layout.label.ceil();
        Ok(layout)
    }

    pub(super) fn width(&self) -> f64 {
        self.label + 3. * GAP + self.columns.iter().sum::<f64>()
    }

    /// The middles of the three columns of a block that starts at `left`.
    fn middles(&self, left: f64) -> [f64; 3] {
        let mut x = left + self.label;
        self.columns.map(|column| {
            x += GAP + column;
            (x - column / 2.).round()
        })
    }

    pub(super) fn headings(&self, canvas: &mut Canvas, (left, top): Point, headings: [&str; 3]) -> Result<()> {
        for (heading, x) in headings.into_iter().zip(self.middles(left)) {
            canvas.text(heading, (x, top + HEADING_HEIGHT / 2. - 2.), Align::Centre, HEADING, INK)?;
        }
        Ok(())
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, (left, top): Point, row: &Row) -> Result<()> {
        let middle = (top + self.row / 2.).round();
        canvas.text(row.label, (left + self.label, middle), Align::Right, BODY, INK)?;
        let [x1, x2, x3] = self.middles(left);
        let cell = row.input.cell(SIDE);
        row.input.draw(canvas, row.input.corner((x1, middle), cell), cell)?;
        self.draw_grid(canvas, (x2, middle), row, cell)?;

        let cell = row.output.cell(SIDE);
        let corner = row.output.corner((x3, middle), cell);
        let size = row.output.size(cell);
        row.output.draw(canvas, corner, cell)?;
        // Just above the picture, so that its first row of pixels stays in sight.
        canvas.line(&[(corner.0, corner.1 - 1.), (corner.0 + size.0, corner.1 - 1.)], 2., TOP_EDGE)?;
        dot(canvas, corner)
    }

    fn draw_grid(&self, canvas: &mut Canvas, middle: Point, row: &Row, cell: f64) -> Result<()> {
        let corner = row.input.corner(middle, cell);
        let size = row.input.size(cell);
        let low = (corner.0 - self.margin, corner.1 - self.margin);
        let high = (corner.0 + size.0 + self.margin, corner.1 + size.1 + self.margin);
        canvas.rect(low, high, SURROUNDINGS)?;
        row.input.draw(canvas, corner, cell)?;

        let place = |(x, y): Point| (corner.0 + (x + 0.5) * cell, corner.1 + (y + 0.5) * cell);
        let mut stroke = |line: Vec<Point>, width: f64, colour: RGBColor| -> Result<bool> {
            let line: Vec<Point> = line.into_iter().map(place).collect();
            let pieces = clip(&line, low, high);
            pieces.iter().try_for_each(|piece| canvas.line(piece, width, colour))?;
            Ok(!pieces.is_empty())
        };
        for line in row.mesh.inner_lines() {
            stroke(line, 0.75, MESH)?;
        }
        let sides = stroke(row.mesh.sides(), 2., BOX)?;
        let top = stroke(row.mesh.row(0), 2., TOP_EDGE)?;
        let (x, y) = place(row.mesh.at(0, 0));
        if (low.0..=high.0).contains(&x) && (low.1..=high.1).contains(&y) {
            dot(canvas, (x, y))?;
        }
        let remark = match row.mesh.not_finite() {
            0 if sides || top => return Ok(()),
            0 => "grid border out of view".to_string(),
            n => format!("{n} of {} points not finite", row.mesh.height * row.mesh.width),
        };
        let at = ((low.0 + high.0) / 2., high.1 - 6.5);
        let half = width(&remark, SMALL)? / 2. + 4.;
        canvas.rect((at.0 - half, high.1 - 13.), (at.0 + half, high.1), WHITE)?;
        canvas.text(&remark, at, Align::Centre, SMALL, INK)
    }
}

impl Picture {
    fn size(&self, cell: f64) -> Point {
        (self.width as f64 * cell, self.height as f64 * cell)
    }

    /// The top-left corner that puts the picture's middle at `middle`, on a whole pixel of a PNG.
    fn corner(&self, middle: Point, cell: f64) -> Point {
        let (w, h) = self.size(cell);
        (((middle.0 - w / 2.) * 2.).round() / 2., ((middle.1 - h / 2.) * 2.).round() / 2.)
    }
}

fn larger(a: Point, b: Point) -> Point {
    (a.0.max(b.0), a.1.max(b.1))
}

/// Marks the output's top-left corner.
fn dot(canvas: &mut Canvas, at: Point) -> Result<()> {
    canvas.disc(at, 4.5, WHITE)?;
    canvas.disc(at, 3.25, BOX)
}

/// Draws the key of colours from `at` on (if there is a canvas); returns its width.
pub(super) fn legend(mut canvas: Option<&mut Canvas>, at: Point) -> Result<f64> {
    let entries = [
        ("border of the sampling grid", Some(BOX)),
        ("top edge of the output", Some(TOP_EDGE)),
        ("its top-left corner", None),
        ("mesh of the grid", Some(MESH)),
    ];
    let mut x = at.0;
    for (i, (text, colour)) in entries.into_iter().enumerate() {
        x += if i > 0 { 16. } else { 0. };
        if let Some(canvas) = canvas.as_deref_mut() {
            match colour {
                Some(colour) => canvas.rect((x, at.1 - 1.), (x + 14., at.1 + 1.), colour)?,
                None => {
                    canvas.disc((x + 8., at.1), 5., PALE)?;
                    dot(canvas, (x + 8., at.1))?;
                }
            }
            canvas.text(text, (x + 18., at.1), Align::Left, SMALL, GREY)?;
        }
        x += 18. + width(text, SMALL)?;
    }
    Ok(x - at.0)
}
