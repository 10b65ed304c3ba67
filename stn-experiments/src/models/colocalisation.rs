//! The networks of A.2: a transformer that cuts a window out of an image of 84x84 pixels, and the encoder that compares windows.
//!
//! | localisation net | side |
//! |---|---|
//! | conv 9x9 x 8, stride 4, ReLU | 19 |
//! | max-pool 2x2 | 9 |
//! | FC 8, ReLU, twice | |
//! | FC 3: s, tx, ty | |
//!
//! 5,947 parameters. (The paper calls it a "100k parameter CNN", which these layers, its own, do not make.)
//!
//! The encoder is the CNN of Table 1 as it was trained there; its weights are fixed.

use super::Cnn;
use anyhow::{Context, ensure};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;
use std::collections::HashMap;
use stn_core::SpatialTransformer;
use stn_core::layers::{ConvBlock, Linear, conv_block, linear};
use stn_core::localisation::regression;
use stn_core::ops::{Conv2dConfig, ConvBlockConfig, GridSampleConfig, Pool2dConfig};
use stn_core::transform::{Attention, Transform};

/// The side of the images in pixels.
pub const SCENE_SIDE: usize = 84;
/// The side of the windows in pixels: the encoder's input.
pub const WINDOW_SIDE: usize = 28;

/// The transformer that finds the window.
pub type Localiser = SpatialTransformer<LocalisationNet, Attention>;

/// The localisation net of A.2.
#[derive(Debug, Clone)]
pub struct LocalisationNet {
    conv: ConvBlock,
    fc1: Linear,
    fc2: Linear,
    regression: Linear,
}

/// Makes the transformer; at the start its window is the whole image.
///
/// # Errors
/// When the variables cannot be made.
pub fn localiser(vb: VarBuilder) -> Result<Localiser> {
    let block = ConvBlockConfig::new(Conv2dConfig::default().stride(4)).pool(Pool2dConfig::new(2));
    let convolved = (SCENE_SIDE - 9) / 4 + 1;
    let side = convolved / 2; // rounded down
    let net = LocalisationNet {
        conv: conv_block(1, 8, 9, block, vb.pp("conv"))?,
        fc1: linear(8 * side * side, 8, vb.pp("fc1"))?,
        fc2: linear(8, 8, vb.pp("fc2"))?,
        regression: regression(8, &Attention.identity(), vb.pp("regression"))?,
    };
    Ok(SpatialTransformer::new(net, Attention, (WINDOW_SIDE, WINDOW_SIDE), GridSampleConfig::new(true)))
}

impl Module for LocalisationNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let xs = self.conv.forward(images)?.flatten_from(1)?;
        self.regression.forward(&self.fc2.forward_relu(&self.fc1.forward_relu(&xs)?)?)
    }
}

/// A trained classifier of digits that says how alike two windows look.
#[derive(Debug, Clone)]
pub struct Encoder {
    cnn: Cnn,
    /// What its layers make of a blank window, (1, features) each.
    blank: [Tensor; 3],
    /// What each layer's features are multiplied with.
    scales: [f64; 3],
}

impl Encoder {
    /// Takes the weights of a trained CNN of Table 1 for images of 28x28 pixels; they are no variables any more, so no gradient is computed
    /// for them.
    ///
    /// # Errors
    /// When they are not those of such a CNN.
    pub fn new(weights: HashMap<String, Tensor>) -> anyhow::Result<Self> {
        let filters = weights.get("classifier.conv1.weight").map(|weight| weight.dims()[0]);
        let is_plain = !weights.keys().any(|name| name.starts_with("transformer."));
        ensure!(is_plain, "the encoder must be a CNN without a transformer");
        let filters = filters.context("the encoder must be a CNN of two convolutions")?;
        let weights: HashMap<_, _> = weights.into_iter().map(|(name, weight)| (name, weight.detach())).collect();
        let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let cnn = super::cnn(WINDOW_SIDE, filters, vb.pp("classifier"));
        let cnn = cnn.context("the encoder must be a CNN for images of 28x28 pixels")?;
        let blank = cnn.layers(&Tensor::zeros((1, 1, WINDOW_SIDE, WINDOW_SIDE), DType::F32, &Device::Cpu)?)?;
        Ok(Self { cnn, blank, scales: [1.0; 3] })
    }

    /// The same encoder with every layer scaled such that the features of these windows have a mean squared length of one.
    ///
    /// Deviation: a margin means nothing to features of any size, and without scales the layer of the largest numbers would decide alone.
    ///
    /// # Errors
    /// When the windows have another size, or look like blank ones to a layer.
    pub fn scaled_by(&self, windows: &Tensor) -> anyhow::Result<Self> {
        let mut scales = [0.0; 3];
        for (scale, (layer, blank)) in scales.iter_mut().zip(self.cnn.layers(windows)?.iter().zip(&self.blank)) {
            let square = layer.broadcast_sub(blank)?.sqr()?.sum(1)?.mean_all()?.to_scalar::<f32>()?;
            ensure!(
                square > 0.0 && square.is_finite(),
                "the encoder's features of random windows have a mean square of {square}"
            );
            *scale = 1.0 / f64::from(square).sqrt();
        }
        Ok(Self { scales, ..self.clone() })
    }

    /// Encodes windows by what the paper concatenates: both hidden layers, and the classification layer before the softmax; each less what it
    /// makes of a blank window, so that a blank one is zero.
    ///
    /// # Shapes
    /// (N, 1, 28, 28), 0 to 1, to (N, features).
    ///
    /// # Errors
    /// When the windows have another size.
    pub fn encode(&self, windows: &Tensor) -> Result<Tensor> {
        let mut features = Vec::with_capacity(3);
        for ((layer, blank), scale) in self.cnn.layers(windows)?.iter().zip(&self.blank).zip(self.scales) {
            features.push((layer.broadcast_sub(blank)? * scale)?);
        }
        Tensor::cat(&features, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Distortion;
    use crate::models::{Model, Network};
    use stn_core::init::SeededVarMap;

    #[test]
    fn the_localisation_net_has_the_layers_of_the_paper_and_starts_at_the_whole_image() -> Result<()> {
        let vars = SeededVarMap::new(0);
        let localiser = localiser(vars.var_builder(DType::F32, &Device::Cpu))?;
        assert_eq!(vars.num_params(), 5_947);
        let images = Tensor::ones((2, 1, SCENE_SIDE, SCENE_SIDE), DType::F32, &Device::Cpu)?;
        assert_eq!(localiser.theta(&images, true)?.to_vec2::<f32>()?, [[1.0, 0.0, 0.0]; 2]);
        Ok(())
    }

    #[test]
    fn the_encoder_ends_with_the_cnns_logits_and_has_no_variables() -> anyhow::Result<()> {
        let vars = SeededVarMap::new(0);
        let network = Network::new(Model::Cnn, Distortion::R, vars.var_builder(DType::F32, &Device::Cpu))?;
        let encoder = Encoder::new(vars.tensors()?)?;
        let windows = Tensor::rand(0f32, 1.0, (3, 1, 28, 28), &Device::Cpu)?;
        let features = encoder.encode(&windows)?;
        assert_eq!(features.dims(), [3, 64 * 10 * 10 + 64 * 2 * 2 + 10]);
        let blank = Tensor::zeros((1, 1, 28, 28), DType::F32, &Device::Cpu)?;
        let logits = |windows| -> Result<Tensor> { Ok(network.forward(windows, false)?.logits) };
        let expected = logits(&windows)?.broadcast_sub(&logits(&blank)?)?.to_vec2::<f32>()?;
        assert_eq!(features.narrow(1, 6656, 10)?.to_vec2::<f32>()?, expected);
        assert_eq!(encoder.encode(&blank)?.abs()?.max_all()?.to_scalar::<f32>()?, 0.0, "a blank window is zero");

        let scaled = encoder.scaled_by(&windows)?.encode(&windows)?;
        for (first, count) in [(0, 6400), (6400, 256), (6656, 10)] {
            let square = scaled.narrow(1, first, count)?.sqr()?.sum(1)?.mean_all()?.to_scalar::<f32>()?;
            assert!((square - 1.0).abs() < 1e-3, "{square}");
        }
        assert!(encoder.scaled_by(&blank).unwrap_err().to_string().contains("mean square of 0"));
        assert!(!features.track_op(), "a fixed encoder has no gradient of its own");
        Ok(())
    }

    #[test]
    fn other_networks_are_no_encoder() -> anyhow::Result<()> {
        for model in [Model::Fcn, Model::StCnn(crate::models::TransformKind::Affine)] {
            let vars = SeededVarMap::new(0);
            Network::new(model, Distortion::R, vars.var_builder(DType::F32, &Device::Cpu))?;
            assert!(format!("{:#}", Encoder::new(vars.tensors()?).unwrap_err()).contains("must be a CNN"));
        }
        Ok(())
    }
}
