//! The spatial transformer on the input image, A.4: its output has the input's size, bilinear, zeros outside, `align_corners`.
//!
//! | fully connected localisation net | convolutional localisation net |
//! |---|---|
//! | FC 32, ReLU | average-pool 2x2 |
//! | FC 32, ReLU | conv 5x5 x 20, ReLU, max-pool 2x2 |
//! | FC theta | conv 5x5 x 20, ReLU |
//! | | FC 20, ReLU |
//! | | FC theta |

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use stn_core::SpatialTransformer;
use stn_core::localisation::{ConvLocalisation, FcLocalisation, conv_localisation, fc_localisation};
use stn_core::ops::GridSampleConfig;
use stn_core::transform::{Affine, Projective, ThinPlateSpline, Transform};

/// A family of transforms that a command can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransformKind {
    /// Six parameters, eq. (1).
    Affine,
    /// Eight parameters: a plane seen in perspective.
    Projective,
    /// Thirty-two parameters: a thin plate spline with 4x4 control points from edge to edge.
    ThinPlateSpline,
}

impl TransformKind {
    /// The name in commands and paths.
    pub fn id(self) -> &'static str {
        match self {
            Self::Affine => "aff",
            Self::Projective => "proj",
            Self::ThinPlateSpline => "tps",
        }
    }

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Affine => "Aff",
            Self::Projective => "Proj",
            Self::ThinPlateSpline => "TPS",
        }
    }

    /// The transform itself.
    ///
    /// # Errors
    /// When the spline's system cannot be solved; with these control points it can.
    pub fn transform(self) -> Result<Box<dyn Transform>> {
        Ok(match self {
            Self::Affine => Box::new(Affine),
            Self::Projective => Box::new(Projective),
            Self::ThinPlateSpline => Box::new(ThinPlateSpline::new(4, 4)?),
        })
    }
}

/// Either localisation net of A.4.
#[derive(Debug)]
pub enum Localisation {
    /// Fully connected, for the FCNs.
    Fc(FcLocalisation),
    /// Convolutional, for the CNNs.
    Conv(Box<ConvLocalisation>),
}

impl Module for Localisation {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fc(net) => net.forward(images),
            Self::Conv(net) => net.forward(images),
        }
    }
}

/// The transformer on the input.
pub type InputTransformer = SpatialTransformer<Localisation, Box<dyn Transform>>;

/// Makes a transformer with the fully connected localisation net for images of `side` x `side` pixels.
///
/// # Errors
/// When the variables cannot be made.
pub fn fc_transformer(side: usize, kind: TransformKind, vb: VarBuilder) -> Result<InputTransformer> {
    let transform = kind.transform()?;
    let net = fc_localisation((1, side, side), &transform.identity(), Default::default(), vb)?;
    Ok(on_input(side, Localisation::Fc(net), transform))
}

/// Makes a transformer with the convolutional localisation net for images of `side` x `side` pixels.
///
/// # Errors
/// When the variables cannot be made.
pub fn conv_transformer(side: usize, kind: TransformKind, vb: VarBuilder) -> Result<InputTransformer> {
    let transform = kind.transform()?;
    let net = conv_localisation((1, side, side), &transform.identity(), Default::default(), vb)?;
    Ok(on_input(side, Localisation::Conv(Box::new(net)), transform))
}

fn on_input(side: usize, net: Localisation, transform: Box<dyn Transform>) -> InputTransformer {
    SpatialTransformer::new(net, transform, (side, side), GridSampleConfig::new(true))
}
