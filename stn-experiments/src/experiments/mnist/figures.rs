//! What the transformer of a run learned, drawn from its samples.

use crate::figures::{Figure, both, note};
use crate::models::{Model, TransformKind};
use crate::record::RunDir;
use crate::run::{RunResult, SAMPLES_FILE};
use anyhow::{Context, Result};
use candle_core::{IndexOp, Tensor};
use std::collections::HashMap;
use std::path::Path;
use stn_core::telemetry::observe;
use stn_viz::{PoseFigure, PosePoint, Reference, WarpFigure, WarpRow, correlation, poses, warps};

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
    let prefix = format!("{}-{}-{}-seed-{}", result.budget, result.data, result.model, result.seed);
    let note = note(result);

    let labels: Vec<String> =
        samples.get("digits.label")?.to_vec1::<u8>()?.iter().map(|l| format!("digit {l}")).collect();
    let title = format!("{name}: what the transformer does to the test digits");
    let caption =
        format!("{name}: the first test image of each digit, the sampling grid on it, and what the classifier sees.");
    let mut figures = vec![both(folder, format!("{prefix}-digits"), caption, |path| {
        samples.warps(path, "digits", &labels, &title, &note)
    })?];

    if samples.tensors.contains_key("angles.rotation") {
        let rotations = samples.get("angles.rotation")?.to_vec1::<f64>()?;
        let labels: Vec<String> = rotations.iter().map(|r| format!("{r:+.0}°")).collect();
        let title = format!("{name}: one test digit, turned by known angles");
        let caption = format!("{name}: one test digit turned by known angles (counter-clockwise positive).");
        figures.push(both(folder, format!("{prefix}-angles"), caption, |path| {
            samples.warps(path, "angles", &labels, &title, &note)
        })?);
    }

    let points = samples.rotations()?;
    if points.iter().any(|p| p.applied != points[0].applied) {
        let r = correlation(&points).map_or("undefined".into(), |r| format!("{r:.3}"));
        let title = format!("{name}: recovered against applied rotation");
        let subtitle = format!("{} test images, correlation r = {r}", points.len());
        let classes: Vec<String> = (0..10).map(|c| c.to_string()).collect();
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        let figure = PoseFigure {
            title: &title,
            subtitle: Some(&subtitle),
            note: &note,
            x_label: "applied rotation (degrees, counter-clockwise)",
            y_label: "rotation of the sampling grid (degrees)",
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
        let headings = stn_viz::WARP_HEADINGS;
        warps(path, &WarpFigure { title, note, headings, rows: &rows, align_corners: true, blocks: 1 + rows.len() / 7 })
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

/// The rotations of sampling grids in degrees, counter-clockwise on the screen: of the affine transform that comes closest to each.
///
/// A digit that was turned by some angle is upright again where the grid is turned by the same angle.
fn grid_rotations(kind: TransformKind, thetas: &Tensor) -> Result<Vec<f64>> {
    let grids = kind.transform()?.grid(thetas, (28, 28), true)?;
    // The telemetry counts clockwise.
    Ok(observe(&grids, true)?.iter().map(|seen| -seen.pose.rotation).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Pose;
    use candle_core::Device;
    use stn_core::ops::{GridSampleConfig, grid_sample};
    use stn_core::transform::affine_grid;

    #[test]
    fn the_grid_rotation_is_the_one_that_turns_the_digit_upright() -> Result<()> {
        let mnist = crate::data::Mnist::embedded("test")?;
        let digit = mnist.test.image(0);
        let to_tensor = |pixels: &[u8]| {
            let pixels: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
            Tensor::from_vec(pixels, (1, 1, 28, 28), &Device::Cpu)
        };
        for angle in [-60f64, 25.0, 80.0] {
            let mut turned = vec![0; 28 * 28];
            Pose { rotation: angle, ..Pose::default() }.draw(digit, 28, &mut turned);
            let (sin, cos) = angle.to_radians().sin_cos();
            let (sin, cos) = (sin as f32, cos as f32);
            let theta = [cos, sin, 0.0, -sin, cos, 0.0];
            let grid = affine_grid(&Tensor::new(&theta, &Device::Cpu)?.reshape((1, 2, 3))?, (28, 28), true)?;
            let control = TransformKind::ThinPlateSpline.transform()?.identity();
            let spline = control.chunks(2).flat_map(|p| [cos * p[0] + sin * p[1], -sin * p[0] + cos * p[1]]);
            for (kind, theta) in [
                (TransformKind::Affine, theta.to_vec()),
                (TransformKind::Projective, [&theta[..], &[0.0; 2]].concat()),
                (TransformKind::ThinPlateSpline, spline.collect()),
            ] {
                let theta = Tensor::from_vec(theta.clone(), (1, theta.len()), &Device::Cpu)?;
                assert!((grid_rotations(kind, &theta)?[0] - angle).abs() < 1e-3, "{kind:?}");
            }
            let upright = grid_sample(&to_tensor(&turned)?, &grid, GridSampleConfig::new(true))?;
            let off = |image: &Tensor| -> Result<f32> {
                Ok((image - to_tensor(digit)?)?.abs()?.mean_all()?.to_scalar::<f32>()?)
            };
            assert!(off(&upright)? < 0.3 * off(&to_tensor(&turned)?)?, "{angle} degrees is not undone");
        }
        Ok(())
    }
}
