//! Spatial transformer layers for [Candle](candle_core), and the `grid_sample` that trains.
//!
//! A spatial transformer (Jaderberg et al. 2015, *Spatial Transformer Networks*) is a layer that warps its own input, by a transform that
//! it predicts from that input:
//!
//! ```text
//!                 +--> localisation net --> theta --> grid generator --+
//!                 |      f_loc                          T_theta        |  sampling grid (N, H', W', 2)
//!   U (N, C, H, W)                                                     v
//!                 +---------------------------------------------> grid_sample --> V (N, C, H', W')
//! ```
//!
//! It is trained by the task's loss alone: [`ops::grid_sample`] has gradients for the image and for the grid. A transform maps **target to
//! source**: where in the input each output pixel looks. Grids hold **(x, y)**, -1 to 1 across the input; `align_corners` says whether that
//! is from centre to centre of the corner pixels or from edge to edge, and is always said.
//!
//! # Example
//! A transformer in front of a classifier; at the start it is the identity.
//! ```
//! use candle_core::{DType, Device, Module, Tensor};
//! use candle_nn::ModuleT;
//! use stn_core::localisation::{ConvLocalisationConfig, conv_localisation};
//! use stn_core::optim::{Optimiser, ParamGroup, Sgd, SgdConfig};
//! use stn_core::transform::{Affine, Transform};
//! use stn_core::{SpatialTransformer, init::SeededVarMap, layers::linear, ops::GridSampleConfig};
//!
//! # fn main() -> candle_core::Result<()> {
//! let vars = SeededVarMap::new(0);
//! let vb = vars.var_builder(DType::F32, &Device::Cpu);
//! let net = conv_localisation((1, 28, 28), &Affine.identity(), ConvLocalisationConfig::default(), vb.pp("loc"))?;
//! let transformer = SpatialTransformer::new(net, Affine, (28, 28), GridSampleConfig::new(true));
//! let classifier = linear(28 * 28, 10, vb.pp("fc"))?;
//!
//! let images = Tensor::rand(0f32, 1., (8, 1, 28, 28), &Device::Cpu)?;
//! let labels = Tensor::zeros(8, DType::U32, &Device::Cpu)?;
//! let seen = transformer.forward_t(&images, true)?;
//! let loss = candle_nn::loss::cross_entropy(&classifier.forward(&seen.flatten_from(1)?)?, &labels)?;
//!
//! let mut sgd = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], SgdConfig::default())?;
//! sgd.step(&loss.backward()?)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where is what
//!
//! | module | what |
//! |---|---|
//! | [`transform`] | theta -> sampling grid: translation, attention, similarity, affine, projective, thin plate spline, affine in 3-D, your own |
//! | [`localisation`] | the paper's localisation nets, and the identity-initialised last layer |
//! | [`SpatialTransformer`], [`SpatialTransformer3d`] | the two and the sampler as one layer, for images and for volumes |
//! | [`parallel`] | several windows of one image, which is not copied |
//! | [`antialias`] | down-sampling that doesn't skip pixels |
//! | [`telemetry`] | what a transformer is doing, and whether it has collapsed |
//! | [`ops`] | `grid_sample`, `grid_sample_3d`, and convolution, pooling, the two in one pass, and fully connected, with right gradients |
//! | [`layers`] | convolution, convolution block and linear layers on them |
//! | [`conv_norm`] | convolution, batch norm and activation as one layer, for backbones |
//! | [`init`], [`dropout`], [`optim`] | what training needs and Candle lacks: seeded, stateless, saveable |
//! | [`algebra`] | no code: the matrices behind the transforms, what each entry does to a picture, and where the traps are |
//!
//! Transformers go anywhere: in series, between convolutions, with outputs larger or smaller than their inputs. Each takes a feature
//! map and gives one, and each gets its gradient through those behind it.

#![deny(missing_docs)]

pub mod algebra;
pub mod antialias;
pub mod conv_norm;
pub mod dropout;
pub mod init;
pub mod layers;
pub mod localisation;
pub mod ops;
pub mod optim;
pub mod parallel;
pub mod spatial_transformer;
pub mod spatial_transformer_3d;
pub mod telemetry;
pub mod transform;

pub use parallel::ParallelTransformers;
pub use spatial_transformer::{SpatialTransformer, Transformed};
pub use spatial_transformer_3d::SpatialTransformer3d;
pub use transform::{Transform, Transform3d};

/// The README's example, tested with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
