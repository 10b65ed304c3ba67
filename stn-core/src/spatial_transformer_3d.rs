//! The spatial transformer of volumes: localisation net, grid generator and sampler in one module.

use crate::Transformed;
use crate::ops::GridSampleConfig;
use crate::spatial_transformer::check_predicted;
use crate::transform::Transform3d;
use candle_core::{ModuleT, Result, Tensor};

/// A [`SpatialTransformer`](crate::SpatialTransformer) with a depth (A.3 of the paper): predicts a transform from a volume and warps the
/// volume by it.
///
/// Any [`ModuleT`] from (N, C, D, H, W) to (N, P) can be the localisation net. The CPU alone has the sampler's kernel.
///
/// # Shapes
///
/// U (N, C, D, H, W) -> V (N, C, D', H', W'); D', H' and W' are free.
///
/// # Gradients
///
/// By U: through the sampler, and through the localisation net. By the net's parameters: through theta.
///
/// # Example
///
/// A localisation net that sees the mean over the depth, and eq. (11), which flattens the warped volume to an image; at the start it is the
/// volume's own projection:
///
/// ```
/// use candle_core::{DType, Device, Module, ModuleT, Tensor};
/// use stn_core::SpatialTransformer3d;
/// use stn_core::init::SeededVarMap;
/// use stn_core::localisation::fc_localisation;
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::transform::{Affine3d, Transform3d};
///
/// let vars = SeededVarMap::new(0);
/// let vb = vars.var_builder(DType::F32, &Device::Cpu);
/// let net = fc_localisation((1, 8, 8), &Affine3d.identity(), Default::default(), vb.pp("localisation"))?;
/// let flat = candle_nn::func(move |u: &Tensor| net.forward(&u.mean(2)?));
/// let st = SpatialTransformer3d::new(flat, Affine3d, (6, 8, 8), GridSampleConfig::new(true));
///
/// let u = Tensor::arange(0f32, 2. * 6. * 64., &Device::Cpu)?.affine(1e-3, 0.)?.reshape((2, 1, 6, 8, 8))?;
/// let projection = st.forward_t(&u, true)?.sum(2)?; // (N, C, H', W')
/// assert!((projection - u.sum(2)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SpatialTransformer3d<L, T> {
    localisation: L,
    grid_generator: T,
    out_size: (usize, usize, usize),
    cfg: GridSampleConfig,
}

impl<L: ModuleT, T: Transform3d> SpatialTransformer3d<L, T> {
    /// Joins a localisation net, a transform and the sampler.
    ///
    /// `out_size` is (D', H', W'). The `align_corners` of `cfg` holds for the grid generator and the sampler alike.
    pub fn new(localisation: L, transform: T, out_size: (usize, usize, usize), cfg: GridSampleConfig) -> Self {
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

    /// Returns the output's (D', H', W').
    pub fn out_size(&self) -> (usize, usize, usize) {
        self.out_size
    }

    /// Returns the sampler's options.
    pub fn config(&self) -> GridSampleConfig {
        self.cfg
    }

    /// Predicts the parameters and warps the volumes by them.
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
    /// (N, C, D, H, W) -> (N, P).
    ///
    /// # Errors
    ///
    /// As for [`transform`](Self::transform).
    pub fn theta(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        let theta = self.localisation.forward_t(u, train)?;
        check_predicted("spatial_transformer_3d", &theta, u.dim(0)?, self.grid_generator.num_params())?;
        Ok(theta)
    }

    /// Generates the sampling grid of given parameters: where each voxel of the output looks.
    ///
    /// # Shapes
    ///
    /// theta (N, P) -> (N, D', H', W', 3), last dimension (x, y, z).
    ///
    /// # Errors
    ///
    /// When theta isn't (N, P).
    pub fn grid(&self, theta: &Tensor) -> Result<Tensor> {
        self.grid_generator.grid(theta, self.out_size, self.cfg.align_corners)
    }

    /// Warps the volumes by given parameters, without the localisation net.
    ///
    /// # Shapes
    ///
    /// U (N, C, D, H, W), theta (N k, P) -> (N k, C, D', H', W'); k consecutive windows a volume.
    ///
    /// # Errors
    ///
    /// When theta isn't (N k, P).
    pub fn warp(&self, u: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.grid_generator.warp(u, theta, self.out_size, self.cfg)
    }
}

impl<L: ModuleT, T: Transform3d> ModuleT for SpatialTransformer3d<L, T> {
    fn forward_t(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        Ok(self.transform(u, train)?.output)
    }
}
