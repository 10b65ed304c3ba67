//! What the transformer of a run learned, drawn from its samples.

use crate::figures::{Figure, both, note};
use crate::record::RunDir;
use crate::run::{RunResult, SAMPLES_FILE};
use anyhow::{Context, Result};
use candle_core::{IndexOp, Tensor};
use std::path::Path;
use stn_viz::{ProjectionFigure, ProjectionRow, projections};

/// The columns: what they are, and the tensor of the samples.
const COLUMNS: [(&str, &str, &str); 4] = [
    ("front", "sum over z", "front"),
    ("from above", "sum over y", "above"),
    ("from the side", "sum over x", "side"),
    ("learned projection", "what the classifier sees", "projection"),
];

/// The first test digit of each class: its volume from three sides, and the projection that the transformer makes of it. None for a run
/// without a transformer.
pub(super) fn learned_projections(folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
    if !run.has(SAMPLES_FILE) {
        return Ok(Vec::new());
    }
    let samples = run.load_tensors(SAMPLES_FILE)?;
    let get = |name: &str| samples.get(name).with_context(|| format!("{SAMPLES_FILE} holds no tensor {name}"));
    let labels = get("label")?.to_vec1::<u8>()?;
    let mut rows = Vec::with_capacity(labels.len());
    for (i, label) in labels.iter().enumerate() {
        let picture = |(_, _, name): &(&str, &str, &str)| match (*name, get(name)?.i(i)?) {
            // Its rows are z: turned, what is up in front is up here.
            ("side", picture) => Ok(picture.t()?.contiguous()?),
            (_, picture) => Ok(picture),
        };
        let pictures = COLUMNS.iter().map(picture).collect::<Result<Vec<Tensor>>>()?;
        rows.push((format!("digit {label}"), pictures));
    }
    let pictures: Vec<Vec<&Tensor>> = rows.iter().map(|(_, pictures)| pictures.iter().collect()).collect();
    let rows: Vec<ProjectionRow> =
        rows.iter().zip(&pictures).map(|((label, _), pictures)| ProjectionRow { label, pictures }).collect();
    let note = format!("{}; each picture's largest value is white", note(result));
    let figure = ProjectionFigure {
        title: "Digits in volumes: what the 3-D transformer makes of them",
        note: &note,
        headings: &COLUMNS.map(|(heading, ..)| heading),
        subheadings: &COLUMNS.map(|(_, subheading, _)| subheading),
        rows: &rows,
        blocks: 2,
    };
    let caption = "The first test digit of each class in its volume, from three sides, and the projection that the transformer learned.";
    let file = format!("{}-volume-seed-{}", result.budget, result.seed);
    Ok(vec![both(folder, file, caption.into(), |path| projections(path, &figure))?])
}
