//! Boxes over the course of an optimisation, and projections of volumes.

mod support;

use candle_core::{Device, Tensor};
use stn_viz::{BoxFigure, BoxFrame, BoxRow, ProjectionFigure, ProjectionRow, boxes, projections};
use support::place;

const BOX: [u8; 3] = [0xff, 0x5a, 0x1f];
const SURROUNDINGS: [u8; 3] = [0xb4, 0xb8, 0xbd];

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
fn a_legend_that_is_wider_than_the_pictures_has_room() {
    let image = Tensor::zeros((84, 84), candle_core::DType::F32, &Device::Cpu).unwrap();
    let found = BoxFrame { left: 20., top: 10., width: 30., height: 30. };
    let row = [BoxRow { label: "", image: &image, truth: None, found: &[(found, "")] }];
    let sides = |legend: [&str; 2]| {
        let (_folder, path) = place("b.png");
        boxes(&path, &BoxFigure { title: "", note: "", headings: &["step 0"], legend, rows: &row }).unwrap();
        image::image_dimensions(&path).unwrap()
    };
    let (short, long) = (sides(["a", "b"]), sides(["the window that the transformer chose", "the box of the digit"]));
    // Its letters, of four points and more each, and the lines before them.
    assert!(long.0 > 2 * 4 * 57 && long.0 > short.0 && long.1 == short.1, "{short:?} {long:?}");
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
