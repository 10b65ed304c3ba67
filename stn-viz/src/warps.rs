//! Learned transforms: what went in, where the transformer looked, what came out.

mod layout;

use layout::{BLOCK_GAP, HEADING_HEIGHT, LEGEND_HEIGHT, Layout, ROW_GAP, legend};

use crate::file::paint;
use crate::mesh::Mesh;
use crate::page::{MARGIN, Page};
use crate::picture::Picture;
use candle_core::{Result, Tensor, bail};
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

struct Row<'a> {
    label: &'a str,
    input: Picture,
    mesh: Mesh,
    output: Picture,
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
