//! What the transformers of a run look at, what the last of them does to feature maps, and what was read wrongly.

use super::samples::samples;
use crate::data::svhn::{NONE, Svhn};
use crate::data::{DataSource, Hub, Source};
use crate::figures::{Figure, PRIVATE_FILE, note, png};
use crate::models::svhn::SvhnModel;
use crate::record::RunDir;
use crate::run::{MODEL_FILE, RunResult, SAMPLES_FILE};
use anyhow::Result;
use candle_core::{DType, IndexOp, Tensor};
use std::collections::HashMap;
use std::path::Path;
use stn_core::transform::compose;
use stn_viz::{GalleryFigure, GalleryItem, Outline, gallery};

/// On figures with real house numbers.
const PRIVATE: &str = "images of SVHN are not ours to pass on: not to be published";

/// All figures of a run. Of real house numbers a run keeps no pixels: figures with them are drawn only where the run's weights are, and the test images in `hub`'s cache.
pub(super) fn all(folder: &Path, run: &RunDir, result: &RunResult, hub: &Hub) -> Result<Vec<Figure>> {
    if !run.has(SAMPLES_FILE) {
        return Ok(Vec::new());
    }
    let private = !matches!(result.data_source, DataSource::Synthetic { .. });
    let samples = match private {
        false => run.load_tensors(SAMPLES_FILE)?,
        true => match with_pixels(run, hub)? {
            Some(samples) => samples,
            None => return Ok(Vec::new()),
        },
    };
    let numbers = if private { "SVHN," } else { "SYNTHETIC numbers, not SVHN," };
    let name = format!("{} on {numbers} {} px", result.model.parse::<SvhnModel>()?.label(), result.data);
    let sheet = Sheet { folder, samples: &samples, name, private, result };
    let figures = [sheet.windows()?, sheet.maps()?, sheet.failures()?];
    Ok(figures.into_iter().flatten().collect())
}

/// What a run's network makes of the test images that it was tested on, with their pixels; none where the images or the weights are not at hand.
fn with_pixels(run: &RunDir, hub: &Hub) -> Result<Option<HashMap<String, Tensor>>> {
    if !run.has(MODEL_FILE) {
        return Ok(None);
    }
    let (settings, network) = super::load(run)?;
    let Ok((test, _)) = Svhn::load_test(hub, Source::Hub, true, super::side(&settings.data)?) else { return Ok(None) };
    if test.identity() != settings.test_identity {
        return Ok(None); // another copy of the set
    }
    samples(&network, &test, true).map(Some)
}

struct Sheet<'a> {
    folder: &'a Path,
    samples: &'a HashMap<String, Tensor>,
    name: String,
    /// Whether its pictures are real house numbers.
    private: bool,
    result: &'a RunResult,
}

impl Sheet<'_> {
    fn draw(&self, file: &str, title: &str, kinds: &[&str], columns: usize, items: &[Item]) -> Result<Option<Figure>> {
        if items.is_empty() {
            return Ok(None);
        }
        let RunResult { budget, data, model, seed, .. } = self.result;
        let items: Vec<GalleryItem> =
            items.iter().map(|(image, outlines, caption)| GalleryItem { image, outlines, caption }).collect();
        let title = format!("{}: {title}", self.name);
        let (mut note, mut file) = (note(self.result), format!("{budget}-{data}-{model}-seed-{seed}-{file}"));
        if self.private {
            note = format!("{note}; {PRIVATE}");
            file += PRIVATE_FILE;
        }
        let figure = GalleryFigure { title: &title, note: &note, kinds, columns, side: 100., items: &items };
        png(self.folder, file, format!("{title}."), |path| gallery(path, &figure)).map(Some)
    }

    /// The windows of all transformers and of their product, on the image: the paper's figure (b) of Table 2.
    fn windows(&self) -> Result<Option<Figure>> {
        let Some(images) = self.samples.get("images") else { return Ok(None) };
        let mut thetas = Vec::new();
        while let Some(theta) = self.samples.get(&format!("theta{}", thetas.len() + 1)) {
            thetas.push(theta.reshape(((), 2, 3))?);
        }
        let mut maps = thetas.clone();
        if let [first, rest @ ..] = &thetas[..]
            && !rest.is_empty()
        {
            maps.push(rest.iter().try_fold(first.clone(), |product, theta| compose(&product, theta))?);
        }
        let names: Vec<String> = (1..=thetas.len()).map(|n| format!("transformer {n}")).collect();
        let mut kinds: Vec<&str> = names.iter().map(String::as_str).collect();
        if maps.len() > thetas.len() {
            kinds.push("all of them");
        }
        let mut items: Vec<Item> = Vec::new();
        for i in 0..images.dim(0)?.min(if maps.is_empty() { 0 } else { usize::MAX }) {
            let mut outlines = Vec::new();
            for (kind, map) in maps.iter().enumerate() {
                outlines.push(Outline { corners: corners(&map.i(i)?.to_vec2::<f32>()?), kind });
            }
            items.push((shown(&images.i(i)?)?, outlines, String::new()));
        }
        let title = match thetas.len() {
            1 => "the window of its transformer",
            _ => "the windows of its transformers, each on what it is given, and of all of them together on the image",
        };
        self.draw("windows", title, &kinds, 4, &items)
    }

    /// Some channels of what goes into the last transformer, and of what comes out.
    fn maps(&self) -> Result<Option<Figure>> {
        let (Some(before), Some(after)) = (self.samples.get("before"), self.samples.get("after")) else {
            return Ok(None);
        };
        let (count, channels, ..) = before.dims4()?;
        let mut items: Vec<Item> = Vec::new();
        for image in 0..count {
            for (maps, what) in [(before, "before"), (after, "after")] {
                for channel in 0..channels {
                    let map = maps.i((image, channel))?;
                    // One scale for both, so that they can be compared.
                    let reference = before.i((image, channel))?;
                    let low = reference.min_all()?.to_scalar::<f32>()?;
                    let high = reference.max_all()?.to_scalar::<f32>()?;
                    let scaled = ((map - f64::from(low))? / f64::from((high - low).max(1e-6)))?;
                    items.push((scaled, Vec::new(), format!("{what}, channel {}", channel + 1)));
                }
            }
        }
        let title = "what goes into its last transformer and what comes out, each channel from its least to its largest value before";
        self.draw("maps", title, &[], channels, &items)
    }

    /// Test images that were read wrongly.
    fn failures(&self) -> Result<Option<Figure>> {
        let get = |name: &str| self.samples.get(name);
        let (Some(images), Some(labels), Some(read)) = (get("failures"), get("labels"), get("read")) else {
            return Ok(None);
        };
        let (labels, read) = (labels.to_vec2::<u8>()?, read.to_vec2::<u8>()?);
        let mut items: Vec<Item> = Vec::new();
        for (i, (label, read)) in labels.iter().zip(&read).enumerate() {
            let caption = format!("{}, read as {}", digits(label), digits(read));
            items.push((shown(&images.i(i)?)?, Vec::new(), caption));
        }
        self.draw("failures", "the first test images that it reads wrongly", &[], 8, &items)
    }
}

type Item = (Tensor, Vec<Outline>, String);

/// Bytes as a picture, 0 to 1.
fn shown(image: &Tensor) -> candle_core::Result<Tensor> {
    image.to_dtype(DType::F32)? / 255.0
}

/// Where an affine map takes the corners of its output.
fn corners(theta: &[Vec<f32>]) -> [(f64, f64); 4] {
    [(-1f32, -1f32), (1., -1.), (1., 1.), (-1., 1.)].map(|(x, y)| {
        let at = |row: &[f32]| f64::from(row[0] * x + row[1] * y + row[2]);
        (at(&theta[0]), at(&theta[1]))
    })
}

/// A number as it is written; a gap for a head in its middle that finds nothing.
fn digits(labels: &[u8]) -> String {
    let end = labels.iter().rposition(|&label| label != NONE).map_or(0, |last| last + 1);
    let digits = labels[..end].iter().map(|&label| if label == NONE { '_' } else { char::from(b'0' + label) });
    if end == 0 { "nothing".into() } else { digits.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let n = NONE;
        assert_eq!(digits(&[1, 0, n, n, n]), "10");
        assert_eq!(digits(&[1, n, 7, n, n]), "1_7");
        assert_eq!(digits(&[n; 5]), "nothing");
    }

    #[test]
    fn windows_have_their_corners_where_the_map_takes_them() {
        let theta = [vec![0.5, 0.0, 0.25], vec![0.0, 0.5, 0.0]];
        assert_eq!(corners(&theta), [(-0.25, -0.5), (0.75, -0.5), (0.75, 0.5), (-0.25, 0.5)]);
    }
}
