//! A sheet of pictures, each with the outlines of some windows on it and a caption.

use crate::canvas::{Align, Point};
use crate::colours::{COLOURS, GREY, PALE, WHITE};
use crate::file::paint;
use crate::mesh::{clip, is_finite};
use crate::page::{MARGIN, Page};
use crate::picture::Picture;
use crate::text::{SMALL, legend_width, width};
use candle_core::{Result, Tensor, bail};
use std::path::Path;

/// A window on a picture.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// Its corners in normalised coordinates, -1 and 1 being the outer edges of the picture: top-left, top-right, bottom-right, bottom-left of the window.
    pub corners: [(f64, f64); 4],
    /// Which of the figure's names it goes by, and so its colour.
    pub kind: usize,
}

/// One picture.
#[derive(Clone, Copy, Debug)]
pub struct GalleryItem<'a> {
    /// The picture (H, W), (1, H, W) or (3, H, W), values in 0..1.
    pub image: &'a Tensor,
    /// The windows on it.
    pub outlines: &'a [Outline],
    /// Stands below it. May be empty.
    pub caption: &'a str,
}

/// A sheet of pictures, row by row.
#[derive(Clone, Copy, Debug)]
pub struct GalleryFigure<'a> {
    /// The heading of the figure.
    pub title: &'a str,
    /// Where data and weights come from; stands under the figure. May be empty.
    pub note: &'a str,
    /// The names of the kinds of windows. May be empty.
    pub kinds: &'a [&'a str],
    /// Pictures a row.
    pub columns: usize,
    /// About how many points the longer side of a picture has.
    pub side: f64,
    /// The pictures.
    pub items: &'a [GalleryItem<'a>],
}

const AROUND: f64 = 6.; // the room around a picture for windows that leave it
const GAP: f64 = 6.;
const CAPTION_HEIGHT: f64 = 14.;
const LEGEND_HEIGHT: f64 = 22.;

/// Draws pictures with the outlines of windows, and writes them to `path` (.png or .svg).
///
/// The upper edge of a window is drawn twice as wide as the others. What lies outside of a picture's surroundings is cut off, and a window with a corner that is no
/// number is left out. How many windows cannot be seen at all the footnote says.
///
/// # Errors
/// If there are no pictures or columns, a tensor has the wrong shape, a window is of a kind without a name, the extension is neither png nor svg, or the file
/// can't be written.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_viz::{GalleryFigure, GalleryItem, Outline, gallery};
///
/// let image = Tensor::zeros((3, 64, 64), DType::F32, &Device::Cpu)?;
/// let window = Outline { corners: [(-0.5, -0.5), (0.5, -0.4), (0.5, 0.6), (-0.5, 0.5)], kind: 0 };
/// let items = [GalleryItem { image: &image, outlines: &[window], caption: "17" }];
/// let figure =
///     GalleryFigure { title: "What it looks at", note: "", kinds: &["the transformer's window"], columns: 4, side: 90., items: &items };
/// let folder = tempfile::tempdir()?;
/// gallery(&folder.path().join("gallery.png"), &figure)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gallery(path: &Path, figure: &GalleryFigure) -> Result<()> {
    let GalleryFigure { columns, items, kinds, .. } = *figure;
    if items.is_empty() || columns == 0 {
        bail!("gallery: needs at least one picture and one column, got {} and {columns}", items.len())
    }
    if kinds.len() > COLOURS.len() {
        bail!("gallery: there are colours for {} kinds of windows, got {}", COLOURS.len(), kinds.len())
    }
    let (mut pictures, mut cell) = (Vec::with_capacity(items.len()), (0f64, 0f64));
    for (i, item) in items.iter().enumerate() {
        if let Some(outline) = item.outlines.iter().find(|outline| outline.kind >= kinds.len()) {
            bail!("gallery: picture {i} has a window of kind {}, there are names for {}", outline.kind, kinds.len())
        }
        let picture = Picture::new(item.image, &format!("picture {i} of the gallery"))?;
        let scale = picture.cell(figure.side);
        // A column is as wide as what is written in it.
        let wide = (picture.width as f64 * scale).max(width(item.caption, SMALL)? - 2. * AROUND);
        cell = (cell.0.max(wide), cell.1.max(picture.height as f64 * scale));
        pictures.push((picture, scale));
    }
    let columns = columns.min(items.len());
    let (across, down) = (cell.0 + 2. * AROUND + GAP, cell.1 + 2. * AROUND + CAPTION_HEIGHT);
    let sheet_width = (columns as f64 * across - GAP).max(legend_width(kinds)?) + 2. * MARGIN;
    let unseen = items.iter().flat_map(|item| item.outlines).filter(|outline| !is_seen(outline)).count();
    let note = match unseen {
        0 => figure.note.to_string(),
        _ => format!(
            "{}{}{unseen} windows lie outside of their pictures",
            figure.note,
            if figure.note.is_empty() { "" } else { "; " }
        ),
    };
    let page = Page::new(figure.title, "", &note, sheet_width)?;
    let below = page.top() + items.len().div_ceil(columns) as f64 * down;
    let sheet_height = below + if kinds.is_empty() { GAP } else { LEGEND_HEIGHT } + page.bottom();

    paint(path, (sheet_width, sheet_height), |canvas| {
        page.draw(canvas, sheet_height)?;
        for (i, (item, (picture, scale))) in items.iter().zip(&pictures).enumerate() {
            let (x, y) = (MARGIN + (i % columns) as f64 * across, page.top() + (i / columns) as f64 * down);
            let (w, h) = (picture.width as f64 * scale, picture.height as f64 * scale);
            let x = x + (cell.0 - w) / 2.;
            canvas.rect((x, y), (x + w + 2. * AROUND, y + h + 2. * AROUND), PALE)?;
            picture.draw(canvas, (x + AROUND, y + AROUND), *scale)?;
            let place = |(u, v): Point| (x + AROUND + (u + 1.) / 2. * w, y + AROUND + (v + 1.) / 2. * h);
            let seen =
                |line: &[Point]| clip(line, (x + 1., y + 1.), (x + w + 2. * AROUND - 1., y + h + 2. * AROUND - 1.));
            for outline in item.outlines {
                let corners = outline.corners.map(place);
                if !corners.iter().all(|&corner| is_finite(corner)) {
                    continue;
                }
                let closed = [corners[0], corners[1], corners[2], corners[3], corners[0]];
                let colour = COLOURS[outline.kind];
                for (wide, edge, colour) in [(2.5, 4., WHITE), (1.5, 3., colour)] {
                    for line in seen(&closed) {
                        canvas.line(&line, wide, colour)?;
                    }
                    for line in seen(&corners[..2]) {
                        canvas.line(&line, edge, colour)?;
                    }
                }
            }
            let at = (x + (w + 2. * AROUND) / 2., y + h + 2. * AROUND + CAPTION_HEIGHT / 2. - 1.);
            canvas.text(item.caption, at, Align::Centre, SMALL, GREY)?;
        }
        let (mut x, y) = (MARGIN, below + LEGEND_HEIGHT / 2.);
        for (kind, colour) in kinds.iter().zip(COLOURS) {
            canvas.line(&[(x, y), (x + 18., y)], 2., colour)?;
            canvas.text(kind, (x + 23., y), Align::Left, SMALL, GREY)?;
            x += legend_width(&[*kind])?;
        }
        Ok(())
    })
}

/// Whether a window's surrounding rectangle meets the picture.
fn is_seen(outline: &Outline) -> bool {
    let meets = |along: fn(&Point) -> f64| {
        let least = outline.corners.iter().map(along).fold(f64::INFINITY, f64::min);
        let most = outline.corners.iter().map(along).fold(f64::NEG_INFINITY, f64::max);
        least <= 1. && most >= -1.
    };
    outline.corners.iter().all(|&corner| is_finite(corner)) && meets(|corner| corner.0) && meets(|corner| corner.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_off_the_picture_is_not_seen() {
        let square = |x: f64| Outline { corners: [(x, 0.), (x + 1., 0.), (x + 1., 1.), (x, 1.)], kind: 0 };
        assert!(is_seen(&square(0.)) && is_seen(&square(-1.9)) && !is_seen(&square(-2.1)) && !is_seen(&square(1.1)));
        assert!(!is_seen(&square(f64::NAN)));
    }
}
