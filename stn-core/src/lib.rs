//! Spatial transformer layers for Candle.

pub mod dropout;
pub mod init;
pub mod layers;
pub mod localisation;
pub mod ops;
pub mod optim;
pub mod spatial_transformer;
pub mod transform;

pub use spatial_transformer::{SpatialTransformer, Transformed};
pub use transform::Transform;
