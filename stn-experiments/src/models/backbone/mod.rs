//! Networks trained on ImageNet, without their classifiers: images in, the last feature map out.
//!
//! | backbone | weights | input | last map | parameters |
//! |---|---|---|---|---|
//! | [`EfficientNetLite0`](BackboneKind::EfficientNetLite0) | `timm/tf_efficientnet_lite0.in1k` | 224 | 7x7x1280 | 3.4 M |
//! | [`InceptionV3`](BackboneKind::InceptionV3) | `timm/inception_v3.tv_in1k`, the nearest to the paper's that anyone hosts | 299 | 8x8x2048 | 21.8 M |
//! | [`BnInception`](BackboneKind::BnInception) | the paper's; a file that the user has | 224 | 7x7x1024 | 10.3 M |
//! | [`Small`](BackboneKind::Small) | none: for synthetic images | 64 | 8x8x128 | 0.2 M |
//!
//! Each is a list of steps in a file of its own; variables have the names of the published weights.

mod bn_inception;
mod efficientnet_lite0;
mod inception_v3;
mod small;
mod step;
mod weights;

pub use weights::{backbone_weights, classifier_weights, put_weights};

use crate::data::hub::Repository;
use crate::named::by_id;
use candle_core::{ModuleT, Result, Tensor, bail};
use candle_nn::VarBuilder;
use step::Step;
use stn_core::conv_norm::Statistics;

/// A network of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackboneKind {
    /// EfficientNet-Lite0: for laptops.
    EfficientNetLite0,
    /// Inception-v3 (Szegedy et al. 2015).
    InceptionV3,
    /// Inception with batch normalisation (Ioffe and Szegedy 2015), the paper's.
    BnInception,
    /// Five convolutions, trained from nothing.
    Small,
}

impl BackboneKind {
    /// Every backbone.
    pub const ALL: [Self; 4] = [Self::EfficientNetLite0, Self::InceptionV3, Self::BnInception, Self::Small];
    /// Those of which there are weights somewhere.
    pub const PUBLISHED: [Self; 3] = [Self::EfficientNetLite0, Self::InceptionV3, Self::BnInception];

    /// The name in commands and records.
    pub fn id(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => "lite0",
            Self::InceptionV3 => "inception-v3",
            Self::BnInception => "bn-inception",
            Self::Small => "small",
        }
    }

    /// Channels of the last map: the length of a descriptor.
    pub fn channels(self) -> usize {
        match self {
            Self::EfficientNetLite0 => 1280,
            Self::InceptionV3 => 2048,
            Self::BnInception => 1024,
            Self::Small => 128,
        }
    }

    /// The name of the classifier's variables in the published weights.
    pub fn classifier(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => "classifier",
            Self::InceptionV3 => "fc",
            Self::BnInception => "last_linear",
            Self::Small => "classifier",
        }
    }

    /// Where the hub has its ImageNet weights, in `model.safetensors`; nobody hosts the BN-Inception's.
    pub fn repository(self) -> Option<Repository> {
        match self {
            Self::EfficientNetLite0 => Some(Repository::model("timm/tf_efficientnet_lite0.in1k", "main")),
            Self::InceptionV3 => Some(Repository::model("timm/inception_v3.tv_in1k", "main")),
            Self::BnInception | Self::Small => None,
        }
    }

    /// Brings RGB images, 0 to 1, to what the weights were trained on.
    ///
    /// # Shapes
    /// (N, 3, H, W) -> the same.
    ///
    /// # Errors
    /// When there are other than three channels.
    pub fn normalise(self, images: &Tensor) -> Result<Tensor> {
        match self {
            Self::EfficientNetLite0 | Self::InceptionV3 | Self::Small => images.affine(2.0, -1.0),
            // Caffe's: blue first, 0 to 255, less the mean of ImageNet.
            Self::BnInception => {
                let (_, 3, _, _) = images.dims4()? else { bail!("backbone: images must have 3 channels") };
                let order = Tensor::new(&[2u32, 1, 0], images.device())?;
                let mean = Tensor::new(&[104f32, 117.0, 128.0], images.device())?.to_dtype(images.dtype())?;
                (images.index_select(&order, 1)? * 255.0)?.broadcast_sub(&mean.reshape((1, 3, 1, 1))?)
            }
        }
    }
}

impl std::fmt::Display for BackboneKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}

impl std::str::FromStr for BackboneKind {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> anyhow::Result<Self> {
        by_id("backbone", s, Self::ALL, Self::id)
    }
}

/// A network without its classifier: normalised images (N, 3, H, W) to the last map (N, C, h, w).
#[derive(Debug, Clone)]
pub struct Backbone {
    kind: BackboneKind,
    steps: Vec<Step>,
}

/// Makes a backbone; its variables have the names of the published weights.
///
/// # Errors
/// When the variables are missing or have other shapes.
pub fn backbone(kind: BackboneKind, statistics: Statistics, vb: VarBuilder) -> Result<Backbone> {
    let steps = match kind {
        BackboneKind::EfficientNetLite0 => efficientnet_lite0::steps(statistics, &vb)?,
        BackboneKind::InceptionV3 => inception_v3::steps(statistics, &vb)?,
        BackboneKind::BnInception => bn_inception::steps(statistics, &vb)?,
        BackboneKind::Small => small::steps(statistics, &vb)?,
    };
    Ok(Backbone { kind, steps })
}

impl Backbone {
    /// Which network it is.
    pub fn kind(&self) -> BackboneKind {
        self.kind
    }

    /// Describes images by the mean of each channel of the last map.
    ///
    /// # Shapes
    /// (N, 3, H, W) -> (N, C).
    ///
    /// # Errors
    /// When the images are too small for the network.
    pub fn describe(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_t(images, train)?.mean((2, 3))
    }
}

impl ModuleT for Backbone {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        step::run(&self.steps, images, train)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use stn_core::init::SeededVarMap;

    /// The published counts of parameters, and the sizes of the maps.
    #[test]
    fn sizes_are_those_of_the_published_networks() -> Result<()> {
        for (kind, side, map, params) in [
            (BackboneKind::EfficientNetLite0, 224, 7, 3_371_008),
            (BackboneKind::InceptionV3, 224, 5, 21_785_568),
            (BackboneKind::BnInception, 224, 7, 10_270_240),
        ] {
            let vars = SeededVarMap::new(0);
            let net = backbone(kind, Statistics::Frozen, vars.var_builder(DType::F32, &Device::Cpu))?;
            let images = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?;
            assert_eq!(net.forward_t(&images, false)?.dims(), [1, kind.channels(), map, map], "{kind}");
            assert_eq!(vars.num_params(), params, "{kind}");
        }
        Ok(())
    }

    #[test]
    fn normalisation_is_the_weights() -> Result<()> {
        let images = Tensor::new(&[0f32, 0.5, 1.0], &Device::Cpu)?.reshape((1, 3, 1, 1))?;
        let of = |kind: BackboneKind| kind.normalise(&images)?.flatten_all()?.to_vec1::<f32>();
        assert_eq!(of(BackboneKind::EfficientNetLite0)?, [-1.0, 0.0, 1.0]);
        assert_eq!(of(BackboneKind::BnInception)?, [151.0, 10.5, -128.0]);
        Ok(())
    }
}
