//! The networks for birds, section 4.3 and A.6.
//!
//! | model | layers |
//! |---|---|
//! | CNN | backbone, mean over its last map, dropout, FC |
//! | 2xST-CNN, 4xST-CNN | 2 or 4 windows of the image, each through a backbone of its own, means side by side, dropout, FC |
//!
//! | localisation net, one for all windows |
//! |---|
//! | average-pool, where the image is larger than a backbone's input |
//! | backbone without its last pooling |
//! | conv 1x1 x 128, ReLU |
//! | FC 128, ReLU |
//! | FC 2N: the places of N windows of half the image's side |
//!
//! At the start the windows tile the image. On an image of the backbone's input size (224 px) a window is enlarged twofold, on one of twice that size (448 px) it is
//! sampled as it is. The CNN sees an image that is larger than its input scaled down, as the localisation net does. Dropout is 0.7 in the paper. Whether there is a non-linearity
//! behind the 1x1 convolution the paper does not say.
//!
//! Variants: windows of any size (`-att`) and affine ones (`-aff`), which the paper speaks of without figures; and windows that
//! share one backbone (`-shared`), which are ours.

mod localisation;
mod model;

pub use model::{BirdModel, WindowKind};

use super::backbone::{Backbone, BackboneKind, backbone};
use candle_core::{Module, ModuleT, Result, Tensor, bail};
use candle_nn::VarBuilder;
use localisation::{Localisation, localisation};
use stn_core::conv_norm::Statistics;
use stn_core::dropout::{Dropout, DropoutRng, dropout};
use stn_core::layers::{Linear, linear};
use stn_core::ops::{GridSampleConfig, Pool2dConfig, avg_pool2d};
use stn_core::parallel::tiling;
use stn_core::transform::Transform;
use stn_core::{ParallelTransformers, Transformed};

/// The sizes of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BirdConfig {
    /// The backbone of all streams and of the localisation net.
    pub backbone: BackboneKind,
    /// What its batch norms do in training.
    pub statistics: Statistics,
    /// Species.
    pub classes: usize,
    /// Pixels of a side of the image.
    pub side: usize,
    /// Pixels of a side that a backbone sees: that of the image, or half of it.
    pub input: usize,
    /// The probability of dropout before the classifier.
    pub dropout: f64,
}

/// What a network says of a batch.
#[derive(Debug, Clone)]
pub struct BirdPrediction {
    /// (N, classes), before the softmax.
    pub logits: Tensor,
    /// What the transformers did: windows (N k, 3, input, input) of the normalised image, thetas (N k, P).
    pub transformed: Option<Transformed>,
}

/// A network of Table 3.
pub struct BirdNetwork {
    cfg: BirdConfig,
    transformers: Option<ParallelTransformers<Localisation, Box<dyn Transform>>>,
    streams: Vec<Backbone>,
    dropout: Dropout,
    classifier: Linear,
}

/// Makes a network; variables under `transformer`, `stream1`, .. and `classifier`, those of backbones there by their published names.
///
/// # Errors
/// When the image's side is neither the input's nor twice that, or the variables cannot be made.
pub fn birds(model: BirdModel, cfg: BirdConfig, rng: &DropoutRng, vb: VarBuilder) -> Result<BirdNetwork> {
    let BirdConfig { side, input, .. } = cfg;
    if input == 0 || (side != input && side != 2 * input) {
        bail!("birds: the image's side must be the backbone's input of {input} px or twice that, got {side}")
    }
    let net = |vb: VarBuilder| backbone(cfg.backbone, cfg.statistics, vb);
    let (transformers, streams, windows) = match model {
        BirdModel::Cnn => (None, 1, 1),
        BirdModel::StCnn { windows, kind, shared } => {
            let centres = match windows {
                2 => tiling(1, 2),
                4 => tiling(2, 2),
                other => bail!("birds: there are 2 or 4 windows, got {other}"),
            };
            let start: Vec<f32> =
                centres.chunks_exact(2).flat_map(|centre| kind.window(centre[0], centre[1])).collect();
            let localisation = localisation(cfg, &start, vb.pp("transformer"))?;
            let sampler = GridSampleConfig::new(true);
            let transformers =
                ParallelTransformers::new(localisation, kind.transform(), windows, (input, input), sampler)?;
            (Some(transformers), if shared { 1 } else { windows }, windows)
        }
    };
    Ok(BirdNetwork {
        cfg,
        transformers,
        streams: (1..=streams).map(|i| net(vb.pp(format!("stream{i}")))).collect::<Result<_>>()?,
        dropout: dropout(cfg.dropout, "descriptors", rng)?,
        classifier: linear(windows * cfg.backbone.channels(), cfg.classes, vb.pp("classifier"))?,
    })
}

impl BirdNetwork {
    /// Names birds.
    ///
    /// # Shapes
    /// (N, 3, side, side), 0 to 1, to logits (N, classes).
    ///
    /// # Errors
    /// When the images have another size.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<BirdPrediction> {
        let images = self.cfg.backbone.normalise(images)?;
        let (described, transformed) = match &self.transformers {
            None => (self.streams[0].describe(&halved(&images, self.cfg)?, train)?, None),
            Some(transformers) => {
                let transformed = transformers.transform(&images, train)?;
                let described = match self.streams.as_slice() {
                    [shared] => transformers.join_channels(&shared.describe(&transformed.output, train)?)?,
                    streams => {
                        let windows = transformers.split(&transformed.output)?;
                        let described = streams.iter().zip(&windows).map(|(net, window)| net.describe(window, train));
                        Tensor::cat(&described.collect::<Result<Vec<_>>>()?, 1)?
                    }
                };
                (described, Some(transformed))
            }
        };
        let logits = self.classifier.forward(&self.dropout.forward_t(&described, train)?)?;
        Ok(BirdPrediction { logits, transformed })
    }

    /// The prefixes of the variables of all its backbones.
    pub fn backbones(&self) -> Vec<String> {
        let streams = (1..=self.streams.len()).map(|i| format!("stream{i}"));
        streams.chain(self.transformers.is_some().then(|| "transformer.backbone".into())).collect()
    }
}

/// The image at the size that a backbone sees.
fn halved(images: &Tensor, cfg: BirdConfig) -> Result<Tensor> {
    if cfg.side == cfg.input { Ok(images.clone()) } else { avg_pool2d(images, Pool2dConfig::new(2)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use stn_core::init::SeededVarMap;
    use stn_core::optim::{Optimiser, ParamGroup, Sgd, SgdConfig};

    fn config(side: usize, input: usize) -> BirdConfig {
        let (backbone, statistics) = (BackboneKind::Small, Statistics::Batch);
        BirdConfig { backbone, statistics, classes: 5, side, input, dropout: 0.2 }
    }

    /// Smooth blobs at different places: the sampler's gradient needs slopes.
    fn images(n: usize, side: usize) -> Result<Tensor> {
        let pixels = (0..n * 3 * side * side).map(|i| {
            let (x, y, image) = ((i % side) as f32, (i / side % side) as f32, (i / (side * side)) as f32);
            let (x, y) = (x / side as f32 - 0.3 - 0.02 * image, y / side as f32 - 0.5 + 0.02 * image);
            (-(x * x + 0.5 * y * y) * 12.0).exp()
        });
        Tensor::from_iter(pixels, &Device::Cpu)?.reshape((n, 3, side, side))
    }

    #[test]
    fn every_variable_gets_a_gradient_and_moves() -> Result<()> {
        for model in BirdModel::all() {
            let (vars, rng) = (SeededVarMap::new(3), DropoutRng::new(0));
            let network = birds(model, config(64, 32), &rng, vars.var_builder(DType::F32, &Device::Cpu))?;
            let (images, labels) = (images(4, 64)?, Tensor::new(&[0u32, 1, 2, 4], &Device::Cpu)?);
            let before = vars.tensors()?;
            let config = SgdConfig { lr: 0.01, ..Default::default() };
            let mut sgd = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], config)?;
            // The regression starts at zero: the layers before it get their gradient in the second step.
            for step in 0..6 {
                rng.set_step(step);
                let loss = candle_nn::loss::cross_entropy(&network.forward(&images, true)?.logits, &labels)?;
                sgd.step(&loss.backward()?)?;
            }
            for (name, var) in vars.trainable_vars() {
                let moved = (var.as_tensor() - &before[&name])?.abs()?.sum_all()?.to_scalar::<f32>()?;
                assert!(moved.is_finite() && moved > 0.0, "{model}: {name} moved by {moved}");
            }
            // Where a backbone's weights go, no other variable lies, and no backbone elsewhere.
            let own = ["transformer.reduce", "transformer.fc", "transformer.regression", "classifier"];
            let backbones = network.backbones();
            let names: Vec<String> = vars.vars().into_iter().map(|(name, _)| name).collect();
            let lies = |name: &str, prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
            for name in &names {
                let of_backbone = backbones.iter().any(|prefix| lies(name, prefix));
                assert!(of_backbone != own.iter().any(|prefix| lies(name, prefix)), "{model}: {name}");
            }
            assert!(backbones.iter().all(|prefix| names.iter().any(|name| lies(name, prefix))), "{model}");
        }
        Ok(())
    }

    #[test]
    fn windows_tile_the_image_at_the_start_and_are_sampled_one_to_one_from_twice_the_size() -> Result<()> {
        for kind in [WindowKind::Location, WindowKind::Attention, WindowKind::Affine] {
            let model = BirdModel::StCnn { windows: 4, kind, shared: true };
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            let network = birds(model, config(64, 32), &DropoutRng::new(0), vb)?;
            let images = images(2, 64)?;
            let transformed = network.forward(&images, false)?.transformed.expect("windows");
            assert_eq!(transformed.output.dims(), [8, 3, 32, 32]);
            let affine = kind.affine(&transformed.theta)?.to_vec3::<f32>()?;
            for (window, centre) in affine.iter().zip(tiling(2, 2).chunks(2).cycle()) {
                assert_eq!(*window, [[0.5, 0.0, centre[0]], [0.0, 0.5, centre[1]]]);
            }
            // The second window of an image is its upper right quarter.
            let quarter = network.cfg.backbone.normalise(&images)?.narrow(2, 0, 32)?.narrow(3, 32, 32)?;
            let windows = transformed.output.reshape((2, 4, 3, 32, 32))?.narrow(1, 1, 1)?.squeeze(1)?;
            let off = (windows - quarter)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 0.1, "{off}: half a pixel of a smooth image");
        }
        Ok(())
    }

    #[test]
    fn an_image_is_a_backbones_input_or_twice_it() {
        let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
        let made = birds(BirdModel::Cnn, config(100, 32), &DropoutRng::new(0), vb);
        assert!(made.err().is_some_and(|error| error.to_string().contains("32 px or twice that, got 100")));
    }
}
