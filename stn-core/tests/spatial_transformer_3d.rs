//! The layer of volumes: its output, finite differences through sampler and grid, errors.

mod support;

use candle_core::{Device, ModuleT, Result, Tensor};
use stn_core::SpatialTransformer3d;
use stn_core::ops::GridSampleConfig;
use stn_core::transform::{Affine3d, Transform3d};
use support::{check_gradients, distance, message, random};

const OUT: (usize, usize, usize) = (2, 3, 3);

/// A theta near the identity, off every voxel's coordinate: there the gradient has a kink.
fn theta() -> Result<Tensor> {
    let values = Affine3d.identity().into_iter().enumerate();
    let values = values.map(|(i, x)| 0.87 * f64::from(x) + 0.031 * (1.7 * i as f64 + 1.0).sin());
    Tensor::from_vec(values.collect(), (1, 12), &Device::Cpu)
}

/// A transformer whose net adds up its input and leaves theta as it is.
fn transformer(theta: Tensor) -> SpatialTransformer3d<impl ModuleT, Affine3d> {
    let net = candle_nn::func(move |u: &Tensor| theta.broadcast_add(&(u.mean_all()? * 0.1)?));
    SpatialTransformer3d::new(net, Affine3d, OUT, GridSampleConfig::new(true))
}

#[test]
fn gradients_reach_the_volume_and_the_net() -> Result<()> {
    let u = random((1, 2, 3, 4, 5), 1)?;
    let forward = |tensors: &[Tensor]| transformer(tensors[1].clone()).forward_t(&tensors[0], true);
    check_gradients("spatial_transformer_3d", &[&u, &theta()?], forward)
}

#[test]
fn the_parts_are_those_of_the_whole() -> Result<()> {
    let (u, st) = (random((1, 2, 3, 4, 5), 1)?, transformer(theta()?));
    let whole = st.transform(&u, false)?;
    assert_eq!((whole.output.dims(), whole.theta.dims()), (&[1, 2, 2, 3, 3][..], &[1, 12][..]));
    assert_eq!(distance(&st.warp(&u, &st.theta(&u, false)?)?, &whole.output)?, 0.0);
    assert_eq!(st.grid(&whole.theta)?.dims(), [1, 2, 3, 3, 3]);
    assert_eq!((st.out_size(), st.config(), *st.grid_generator()), (OUT, GridSampleConfig::new(true), Affine3d));
    Ok(())
}

#[test]
fn a_net_of_another_family_is_refused() -> Result<()> {
    let u = random((2, 1, 3, 4, 5), 1)?;
    let six = candle_nn::func(|u: &Tensor| Tensor::zeros((u.dim(0)?, 6), u.dtype(), u.device()));
    let st = SpatialTransformer3d::new(six, Affine3d, OUT, GridSampleConfig::new(true));
    let expected = "spatial_transformer_3d: the localisation net must give theta [2, 12], got [2, 6]";
    assert_eq!(message(st.forward_t(&u, true)), expected);
    Ok(())
}
