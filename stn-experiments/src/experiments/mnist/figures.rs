//! What the transformer of a run learned, drawn from its samples.

use crate::figures::{Figure, both, grid_rotations, headings, note};
use crate::models::{Model, TransformKind};
use crate::record::RunDir;
use crate::run::{RunResult, SAMPLES_FILE};
use anyhow::{Context, Result};
use candle_core::{IndexOp, Tensor};
use std::collections::HashMap;
use std::path::Path;
use stn_viz::{PoseFigure, PosePoint, Reference, WarpFigure, WarpRow, correlation, least_squares, poses, warps};

/// What the transformer of a run learned: one row a digit, one digit at several angles, and recovered against applied rotation. None for
/// a run without a transformer.
///
/// # Errors
/// When the run's samples are damaged or a figure cannot be written.
pub(super) fn transforms(folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
    let model: Model = result.model.parse()?;
    let (Some(kind), true) = (model.transform(), run.has(SAMPLES_FILE)) else { return Ok(Vec::new()) };
    let samples = Samples { tensors: run.load_tensors(SAMPLES_FILE)?, kind };
    let name = format!("{} on {}", model.label(), result.data);
    let side = samples.get("digits.output")?.dim(3)?;
    let prefix = format!("{}-{}-{}-seed-{}", result.budget, result.data, result.model, result.seed);
    let note = note(result);

    let labels: Vec<String> =
        samples.get("digits.label")?.to_vec1::<u8>()?.iter().map(|l| format!("digit {l}")).collect();
    let title = format!("{name}: what the transformer does to the test digits");
    let caption =
        format!("{name}: the first test image of each digit, the sampling grid on it, and {}.", headings(side)[2]);
    let mut figures = vec![both(folder, format!("{prefix}-digits"), caption, |path| {
        samples.warps(path, "digits", &labels, &title, &note)
    })?];

    if samples.tensors.contains_key("angles.rotation") {
        let rotations = samples.get("angles.rotation")?.to_vec1::<f64>()?;
        let labels: Vec<String> = rotations.iter().map(degrees).collect();
        let title = format!("{name}: one test digit, turned by known angles");
        let caption = format!("{name}: one test digit turned by known angles (counter-clockwise positive).");
        figures.push(both(folder, format!("{prefix}-angles"), caption, |path| {
            samples.warps(path, "angles", &labels, &title, &note)
        })?);
    }

    let points = samples.rotations()?;
    if points.iter().any(|p| p.applied != points[0].applied) {
        let title = format!("{name}: recovered against applied rotation");
        let subtitle = agreement(&points);
        let classes: Vec<String> = (0..10).map(|c| c.to_string()).collect();
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        let figure = PoseFigure {
            title: &title,
            subtitle: Some(&subtitle),
            note: &note,
            x_label: "applied rotation (degrees, counter-clockwise)",
            y_label: "rotation of the sampling grid (degrees, counter-clockwise)",
            reference: Reference::Identity,
            classes: &classes,
            points: &points,
        };
        let caption =
            format!("{name}: rotation that was applied to a test digit, and that of its sampling grid; {subtitle}.");
        figures.push(both(folder, format!("{prefix}-rotation"), caption, |path| poses(path, &figure))?);
    }
    Ok(figures)
}

/// An angle with its sign.
fn degrees(angle: &f64) -> String {
    if angle.round() == 0.0 { "0°".into() } else { format!("{angle:+.0}°").replace('-', "−") }
}

/// How recovered rotations go with the applied ones, in words: correlation, the line of least squares, and how far from upright digits are.
fn agreement(points: &[PosePoint]) -> String {
    let r = correlation(points).map_or("undefined".into(), |r| format!("{r:.3}"));
    let line = least_squares(points).map_or(String::new(), |(slope, turn)| {
        let turn = turn.round() + 0.0; // no -0
        format!(", slope {slope:.2}, the grids of upright digits turned by {turn:+.0} degrees")
    });
    let mean = |angle: fn(&PosePoint) -> f64| points.iter().map(angle).sum::<f64>() / points.len() as f64;
    let (before, after) = (mean(|p| p.applied.abs()), mean(|p| (p.applied - p.recovered).abs()));
    format!(
        "{} test images, correlation r = {r}{line}; mean angle from upright {before:.0} degrees before, {after:.0} after",
        points.len()
    )
}

/// The tensors of a run's `samples.safetensors`.
struct Samples {
    tensors: HashMap<String, Tensor>,
    kind: TransformKind,
}

impl Samples {
    fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).with_context(|| format!("{SAMPLES_FILE} holds no tensor {name}"))
    }

    fn warps(&self, path: &Path, group: &str, labels: &[String], title: &str, note: &str) -> candle_core::Result<()> {
        let get = |what: &str| {
            let name = format!("{group}.{what}");
            self.tensors
                .get(&name)
                .ok_or_else(|| candle_core::Error::Msg(format!("{SAMPLES_FILE} holds no tensor {name}")))
        };
        let (inputs, thetas, outputs) = (get("input")?, get("theta")?, get("output")?);
        let (_, _, height, width) = outputs.dims4()?;
        let grids = self.kind.transform()?.grid(thetas, (height, width), true)?;
        let mut rows = Vec::with_capacity(labels.len());
        for i in 0..labels.len() {
            rows.push((inputs.i(i)?, grids.i(i)?, outputs.i(i)?));
        }
        let rows: Vec<WarpRow> = rows
            .iter()
            .zip(labels)
            .map(|((input, grid, output), label)| WarpRow { label, input, grid, output })
            .collect();
        warps(
            path,
            &WarpFigure {
                title,
                note,
                headings: headings(width),
                rows: &rows,
                align_corners: true,
                blocks: 1 + rows.len() / 7,
            },
        )
    }

    /// Applied and recovered rotations in degrees.
    fn rotations(&self) -> Result<Vec<PosePoint>> {
        let applied = self.get("poses.rotation")?.to_vec1::<f64>()?;
        let classes = self.get("poses.label")?.to_vec1::<u8>()?;
        let recovered = grid_rotations(self.kind, self.get("poses.theta")?)?;
        let points = applied.iter().zip(&classes).zip(recovered).map(|((&applied, &class), recovered)| PosePoint {
            applied,
            recovered,
            class: usize::from(class),
        });
        Ok(points.collect())
    }
}
