//! Learned transforms: what went in, where the transformer looked, what came out.

use crate::canvas::{Align, Canvas, Point, paint};
use crate::colours::{GREY, INK, PALE, WHITE};
use crate::mesh::{Mesh, clip};
use crate::page::{MARGIN, Page};
use crate::picture::Picture;
use crate::text::{BODY, HEADING, SMALL, width};
use candle_core::{Result, Tensor, bail};
use plotters::style::RGBColor;
use std::path::Path;

/// The usual headings of the three columns.
pub const WARP_HEADINGS: [&str; 3] = ["input", "sampling grid", "what the classifier sees"];

/// One example: an input, the grid it was sampled at, and the result.
#[derive(Clone, Copy, Debug)]
pub struct WarpRow<'a> {
    /// Stands left of the row, for instance `digit 6` or `+45°`.
    pub label: &'a str,
    /// The input (H, W), (1, H, W) or (3, H, W), values in 0..1; others are clamped, NaN is drawn magenta.
    pub input: &'a Tensor,
    /// The sampling grid (H', W', 2), last dimension (x, y) in -1..1; points outside and not finite are fine.
    pub grid: &'a Tensor,
    /// The output, of the same shapes as `input`; its size may differ from the input's and the grid's.
    pub output: &'a Tensor,
}

/// A figure of learned transforms, a row for each example.
#[derive(Clone, Copy, Debug)]
pub struct WarpFigure<'a> {
    /// The heading of the figure.
    pub title: &'a str,
    /// Where data and weights come from; stands under the figure. May be empty.
    pub note: &'a str,
    /// Headings of the columns: input, grid, output; [`WARP_HEADINGS`] unless there is reason for others.
    pub headings: [&'a str; 3],
    /// The examples, top to bottom, block by block.
    pub rows: &'a [WarpRow<'a>],
    /// Whether -1 and 1 are the centres of the corner pixels (true) or their outer edges (false).
    pub align_corners: bool,
    /// How many blocks of rows stand side by side; at least 1.
    pub blocks: usize,
}

const SIDE: f64 = 112.; // of the input's longer side, in points, about
const GAP: f64 = 14.; // between columns
const ROW_GAP: f64 = 10.;
const BLOCK_GAP: f64 = 34.;
const HEADING_HEIGHT: f64 = 20.;
const LEGEND_HEIGHT: f64 = 26.;

const BOX: RGBColor = RGBColor(0xff, 0x5a, 0x1f);
const TOP_EDGE: RGBColor = RGBColor(0xff, 0xd0, 0x2e);
const MESH: RGBColor = RGBColor(0x3f, 0xa9, 0xf5);
const SURROUNDINGS: RGBColor = RGBColor(0xb4, 0xb8, 0xbd);

struct Row<'a> {
    label: &'a str,
    input: Picture,
    mesh: Mesh,
    output: Picture,
}

/// The widths of a block's parts and the height of its rows, in points.
struct Layout {
    label: f64,
    columns: [f64; 3],
    row: f64,
    /// The room around the image in the middle column.
    margin: f64,
}

/// Draws inputs, sampling grids and outputs side by side and writes them to `path` (.png or .svg).
///
/// A row has three pictures: the input; the input with the sampling grid over it; the output. The border of the
/// grid is the attention box (orange), its yellow side is the top of the output and the dot its top-left
/// corner, so turns and flips can be read off; a blue mesh shows what happens inside. Around the image is room
/// for grids that leave it; what leaves that room too is cut off there, with a remark.
///
/// Pixels are crisp squares. An SVG holds one rectangle for each run of equal pixels: for large photographs
/// prefer PNG.
///
/// # Errors
/// If a tensor has the wrong shape, there are no rows, the extension is neither png nor svg, or the file can't
/// be written.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_viz::{WARP_HEADINGS, WarpFigure, WarpRow, warps};
///
/// let device = Device::Cpu;
/// let input = Tensor::rand(0f32, 1f32, (1, 8, 8), &device)?;
/// // A grid that looks at the middle of the image: 4 x 4 points in -0.5..0.5, (x, y) last.
/// let at = |i: usize| -0.5 + i as f32 / 3.;
/// let xy: Vec<f32> = (0..16).flat_map(|i| [at(i % 4), at(i / 4)]).collect();
/// let grid = Tensor::from_vec(xy, (4, 4, 2), &device)?;
/// let output = input.narrow(1, 2, 4)?.narrow(2, 2, 4)?;
///
/// let rows = [WarpRow { label: "noise", input: &input, grid: &grid, output: &output }];
/// let figure = WarpFigure {
///     title: "A crop of the middle",
///     note: "uniform noise",
///     headings: WARP_HEADINGS,
///     rows: &rows,
///     align_corners: true,
///     blocks: 1,
/// };
/// let folder = tempfile::tempdir()?;
/// warps(&folder.path().join("warps.png"), &figure)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn warps(path: &Path, figure: &WarpFigure) -> Result<()> {
    if figure.rows.is_empty() || figure.blocks == 0 {
        bail!("warps: needs at least one row and one block, got {} and {}", figure.rows.len(), figure.blocks)
    }
    let rows = figure.rows.iter().map(|row| read(row, figure.align_corners)).collect::<Result<Vec<_>>>()?;
    let layout = Layout::new(&rows, figure.headings)?;
    let a_block = rows.len().div_ceil(figure.blocks);
    let blocks = rows.len().div_ceil(a_block) as f64;

    let content = blocks * layout.width() + (blocks - 1.) * BLOCK_GAP;
    let sheet_width = content.max(legend(None, (0., 0.))?) + 2. * MARGIN;
    let page = Page::new(figure.title, "", figure.note, sheet_width)?;
    let below = page.top() + HEADING_HEIGHT + a_block as f64 * (layout.row + ROW_GAP);
    let sheet_height = below + LEGEND_HEIGHT + page.bottom();

    paint(path, (sheet_width, sheet_height), |canvas| {
        page.draw(canvas, sheet_height)?;
        for (i, block) in rows.chunks(a_block).enumerate() {
            let left = MARGIN + i as f64 * (layout.width() + BLOCK_GAP);
            layout.headings(canvas, (left, page.top()), figure.headings)?;
            for (j, row) in block.iter().enumerate() {
                let top = page.top() + HEADING_HEIGHT + j as f64 * (layout.row + ROW_GAP);
                layout.draw(canvas, (left, top), row)?;
            }
        }
        legend(Some(canvas), (MARGIN, below + LEGEND_HEIGHT / 2.))?;
        Ok(())
    })
}

fn read<'a>(row: &WarpRow<'a>, align_corners: bool) -> Result<Row<'a>> {
    let input = Picture::new(row.input, &format!("the input of row {:?}", row.label))?;
    let size = (input.height, input.width);
    let mesh = Mesh::new(row.grid, size, align_corners, &format!("the grid of row {:?}", row.label))?;
    let output = Picture::new(row.output, &format!("the output of row {:?}", row.label))?;
    Ok(Row { label: row.label, input, mesh, output })
}

impl Layout {
    fn new(rows: &[Row], headings: [&str; 3]) -> Result<Self> {
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
        // Half a picture on each side is enough to see where a grid went.
        layout.margin = (layout.margin + 5.).clamp(12., SIDE / 2.).ceil();
        let middle = (input.0 + 2. * layout.margin, input.1 + 2. * layout.margin);
        layout.row = middle.1.max(output.1);
        for (i, picture) in [input.0, middle.0, output.0].into_iter().enumerate() {
            layout.columns[i] = picture.max(width(headings[i], HEADING)?).ceil();
        }
        layout.label = layout.label.ceil();
        Ok(layout)
    }

    fn width(&self) -> f64 {
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

    fn headings(&self, canvas: &mut Canvas, (left, top): Point, headings: [&str; 3]) -> Result<()> {
        for (heading, x) in headings.into_iter().zip(self.middles(left)) {
            canvas.text(heading, (x, top + HEADING_HEIGHT / 2. - 2.), Align::Centre, HEADING, INK)?;
        }
        Ok(())
    }

    fn draw(&self, canvas: &mut Canvas, (left, top): Point, row: &Row) -> Result<()> {
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
        canvas.line(&[corner, (corner.0 + size.0, corner.1)], 2., TOP_EDGE)?;
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
            stroke(line, 0.5, MESH)?;
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
fn legend(mut canvas: Option<&mut Canvas>, at: Point) -> Result<f64> {
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
