//! The spatial transformer: localisation net, grid generator and sampler in one module.

use crate::ops::GridSampleConfig;
use crate::transform::Transform;
use candle_core::{ModuleT, Result, Tensor};

/// What a [`SpatialTransformer`], or one of volumes, made of its input.
#[derive(Debug, Clone)]
pub struct Transformed {
    /// The output feature map V, (N, C, H', W'), of volumes (N, C, D', H', W').
    pub output: Tensor,
    /// The parameters that the localisation net predicted, (N, P).
    pub theta: Tensor,
}

/// A spatial transformer (section 3 of the paper): predicts a transform from its input and warps the input by it.
///
/// Nothing but the loss of the task trains it: gradients reach the localisation net through the sampler and the grid.
/// Any [`ModuleT`] from (N, C, H, W) to (N, P) can be the localisation net, hence any `Module` too.
///
/// # Shapes
///
/// U (N, C, H, W) -> V (N, C, H', W'); H' and W' are free.
///
/// # Gradients
///
/// By U: through the sampler, and through the localisation net. By the net's parameters: through theta.
///
/// # Example
///
/// A new transformer is the identity:
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use stn_core::init::SeededVarMap;
/// use stn_core::localisation::conv_localisation;
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::transform::{Affine, Transform};
/// use stn_core::SpatialTransformer;
///
/// let vars = SeededVarMap::new(0);
/// let vb = vars.var_builder(DType::F32, &Device::Cpu);
/// let net = conv_localisation((1, 28, 28), &Affine.identity(), Default::default(), vb.pp("localisation"))?;
/// let st = SpatialTransformer::new(net, Affine, (28, 28), GridSampleConfig::new(true));
///
/// let u = Tensor::arange(0f32, 2. * 28. * 28., &Device::Cpu)?.affine(1e-3, 0.)?.reshape((2, 1, 28, 28))?;
/// let v = st.forward_t(&u, true)?;
/// assert!((v - u)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SpatialTransformer<L, T> {
    localisation: L,
    grid_generator: T,
    out_size: (usize, usize),
    cfg: GridSampleConfig,
}

impl<L: ModuleT, T: Transform> SpatialTransformer<L, T> {
    /// Joins a localisation net, a transform and the sampler.
    ///
    /// `out_size` is (H', W'). The `align_corners` of `cfg` holds for the grid generator and the sampler alike.
    pub fn new(localisation: L, transform: T, out_size: (usize, usize), cfg: GridSampleConfig) -> Self {
        Self { localisation, grid_generator: transform, out_size, cfg }
    }

    /// Returns the localisation net.
    pub fn localisation(&self) -> &L {
        &self.localisation
    }

    /// Returns the family of transforms.
    pub fn grid_generator(&self) -> &T {
        &self.grid_generator
    }

    /// Returns the output's (H', W').
    pub fn out_size(&self) -> (usize, usize) {
        self.out_size
    }

    /// Returns the sampler's options.
    pub fn config(&self) -> GridSampleConfig {
        self.cfg
    }

    /// Predicts the parameters and warps the input by them.
    ///
    /// # Errors
    ///
    /// When the localisation net fails, or its theta isn't (N, P).
    pub fn transform(&self, u: &Tensor, train: bool) -> Result<Transformed> {
        let theta = self.theta(u, train)?;
        let output = self.warp(u, &theta)?;
        Ok(Transformed { output, theta })
    }

    /// Predicts the parameters alone, theta = f_loc(U).
    ///
    /// # Shapes
    ///
    /// (N, C, H, W) -> (N, P).
    ///
    /// # Errors
    ///
    /// As for [`transform`](Self::transform).
    pub fn theta(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        let theta = self.localisation.forward_t(u, train)?;
        check_predicted("spatial_transformer", &theta, u.dim(0)?, self.grid_generator.num_params())?;
        Ok(theta)
    }

    /// Generates the sampling grid of given parameters: where each pixel of the output looks.
    ///
    /// # Shapes
    ///
    /// theta (N, P) -> (N, H', W', 2), last dimension (x, y).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, P).
    pub fn grid(&self, theta: &Tensor) -> Result<Tensor> {
        self.grid_generator.grid(theta, self.out_size, self.cfg.align_corners)
    }

    /// Warps the input by given parameters, without the localisation net.
    ///
    /// # Shapes
    ///
    /// U (N, C, H, W), theta (N k, P) -> (N k, C, H', W'); k consecutive windows an image.
    ///
    /// # Errors
    ///
    /// When theta isn't (N k, P).
    pub fn warp(&self, u: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.grid_generator.warp(u, theta, self.out_size, self.cfg)
    }
}

impl<L: ModuleT, T: Transform> ModuleT for SpatialTransformer<L, T> {
    fn forward_t(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        Ok(self.transform(u, train)?.output)
    }
}

/// Fails unless a localisation net gave P parameters for each of N inputs.
pub(crate) fn check_predicted(layer: &str, theta: &Tensor, n: usize, num_params: usize) -> Result<()> {
    let expected = [n, num_params];
    if theta.dims() != expected {
        candle_core::bail!("{layer}: the localisation net must give theta {expected:?}, got {:?}", theta.dims())
    }
    Ok(())
}
