use super::Transform;
use crate::ops::GridSampleConfig;
use candle_core::{Result, Tensor};

/// A transform that sees a colour of your own outside the image, one number a channel, where the plain one sees zeros.
///
/// It is a [`Transform`] itself, of the same parameters, and takes the place of the plain one in a
/// [`SpatialTransformer`](crate::SpatialTransformer) or in [`ParallelTransformers`](crate::ParallelTransformers). Images whose
/// background isn't zero want it: those that were normalised by a mean and a deviation, say. The sampler is
/// [`grid_sample_fill`](crate::ops::grid_sample_fill).
///
/// # Gradients
///
/// By input, theta and fill, which may be a variable. Theta's has the step from the image to its surroundings.
///
/// # Errors
///
/// From [`warp`](Transform::warp): those of the transform and of [`grid_sample_fill`](crate::ops::grid_sample_fill).
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
        self.transform.warp_filled(input, theta, out_size, &self.fill, cfg)
    }

    /// With this fill in place of its own.
    fn warp_filled(
        &self,
        input: &Tensor,
        theta: &Tensor,
        out_size: (usize, usize),
        fill: &Tensor,
        cfg: GridSampleConfig,
    ) -> Result<Tensor> {
        self.transform.warp_filled(input, theta, out_size, fill, cfg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpatialTransformer;
    use crate::antialias::supersample;
    use crate::transform::Affine;
    use candle_core::{Device, ModuleT, Var};

    /// Three of four columns of the window lie left of the image. The fill is seen, learnt, and sampled several times where that is
    /// asked for, whichever of the two is inside the other.
    #[test]
    fn layers_see_the_fill_and_learn_it() -> Result<()> {
        let image = Tensor::zeros((1, 2, 4, 4), candle_core::DType::F64, &Device::Cpu)?;
        let fill = Var::new(&[3f64, 5.], &Device::Cpu)?;
        let theta = Tensor::new(&[[1f64, 0., -2., 0., 1., 0.]], &Device::Cpu)?;
        let cfg = GridSampleConfig::new(true);
        let plain = Filled::new(Affine, fill.as_tensor().clone());
        let columns = |v: &Tensor, channel| v.get(0)?.get(channel)?.get(0)?.to_vec1::<f64>();
        let predicted = theta.clone();
        let net = candle_nn::func(move |_| Ok(predicted.clone()));
        let v = SpatialTransformer::new(net, plain.clone(), (4, 4), cfg).forward_t(&image, true)?;
        assert_eq!((columns(&v, 0)?, columns(&v, 1)?), (vec![3., 3., 3., 0.], vec![5., 5., 5., 0.]));
        let gradient = v.sum_all()?.backward()?.get(&fill).expect("of the fill").to_vec1::<f64>()?;
        assert_eq!(gradient, [12.0, 12.0], "twelve of sixteen pixels a channel are the fill");
        let fine = supersample(plain, 3)?.warp(&image, &theta, (4, 4), cfg)?;
        // The last column but one is the mean of fill and of what lies half way to the image.
        let expected = [3.0, 3.0, (3.0 + 3.0 + 2.0) / 3.0];
        assert!(
            columns(&fine, 0)?.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
            "{:?}",
            columns(&fine, 0)?
        );
        let outer = Filled::new(supersample(Affine, 3)?, fill.as_tensor().clone());
        assert_eq!(columns(&outer.warp(&image, &theta, (4, 4), cfg)?, 0)?, columns(&fine, 0)?);
        let boxed: Box<dyn Transform> = Box::new(outer);
        assert_eq!(columns(&boxed.warp_filled(&image, &theta, (4, 4), &fill, cfg)?, 1)?, columns(&fine, 1)?);
        Ok(())
    }
}
