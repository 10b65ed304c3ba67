//! A volume seen from three sides, and the projection that a transformer learned.

use crate::canvas::{Align, Canvas};
use crate::colours::{GREY, INK};
use crate::file::paint;
use crate::page::{MARGIN, Page};
use crate::picture::Picture;
use crate::text::{BODY, HEADING, SMALL, width};
use candle_core::{Result, Tensor, bail};
use std::path::Path;

/// One volume: some pictures of it.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionRow<'a> {
    /// Stands left of the row, for instance `digit 6`.
    pub label: &'a str,
    /// One picture a column: (H, W) or (1, H, W), not negative. Each is shown with its own largest value white.
    pub pictures: &'a [&'a Tensor],
}

/// A figure of projections, a row for each volume.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionFigure<'a> {
    /// The heading of the figure.
    pub title: &'a str,
    /// Where data and weights come from; stands under the figure. May be empty.
    pub note: &'a str,
    /// The headings of the columns.
    pub headings: &'a [&'a str],
    /// What stands under each heading in small letters; may be empty.
    pub subheadings: &'a [&'a str],
    /// The volumes, top to bottom, block by block.
    pub rows: &'a [ProjectionRow<'a>],
    /// How many blocks of rows stand side by side; at least 1.
    pub blocks: usize,
}

const SIDE: f64 = 90.; // of a picture, in points, about
const GAP: f64 = 8.;
const BLOCK_GAP: f64 = 30.;
const HEADING_HEIGHT: f64 = 32.;

/// Draws projections of volumes side by side and writes them to `path` (.png or .svg).
///
/// # Errors
/// If a tensor has the wrong shape, there are no rows, columns or blocks, a row has another number of pictures than there are columns, the
/// extension is neither png nor svg, or the file can't be written.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_viz::{ProjectionFigure, ProjectionRow, projections};
///
/// let volume = Tensor::rand(0f32, 1f32, (8, 8, 8), &Device::Cpu)?;
/// let (front, above) = (volume.sum(0)?, volume.sum(1)?);
/// let rows = [ProjectionRow { label: "noise", pictures: &[&front, &above] }];
/// let figure = ProjectionFigure {
///     title: "Noise",
///     note: "",
///     headings: &["front", "above"],
///     subheadings: &[],
///     rows: &rows,
///     blocks: 1,
/// };
/// let folder = tempfile::tempdir()?;
/// projections(&folder.path().join("projections.png"), &figure)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn projections(path: &Path, figure: &ProjectionFigure) -> Result<()> {
    let columns = figure.headings.len();
    if figure.rows.is_empty() || columns == 0 || figure.blocks == 0 {
        let rows = figure.rows.len();
        bail!("projections: needs at least one row, column and block, got {rows}, {columns} and {}", figure.blocks)
    }
    let mut pictures = Vec::with_capacity(figure.rows.len());
    let (mut label, mut side) = (0f64, 0f64);
    for row in figure.rows {
        if row.pictures.len() != columns {
            bail!("projections: row {:?} must have {columns} pictures, got {}", row.label, row.pictures.len())
        }
        let read = |tensor: &&Tensor| Picture::new(&brightened(tensor)?, &format!("a picture of row {:?}", row.label));
        let row_pictures = row.pictures.iter().map(read).collect::<Result<Vec<_>>>()?;
        for picture in &row_pictures {
            side = side.max(picture.height.max(picture.width) as f64 * picture.cell(SIDE));
        }
        label = label.max(width(row.label, BODY)?);
        pictures.push(row_pictures);
    }
    let label = label.ceil() + GAP;
    let mut widest = side;
    for text in figure.headings.iter().map(|text| width(text, HEADING)) {
        widest = widest.max(text?);
    }
    for text in figure.subheadings.iter().map(|text| width(text, SMALL)) {
        widest = widest.max(text?);
    }
    let (across, down) = (widest.ceil() + GAP, side + GAP);
    let a_block = figure.rows.len().div_ceil(figure.blocks);
    let blocks = figure.rows.len().div_ceil(a_block) as f64;
    let block = label + columns as f64 * across - GAP;
    let sheet_width = blocks * block + (blocks - 1.) * BLOCK_GAP + 2. * MARGIN;
    let page = Page::new(figure.title, "", figure.note, sheet_width)?;
    let sheet_height = page.top() + HEADING_HEIGHT + a_block as f64 * down + page.bottom();

    paint(path, (sheet_width, sheet_height), |canvas| {
        page.draw(canvas, sheet_height)?;
        for (i, (rows, pictures)) in figure.rows.chunks(a_block).zip(pictures.chunks(a_block)).enumerate() {
            let left = MARGIN + label + i as f64 * (block + BLOCK_GAP);
            let middle = |column: usize| left + column as f64 * across + (across - GAP) / 2.;
            for (column, heading) in figure.headings.iter().enumerate() {
                canvas.text(heading, (middle(column), page.top() + 7.), Align::Centre, HEADING, INK)?;
            }
            for (column, text) in figure.subheadings.iter().enumerate() {
                canvas.text(text, (middle(column), page.top() + 20.), Align::Centre, SMALL, GREY)?;
            }
            for (j, (row, pictures)) in rows.iter().zip(pictures).enumerate() {
                let top = page.top() + HEADING_HEIGHT + j as f64 * down;
                canvas.text(row.label, (left - GAP, top + side / 2.), Align::Right, BODY, INK)?;
                for (column, picture) in pictures.iter().enumerate() {
                    draw(canvas, picture, (middle(column), top + side / 2.))?;
                }
            }
        }
        Ok(())
    })
}

fn draw(canvas: &mut Canvas, picture: &Picture, (x, y): (f64, f64)) -> Result<()> {
    let cell = picture.cell(SIDE);
    let half = |count: usize| count as f64 * cell / 2.;
    let whole = |v: f64| (v * 2.).round() / 2.; // a pixel of a PNG
    picture.draw(canvas, (whole(x - half(picture.width)), whole(y - half(picture.height))), cell)
}

/// The picture with its largest value one.
fn brightened(picture: &Tensor) -> Result<Tensor> {
    let picture = picture.to_dtype(candle_core::DType::F64)?;
    let largest = picture.flatten_all()?.max(0)?.to_scalar::<f64>()?;
    if largest > 0. { picture / largest } else { Ok(picture) }
}
