//! What a reader of the figures relies on: the right thing at the right place, and errors that help.

use candle_core::{Device, Result, Tensor};
use std::path::{Path, PathBuf};
use stn_viz::{
    BoxFigure, BoxFrame, BoxRow, Curve, CurveFigure, PoseFigure, PosePoint, ProjectionFigure, ProjectionRow, Reference,
    WARP_HEADINGS, WarpFigure, WarpRow, boxes, correlation, curves, poses, projections, warps,
};
use tempfile::TempDir;

const BOX: [u8; 3] = [0xff, 0x5a, 0x1f];
const TOP_EDGE: [u8; 3] = [0xff, 0xd0, 0x2e];
const SURROUNDINGS: [u8; 3] = [0xb4, 0xb8, 0xbd];
const FIRST_COLOUR: [u8; 3] = [0x33, 0x22, 0x88];

fn place(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

/// A sampling grid (n, n, 2) whose points are `source` of -1..1 both ways.
fn grid(n: usize, source: impl Fn(f64, f64) -> (f64, f64)) -> Tensor {
    let at = |i: usize| i as f64 / (n - 1) as f64 * 2. - 1.;
    let points = (0..n * n).map(|i| source(at(i % n), at(i / n)));
    let xy: Vec<f32> = points.flat_map(|(x, y)| [x as f32, y as f32]).collect();
    Tensor::from_vec(xy, (n, n, 2), &Device::Cpu).unwrap()
}

fn white(n: usize) -> Tensor {
    Tensor::ones((n, n), candle_core::DType::F32, &Device::Cpu).unwrap()
}

/// A figure of one white image with one grid over it.
fn one_grid(path: &Path, grid: &Tensor, align_corners: bool) -> Result<()> {
    let image = white(8);
    let rows = [WarpRow { label: "digit 6", input: &image, grid, output: &image }];
    let (title, note, headings) = ("Title <1> & more", "seed 0, quick", WARP_HEADINGS);
    warps(path, &WarpFigure { title, note, headings, rows: &rows, align_corners, blocks: 1 })
}

/// The middle panel of a figure by [`one_grid`].
struct Panel {
    picture: image::RgbImage,
    /// Where the image of the panel starts, and the side of its pixels, all in pixels of the file.
    left: u32,
    top: u32,
    cell: u32,
}

impl Panel {
    fn of(path: &Path) -> Self {
        let picture = image::open(path).unwrap().to_rgb8();
        let grey: Vec<_> = picture.enumerate_pixels().filter(|p| p.2.0 == SURROUNDINGS).collect();
        let (left, right) = (grey.iter().map(|p| p.0).min().unwrap(), grey.iter().map(|p| p.0).max().unwrap());
        let (top, bottom) = (grey.iter().map(|p| p.1).min().unwrap(), grey.iter().map(|p| p.1).max().unwrap());
        assert_eq!(right - left, bottom - top, "the panel of a square image is square");
        // The input is drawn 112 points, 224 pixels wide; the surroundings are the same on all sides.
        let margin = (right + 1 - left - 224) / 2;
        Self { picture, left: left + margin, top: top + margin, cell: 28 }
    }

    /// The colour at (x, y) in pixels of the image; (0, 0) is the centre of the first one.
    fn at(&self, x: f64, y: f64) -> [u8; 3] {
        let place = |start: u32, v: f64| (f64::from(start) + (v + 0.5) * f64::from(self.cell)) as u32;
        self.picture.get_pixel(place(self.left, x), place(self.top, y)).0
    }
}

#[test]
fn identity_grid_with_aligned_corners_runs_through_the_centres_of_the_border_pixels() {
    let (_folder, path) = place("w.png");
    one_grid(&path, &grid(8, |x, y| (x, y)), true).unwrap();
    let panel = Panel::of(&path);
    for (x, y) in [(7., 7.), (0., 7.), (7., 3.5), (3.5, 7.), (0., 3.5)] {
        assert_eq!(panel.at(x, y), BOX, "the border passes ({x}, {y})");
    }
    assert_eq!(panel.at(3.5, 0.), TOP_EDGE);
    for (x, y) in [(7.4, 7.4), (7.4, 3.5), (3.5, 7.4), (3.5, -0.4)] {
        assert_eq!(panel.at(x, y), [255; 3], "nothing is at the outer edge ({x}, {y})");
    }
}

#[test]
fn without_aligned_corners_the_identity_runs_along_the_outer_edge() {
    let (_folder, path) = place("w.png");
    one_grid(&path, &grid(8, |x, y| (x, y)), false).unwrap();
    let panel = Panel::of(&path);
    for (x, y) in [(7.5, 3.7), (3.7, 7.5), (-0.5, 3.7)] {
        assert_eq!(panel.at(x, y), BOX, "the border passes ({x}, {y})");
    }
    assert_eq!(panel.at(3.7, -0.5), TOP_EDGE);
    assert_eq!(panel.at(7., 3.7), [255; 3]);
}

#[test]
fn dot_and_top_edge_show_a_turn_and_a_flip() {
    let (_folder, path) = place("w.png");
    // The output's top-left is the input's top-right, its top edge the input's right side.
    one_grid(&path, &grid(8, |x, y| (-y, x)), true).unwrap();
    let panel = Panel::of(&path);
    assert_eq!(panel.at(7. - 0.12, 0.12), BOX, "the dot is at the top right");
    assert_eq!(panel.at(7., 3.5), TOP_EDGE);

    one_grid(&path, &grid(8, |x, y| (-x, y)), true).unwrap();
    let panel = Panel::of(&path);
    assert_eq!(panel.at(7. - 0.12, 0.12), BOX, "the dot is at the top right");
    assert_eq!((panel.at(3.5, 0.), panel.at(7., 3.5)), (TOP_EDGE, BOX));
}

#[test]
fn a_box_that_leaves_the_image_is_drawn_beside_it() {
    let (_folder, path) = place("w.png");
    one_grid(&path, &grid(8, |x, y| (x + 0.4, y)), true).unwrap();
    let panel = Panel::of(&path);
    assert_eq!(panel.at(7. + 0.4 * 3.5, 3.5), BOX);
    assert_eq!(panel.at(7. + 0.2 * 3.5, 5.3), SURROUNDINGS);
}

#[test]
fn grids_far_away_or_not_finite_are_drawn_as_far_as_they_can_be_and_remarked() {
    let (_folder, path) = place("w.svg");
    let text = |source: fn(f64, f64) -> (f64, f64)| {
        one_grid(&path, &grid(8, source), true).unwrap();
        std::fs::read_to_string(&path).unwrap()
    };
    assert!(text(|x, y| (x + 40., y)).contains("grid border out of view"));
    assert!(text(|x, y| (x * 1e38, y * 1e38)).contains("grid border out of view"));
    assert!(text(|x, y| (if x > 0. { f64::NAN } else { x }, y)).contains("32 of 64 points not finite"));
    assert!(text(|x, _| (x, f64::INFINITY)).contains("64 of 64 points not finite"));
    let fine = text(|x, y| (1.2 * x, y));
    assert!(!fine.contains("finite") && !fine.contains("out of view"));
}

#[test]
fn pixels_are_crisp_squares_of_the_right_colour() {
    let (_folder, path) = place("w.png");
    // Three channels, two by two pixels: red, green; blue, one that is not a number.
    let values = [[1f32, 0., 0., f32::NAN], [0., 1., 0., 0.], [0., 0., 2., 0.]];
    let image = Tensor::new(&values, &Device::Cpu).unwrap().reshape((3, 2, 2)).unwrap();
    let away = grid(2, |x, y| (x + 40., y));
    let rows = [WarpRow { label: "", input: &image, grid: &away, output: &image }];
    let figure = WarpFigure { title: "", note: "", headings: [""; 3], rows: &rows, align_corners: true, blocks: 1 };
    warps(&path, &figure).unwrap();
    let panel = Panel { cell: 112, ..Panel::of(&path) };
    for (at, colour) in [(0., [255, 0, 0]), (1., [0, 255, 0])] {
        for side in [-0.49, 0., 0.49] {
            assert_eq!(panel.at(at + side, side), colour);
        }
    }
    assert_eq!((panel.at(0., 0.9), panel.at(1., 0.9)), ([0, 0, 255], [255, 0, 255]));
}

#[test]
fn runs_of_equal_pixels_end_where_they_should() {
    let (_folder, path) = place("w.png");
    let values = [0.4f32, 0.4, 1., 0., 0., 0., 0.8, 0.8];
    let image = Tensor::new(&values, &Device::Cpu).unwrap().broadcast_as((8, 8)).unwrap();
    let away = grid(2, |x, y| (x + 40., y));
    let rows = [WarpRow { label: "", input: &image, grid: &away, output: &image }];
    let (title, note, headings) = ("", "", [""; 3]);
    warps(&path, &WarpFigure { title, note, headings, rows: &rows, align_corners: true, blocks: 1 }).unwrap();
    let panel = Panel::of(&path);
    for (x, value) in values.iter().enumerate() {
        for edge in [-0.49, 0.49] {
            assert_eq!(panel.at(x as f64 + edge, 3.), [(value * 255.).round() as u8; 3], "pixel {x}");
        }
    }
}

#[test]
fn a_figure_says_everything_around_it_and_svg_stays_small() {
    let (_folder, path) = place("w.svg");
    // A blurred ring: about as many grey pixels as a digit has.
    let value = |i: usize| {
        let radius = ((i % 28) as f64 - 13.5).hypot((i / 28) as f64 - 13.5);
        (1. - (radius - 7.).abs() / 2.2).max(0.) as f32
    };
    let image = Tensor::from_iter((0..784).map(value), &Device::Cpu).unwrap().reshape((1, 28, 28)).unwrap();
    let grid = grid(28, |x, y| (0.5 * x - 0.5 * y, 0.5 * x + 0.5 * y));
    let labels: Vec<String> = (0..10).map(|i| format!("digit {i}")).collect();
    let rows: Vec<_> =
        labels.iter().map(|l| WarpRow { label: l, input: &image, grid: &grid, output: &image }).collect();
    let (title, note, headings) = ("A < B", "embedded MNIST, seed 0", WARP_HEADINGS);
    warps(&path, &WarpFigure { title, note, headings, rows: &rows, align_corners: true, blocks: 2 }).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for wanted in ["A &lt; B", note, "digit 0", "digit 9", "top edge of the output"].iter().chain(&headings) {
        assert!(text.contains(wanted), "{wanted} is missing");
    }
    assert_eq!(text.matches("sampling grid\n").count(), 2 + 1, "a heading a block, and the key");
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    assert!(text.trim_end().ends_with("</svg>"));
}

#[test]
fn errors_say_what_is_wrong() {
    let (folder, path) = place("w.png");
    let identity = grid(8, |x, y| (x, y));
    let error = |path: &Path, grid: &Tensor| one_grid(path, grid, true).unwrap_err().to_string();
    let jpeg = error(&folder.path().join("w.jpeg"), &identity);
    assert!(jpeg.contains("w.jpeg: the file name must end in .png or .svg"), "{jpeg}");
    let nowhere = error(&folder.path().join("missing").join("w.png"), &identity);
    assert!(nowhere.contains("the folder must exist and be writable"), "{nowhere}");
    let shape = error(&path, &white(8));
    assert!(shape.contains("the grid of row \"digit 6\" must be (H', W', 2), got [8, 8]"), "{shape}");

    let (image, flat) = (white(8), white(8).flatten_all().unwrap());
    let figure = |rows: &[WarpRow], blocks| {
        let (title, note, headings) = ("", "", WARP_HEADINGS);
        warps(&path, &WarpFigure { title, note, headings, rows, align_corners: true, blocks })
    };
    let row = WarpRow { label: "a", input: &flat, grid: &identity, output: &image };
    let shape = figure(&[row], 1).unwrap_err().to_string();
    assert!(shape.contains("the input of row \"a\" must be (H, W), (1, H, W) or (3, H, W), got [64]"), "{shape}");
    assert!(figure(&[], 1).unwrap_err().to_string().contains("at least one row"));
    assert!(figure(&[WarpRow { input: &image, ..row }], 0).unwrap_err().to_string().contains("one block"));
    assert!(!path.exists());
}

#[test]
fn a_figure_replaces_the_old_one_and_leaves_nothing_beside_it() {
    let (folder, path) = place("w.PNG");
    std::fs::write(&path, "old").unwrap();
    one_grid(&path, &grid(8, |x, y| (x, y)), true).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(&bytes[1..4], b"PNG");
    one_grid(&path, &grid(8, |x, y| (x, y)), true).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same figure is the same file");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

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

#[test]
fn boxes_lie_where_they_say_and_those_outside_are_cut_off() {
    let (_folder, path) = place("b.png");
    let image = Tensor::zeros((84, 84), candle_core::DType::F32, &Device::Cpu).unwrap();
    let truth = BoxFrame { left: 10., top: 40., width: 28., height: 28. };
    let found = BoxFrame { left: 20., top: 10., width: 30., height: 30. };
    let far = BoxFrame { left: -500., top: -500., width: 10., height: 10. };
    let row = [BoxRow { label: "", image: &image, truth: Some(truth), found: &[(found, "0.10"), (far, "0.00")] }];
    let figure = BoxFigure {
        title: "",
        note: "",
        headings: &["step 0", "step 10"],
        legend: ["found", "looked for"],
        rows: &row,
    };
    boxes(&path, &figure).unwrap();
    let picture = image::open(&path).unwrap().to_rgb8();
    let grey: Vec<_> = picture.enumerate_pixels().filter(|p| p.2.0 == SURROUNDINGS).collect();
    let (left, top) = (grey.iter().map(|p| p.0).min().unwrap(), grey.iter().map(|p| p.1).min().unwrap());
    // A pixel of the image is two of the file; around it are ten of the file.
    let at = |x: u32, y: u32| picture.get_pixel(left + 10 + 2 * x, top + 10 + 2 * y).0;
    for (x, y) in [(20, 25), (50, 25), (35, 10), (35, 40)] {
        assert_eq!(at(x, y), BOX, "the box passes ({x}, {y})");
    }
    assert_eq!(at(35, 25), [0; 3], "its inside is free");
    let second = picture.enumerate_pixels().filter(|p| p.0 > left + 190 && p.2.0 == BOX && p.1 < top + 180).count();
    assert_eq!(second, 0, "a box far outside is not drawn");

    let error = boxes(&path, &BoxFigure { headings: &["one"], ..figure }).unwrap_err().to_string();
    assert!(error.contains("must have 1 boxes, one a column, got 2"), "{error}");
    assert!(boxes(&path, &BoxFigure { rows: &[], ..figure }).unwrap_err().to_string().contains("at least one row"));
}

#[test]
fn projections_are_shown_with_their_largest_value_white() {
    let (_folder, path) = place("p.png");
    let dim = Tensor::new(&[[0f32, 0.], [0., 0.25]], &Device::Cpu).unwrap();
    let bright = Tensor::new(&[[40f32, 0.], [0., 0.]], &Device::Cpu).unwrap();
    let rows = [ProjectionRow { label: "digit 6", pictures: &[&dim, &bright] }];
    let figure = ProjectionFigure {
        title: "",
        note: "",
        headings: &["front", "side"],
        subheadings: &["sum over z", "sum over x"],
        rows: &rows,
        blocks: 1,
    };
    projections(&path, &figure).unwrap();
    let picture = image::open(&path).unwrap().to_rgb8();
    let black: Vec<_> = picture.enumerate_pixels().filter(|p| p.2.0 == [0; 3]).collect();
    let (left, right) = (black.iter().map(|p| p.0).min().unwrap(), black.iter().map(|p| p.0).max().unwrap());
    let (top, bottom) = (black.iter().map(|p| p.1).min().unwrap(), black.iter().map(|p| p.1).max().unwrap());
    let white = |x: u32, y: u32| picture.get_pixel(x, y).0 == [255; 3];
    assert!(white(left + 170, bottom - 5), "the dim picture's brightest pixel, its last");
    assert!(!white(left + 5, top + 5) && !white(right - 5, bottom - 5));
    let svg = path.with_extension("svg");
    projections(&svg, &figure).unwrap();
    let text = std::fs::read_to_string(&svg).unwrap();
    assert!(["digit 6", "front", "sum over x"].iter().all(|wanted| text.contains(wanted)));

    let nothing = Tensor::zeros((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    let rows = [ProjectionRow { label: "", pictures: &[&nothing, &nothing] }];
    projections(&path, &ProjectionFigure { rows: &rows, ..figure }).unwrap();
    let error = projections(&path, &ProjectionFigure { headings: &["one"], ..figure }).unwrap_err().to_string();
    assert!(error.contains("must have 1 pictures, got 2"), "{error}");
}
