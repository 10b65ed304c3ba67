use candle_core::{ModuleT, Result, Tensor};

/// Localisation nets side by side: each sees the whole input, and their parameters are concatenated.
///
/// With it, the windows of [`ParallelTransformers`](super::ParallelTransformers) have a localisation net each, as in MNIST addition.
///
/// # Shapes
///
/// (N, C, H, W) -> (N, P1 + P2 + ..).
///
/// # Example
///
/// Two transformers that read both digits' channels and warp both; the classifier sees 2 + 2 channels:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::init::SeededVarMap;
/// use stn_core::localisation::fc_localisation;
/// use stn_core::ops::GridSampleConfig;
/// use stn_core::parallel::{LocalisationNets, ParallelTransformers};
/// use stn_core::transform::{Affine, Transform};
///
/// let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
/// let net = |name: &str| fc_localisation((2, 42, 42), &Affine.identity(), Default::default(), vb.pp(name));
/// let nets = LocalisationNets(vec![net("localisation1")?, net("localisation2")?]);
/// let transformers = ParallelTransformers::new(nets, Affine, 2, (42, 42), GridSampleConfig::new(true))?;
///
/// let digits = Tensor::zeros((8, 2, 42, 42), DType::F32, &Device::Cpu)?;
/// let seen = transformers.join_channels(&transformers.transform(&digits, true)?.output)?;
/// assert_eq!(seen.dims(), [8, 4, 42, 42]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LocalisationNets<L>(
    /// The nets, in the order of the windows.
    pub Vec<L>,
);

impl<L: ModuleT> ModuleT for LocalisationNets<L> {
    fn forward_t(&self, u: &Tensor, train: bool) -> Result<Tensor> {
        let thetas = self.0.iter().map(|net| net.forward_t(u, train)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&thetas, 1)
    }
}
