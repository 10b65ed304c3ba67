//! The localisation net: a backbone, and layers that make windows of its last map.

use super::{BirdConfig, halved};
use crate::models::backbone::{Backbone, BackboneKind, backbone};
use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use stn_core::conv_norm::Statistics;
use stn_core::layers::{Conv2d, Linear, conv2d, linear};
use stn_core::localisation::regression;

/// Channels and units of the net's own layers.
const REDUCED: usize = 128;

/// The localisation net.
pub(super) struct Localisation {
    cfg: BirdConfig,
    backbone: Backbone,
    reduce: Conv2d,
    fc: Linear,
    regression: Linear,
}

/// Makes the net; its windows start with the parameters `start`.
pub(super) fn localisation(cfg: BirdConfig, start: &[f32], vb: VarBuilder) -> Result<Localisation> {
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
        // The net itself knows best: an image of zeros through weights of zeros.
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

    #[test]
    fn maps_of_published_backbones() -> Result<()> {
        assert_eq!(BackboneKind::EfficientNetLite0.map_size(224)?, (7, 7));
        assert_eq!(BackboneKind::InceptionV3.map_size(224)?, (5, 5));
        assert_eq!(BackboneKind::BnInception.map_size(224)?, (7, 7));
        Ok(())
    }
}
