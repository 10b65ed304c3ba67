//! Spatial transformer layers for Candle.

pub mod layers;
pub mod ops;
