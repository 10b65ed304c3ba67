//! Error and loss curves over steps.

use crate::axes::{Axis, BELOW, Plot, left_of};
use crate::canvas::{Align, Canvas, Point};
use crate::colours::{COLOURS, INK};
use crate::file::paint;
use crate::page::{MARGIN, Page};
use crate::text::{BODY, width};
use candle_core::{Result, bail};
use plotters::style::RGBColor;
use std::path::Path;

/// A named series of values over steps.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// (step, value), in the order to be joined; a value that is not finite breaks the line.
    pub points: &'a [(f64, f64)],
    /// Which of the ten colours it has, counted round: curves of one run may share theirs.
    pub colour: usize,
    /// Whether the line is dashed, for references such as a published value.
    pub dashed: bool,
}

/// A figure of curves that share their axes.
#[derive(Clone, Copy, Debug)]
pub struct CurveFigure<'a> {
    /// The heading of the figure.
    pub title: &'a str,
    /// Where the numbers come from; stands under the figure. May be empty.
    pub note: &'a str,
    /// What the steps are, with the unit if any: `step`, `epoch`, `time (s)`.
    pub x_label: &'a str,
    /// What the values are, with the unit if any: `test error (%)`.
    pub y_label: &'a str,
    /// Whether the values stand on a logarithmic axis; values of zero and below then count as not finite.
    pub log_y: bool,
    /// The series, in the order of the legend; a series without points stays in the legend as `(no points)`.
    pub curves: &'a [Curve<'a>],
}

const PLOT: Point = (400., 250.);
const LINE: f64 = 1.5;
const PITCH: f64 = 16.; // of legend lines

/// Draws series of (step, value) as lines and writes them to `path` (.png or .svg).
///
/// Points that can't be drawn (not finite or, on a logarithmic axis, not above zero) are left out; the line has
/// a gap there, and the footnote says how many. A point without neighbours is a dot.
///
/// # Errors
/// If no point can be drawn, the extension is neither png nor svg, or the file can't be written.
///
/// # Example
/// ```
/// use stn_viz::{Curve, CurveFigure, curves};
///
/// let loss: Vec<(f64, f64)> = (0..100).map(|i| (10. * i as f64, 2.3 * (-0.05 * i as f64).exp())).collect();
/// let figure = CurveFigure {
///     title: "Training loss of ST-FCN",
///     note: "embedded MNIST, seed 0",
///     x_label: "step",
///     y_label: "cross entropy (nats)",
///     log_y: true,
///     curves: &[Curve { name: "train", points: &loss, colour: 0, dashed: false }],
/// };
/// let folder = tempfile::tempdir()?;
/// curves(&folder.path().join("loss.svg"), &figure)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn curves(path: &Path, figure: &CurveFigure) -> Result<()> {
    let drawable = |&(x, y): &Point| x.is_finite() && y.is_finite() && (y > 0. || !figure.log_y);
    let all = || figure.curves.iter().flat_map(|curve| curve.points);
    let kept: Vec<Point> = all().copied().filter(drawable).collect();
    if kept.is_empty() {
        let wanted = if figure.log_y { "finite and above zero" } else { "finite" };
        bail!("curves: no point of {} is {wanted}, so there is nothing to draw", all().count())
    }
    let left_out = all().count() - kept.len();
    let (x, y) = axes(&kept, figure.log_y);

    let names: Vec<String> = figure.curves.iter().map(|c| legend_name(c, drawable)).collect();
    let legend =
        names.iter().try_fold(0., |w: f64, name| Ok::<_, candle_core::Error>(w.max(width(name, BODY)?)))? + 34.;
    let left = MARGIN + left_of(&y)?;
    let sheet_width = left + PLOT.0 + 14. + legend + MARGIN;
    let mut note = figure.note.to_string();
    if left_out > 0 {
        let why = if figure.log_y { "not finite or not above zero" } else { "not finite" };
        note += &format!("\nLeft out: {left_out} of {} points ({why}).", all().count());
    }
    let page = Page::new(figure.title, "", &note, sheet_width)?;
    let height = PLOT.1.max(PITCH * names.len() as f64);
    let sheet_height = page.top() + height + BELOW + page.bottom();
    let plot = Plot { x, y, corner: (left, page.top()), size: (PLOT.0, height) };

    paint(path, (sheet_width, sheet_height), |canvas| {
        page.draw(canvas, sheet_height)?;
        plot.draw(canvas, figure.x_label, figure.y_label)?;
        for (i, (curve, name)) in figure.curves.iter().zip(&names).enumerate() {
            let colour = COLOURS[curve.colour % COLOURS.len()];
            for run in curve.points.split(|p| !drawable(p)) {
                let places: Vec<Point> = run.iter().map(|p| plot.at(*p)).collect();
                match places[..] {
                    [] => {}
                    [alone] => canvas.disc(alone, 2.5, colour)?,
                    _ => line(canvas, &places, colour, curve.dashed)?,
                }
            }
            let key = (left + PLOT.0 + 14., page.top() + PITCH * (i as f64 + 0.5));
            line(canvas, &[key, (key.0 + 22., key.1)], colour, curve.dashed)?;
            canvas.text(name, (key.0 + 28., key.1), Align::Left, BODY, INK)?;
        }
        Ok(())
    })
}

fn legend_name(curve: &Curve, drawable: impl Fn(&Point) -> bool) -> String {
    let hint = if curve.points.iter().any(drawable) { "" } else { " (no points)" };
    format!("{}{hint}", curve.name)
}

/// Axes that hold all points; a linear one starts at zero where that costs little room.
fn axes(points: &[Point], log_y: bool) -> (Axis, Axis) {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x0, x1) = range(&mut points.iter().map(|p| p.0));
    let (y0, y1) = range(&mut points.iter().map(|p| p.1));
    let from_zero = if (0. ..0.5 * y1).contains(&y0) { 0. } else { y0 };
    let y = if log_y { Axis::logarithmic(y0, y1) } else { Axis::linear(from_zero, y1, true) };
    (Axis::linear(x0, x1, false), y)
}

fn line(canvas: &mut Canvas, points: &[Point], colour: RGBColor, dashed: bool) -> Result<()> {
    if !dashed {
        return canvas.line(points, LINE, colour);
    }
    canvas.dashed_line(points, LINE, colour)
}
