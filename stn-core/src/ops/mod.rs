//! Differentiable operations with hand-written CPU kernels.
//!
//! Each is a free function from tensors to a tensor, with a gradient that finite differences confirm. Kernels run on the CPU in
//! `f32` and `f64`; the same input gives the same bits for any number of threads.

mod activation;
mod axis;
mod batch_norm;
mod conv2d;
mod conv_batch_norm;
mod conv_scaled;
mod grid_sample;
mod grid_sample_3d;
mod interleave;
mod linear;
mod pool2d;
mod product;
pub(crate) mod real;
pub(crate) mod targets;

pub use activation::{Activation, relu6};
pub use batch_norm::{BatchNormed, batch_norm};
pub(crate) use conv_batch_norm::conv2d_batch_norm;
pub(crate) use conv_scaled::conv2d_scaled;
pub use conv2d::{Conv2dConfig, ConvBlockConfig, Sides, conv_block, conv2d, conv2d_activated};
pub use grid_sample::{
    GridSampleConfig, Interpolation, Padding, affine_grid_sample, grid_sample, grid_sample_fill, grid_sample_reference,
};
pub use grid_sample_3d::grid_sample_3d;
pub use linear::{linear, linear_relu};
pub use pool2d::{Pool2dConfig, avg_pool2d, max_pool2d};
