//! The networks of A.3: a digit in a volume of 60x60x60 voxels, flattened to an image and classified.
//!
//! | | CNN | ST-CNN Aff 3-D |
//! |---|---|---|
//! | volume | 60x60x60 | 60x60x60 |
//! | transformer: affine, trilinear | - | 15x30x30 points |
//! | sum over the depth, eq. (11) | 60x60 | 30x30 |
//! | average-pool 2x2 | 30x30 | - |
//! | conv 9x9, ReLU, max-pool 2x2 | 11x11, 64 filters | 11x11, 52 filters |
//! | conv 7x7, ReLU, max-pool 2x2 | 2x2, 64 filters | 2x2, 52 filters |
//! | FC | 10 outputs | 10 outputs |
//!
//! The classifier is that of A.4; its width makes the two networks' parameters equal within 2 % (208,586 are the CNN's). The localisation net
//! is the convolutional one of A.4 on the volume averaged over 4x2x2 voxels, whose 15 slices are the channels of an image of 30x30:
//!
//! | localisation net | side |
//! |---|---|
//! | conv 5x5 x 20, ReLU, max-pool 2x2 | 13 |
//! | conv 5x5 x 20, ReLU | 9 |
//! | FC 32, ReLU | |
//! | FC 12, at the start the identity | |

use super::{Cnn, cnn};
use crate::data::distort::extrusion::{THICKNESS, VOLUME_SIDE};
use crate::named::by_id;
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;
use stn_core::localisation::{ConvLocalisation, ConvLocalisationConfig, conv_localisation};
use stn_core::ops::{GridSampleConfig, Pool2dConfig, avg_pool2d};
use stn_core::transform::{Affine3d, Transform3d};
use stn_core::{SpatialTransformer3d, Transformed};

/// The side of the image that is classified.
pub const PROJECTION_SIDE: usize = 30;
/// The slices that the transformer samples, and those that its localisation net sees.
const SLICES: usize = 15;

/// With the transformer or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeModel {
    /// The projection of the volume as it is.
    Cnn,
    /// The projection of the volume that a transformer has warped.
    StCnn,
}

/// What a network says of a batch of volumes.
#[derive(Debug, Clone)]
pub struct VolumePrediction {
    /// (N, 10), before the softmax.
    pub logits: Tensor,
    /// What is classified, (N, 1, 30, 30): the sum over the depth, scaled so that an unturned body has a value of about 1 where its digit
    /// is white.
    pub projection: Tensor,
    /// (N, 12), where there is a transformer.
    pub theta: Option<Tensor>,
}

/// A network for volumes.
pub struct VolumeNetwork {
    transformer: Option<SpatialTransformer3d<VolumeLocalisation, Affine3d>>,
    classifier: Cnn,
}

/// The convolutional localisation net on the volume, shrunk.
struct VolumeLocalisation(ConvLocalisation);

impl VolumeNetwork {
    /// Makes a model's network; variables under `transformer` and `classifier`.
    ///
    /// # Errors
    /// When the variables cannot be made.
    pub fn new(model: VolumeModel, vb: VarBuilder) -> Result<Self> {
        let classifier = cnn(PROJECTION_SIDE, model.width(), vb.pp("classifier"))?;
        let transformer = match model {
            VolumeModel::Cnn => None,
            VolumeModel::StCnn => {
                let out = (SLICES, PROJECTION_SIDE, PROJECTION_SIDE);
                let net = VolumeLocalisation::new(vb.pp("transformer"))?;
                Some(SpatialTransformer3d::new(net, Affine3d, out, GridSampleConfig::new(true)))
            }
        };
        Ok(Self { transformer, classifier })
    }

    /// Classifies volumes.
    ///
    /// # Shapes
    /// (N, 60, 60, 60), 0 to 1, to logits (N, 10).
    ///
    /// # Errors
    /// When the volumes have another size.
    pub fn forward(&self, volumes: &Tensor) -> Result<VolumePrediction> {
        let (_, d, h, w) = volumes.dims4()?;
        if [d, h, w] != [VOLUME_SIDE; 3] {
            bail!(
                "volume network: volumes must be (N, {VOLUME_SIDE}, {VOLUME_SIDE}, {VOLUME_SIDE}), got {:?}",
                volumes.dims()
            )
        }
        let (projection, theta) = match &self.transformer {
            None => {
                let flat = mix_slices(volumes, &[1.0 / THICKNESS as f32; VOLUME_SIDE], 1)?;
                (avg_pool2d(&flat, Pool2dConfig::new(2))?, None)
            }
            Some(transformer) => {
                let Transformed { output, theta } = transformer.transform(&volumes.unsqueeze(1)?, true)?;
                let warped = output.squeeze(1)?;
                let share = VOLUME_SIDE as f32 / (SLICES * THICKNESS) as f32;
                (mix_slices(&warped, &[share; SLICES], 1)?, Some(theta))
            }
        };
        Ok(VolumePrediction { logits: self.classifier.forward(&projection)?, projection, theta })
    }
}

impl VolumeLocalisation {
    fn new(vb: VarBuilder) -> Result<Self> {
        let cfg = ConvLocalisationConfig { hidden: 32, downsample: 1, ..Default::default() };
        let shape = (SLICES, PROJECTION_SIDE, PROJECTION_SIDE);
        Ok(Self(conv_localisation(shape, &Affine3d.identity(), cfg, vb)?))
    }
}

impl Module for VolumeLocalisation {
    /// (N, 1, 60, 60, 60) -> theta (N, 12).
    fn forward(&self, volumes: &Tensor) -> Result<Tensor> {
        let shrunk = avg_pool2d(&volumes.squeeze(1)?, Pool2dConfig::new(VOLUME_SIDE / PROJECTION_SIDE))?;
        let thick = VOLUME_SIDE / SLICES;
        let mut means = [0.0; SLICES * VOLUME_SIDE];
        for (to, row) in means.chunks_exact_mut(VOLUME_SIDE).enumerate() {
            row[to * thick..(to + 1) * thick].fill(1.0 / thick as f32);
        }
        self.0.forward(&mix_slices(&shrunk, &means, SLICES)?)
    }
}

/// Weighted sums of the slices: (N, D, H, W) to (N, count, H, W), by a matrix (count, D).
fn mix_slices(slices: &Tensor, weights: &[f32], count: usize) -> Result<Tensor> {
    let (n, d, h, w) = slices.dims4()?;
    let weights = Tensor::from_slice(weights, (count, d), slices.device())?;
    weights.broadcast_matmul(&slices.reshape((n, d, h * w))?)?.reshape((n, count, h, w))
}

impl VolumeModel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cnn, Self::StCnn];

    /// The name in commands and paths.
    pub fn id(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::StCnn => "st-cnn-aff3d",
        }
    }

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cnn => "CNN",
            Self::StCnn => "ST-CNN Aff 3-D",
        }
    }

    /// The filters of the classifier's layers.
    pub fn width(self) -> usize {
        match self {
            Self::Cnn => 64,
            Self::StCnn => 52,
        }
    }
}

impl std::str::FromStr for VolumeModel {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> anyhow::Result<Self> {
        by_id("model", s, Self::ALL, Self::id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Mnist;
    use crate::data::distort::extrusion::volume_set;
    use candle_core::{DType, Device};
    use stn_core::init::SeededVarMap;
    use stn_core::optim::{Optimiser, ParamGroup, Sgd, SgdConfig};

    fn volumes(count: usize) -> anyhow::Result<(Tensor, Tensor)> {
        let (set, _) = volume_set(&Mnist::embedded("asked for")?.test, 0..count, 0, 0)?;
        let voxels: Vec<f32> = set.images.iter().map(|&v| f32::from(v) / 255.0).collect();
        let labels: Vec<u32> = set.labels.iter().map(|&l| u32::from(l)).collect();
        Ok((Tensor::from_vec(voxels, (count, 60, 60, 60), &Device::Cpu)?, Tensor::new(labels, &Device::Cpu)?))
    }

    #[test]
    fn both_have_the_same_number_of_parameters() -> Result<()> {
        let count = |model| {
            let vars = SeededVarMap::new(0);
            VolumeNetwork::new(model, vars.var_builder(DType::F32, &Device::Cpu)).map(|_| vars.num_params())
        };
        let (plain, transformed) = (count(VolumeModel::Cnn)?, count(VolumeModel::StCnn)?);
        assert_eq!(plain, 208_586);
        let ratio = transformed as f64 / plain as f64;
        assert!((0.98..=1.02).contains(&ratio), "{transformed} parameters, {ratio:.3} of the CNN's");
        Ok(())
    }

    #[test]
    fn at_the_start_both_classify_about_the_same_projection() -> anyhow::Result<()> {
        let (volumes, _) = volumes(4)?;
        let projection = |model| {
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            VolumeNetwork::new(model, vb)?.forward(&volumes).map(|prediction| prediction.projection)
        };
        let (plain, warped) = (projection(VolumeModel::Cnn)?, projection(VolumeModel::StCnn)?);
        assert_eq!((plain.dims(), warped.dims()), (&[4, 1, 30, 30][..], &[4, 1, 30, 30][..]));
        let off = (&plain - &warped)?.abs()?.sum_all()?.to_scalar::<f32>()?;
        let all = plain.sum_all()?.to_scalar::<f32>()?;
        assert!(off < 0.35 * all, "{off} of {all}: the identity samples every fourth slice and second pixel");
        // Nothing is lost in the sum over the depth: ten voxels of ink for each pixel's.
        let ink = volumes.sum_all()?.to_scalar::<f32>()? / (THICKNESS as f32 * 4.0);
        assert!((all / ink - 1.0).abs() < 1e-3, "{all} {ink}");
        Ok(())
    }

    #[test]
    fn every_variable_gets_a_gradient_and_moves() -> anyhow::Result<()> {
        let (volumes, labels) = volumes(4)?;
        for model in VolumeModel::ALL {
            let vars = SeededVarMap::new(3);
            let network = VolumeNetwork::new(model, vars.var_builder(DType::F32, &Device::Cpu))?;
            let before = vars.tensors()?;
            let groups = vec![ParamGroup::new(vars.trainable_vars())];
            let mut sgd = Sgd::new(groups, SgdConfig { lr: 0.05, ..Default::default() })?;
            // The localisation net's last layer starts at zero: the layers before it get their gradient in the second step.
            for _ in 0..2 {
                let loss = candle_nn::loss::cross_entropy(&network.forward(&volumes)?.logits, &labels)?;
                sgd.step(&loss.backward()?)?;
            }
            for (name, var) in vars.trainable_vars() {
                let moved = (var.as_tensor() - &before[&name])?.abs()?.sum_all()?.to_scalar::<f32>()?;
                assert!(moved.is_finite() && moved > 0.0, "{}: {name} moved by {moved}", model.id());
            }
        }
        Ok(())
    }

    #[test]
    fn other_volumes_are_refused() -> Result<()> {
        let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
        let network = VolumeNetwork::new(VolumeModel::Cnn, vb)?;
        let volumes = Tensor::zeros((2, 60, 60, 30), DType::F32, &Device::Cpu)?;
        let error = network.forward(&volumes).unwrap_err().to_string();
        assert!(error.contains("must be (N, 60, 60, 60), got [2, 60, 60, 30]"), "{error}");
        assert_eq!(
            "fcn".parse::<VolumeModel>().unwrap_err().to_string(),
            "unknown model `fcn`; there are cnn, st-cnn-aff3d"
        );
        Ok(())
    }
}
