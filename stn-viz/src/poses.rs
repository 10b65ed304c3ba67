//! Recovered against applied poses, such as rotations.

use crate::axes::{Axis, BELOW, Plot, left_of};
use crate::canvas::{Align, Canvas, Point};
use crate::colours::{COLOURS, GREY, INK, WHITE};
use crate::file::paint;
use crate::page::{MARGIN, Page};
use crate::text::{BODY, width};
use candle_core::{Error, Result, bail};
use plotters::style::RGBColor;
use std::path::Path;

/// One example: the pose that was applied to it and the one the transformer took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PosePoint {
    /// The applied angle in degrees.
    pub applied: f64,
    /// The recovered angle in degrees.
    pub recovered: f64,
    /// The index into [`PoseFigure::classes`].
    pub class: usize,
}

/// The line on which perfect answers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// recovered = applied: both are counted the same way round. A picture that was turned by an angle is upright again where its
    /// sampling grid is turned by the same angle, since a grid says where the output looks.
    Identity,
    /// recovered = -applied: the angles are counted in opposite ways, or the recovered one is by how much the picture itself is turned.
    AntiDiagonal,
}

/// A scatter plot of recovered against applied angles.
#[derive(Clone, Copy, Debug)]
pub struct PoseFigure<'a> {
    /// The heading of the figure.
    pub title: &'a str,
    /// Stands under the title; `None` prints the number of points and their [`correlation`].
    pub subtitle: Option<&'a str>,
    /// Where data and weights come from; stands under the figure. May be empty.
    pub note: &'a str,
    /// The name of the horizontal axis, for instance `applied rotation (°)`.
    pub x_label: &'a str,
    /// The name of the vertical axis, for instance `recovered rotation (°)`.
    pub y_label: &'a str,
    /// The line on which perfect answers lie.
    pub reference: Reference,
    /// Names of the classes in the legend, ten at most; classes without points are left out.
    pub classes: &'a [&'a str],
    /// The points; those that are not finite are left out, with a remark in the footnote.
    pub points: &'a [PosePoint],
}

const SIDE: f64 = 320.;
const PITCH: f64 = 16.; // of legend lines

/// Draws recovered against applied angles, coloured by class, and writes them to `path` (.png or .svg).
///
/// Both axes have the same range, so the dashed reference line has a slope of one. The solid line is the one of [`least_squares`], where there is
/// one. Classes differ in colour and in the shape of their marks.
///
/// # Errors
/// If no point is finite, a class has no name or there are more than ten, the extension is neither png nor svg,
/// or the file can't be written.
///
/// # Example
/// ```
/// use stn_viz::{PoseFigure, PosePoint, Reference, poses};
///
/// let points: Vec<PosePoint> = (-9..=9)
///     .map(|i| PosePoint { applied: 10. * i as f64, recovered: 9. * i as f64, class: (i + 9) as usize % 2 })
///     .collect();
/// let figure = PoseFigure {
///     title: "ST-FCN undoes rotations",
///     subtitle: None,
///     note: "synthetic",
///     x_label: "applied rotation (°)",
///     y_label: "rotation of the sampling grid (°)",
///     reference: Reference::Identity,
///     classes: &["digit 0", "digit 1"],
///     points: &points,
/// };
/// let folder = tempfile::tempdir()?;
/// poses(&folder.path().join("poses.png"), &figure)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn poses(path: &Path, figure: &PoseFigure) -> Result<()> {
    let points: Vec<PosePoint> = figure.points.iter().copied().filter(is_finite).collect();
    if points.is_empty() {
        bail!("poses: none of {} points is finite, so there is nothing to draw", figure.points.len())
    }
    if figure.classes.len() > COLOURS.len() {
        bail!("poses: expected at most {} classes, got {}", COLOURS.len(), figure.classes.len())
    }
    if let Some(point) = points.iter().find(|p| p.class >= figure.classes.len()) {
        bail!("poses: a point has class {}, but only {} classes have names", point.class, figure.classes.len())
    }
    let furthest = points.iter().fold(0., |m: f64, p| m.max(p.applied.abs()).max(p.recovered.abs()));
    // Ends at a multiple of 15 degrees, with room for the marks.
    let limit = ((furthest * 1.03 / 15.).ceil() * 15.).max(15.);
    let step = [5., 15., 30., 45., 90., 180.].into_iter().find(|s| limit / s <= 4.).unwrap_or(limit / 4.);
    let axis = Axis::symmetric(limit, step);

    let (line_name, slope) = match figure.reference {
        Reference::Identity => ("recovered = applied", 1.),
        Reference::AntiDiagonal => ("recovered = −applied", -1.),
    };
    let shown: Vec<usize> = (0..figure.classes.len()).filter(|c| points.iter().any(|p| p.class == *c)).collect();
    let fit = least_squares(&points);
    let fit_name = fit.map_or(String::new(), |(slope, _)| format!("least squares, slope {slope:.2}").replace('-', "−"));
    let names = shown.iter().map(|c| figure.classes[*c]).chain([line_name, &fit_name]);
    let legend = names.map(|name| width(name, BODY)).try_fold(0., |w: f64, n| Ok::<_, Error>(w.max(n?)))? + 30.;
    let left = MARGIN + left_of(&axis)?;
    let sheet_width = left + SIDE + 14. + legend + MARGIN;
    let page = Page::new(figure.title, &subtitle(figure, &points), &note(figure, points.len()), sheet_width)?;
    let sheet_height = page.top() + SIDE + BELOW + page.bottom();
    let plot = Plot { x: axis.clone(), y: axis, corner: (left, page.top()), size: (SIDE, SIDE) };

    paint(path, (sheet_width, sheet_height), |canvas| {
        page.draw(canvas, sheet_height)?;
        plot.draw(canvas, figure.x_label, figure.y_label)?;
        let ends = [plot.at((-limit, -limit * slope)), plot.at((limit, limit * slope))];
        canvas.dashed_line(&ends, 1., GREY)?;
        for point in &points {
            mark(canvas, plot.at((point.applied, point.recovered)), point.class)?;
        }
        if let Some(ends) = fit.and_then(|line| through(line, limit)) {
            let ends = ends.map(|end| plot.at(end));
            canvas.line(&ends, 3., WHITE)?;
            canvas.line(&ends, 1.5, INK)?;
        }
        let key = |i: usize| (left + SIDE + 14., page.top() + PITCH * (i as f64 + 0.5));
        let (x, y) = key(0);
        canvas.dashed_line(&[(x, y), (x + 20., y)], 1., GREY)?;
        canvas.text(line_name, (x + 26., y), Align::Left, BODY, INK)?;
        if fit.is_some() {
            let (x, y) = key(1);
            canvas.line(&[(x, y), (x + 20., y)], 1.5, INK)?;
            canvas.text(&fit_name, (x + 26., y), Align::Left, BODY, INK)?;
        }
        for (i, class) in shown.iter().enumerate() {
            let (x, y) = key(i + 1 + usize::from(fit.is_some()));
            mark(canvas, (x + 10., y), *class)?;
            canvas.text(figure.classes[*class], (x + 26., y), Align::Left, BODY, INK)?;
        }
        Ok(())
    })
}

/// Computes Pearson's correlation of applied and recovered angles over the finite points.
///
/// Angles count as plain numbers: 179 and -179 degrees are far apart. `None` with fewer than two points or where
/// one side does not vary.
///
/// ```
/// use stn_viz::{PosePoint, correlation};
/// let points = [-40., 0., 40.].map(|a| PosePoint { applied: a, recovered: -0.5 * a, class: 0 });
/// assert_eq!(correlation(&points), Some(-1.));
/// ```
pub fn correlation(points: &[PosePoint]) -> Option<f64> {
    let points: Vec<PosePoint> = points.iter().copied().filter(is_finite).collect();
    let n = points.len() as f64;
    let mean = |side: fn(&PosePoint) -> f64| points.iter().map(side).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.applied), mean(|p| p.recovered));
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|p| f(p.applied - x, p.recovered - y)).sum::<f64>();
    let r = sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    (points.len() >= 2 && r.is_finite()).then_some(r)
}

/// Fits `recovered = slope applied + intercept` to the finite points, by least squares: slope and intercept.
///
/// `None` with fewer than two points or where the applied angle does not vary.
///
/// ```
/// use stn_viz::{PosePoint, least_squares};
/// let points = [-40., 0., 40.].map(|a| PosePoint { applied: a, recovered: 0.5 * a + 10., class: 0 });
/// assert_eq!(least_squares(&points), Some((0.5, 10.)));
/// ```
pub fn least_squares(points: &[PosePoint]) -> Option<(f64, f64)> {
    let points: Vec<PosePoint> = points.iter().copied().filter(is_finite).collect();
    let n = points.len() as f64;
    let mean = |side: fn(&PosePoint) -> f64| points.iter().map(side).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.applied), mean(|p| p.recovered));
    let both: f64 = points.iter().map(|p| (p.applied - x) * (p.recovered - y)).sum();
    let slope = both / points.iter().map(|p| (p.applied - x) * (p.applied - x)).sum::<f64>();
    (points.len() >= 2 && slope.is_finite()).then_some((slope, y - slope * x))
}

/// Where a line enters and leaves the square from -limit to limit; `None` where it misses it.
fn through((slope, intercept): (f64, f64), limit: f64) -> Option<[Point; 2]> {
    let (mut low, mut high) = (-limit, limit);
    if slope != 0. {
        let (a, b) = ((-limit - intercept) / slope, (limit - intercept) / slope);
        (low, high) = (low.max(a.min(b)), high.min(a.max(b)));
    }
    let inside = low < high && (slope != 0. || intercept.abs() <= limit);
    inside.then(|| [low, high].map(|x| (x, slope * x + intercept)))
}

fn is_finite(point: &PosePoint) -> bool {
    point.applied.is_finite() && point.recovered.is_finite()
}

fn subtitle(figure: &PoseFigure, points: &[PosePoint]) -> String {
    let r = correlation(points).map_or("undefined".to_string(), |r| format!("{r:.3}").replace('-', "−"));
    let count = match points.len() {
        1 => "1 point".to_string(),
        n => format!("{n} points"),
    };
    figure.subtitle.map_or(format!("{count}, correlation r = {r}"), str::to_string)
}

fn note(figure: &PoseFigure, kept: usize) -> String {
    match figure.points.len() - kept {
        0 => figure.note.to_string(),
        n => format!("{}\nLeft out: {n} of {} points (not finite).", figure.note, figure.points.len()),
    }
}

/// A mark with a white rim: disc, square or triangle in the colour of its class.
fn mark(canvas: &mut Canvas, at: Point, class: usize) -> Result<()> {
    let shape = |canvas: &mut Canvas, r: f64, colour: RGBColor| match class % 3 {
        0 => canvas.disc(at, r, colour),
        1 => canvas.rect((at.0 - 0.9 * r, at.1 - 0.9 * r), (at.0 + 0.9 * r, at.1 + 0.9 * r), colour),
        _ => {
            let (half, low) = (1.15 * r, at.1 + 0.75 * r);
            canvas.polygon(&[(at.0 - half, low), (at.0 + half, low), (at.0, at.1 - 1.25 * r)], colour)
        }
    };
    shape(canvas, 3.25, WHITE)?;
    shape(canvas, 2.75, COLOURS[class])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_the_frame() {
        assert_eq!(through((0.5, 10.), 90.), Some([(-90., -35.), (90., 55.)]));
        assert_eq!(through((2., 0.), 90.), Some([(-45., -90.), (45., 90.)]));
        assert_eq!(through((-2., 0.), 90.), Some([(-45., 90.), (45., -90.)]));
        assert_eq!((through((0., 95.), 90.), through((1., 181.), 90.)), (None, None));
    }
}
