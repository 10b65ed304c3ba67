//! Draws warps, poses and curves from made-up data: `cargo run -p stn-viz --example gallery -- FOLDER`.

use candle_core::{Device, Result, Tensor};
use std::path::Path;
use stn_viz::{
    Curve, CurveFigure, PoseFigure, PosePoint, Reference, WARP_HEADINGS, WarpFigure, WarpRow, curves, poses, warps,
};

const SIDE: usize = 28;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: gallery FOLDER")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    for extension in ["png", "svg"] {
        draw_warps(&folder.join("warps").with_extension(extension))?;
        draw_poses(&folder.join("poses").with_extension(extension))?;
        draw_curves(&folder.join("curves").with_extension(extension))?;
    }
    Ok(())
}

/// How dark the letter F is at (x, y) of -1..1.
fn letter(x: f64, y: f64) -> f64 {
    let inside = |x0: f64, x1: f64, y0: f64, y1: f64| {
        let depth = (x - x0).min(x1 - x).min(y - y0).min(y1 - y);
        (depth * 14. + 0.5).clamp(0., 1.)
    };
    inside(-0.32, -0.16, -0.5, 0.5).max(inside(-0.32, 0.34, -0.5, -0.34)).max(inside(-0.32, 0.2, -0.08, 0.08))
}

/// An image (SIDE, SIDE) of the letter seen through `source`: output (x, y) to letter (x, y).
fn image(source: impl Fn(f64, f64) -> (f64, f64)) -> Result<Tensor> {
    let at = |i: usize| (i as f64 + 0.5) / SIDE as f64 * 2. - 1.;
    let pixel = |i: usize| {
        let (x, y) = source(at(i % SIDE), at(i / SIDE));
        letter(x, y) as f32
    };
    Tensor::from_iter((0..SIDE * SIDE).map(pixel), &Device::Cpu)?.reshape((SIDE, SIDE))
}

fn grid(source: impl Fn(f64, f64) -> (f64, f64)) -> Result<Tensor> {
    let at = |i: usize| i as f64 / (SIDE - 1) as f64 * 2. - 1.;
    let points = (0..SIDE * SIDE).map(|i| source(at(i % SIDE), at(i / SIDE)));
    let xy: Vec<f32> = points.flat_map(|(x, y)| [x as f32, y as f32]).collect();
    Tensor::from_vec(xy, (SIDE, SIDE, 2), &Device::Cpu)
}

/// Turns by `degrees` (clockwise on the screen), scales, shifts.
fn pose(degrees: f64, scale: f64, shift: (f64, f64)) -> impl Fn(f64, f64) -> (f64, f64) + Copy {
    let (sin, cos) = degrees.to_radians().sin_cos();
    move |x, y| (scale * (cos * x - sin * y) + shift.0, scale * (sin * x + cos * y) + shift.1)
}

fn inverse(degrees: f64, scale: f64, shift: (f64, f64)) -> impl Fn(f64, f64) -> (f64, f64) + Copy {
    let turn = pose(-degrees, 1. / scale, (0., 0.));
    move |x, y| turn(x - shift.0, y - shift.1)
}

fn draw_warps(path: &Path) -> Result<()> {
    let bend = |x: f64, y: f64| (0.8 * x + 0.12 * (3. * y).sin(), 0.8 * y + 0.12 * (3. * x).cos());
    let upright = |x, y| (x, y);
    let flip = |x: f64, y: f64| (-0.9 * x, 0.9 * y);
    let far = pose(30., 2.6, (0.9, -0.4));
    let hole = |x: f64, y: f64| if x > 0.4 && y > 0.4 { (f64::NAN, y) } else { (0.7 * x, 0.7 * y) };
    let then = |x, y| letter_of(inverse(45., 0.8, (0.2, 0.1)), pose(45., 0.8, (0.2, 0.1)), x, y);
    let cases = [
        ("identity", image(upright)?, grid(upright)?, image(upright)?),
        ("+45°, shifted", image(inverse(45., 0.8, (0.2, 0.1)))?, grid(pose(45., 0.8, (0.2, 0.1)))?, image(then)?),
        ("−90°", image(inverse(-90., 1., (0., 0.)))?, grid(pose(-90., 1., (0., 0.)))?, image(upright)?),
        ("thin plate", image(upright)?, grid(bend)?, image(bend)?),
        ("flipped", image(upright)?, grid(flip)?, image(flip)?),
        ("far outside", image(upright)?, grid(far)?, image(far)?),
        ("broken", image(upright)?, grid(hole)?, image(hole)?),
        ("lost", image(upright)?, grid(pose(0., 0.5, (9., 0.)))?, image(pose(0., 0.5, (9., 0.)))?),
    ];
    let rows: Vec<WarpRow> =
        cases.iter().map(|(label, input, grid, output)| WarpRow { label, input, grid, output }).collect();
    warps(
        path,
        &WarpFigure {
            title: "What a spatial transformer does to the letter F",
            note: "Made-up transforms on a drawn letter, 28 × 28 pixels; no model was trained for this figure.",
            headings: WARP_HEADINGS,
            rows: &rows,
            align_corners: true,
            blocks: 2,
        },
    )
}

fn letter_of(
    first: impl Fn(f64, f64) -> (f64, f64),
    then: impl Fn(f64, f64) -> (f64, f64),
    x: f64,
    y: f64,
) -> (f64, f64) {
    let (x, y) = then(x, y);
    first(x, y)
}

/// Noise in -1..1 that is the same in every run.
fn noise(i: usize) -> f64 {
    let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((bits >> 40) as f64 / (1u64 << 24) as f64) * 2. - 1.
}

fn draw_poses(path: &Path) -> Result<()> {
    let point = |i: usize| {
        let applied = 90. * noise(2 * i);
        PosePoint { applied, recovered: 0.85 * applied + 14. * noise(2 * i + 1), class: i % 10 }
    };
    let points: Vec<PosePoint> = (0..300).map(point).collect();
    let classes: Vec<String> = (0..10).map(|i| format!("digit {i}")).collect();
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    poses(
        path,
        &PoseFigure {
            title: "The transformer undoes the rotation",
            subtitle: None,
            note: "Made-up angles; no model was trained for this figure.",
            x_label: "applied rotation (°)",
            y_label: "rotation of the sampling grid (°)",
            reference: Reference::Identity,
            classes: &classes,
            points: &points,
        },
    )
}

fn draw_curves(path: &Path) -> Result<()> {
    let decay = |floor: f64, rate: f64, seed: usize| -> Vec<(f64, f64)> {
        let value = |i: usize| floor + 2.3 * (-rate * i as f64).exp() * (1. + 0.25 * noise(seed + i));
        (0..150).map(|i| (i as f64 * 100., value(i))).collect()
    };
    let (fcn, cnn, mut st) = (decay(0.12, 0.03, 0), decay(0.06, 0.05, 500), decay(0.03, 0.06, 900));
    st[60].1 = f64::NAN;
    let paper = [(0., 0.04), (14_900., 0.04)];
    curves(
        path,
        &CurveFigure {
            title: "Training loss on rotated digits",
            note: "Made-up curves; no model was trained for this figure.",
            x_label: "step",
            y_label: "cross entropy (nats)",
            log_y: true,
            curves: &[
                Curve { name: "FCN", points: &fcn, colour: 0, dashed: false },
                Curve { name: "CNN", points: &cnn, colour: 1, dashed: false },
                Curve { name: "ST-CNN", points: &st, colour: 2, dashed: false },
                Curve { name: "a published value", points: &paper, colour: 3, dashed: true },
                Curve { name: "one evaluation", points: &[(7_500., 0.2)], colour: 4, dashed: false },
                Curve { name: "not run yet", points: &[], colour: 5, dashed: false },
            ],
        },
    )
}
