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
//! sampled as it is. The CNN sees an image that is larger than its input scaled down, as the localisation net does. Dropout is 0.7. Whether there is a non-linearity
//! behind the 1x1 convolution the paper does not say.
//!
//! Variants that the paper speaks of without figures: windows that share one backbone (`-shared`), windows of any size (`-att`) and affine ones (`-aff`).

use super::backbone::{Backbone, BackboneKind, backbone};
use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, bail};
use candle_nn::VarBuilder;
use stn_core::conv_norm::Statistics;
use stn_core::dropout::{Dropout, DropoutRng, dropout};
use stn_core::layers::{Conv2d, Linear, conv2d, linear};
use stn_core::localisation::regression;
use stn_core::ops::{GridSampleConfig, Pool2dConfig, avg_pool2d};
use stn_core::parallel::tiling;
use stn_core::transform::{Affine, Attention, Transform, Translation};
use stn_core::{ParallelTransformers, Transformed};

/// A window's side in terms of the image's.
const SCALE: f64 = 0.5;
/// Channels and units of the localisation net's own layers.
const REDUCED: usize = 128;

/// What a window's transform can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Lie anywhere; half the image's side. The paper's.
    Location,
    /// Lie anywhere in any size.
    Attention,
    /// Any affine map.
    Affine,
}

impl WindowKind {
    fn transform(self) -> Box<dyn Transform> {
        match self {
            Self::Location => Box::new(Translation { scale: SCALE }),
            Self::Attention => Box::new(Attention),
            Self::Affine => Box::new(Affine),
        }
    }

    /// The parameters of a window of half the image's side with that centre.
    fn window(self, x: f32, y: f32) -> Vec<f32> {
        let s = SCALE as f32;
        match self {
            Self::Location => vec![x, y],
            Self::Attention => vec![s, x, y],
            Self::Affine => vec![s, 0.0, x, 0.0, s, y],
        }
    }

    /// Scale and centre of each window as an affine map: (N, P) to (N, 2, 3).
    ///
    /// # Errors
    /// When theta has another number of parameters.
    pub fn affine(self, theta: &Tensor) -> Result<Tensor> {
        let column = |i: usize| theta.narrow(1, i, 1);
        let zero = column(0)?.zeros_like()?;
        let parts = match self {
            Self::Location => {
                let scale = (&zero + SCALE)?;
                vec![scale.clone(), zero.clone(), column(0)?, zero, scale, column(1)?]
            }
            Self::Attention => vec![column(0)?, zero.clone(), column(1)?, zero, column(0)?, column(2)?],
            Self::Affine => return theta.reshape(((), 2, 3)),
        };
        Tensor::cat(&parts, 1)?.reshape(((), 2, 3))
    }
}

/// A row of Table 3, or a variant of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BirdModel {
    /// No transformer.
    Cnn,
    /// Windows side by side.
    StCnn {
        /// How many: 2 or 4.
        windows: usize,
        /// What they can do.
        kind: WindowKind,
        /// Whether one backbone sees all of them.
        shared: bool,
    },
}

impl BirdModel {
    /// Every model: those of Table 3, then the variants.
    pub fn all() -> Vec<Self> {
        let of = |kind, shared| [2, 4].map(|windows| Self::StCnn { windows, kind, shared });
        let variants = [
            of(WindowKind::Location, false),
            of(WindowKind::Location, true),
            of(WindowKind::Attention, false),
            of(WindowKind::Affine, false),
        ];
        std::iter::once(Self::Cnn).chain(variants.into_iter().flatten()).collect()
    }

    /// Those of Table 3.
    pub fn table() -> [Self; 3] {
        let of = |windows| Self::StCnn { windows, kind: WindowKind::Location, shared: false };
        [Self::Cnn, of(2), of(4)]
    }

    /// The name in commands and paths: `2xst-cnn-shared`.
    pub fn id(self) -> String {
        match self {
            Self::Cnn => "cnn".into(),
            Self::StCnn { windows, kind, shared } => {
                let kind = match kind {
                    WindowKind::Location => "",
                    WindowKind::Attention => "-att",
                    WindowKind::Affine => "-aff",
                };
                format!("{windows}xst-cnn{kind}{}", if shared { "-shared" } else { "" })
            }
        }
    }

    /// The name in tables: `2xST-CNN`.
    pub fn label(self) -> String {
        match self {
            Self::Cnn => "CNN".into(),
            Self::StCnn { windows, kind, shared } => {
                let kind = match kind {
                    WindowKind::Location => "",
                    WindowKind::Attention => ", any size",
                    WindowKind::Affine => ", affine",
                };
                format!("{windows}xST-CNN{kind}{}", if shared { ", shared" } else { "" })
            }
        }
    }

    /// Windows, and what they can do; `None` without a transformer.
    pub fn windows(self) -> Option<(usize, WindowKind)> {
        match self {
            Self::Cnn => None,
            Self::StCnn { windows, kind, .. } => Some((windows, kind)),
        }
    }
}

impl std::fmt::Display for BirdModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.id())
    }
}

impl std::str::FromStr for BirdModel {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> anyhow::Result<Self> {
        Self::all().into_iter().find(|model| model.id() == s).ok_or_else(|| {
            let ids: Vec<_> = Self::all().into_iter().map(Self::id).collect();
            anyhow::anyhow!("unknown model `{s}`; there are {}", ids.join(", "))
        })
    }
}

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

/// The localisation net.
struct Localisation {
    cfg: BirdConfig,
    backbone: Backbone,
    reduce: Conv2d,
    fc: Linear,
    regression: Linear,
}

fn localisation(cfg: BirdConfig, start: &[f32], vb: VarBuilder) -> Result<Localisation> {
    let backbone = backbone(cfg.backbone, cfg.statistics, vb.pp("backbone"))?;
    let (height, width) = cfg.backbone.map_size(cfg.input)?;
    Ok(Localisation {
        cfg,
        backbone,
        reduce: conv2d(cfg.backbone.channels(), REDUCED, 1, Default::default(), vb.pp("reduce"))?,
        fc: linear(REDUCED * height * width, REDUCED, vb.pp("fc"))?,
        regression: regression(REDUCED, start, vb.pp("regression"))?,
    })
}

impl ModuleT for Localisation {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let map = self.backbone.forward_t(&halved(images, self.cfg)?, train)?;
        let map = self.reduce.forward(&map)?.relu()?;
        self.regression.forward(&self.fc.forward_relu(&map.flatten_from(1)?)?)
    }
}

impl BackboneKind {
    /// Height and width of the last map of a square image.
    ///
    /// # Errors
    /// When the image is too small.
    pub fn map_size(self, side: usize) -> Result<(usize, usize)> {
        // The net itself knows best: one image of zeros through zeros that take no memory.
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let net = backbone(self, Statistics::Frozen, vb)?;
        let map = net.forward_t(&Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?, false)?;
        let (_, _, height, width) = map.dims4()?;
        Ok((height, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let config = SgdConfig { lr: 0.05, ..Default::default() };
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
            let streams = network.backbones();
            assert!(streams.iter().all(|prefix| vars.vars().iter().any(|(name, _)| name.starts_with(prefix))));
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
    fn published_backbones_fit() -> Result<()> {
        assert_eq!(BackboneKind::EfficientNetLite0.map_size(224)?, (7, 7));
        assert_eq!(BackboneKind::InceptionV3.map_size(224)?, (5, 5));
        assert_eq!(BackboneKind::BnInception.map_size(224)?, (7, 7));
        let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
        let made = birds(BirdModel::Cnn, config(100, 32), &DropoutRng::new(0), vb);
        assert!(made.err().is_some_and(|error| error.to_string().contains("32 px or twice that, got 100")));
        Ok(())
    }
}
