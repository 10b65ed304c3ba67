//! Axes with round ticks, linear or logarithmic, and the frame around a plot.

use crate::canvas::{Align, Canvas, Point};
use crate::colours::{GREY, INK, PALE};
use crate::text::{BODY, SMALL, width};
use candle_core::Result;

/// One axis: a range and the values that carry a label.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Spans `low..high` and ends at round numbers when `round`.
    pub(crate) fn linear(low: f64, high: f64, round: bool) -> Self {
        let (mut low, mut high) = apart(low, high);
        let step = round_step((high - low) / 5.);
        if round {
            (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        }
        Self { low, high, log: false, ticks: ticks(low, high, step) }
    }

    /// Spans `-limit..limit` with ticks at multiples of `step`.
    pub(crate) fn symmetric(limit: f64, step: f64) -> Self {
        Self { low: -limit, high: limit, log: false, ticks: ticks(-limit, limit, step) }
    }

    /// Spans `low..high`, both above zero, in equal ratios, with ticks at 1, 2 and 5 times powers of ten or, over
    /// many decades, at powers of ten alone.
    pub(crate) fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = if low < high { (low, high) } else { (low / 2., high * 2.) };
        let room = (high / low).powf(0.04);
        let (low, high) = ((low / room).max(f64::MIN_POSITIVE), (high * room).min(f64::MAX));
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let factors: &[f64] = if last - first <= 3 { &[1., 2., 5.] } else { &[1.] };
        let every = (last - first) / 8 + 1;
        let values = (first..=last).filter(|k| k % every == 0);
        let values = values.flat_map(|k| factors.iter().map(move |f| f * 10f64.powi(k)));
        let inside: Vec<_> = values.filter(|v| (low..=high).contains(v)).map(|v| (v, number(v, v))).collect();
        // Less than two round numbers of the 1-2-5 kind: the range is short, and even steps serve it.
        let ticks = if inside.len() < 2 { ticks(low, high, round_step((high - low) / 4.)) } else { inside };
        Self { low, high, log: true, ticks }
    }

    /// Where a value lies between the ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

/// Widens an empty range so that it can be drawn.
fn apart(low: f64, high: f64) -> (f64, f64) {
    if high - low > 1e-12 * low.abs().max(high.abs()).max(1e-280) {
        return (low, high);
    }
    let half = if low == 0. { 1. } else { low.abs() * 0.1 };
    (low - half, high + half)
}

/// The next of 1, 2, 2.5, 5, 10 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1., 2., 2.5, 5.];
    factors.into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.) * power
}

fn ticks(low: f64, high: f64, step: f64) -> Vec<(f64, String)> {
    let (first, last) = ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
    (first..=last).map(|i| i as f64 * step).map(|v| (v, number(v, step))).collect()
}

/// Prints `value` with the decimals that steps of `step` need, thousands set apart, a real minus sign.
fn number(value: f64, step: f64) -> String {
    let size = value.abs().max(step.abs());
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.1e}").replace(".0e", "e").replace('-', "−");
    }
    let mut decimals = 0;
    while decimals < 9 && (step * 10f64.powi(decimals) - (step * 10f64.powi(decimals)).round()).abs() > 1e-6 {
        decimals += 1;
    }
    let digits = format!("{:.*}", decimals as usize, value.abs());
    let whole = digits.find('.').unwrap_or(digits.len());
    let mut text = String::from(if value < 0. && digits.contains(|c| ('1'..='9').contains(&c)) { "−" } else { "" });
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && i < whole && (whole - i) % 3 == 0 {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// Two axes and where they are on the sheet, in points.
pub(crate) struct Plot {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// The top-left corner of the frame.
    pub(crate) corner: Point,
    /// Its width and height.
    pub(crate) size: Point,
}

/// What must stay free under the frame for tick labels and the name of the axis, in points.
pub(crate) const BELOW: f64 = 36.;

/// What must stay free left of the frame for the labels of this axis and its name, in points.
pub(crate) fn left_of(y: &Axis) -> Result<f64> {
    y.ticks.iter().try_fold(30., |room: f64, (_, label)| Ok(room.max(width(label, SMALL)? + 26.)))
}

impl Plot {
    /// The place of a data point on the sheet.
    pub(crate) fn at(&self, (x, y): Point) -> Point {
        (self.corner.0 + self.x.share(x) * self.size.0, self.corner.1 + (1. - self.y.share(y)) * self.size.1)
    }

    /// Draws frame, grid lines, tick labels and the names of the axes.
    pub(crate) fn draw(&self, canvas: &mut Canvas, x_label: &str, y_label: &str) -> Result<()> {
        let ((left, top), (w, h)) = (self.corner, self.size);
        let (right, bottom) = (left + w, top + h);
        let mut free = f64::NEG_INFINITY; // a label that would touch its neighbour is left out
        for (value, label) in &self.x.ticks {
            let x = left + self.x.share(*value) * w;
            canvas.line(&[(x, top), (x, bottom)], 0.5, PALE)?;
            let half = width(label, SMALL)? / 2.;
            if x - half > free {
                canvas.text(label, (x, bottom + 10.), Align::Centre, SMALL, GREY)?;
                free = x + half + 4.;
            }
        }
        for (value, label) in &self.y.ticks {
            let y = bottom - self.y.share(*value) * h;
            canvas.line(&[(left, y), (right, y)], 0.5, PALE)?;
            canvas.text(label, (left - 5., y), Align::Right, SMALL, GREY)?;
        }
        let frame = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        canvas.line(&frame, 0.75, GREY)?;
        canvas.text(x_label, (left + w / 2., bottom + 27.), Align::Centre, BODY, INK)?;
        canvas.upward_text(y_label, (left - left_of(&self.y)? + 6., top + h / 2.), BODY, INK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|t| t.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Axis::linear(0., 12_000., true)), ["0", "2,500", "5,000", "7,500", "10,000", "12,500"]);
        assert_eq!(labels(&Axis::linear(0., 0.83, true)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::symmetric(90., 45.)), ["−90", "−45", "0", "45", "90"]);
        assert_eq!(labels(&Axis::logarithmic(0.04, 2.4)), ["0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(&Axis::logarithmic(1e-6, 1.)).first(), Some(&"1e−6"));
        assert!(labels(&Axis::logarithmic(3.1, 3.9)).len() >= 2);
    }

    #[test]
    fn a_range_of_one_value_is_widened() {
        for axis in [Axis::linear(3., 3., true), Axis::linear(0., 0., false), Axis::logarithmic(3., 3.)] {
            assert!(axis.low < axis.high && axis.ticks.len() >= 2, "{axis:?}");
            assert!((0. ..=1.).contains(&axis.share(if axis.low < 0. { 0. } else { 3. })));
        }
    }

    #[test]
    fn a_logarithmic_axis_gives_equal_ratios_equal_room() {
        let axis = Axis::logarithmic(0.01, 1.);
        let (a, b, c) = (axis.share(0.01), axis.share(0.1), axis.share(1.));
        assert!((2. * b - a - c).abs() < 1e-12 && a > 0. && c < 1.);
    }
}
