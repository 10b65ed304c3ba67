//! Sampling grids on images: the right thing at the right place, and errors that help.

mod support;

use candle_core::{Device, Result, Tensor};
use std::path::Path;
use stn_viz::{WARP_HEADINGS, WarpFigure, WarpRow, warps};
use support::place;

const BOX: [u8; 3] = [0xff, 0x5a, 0x1f];
const TOP_EDGE: [u8; 3] = [0xff, 0xd0, 0x2e];
const SURROUNDINGS: [u8; 3] = [0xb4, 0xb8, 0xbd];

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
