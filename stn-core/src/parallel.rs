//! Several transformers side by side on one image: one localisation net, k windows (sections 3 and 4.3 of the paper, appendix A.1).

mod nets;
mod tiling;

pub use nets::LocalisationNets;
pub use tiling::{affine_tiling, tiling};

use crate::ops::GridSampleConfig;
use crate::spatial_transformer::Transformed;
use crate::transform::Transform;
use candle_core::{ModuleT, Result, Tensor, bail};

/// Spatial transformers in parallel: one localisation net predicts the transforms of k windows of its input.
///
/// The number of windows caps the number of things that the network can look at. The input is not copied for them: the
/// sampler reads it k times, and adds the windows' gradients up in place.
///
/// # Shapes
///
/// U (N, C, H, W), the net's (N, k P) -> V (N k, C, H', W') and theta (N k, P): the k windows of an image follow one
/// another, so the result is an ordinary batch for a net that all windows share. [`split`](Self::split) gives each
/// window its own batch, for nets of their own (the birds); [`join_channels`](Self::join_channels) puts the windows of an
/// image into its channels (MNIST addition).
///
/// # Gradients
///
/// As those of [`SpatialTransformer`](crate::SpatialTransformer); the input's is the sum over the windows.
///
/// # Example
///
/// Four windows of half the image's side that tile it at the start, as the paper's birds have them; the net moves them:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::init::SeededVarMap;
/// use stn_core::localisation::conv_localisation;
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::parallel::{ParallelTransformers, tiling};
/// use stn_core::transform::Translation;
///
/// let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
/// let net = conv_localisation((3, 28, 28), &tiling(2, 2), Default::default(), vb.pp("localisation"))?; // (N, 4 * 2)
/// let windows = Translation { scale: 0.5 };
/// let parallel = ParallelTransformers::new(net, windows, 4, (14, 14), GridSampleConfig::new(false))?;
///
/// let u = Tensor::arange(0f32, 2. * 3. * 28. * 28., &Device::Cpu)?.affine(1e-4, 0.)?.reshape((2, 3, 28, 28))?;
/// let seen = parallel.transform(&u, true)?;
/// assert_eq!(seen.output.dims(), [8, 3, 14, 14]);
/// let streams = parallel.split(&seen.output)?; // 4 of (2, 3, 14, 14)
/// let right_top = u.narrow(2, 0, 14)?.narrow(3, 14, 14)?;
/// assert!((&streams[1] - right_top)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParallelTransformers<L, T> {
    localisation: L,
    grid_generator: T,
    windows: usize,
    out_size: (usize, usize),
    cfg: GridSampleConfig,
}

impl<L: ModuleT, T: Transform> ParallelTransformers<L, T> {
    /// Joins a localisation net, the family of transforms of all windows, and the sampler.
    ///
    /// `out_size` is (H', W') of a window. The net starts where its last layer's bias puts it: k times the family's
    /// `identity()`, or a [`tiling`].
    ///
    /// # Errors
    ///
    /// When there are no windows.
    pub fn new(
        localisation: L,
        transform: T,
        windows: usize,
        out_size: (usize, usize),
        cfg: GridSampleConfig,
    ) -> Result<Self> {
        if windows == 0 {
            bail!("parallel_transformers: there must be at least 1 window, got 0")
        }
        Ok(Self { localisation, grid_generator: transform, windows, out_size, cfg })
    }

    /// Returns the localisation net.
    pub fn localisation(&self) -> &L {
        &self.localisation
    }

    /// Returns the family of transforms.
    pub fn grid_generator(&self) -> &T {
        &self.grid_generator
    }

    /// Returns the number of windows, k.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Returns a window's (H', W').
    pub fn out_size(&self) -> (usize, usize) {
        self.out_size
    }

    /// Returns the sampler's options.
    pub fn config(&self) -> GridSampleConfig {
        self.cfg
    }

    /// Predicts the parameters of all windows and samples them.
    ///
    /// # Shapes
    ///
    /// U (N, C, H, W) -> output (N k, C, H', W'), theta (N k, P).
    ///
    /// # Errors
    ///
    /// When the localisation net fails, or its result isn't (N, k P).
    pub fn transform(&self, u: &Tensor, train: bool) -> Result<Transformed> {
        let theta = self.theta(u, train)?;
        let output = self.warp(u, &theta)?;
        Ok(Transformed { output, theta })
    }

    /// Predicts the parameters alone.
    ///
    /// # Shapes
    ///
    /// (N, C, H, W) -> (N k, P).
    ///
    /// # Errors
    ///
    /// As for [`transform`](Self::transform).
    pub fn theta(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        let theta = self.localisation.forward_t(u, train)?;
        let (n, params) = (u.dim(0)?, self.grid_generator.num_params());
        let expected = [n, self.windows * params];
        if theta.dims() != expected {
            bail!("parallel_transformers: the localisation net must give theta {expected:?}, got {:?}", theta.dims())
        }
        theta.reshape((n * self.windows, params))
    }

    /// Generates the sampling grids of given parameters.
    ///
    /// # Shapes
    ///
    /// theta (N k, P) -> (N k, H', W', 2), last dimension (x, y).
    ///
    /// # Errors
    ///
    /// When theta isn't (.., P).
    pub fn grid(&self, theta: &Tensor) -> Result<Tensor> {
        self.grid_generator.grid(theta, self.out_size, self.cfg.align_corners)
    }

    /// Samples the windows of given parameters, without the localisation net.
    ///
    /// # Shapes
    ///
    /// U (N, C, H, W), theta (N k, P) -> (N k, C, H', W').
    ///
    /// # Errors
    ///
    /// When theta isn't (N k, P).
    pub fn warp(&self, u: &Tensor, theta: &Tensor) -> Result<Tensor> {
        let expected = [u.dim(0)? * self.windows, self.grid_generator.num_params()];
        if theta.dims() != expected {
            bail!("parallel_transformers: theta must be {expected:?}, got {:?}", theta.dims())
        }
        self.grid_generator.warp(u, theta, self.out_size, self.cfg)
    }

    /// Splits windows, or what a shared net made of them, into one batch a window.
    ///
    /// # Shapes
    ///
    /// (N k, ..) -> k times (N, ..).
    ///
    /// # Errors
    ///
    /// When the first dimension is no multiple of k.
    pub fn split(&self, windows: &Tensor) -> Result<Vec<Tensor>> {
        let grouped = self.grouped(windows)?; // (N, k, ..)
        (0..self.windows).map(|i| grouped.narrow(1, i, 1)?.squeeze(1)).collect()
    }

    /// Concatenates the windows of each image along the channels; the descriptors of windows likewise.
    ///
    /// # Shapes
    ///
    /// (N k, C, ..) -> (N, k C, ..), window by window.
    ///
    /// # Errors
    ///
    /// When the first dimension is no multiple of k, or there are no channels.
    pub fn join_channels(&self, windows: &Tensor) -> Result<Tensor> {
        if windows.rank() < 2 {
            bail!("parallel_transformers: windows must be (N k, C, ..), got {:?}", windows.dims())
        }
        // Both in one: Candle adds the gradient of each reshaping to zeros.
        let dims = self.grouped_dims(windows)?;
        windows.reshape([&[dims[0], dims[1] * dims[2]], &dims[3..]].concat())
    }

    /// (N k, ..) -> (N, k, ..).
    fn grouped(&self, windows: &Tensor) -> Result<Tensor> {
        windows.reshape(self.grouped_dims(windows)?)
    }

    /// The dimensions (N, k, ..) of windows (N k, ..).
    fn grouped_dims(&self, windows: &Tensor) -> Result<Vec<usize>> {
        let dims = windows.dims();
        match dims {
            &[nk, ref rest @ ..] if nk.is_multiple_of(self.windows) => {
                Ok([&[nk / self.windows, self.windows], rest].concat())
            }
            _ => bail!("parallel_transformers: windows must be (N {}, ..), got {dims:?}", self.windows),
        }
    }
}

/// The windows alone, (N, C, H, W) -> (N k, C, H', W').
impl<L: ModuleT, T: Transform> ModuleT for ParallelTransformers<L, T> {
    fn forward_t(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        Ok(self.transform(u, train)?.output)
    }
}
