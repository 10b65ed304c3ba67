//! Curves and recovered against applied rotations: to scale, and errors that help.

mod support;

use stn_viz::{Curve, CurveFigure, PoseFigure, PosePoint, Reference, correlation, curves, poses};
use support::place;

const FIRST_COLOUR: [u8; 3] = [0x33, 0x22, 0x88];

fn curve_figure<'a>(curves: &'a [Curve<'a>], log_y: bool) -> CurveFigure<'a> {
    let (x_label, y_label) = ("step", "test error (%)");
    CurveFigure { title: "Error & loss", note: "seed 0", x_label, y_label, log_y, curves }
}

/// The lines of the first series as lists of places, without its sample in the legend (the last one).
fn first_series(svg: &str) -> Vec<Vec<(f64, f64)>> {
    let lines = svg.lines().filter(|l| l.starts_with("<polyline") && l.contains("stroke=\"#332288\""));
    let points = lines.map(|l| l.split("points=\"").nth(1).unwrap().split('"').next().unwrap());
    let pair = |p: &str| p.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
    let mut lines: Vec<Vec<_>> = points.map(|p| p.split_whitespace().map(pair).collect()).collect();
    lines.pop();
    lines
}

#[test]
fn curves_are_to_scale_linear_and_logarithmic() {
    let (_folder, path) = place("c.svg");
    let points = [(0., 1.), (10., 10.), (20., 100.)];
    let drawn = |log_y| {
        curves(&path, &curve_figure(&[Curve { name: "a", points: &points, colour: 0, dashed: false }], log_y)).unwrap();
        first_series(&std::fs::read_to_string(&path).unwrap()).remove(0)
    };
    let [a, b, c] = drawn(true)[..] else { panic!("three points") };
    assert!(((a.1 - b.1) - (b.1 - c.1)).abs() <= 2. && a.1 > b.1, "equal ratios, equal steps up: {a:?} {b:?} {c:?}");
    assert!(((b.0 - a.0) - (c.0 - b.0)).abs() <= 2. && b.0 > a.0);
    let [a, b, c] = drawn(false)[..] else { panic!("three points") };
    assert!(((b.1 - c.1) / (a.1 - b.1) - 10.).abs() < 0.2, "90 is ten times 9: {a:?} {b:?} {c:?}");
}

#[test]
fn curves_say_title_axes_legend_and_note() {
    let (_folder, path) = place("c.svg");
    let series = [
        Curve { name: "ST-CNN", points: &[(0., 3.), (1., 2.)], colour: 0, dashed: false },
        Curve { name: "later", points: &[], colour: 1, dashed: false },
        Curve { name: "published", points: &[(0., 0.7), (1., 0.7)], colour: 2, dashed: true },
    ];
    curves(&path, &curve_figure(&series, false)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for wanted in ["Error &amp; loss", "seed 0", "step", "test error (%)", "ST-CNN", "later (no points)", "published"] {
        assert!(text.contains(&format!(">\n{wanted}\n<")), "{wanted} is missing");
    }
    let dashes = text.lines().filter(|l| l.starts_with("<polyline") && l.contains("#228833")).count();
    assert!(dashes > 20, "{dashes} dashes");
}

#[test]
fn a_value_that_is_not_finite_breaks_the_line_and_is_counted() {
    let (_folder, path) = place("c.svg");
    let points = [(0., 3.), (1., 2.), (2., f64::NAN), (3., 2.), (4., 1.), (5., f64::INFINITY)];
    curves(&path, &curve_figure(&[Curve { name: "a", points: &points, colour: 0, dashed: false }], false)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(first_series(&text).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    assert!(text.contains("Left out: 2 of 6 points (not finite)."));
}

#[test]
fn a_single_point_is_a_dot_and_no_point_is_an_error() {
    let (_folder, path) = place("c.svg");
    for log_y in [false, true] {
        curves(&path, &curve_figure(&[Curve { name: "a", points: &[(500., 2.)], colour: 0, dashed: false }], log_y))
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("<circle").count(), 1);
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }
    let error = |points: &[(f64, f64)], log_y| {
        let error =
            curves(&path, &curve_figure(&[Curve { name: "a", points, colour: 0, dashed: false }], log_y)).unwrap_err();
        error.to_string()
    };
    assert!(error(&[(0., f64::NAN)], false).contains("no point of 1 is finite"));
    assert!(error(&[(0., 0.), (1., -1.)], true).contains("no point of 2 is finite and above zero"));
    assert!(error(&[], false).contains("no point of 0"));
}

#[test]
fn extreme_values_do_not_panic() {
    let (_folder, path) = place("c.png");
    for values in [[1e-310, 2e-310], [1e300, 1e308], [-1e308, 1e308], [5., 5. + 1e-15], [0., 1e-300]] {
        let points = [(0., values[0]), (1., values[1])];
        for log_y in [false, values[0] > 0.] {
            curves(&path, &curve_figure(&[Curve { name: "a", points: &points, colour: 0, dashed: true }], log_y))
                .unwrap();
        }
    }
}

fn pose_figure<'a>(points: &'a [PosePoint], classes: &'a [&'a str]) -> PoseFigure<'a> {
    let (x_label, y_label) = ("applied rotation (°)", "recovered rotation (°)");
    let (title, note, reference) = ("Rotations", "seed 0", Reference::AntiDiagonal);
    PoseFigure { title, subtitle: None, note, x_label, y_label, reference, classes, points }
}

#[test]
fn poses_lie_where_the_axes_say() {
    let (_folder, path) = place("p.svg");
    let points =
        [(-60., 60.), (0., 0.), (60., -30.)].map(|(applied, recovered)| PosePoint { applied, recovered, class: 0 });
    poses(&path, &pose_figure(&points, &["digit 0"])).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let number = |line: &str, name: &str| -> f64 {
        line.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    let marks = text.lines().filter(|l| l.starts_with("<circle") && l.contains("#332288"));
    let marks: Vec<_> = marks.map(|l| (number(l, "cx"), number(l, "cy"))).collect();
    let [a, b, c, _legend] = marks[..] else { panic!("three points and the legend, got {marks:?}") };
    assert!((b.0 - a.0 - (c.0 - b.0)).abs() <= 1. && b.0 > a.0, "60 degrees each way");
    assert!((b.1 - a.1 - 2. * (c.1 - b.1)).abs() <= 2. && b.1 > a.1, "up 60, down 30 degrees");
    assert!((b.0 - a.0 - (b.1 - a.1)).abs() <= 1., "the same scale on both axes");
    // The first dash of the reference line starts at the top left, beyond the first point.
    let dash = text.lines().find(|l| l.starts_with("<polyline") && l.contains("stroke-width=\"4\"")).unwrap();
    let start = dash.split("points=\"").nth(1).unwrap().split(' ').next().unwrap().split_once(',').unwrap();
    let start: (f64, f64) = (start.0.parse().unwrap(), start.1.parse().unwrap());
    assert!(start.0 < a.0 && start.1 < a.1 && (b.0 - start.0 - (b.1 - start.1)).abs() <= 1., "{start:?}");
    for wanted in ["Rotations", "3 points, correlation r = −0.982", "digit 0", "recovered = −applied", "−60"] {
        assert!(text.contains(&format!(">\n{wanted}\n<")), "{wanted} is missing");
    }
}

#[test]
fn poses_in_a_bitmap_have_the_colour_of_their_class() {
    let (_folder, path) = place("p.png");
    let points = [PosePoint { applied: 0., recovered: 0., class: 0 }];
    poses(&path, &pose_figure(&points, &["digit 0", "never seen"])).unwrap();
    let picture = image::open(&path).unwrap().to_rgb8();
    let drawn = picture.pixels().filter(|p| p.0 == FIRST_COLOUR).count();
    assert!((100..300).contains(&drawn), "two discs of 5.5 points: {drawn}");
}

#[test]
fn poses_leave_out_what_is_not_finite_and_refuse_unknown_classes() {
    let (_folder, path) = place("p.svg");
    let good = PosePoint { applied: 10., recovered: -9., class: 0 };
    let bad = PosePoint { recovered: f64::NAN, ..good };
    poses(&path, &pose_figure(&[good, bad], &["digit 0"])).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("Left out: 1 of 2 points") && text.contains("1 point, correlation r = undefined"));

    let error =
        |points: &[PosePoint], classes: &[&str]| poses(&path, &pose_figure(points, classes)).unwrap_err().to_string();
    assert!(error(&[bad], &["digit 0"]).contains("none of 1 points is finite"));
    assert!(error(&[PosePoint { class: 3, ..good }], &["digit 0"]).contains("has class 3, but only 1 classes"));
    assert!(error(&[good], &["c"; 11]).contains("at most 10 classes, got 11"));
}

#[test]
fn correlation_is_pearsons() {
    let points = |pairs: &[(f64, f64)]| -> Vec<PosePoint> {
        pairs.iter().map(|&(applied, recovered)| PosePoint { applied, recovered, class: 0 }).collect()
    };
    let r = correlation(&points(&[(1., 2.), (2., 1.), (3., 4.), (4., 3.)])).unwrap();
    assert!((r - 0.6).abs() < 1e-12, "{r}");
    let with_nan = correlation(&points(&[(1., 2.), (2., 1.), (f64::NAN, 0.), (3., 4.), (4., 3.)])).unwrap();
    assert_eq!(with_nan, r);
    assert_eq!(correlation(&points(&[(1., 2.)])), None);
    assert_eq!(correlation(&points(&[(1., 2.), (1., 3.)])), None);
}
