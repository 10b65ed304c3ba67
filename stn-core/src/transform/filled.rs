use super::Transform;
use crate::ops::{GridSampleConfig, grid_sample_fill};
use candle_core::{Result, Tensor};

/// A transform that sees a colour of your own outside the image, one number a channel, where the plain one sees zeros.
///
/// It is a [`Transform`] itself, of the same parameters, and takes the place of the plain one in a
/// [`SpatialTransformer`](crate::SpatialTransformer) or in [`ParallelTransformers`](crate::ParallelTransformers). Images whose
/// background isn't zero want it: those that were normalised by a mean and a deviation, say. The sampler is [`grid_sample_fill`]; to
/// sample each pixel several times, wrap it: `supersample(Filled::new(Affine, fill), 2)`.
///
/// # Gradients
///
/// By input, theta and fill, which may be a variable. Theta's has the step from the image to its surroundings.
///
/// # Errors
///
/// From [`warp`](Transform::warp): those of the transform and of [`grid_sample_fill`].
///
/// # Example
///
/// A white page, moved half its width to the left, stays white:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::transform::{Affine, Filled, Transform};
///
/// let page = Tensor::ones((1, 1, 5, 5), DType::F32, &Device::Cpu)?;
/// let theta = Tensor::new(&[[1f32, 0., 1., 0., 1., 0.]], &Device::Cpu)?;
/// let darkest = |v: Tensor| v.min_all()?.to_scalar::<f32>();
/// assert_eq!(darkest(Affine.warp(&page, &theta, (5, 5), GridSampleConfig::new(true))?)?, 0.0);
/// let white = Filled::new(Affine, Tensor::ones(1, DType::F32, &Device::Cpu)?);
/// assert_eq!(darkest(white.warp(&page, &theta, (5, 5), GridSampleConfig::new(true))?)?, 1.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Filled<T> {
    transform: T,
    fill: Tensor,
}

impl<T> Filled<T> {
    /// Joins a transform and a fill of shape (C,), of the images' type.
    pub fn new(transform: T, fill: Tensor) -> Self {
        Self { transform, fill }
    }

    /// Returns the plain transform.
    pub fn inner(&self) -> &T {
        &self.transform
    }

    /// Returns the fill, (C,).
    pub fn fill(&self) -> &Tensor {
        &self.fill
    }
}

impl<T: Transform> Transform for Filled<T> {
    fn num_params(&self) -> usize {
        self.transform.num_params()
    }

    fn param_names(&self) -> Vec<String> {
        self.transform.param_names()
    }

    fn identity(&self) -> Vec<f32> {
        self.transform.identity()
    }

    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        self.transform.grid(theta, out_size, align_corners)
    }

    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        grid_sample_fill(input, &self.grid(theta, out_size, cfg.align_corners)?, &self.fill, cfg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpatialTransformer;
    use crate::antialias::supersample;
    use crate::transform::Affine;
    use candle_core::{Device, ModuleT, Var};

    /// A window over the left edge, in a layer: the fill is seen, learnt, and sampled several times where that is asked for.
    #[test]
    fn layers_see_the_fill_and_learn_it() -> Result<()> {
        let image = Tensor::zeros((1, 2, 4, 4), candle_core::DType::F64, &Device::Cpu)?;
        let fill = Var::new(&[3f64, 5.], &Device::Cpu)?;
        let theta = Tensor::new(&[[1f64, 0., -2., 0., 1., 0.]], &Device::Cpu)?; // the image is left of the centre column's place
        let localisation = candle_nn::func(move |_| Ok(theta.clone()));
        let cfg = GridSampleConfig::new(true);
        let plain = Filled::new(Affine, fill.as_tensor().clone());
        let fine = supersample(plain.clone(), 3)?;
        let v = SpatialTransformer::new(localisation.clone(), plain, (4, 4), cfg).forward_t(&image, true)?;
        let columns = |v: &Tensor, channel| v.get(0)?.get(channel)?.get(0)?.to_vec1::<f64>();
        assert_eq!((columns(&v, 0)?, columns(&v, 1)?), (vec![3., 3., 3., 0.], vec![5., 5., 5., 0.]));
        let gradient = v.sum_all()?.backward()?.get(&fill).expect("of the fill").to_vec1::<f64>()?;
        assert_eq!(gradient, [12.0, 12.0], "twelve of sixteen pixels a channel are the fill");
        let v = SpatialTransformer::new(localisation, fine, (4, 4), cfg).forward_t(&image, true)?;
        assert!((columns(&v, 0)?[0] - 3.0).abs() < 1e-12 && (columns(&v, 1)?[1] - 5.0).abs() < 1e-12);
        Ok(())
    }
}
