//! Boxes on images over the course of an optimisation.

use crate::canvas::{Align, Canvas, Point};
use crate::colours::{GREY, INK, WHITE};
use crate::file::paint;
use crate::mesh::clip;
use crate::page::{MARGIN, Page};
use crate::picture::Picture;
use crate::text::{BODY, HEADING, SMALL, legend_width, width};
use candle_core::{Result, Tensor, bail};
use plotters::style::RGBColor;
use std::path::Path;

/// A box in pixels of its image, from edge to edge: (0, 0) is the top-left corner of the first pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxFrame {
    /// The left edge.
    pub left: f64,
    /// The upper edge.
    pub top: f64,
    /// The width.
    pub width: f64,
    /// The height.
    pub height: f64,
}

/// One image, with the box that was looked for and the one that was found after each of some steps.
#[derive(Clone, Copy, Debug)]
pub struct BoxRow<'a> {
    /// Stands left of the row.
    pub label: &'a str,
    /// The image (H, W), (1, H, W) or (3, H, W), values in 0..1.
    pub image: &'a Tensor,
    /// The box that was looked for; drawn dashed.
    pub truth: Option<BoxFrame>,
    /// The boxes that were found, one a column, and a remark to each, its overlap say.
    pub found: &'a [(BoxFrame, &'a str)],
}

/// A figure of boxes, a row for each image, a column for each step.
#[derive(Clone, Copy, Debug)]
pub struct BoxFigure<'a> {
    /// The heading of the figure.
    pub title: &'a str,
    /// Where data and weights come from; stands under the figure. May be empty.
    pub note: &'a str,
    /// The headings of the columns, `step 100` say.
    pub headings: &'a [&'a str],
    /// What the two kinds of boxes are: those found, and the one looked for.
    pub legend: [&'a str; 2],
    /// The images, top to bottom.
    pub rows: &'a [BoxRow<'a>],
}

const SIDE: f64 = 84.; // of an image's longer side, in points, about
const AROUND: f64 = 5.; // the room around an image for boxes that leave it
const GAP: f64 = 6.;
const HEADING_HEIGHT: f64 = 18.;
const REMARK_HEIGHT: f64 = 14.;
const LEGEND_HEIGHT: f64 = 22.;
const FOUND: RGBColor = RGBColor(0xff, 0x5a, 0x1f);
const TRUTH: RGBColor = RGBColor(0x3f, 0xa9, 0xf5);
const SURROUNDINGS: RGBColor = RGBColor(0xb4, 0xb8, 0xbd);

/// Draws images with boxes, a column for each step, and writes them to `path` (.png or .svg).
///
/// What of a box lies outside of the image's surroundings is cut off.
///
/// # Errors
/// If a tensor has the wrong shape, there are no rows or columns, a row has another number of boxes than there are columns, the extension
/// is neither png nor svg, or the file can't be written.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_viz::{BoxFigure, BoxFrame, BoxRow, boxes};
///
/// let image = Tensor::zeros((84, 84), DType::F32, &Device::Cpu)?;
/// let whole = BoxFrame { left: 0., top: 0., width: 84., height: 84. };
/// let truth = BoxFrame { left: 10., top: 40., width: 28., height: 28. };
/// let rows = [BoxRow { label: "", image: &image, truth: Some(truth), found: &[(whole, "0.11"), (truth, "1.00")] }];
/// let figure = BoxFigure {
///     title: "From the whole image to a part of it",
///     note: "",
///     headings: &["step 0", "step 100"],
///     legend: ["found", "looked for"],
///     rows: &rows,
/// };
/// let folder = tempfile::tempdir()?;
/// boxes(&folder.path().join("boxes.png"), &figure)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn boxes(path: &Path, figure: &BoxFigure) -> Result<()> {
    let columns = figure.headings.len();
    if figure.rows.is_empty() || columns == 0 {
        bail!("boxes: needs at least one row and one column, got {} and {columns}", figure.rows.len())
    }
    let mut pictures = Vec::with_capacity(figure.rows.len());
    // A column is as wide as what is written in it.
    let (mut label, mut written, mut cell) = (0f64, 0f64, (0f64, 0f64));
    for row in figure.rows {
        if row.found.len() != columns {
            bail!("boxes: row {:?} must have {columns} boxes, one a column, got {}", row.label, row.found.len())
        }
        let picture = Picture::new(row.image, &format!("the image of row {:?}", row.label))?;
        let scale = picture.cell(SIDE);
        cell = (cell.0.max(picture.width as f64 * scale), cell.1.max(picture.height as f64 * scale));
        label = label.max(width(row.label, BODY)?);
        for (_, remark) in row.found {
            written = written.max(width(remark, SMALL)?);
        }
        pictures.push((picture, scale));
    }
    for heading in figure.headings {
        written = written.max(width(heading, HEADING)?);
    }
    let label = if label > 0. { label.ceil() + GAP } else { 0. };
    let (across, down) = ((cell.0 + 2. * AROUND).max(written.ceil()) + GAP, cell.1 + 2. * AROUND + REMARK_HEIGHT);
    let content = (columns as f64 * across - GAP).max(legend_width(&figure.legend)?);
    let sheet_width = label + content + 2. * MARGIN;
    let page = Page::new(figure.title, "", figure.note, sheet_width)?;
    let below = page.top() + HEADING_HEIGHT + figure.rows.len() as f64 * down;
    let sheet_height = below + LEGEND_HEIGHT + page.bottom();

    paint(path, (sheet_width, sheet_height), |canvas| {
        page.draw(canvas, sheet_height)?;
        let left = |column: usize| MARGIN + label + column as f64 * across;
        for (column, heading) in figure.headings.iter().enumerate() {
            let at = (left(column) + (across - GAP) / 2., page.top() + HEADING_HEIGHT / 2. - 2.);
            canvas.text(heading, at, Align::Centre, HEADING, INK)?;
        }
        for (i, (row, (picture, scale))) in figure.rows.iter().zip(&pictures).enumerate() {
            let top = page.top() + HEADING_HEIGHT + i as f64 * down;
            let middle = top + (down - REMARK_HEIGHT) / 2.;
            canvas.text(row.label, (MARGIN + label - GAP, middle), Align::Right, BODY, INK)?;
            for (column, (found, remark)) in row.found.iter().enumerate() {
                let around = (across - GAP - picture.width as f64 * scale) / 2. - AROUND;
                let room = Room { corner: (left(column) + around.floor(), top), picture, scale: *scale };
                room.draw(canvas, row.truth, found)?;
                let at = (left(column) + (across - GAP) / 2., top + down - REMARK_HEIGHT / 2. - 1.);
                canvas.text(remark, at, Align::Centre, SMALL, GREY)?;
            }
        }
        let mut x = MARGIN + label;
        let y = below + LEGEND_HEIGHT / 2.;
        for (text, colour, dashed) in [(figure.legend[0], FOUND, false), (figure.legend[1], TRUTH, true)] {
            let line = [(x, y), (x + 18., y)];
            if dashed {
                canvas.dashed_line(&line, 2., colour)?
            } else {
                canvas.line(&line, 2., colour)?
            }
            canvas.text(text, (x + 23., y), Align::Left, SMALL, GREY)?;
            x += legend_width(&[text])?;
        }
        Ok(())
    })
}

/// An image with its surroundings.
struct Room<'a> {
    corner: Point,
    picture: &'a Picture,
    scale: f64,
}

impl Room<'_> {
    fn draw(&self, canvas: &mut Canvas, truth: Option<BoxFrame>, found: &BoxFrame) -> Result<()> {
        let (x, y) = self.corner;
        let (w, h) = (self.picture.width as f64 * self.scale, self.picture.height as f64 * self.scale);
        canvas.rect((x, y), (x + w + 2. * AROUND, y + h + 2. * AROUND), SURROUNDINGS)?;
        self.picture.draw(canvas, (x + AROUND, y + AROUND), self.scale)?;
        if let Some(truth) = truth {
            for side in self.sides(&truth) {
                canvas.dashed_line(&side, 1.5, TRUTH)?;
            }
        }
        for side in self.sides(found) {
            canvas.line(&side, 3., WHITE)?;
        }
        for side in self.sides(found) {
            canvas.line(&side, 2., FOUND)?;
        }
        Ok(())
    }

    /// What can be seen of a box's outline.
    fn sides(&self, frame: &BoxFrame) -> Vec<Vec<Point>> {
        let (x, y) = self.corner;
        let place = |u: f64, v: f64| (x + AROUND + u * self.scale, y + AROUND + v * self.scale);
        let (right, bottom) = (frame.left + frame.width, frame.top + frame.height);
        let outline = [
            place(frame.left, frame.top),
            place(right, frame.top),
            place(right, bottom),
            place(frame.left, bottom),
            place(frame.left, frame.top),
        ];
        let (w, h) = (self.picture.width as f64 * self.scale, self.picture.height as f64 * self.scale);
        clip(&outline, (x + 1., y + 1.), (x + w + 2. * AROUND - 1., y + h + 2. * AROUND - 1.))
    }
}
