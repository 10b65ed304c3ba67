//! Down-sampling without aliasing: several samples a pixel, then their mean.
//!
//! The bilinear kernel reads four pixels wherever it is put. Where a transform shrinks the picture, because the output has fewer
//! pixels than the window it shows, the pixels between the samples are never read: fine patterns turn into false coarse ones, and
//! no gradient reaches what is skipped. The paper names it as a limitation of down-sampling with a small, fixed kernel (section 3).
//!
//! [`supersample`] makes of any [`Transform`] one that samples r x r points for each pixel of its output and averages them.
//! Take r = ceil(shrinking), shrinking being how many pixels of the input lie between two of the output: side of the input *
//! scale / side of the output. Enlarging needs nothing, r = 1 is the transform itself, and the cost is r^2 samples for one.

use crate::ops::{GridSampleConfig, Pool2dConfig, avg_pool2d};
use crate::transform::Transform;
use candle_core::{DType, Result, Tensor, bail};

/// Makes a transform that samples r x r points for each pixel of its output and averages them.
///
/// # Errors
///
/// When r is zero.
///
/// # Example
///
/// Columns of 0 and 1 in turn, shrunk to half: every second column is all that a plain transform reads of them.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::antialias::supersample;
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::transform::{Affine, Transform};
///
/// let columns = Tensor::new([0f32, 1.].repeat(25), &Device::Cpu)?.narrow(0, 0, 49)?;
/// let image = columns.broadcast_as((1, 1, 49, 49))?; // 49 = 2 * 24 + 1 points: 25 of them are every second
/// let theta = Tensor::new(&[[1f32, 0., 0., 0., 1., 0.]], &Device::Cpu)?;
/// let cfg = GridSampleConfig::new(true);
/// let mean = |v: Tensor| v.mean_all()?.to_scalar::<f32>();
/// assert!(mean(Affine.warp(&image, &theta, (25, 25), cfg)?)? < 0.001); // the ones are gone
/// let smooth = supersample(Affine, 2)?.warp(&image, &theta, (25, 25), cfg)?;
/// assert!((mean(smooth)? - 0.5).abs() < 0.02);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn supersample<T: Transform>(transform: T, r: usize) -> Result<Supersampled<T>> {
    if r == 0 {
        bail!("supersample: r must be at least 1, got 0")
    }
    Ok(Supersampled { transform, r })
}

/// A transform with r x r samples for each pixel of its output; [`supersample`] makes it.
///
/// It is a [`Transform`] itself, of the same parameters, and takes the place of the plain one in a
/// [`SpatialTransformer`](crate::SpatialTransformer) or in [`ParallelTransformers`](crate::ParallelTransformers).
///
/// A pixel of the output is the mean over the square that is its own, as the transform maps it into the input. The squares
/// share the output's plane as the convention has it: with `align_corners` false they fill it from edge to edge. With `true`
/// the outermost points are the corner pixels' centres, and the squares of the pixels at the edge are cut in half there; along
/// a side of one pixel there is no square, and one sample is taken. The centres do not move, so the picture keeps its place.
///
/// A mean over a pixel is a (mild) blur: the identity doesn't give the input back unless r is 1.
///
/// # Gradients
///
/// Those of the transform's own [`warp`](Transform::warp) on the finer grid, through the mean.
///
/// # Errors
///
/// From `warp`: those of the transform, and on devices other than the CPU, where [`avg_pool2d`] has no kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supersampled<T> {
    transform: T,
    r: usize,
}

impl<T> Supersampled<T> {
    /// Returns the plain transform.
    pub fn inner(&self) -> &T {
        &self.transform
    }

    /// Returns the number of samples along each side of a pixel.
    pub fn r(&self) -> usize {
        self.r
    }

    /// The finer output's sides: with `align_corners`, every r-th of its points is one of the coarse output's.
    fn fine_size(&self, (height, width): (usize, usize), cfg: GridSampleConfig) -> (usize, usize) {
        let fine = |side: usize| if cfg.align_corners { (side - 1) * self.r + 1 } else { side * self.r };
        (fine(height), fine(width))
    }

    /// The mean over the squares of the coarse output's pixels; with `align_corners`, their parts inside.
    ///
    /// A square reaches r / 2 fine steps to each side of its centre. With odd r that is r points. With even r it is r + 1, the
    /// outer ones on the border to the next square and counted half: the mean of neighbours first, then of r of those.
    fn mean(&self, fine: &Tensor, align_corners: bool) -> Result<Tensor> {
        if matches!(fine.dtype(), DType::F16 | DType::BF16) {
            return self.mean(&fine.to_dtype(DType::F32)?, align_corners)?.to_dtype(fine.dtype());
        }
        let r = self.r;
        if !align_corners {
            return avg_pool2d(fine, Pool2dConfig::new(r));
        }
        let (_, _, height, width) = fine.dims4()?;
        let window = |side: usize, k: usize| if side == 1 { 1 } else { k };
        let squares = |xs: &Tensor| {
            let xs = if r.is_multiple_of(2) {
                let kernel = (window(height, 2), window(width, 2));
                avg_pool2d(xs, Pool2dConfig { kernel, ..Pool2dConfig::new(1) })?
            } else {
                xs.clone()
            };
            let kernel = (window(height, r), window(width, r));
            let padding = (kernel.0 / 2, kernel.1 / 2);
            avg_pool2d(&xs, Pool2dConfig { kernel, stride: kernel, padding, ceil_mode: false })
        };
        // Zeros stand for the points outside; how much of each mean they are, the mean of ones tells.
        let inside = squares(&Tensor::ones((1, 1, height, width), fine.dtype(), fine.device())?)?;
        squares(fine)?.broadcast_div(&inside)
    }
}

impl<T: Transform> Transform for Supersampled<T> {
    fn num_params(&self) -> usize {
        self.transform.num_params()
    }

    fn param_names(&self) -> Vec<String> {
        self.transform.param_names()
    }

    fn identity(&self) -> Vec<f32> {
        self.transform.identity()
    }

    /// The grid of the pixels' centres, that of the plain transform.
    fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
        self.transform.grid(theta, out_size, align_corners)
    }

    fn warp(&self, input: &Tensor, theta: &Tensor, out_size: (usize, usize), cfg: GridSampleConfig) -> Result<Tensor> {
        if self.r == 1 || out_size.0 == 0 || out_size.1 == 0 {
            return self.transform.warp(input, theta, out_size, cfg);
        }
        let fine = self.transform.warp(input, theta, self.fine_size(out_size, cfg), cfg)?;
        self.mean(&fine, cfg.align_corners)
    }

    fn warp_filled(
        &self,
        input: &Tensor,
        theta: &Tensor,
        out_size: (usize, usize),
        fill: &Tensor,
        cfg: GridSampleConfig,
    ) -> Result<Tensor> {
        if self.r == 1 || out_size.0 == 0 || out_size.1 == 0 {
            return self.transform.warp_filled(input, theta, out_size, fill, cfg);
        }
        let fine = self.transform.warp_filled(input, theta, self.fine_size(out_size, cfg), fill, cfg)?;
        self.mean(&fine, cfg.align_corners)
    }
}
