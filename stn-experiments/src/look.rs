//! One image through a run's transformer: what it looks at, and what the classifier then says.

use crate::data::{Distortion, Mnist};
use crate::experiments::classification::image_tensor;
use crate::experiments::{TEST_SEED, mnist};
use crate::figures::{headings, note};
use crate::record::RunDir;
use crate::run::{Config, RunResult};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{D, Device, IndexOp, Tensor};
use std::path::Path;
use stn_viz::{WarpFigure, WarpRow, warps};

/// Which image.
#[derive(Debug, Clone, Copy)]
pub enum Image<'a> {
    /// A PNG of the network's size, white on black.
    File(&'a Path),
    /// An image of the first distorted test set.
    Test(usize),
}

/// Draws the image, its sampling grid and the transformer's output, and returns what the network takes it for.
///
/// # Errors
/// When the run has no trained model or no transformer, the image cannot be read or has another size, or the figure cannot be written.
pub fn look(run: &RunDir, image: Image, mnist: impl FnOnce() -> Result<Mnist>, out: &Path) -> Result<String> {
    let experiment = Config::of(run)?.settings.experiment;
    ensure!(
        experiment == "mnist",
        "{} is a run of {experiment}; only those of mnist have one image to look at",
        run.path().display()
    );
    let (settings, network) = mnist::load(run)?;
    let data: Distortion = settings.data.parse()?;
    let Some(transformer) = network.transformer() else {
        bail!("{} is a run of {}, which has no transformer to look through", run.path().display(), settings.model)
    };
    let side = data.canvas();
    let (pixels, name) = match image {
        Image::File(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (read_png(path, side)?, name.into_owned())
        }
        Image::Test(index) => {
            let test = mnist()?.test;
            ensure!(index < test.len(), "there are {} test images, got --index {index}", test.len());
            let (test, _) = crate::data::distorted_set(data, &test, TEST_SEED, 0)?;
            (test.image(index).to_vec(), format!("test image {index}, a {}", test.labels[index]))
        }
    };
    let input = image_tensor(&pixels, (1, side, side))?;
    let prediction = network.forward(&input, false)?;
    let transformed = prediction.transformed.context("the network gave no transform")?;
    let grid = transformer.grid(&transformed.theta)?;
    let probabilities = candle_nn::ops::softmax(&prediction.logits, D::Minus1)?.i(0)?.to_vec1::<f32>()?;
    let class = prediction.logits.argmax(D::Minus1)?.to_device(&Device::Cpu)?.i(0)?.to_scalar::<u32>()? as usize;
    let said = format!("taken for {class} ({:.1} %)", 100.0 * probabilities.get(class).copied().unwrap_or(f32::NAN));
    let theta: Vec<String> =
        transformed.theta.i(0)?.to_vec1::<f32>()?.iter().map(|value: &f32| format!("{value:.3}")).collect();
    let (input, grid, output): (Tensor, Tensor, Tensor) = (input.i(0)?, grid.i(0)?, transformed.output.i(0)?);
    let title = format!("{} on {}: {name}", settings.model, settings.data);
    let whence = run.result::<RunResult>()?.map_or(String::new(), |result| format!("; {}", note(&result)));
    let figure = WarpFigure {
        title: &title,
        note: &format!("{said}; theta = [{}]{whence}", theta.join(", ")),
        headings: headings(side),
        rows: &[WarpRow { label: "", input: &input, grid: &grid, output: &output }],
        align_corners: true,
        blocks: 1,
    };
    warps(out, &figure)?;
    Ok(format!("{name}: {said}; theta = [{}]; figure: {}", theta.join(", "), out.display()))
}

fn read_png(path: &Path, side: usize) -> Result<Vec<u8>> {
    let image = image::open(path).with_context(|| format!("cannot read the image {}", path.display()))?.to_luma8();
    ensure!(
        image.width() as usize == side && image.height() as usize == side,
        "the network wants {side}x{side} pixels, {} has {}x{}; scale or pad it first",
        path.display(),
        image.width(),
        image.height()
    );
    Ok(image.into_raw())
}
