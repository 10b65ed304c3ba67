//! Two-dimensional convolution, alone or with what usually follows it, with right gradients for every size.

mod backward;
mod by_product;
mod channels_last;
mod config;
mod depthwise;
mod depthwise_kernels;
mod epilogue;
mod forward;
mod geometry;
mod op;
mod patches;
mod runs;
mod scattered;
mod spectral;
mod tiles;

use super::activation::{Activation, activate};
use super::pool2d::{Pool2dConfig, max_pool2d};
use super::real::unsupported;
use by_product::ByProduct;
use candle_core::{CustomOp3, DType, Device, Result, Tensor, bail};
pub use config::{Conv2dConfig, ConvBlockConfig, Sides};
use depthwise::Depthwise;
use geometry::Geometry;
use op::ConvBlock;
use std::sync::Arc;

/// The most pixels of a window after a convolution: their numbers, and one that stands for none, are kept in a byte.
const MOST_CELLS: usize = epilogue::DEAD as usize;

/// The most images that [`conv_block`] does not pool on the way: interleaved, they would leave most lanes empty.
const FEW: usize = 4;

/// Convolves images with a bank of kernels (cross-correlation, as every deep-learning library has it).
///
/// The equivalent of PyTorch's `torch.nn.functional.conv2d`. Candle's own gives wrong or no gradients where a stride does not divide the
/// sides, and always computes the gradient of the image.
///
/// # Shapes
/// - `input`: (N, C, H, W)
/// - `weight`: (O, C / groups, kh, kw)
/// - `bias`: (O,)
/// - result: (N, O, H', W'), H' = (H + top + bottom - dilation (kh - 1) - 1) / stride + 1, rounded down; W' alike.
///
/// # Gradients
/// For `input`, `weight` and `bias`; those of input and weight are computed only where they are asked for. Sums over the batch have a fixed
/// order: the same bits for any number of threads.
///
/// # Speed
/// Large batches of small images are sums over sixteen images side by side (eight in `f64`), and so are batches of two and more where there are one or two
/// filters; small batches with more filters, and images that the cache does not hold that way, are products of matrices; depthwise kernels have their own.
/// Which it is, the sizes decide.
///
/// # Accuracy
/// In `f32`, kernels on many channels, large ones above all, go by way of the frequency domain where that is faster. An error there is in proportion to
/// the largest value of two images, not of the pixel at hand: about 1e-6 of it. Images with a NaN or an infinity, and `f64`, never go that way.
///
/// # Memory
/// What the forward pass makes of images and weights in the frequency domain is kept for the backward pass: of the weights up to 256 MiB a layer, and larger
/// ones do not go that way; of the images up to 128 MiB, and of more it is made again. At a time 32 images and their maps are in
/// memory that way, or more small ones; where they would take over 256 MiB and over four times what the images and maps of the call take themselves, they do not
/// go that way.
///
/// Images side by side are copied, a batch of fewer than sixteen at the size of sixteen.
///
/// # Errors
/// On wrong ranks, channels that differ, a kernel larger than the padded image, a stride, dilation or group count of zero, groups that do not
/// divide channels and filters, types other than `f32` and `f64` or that differ, and on devices other than the CPU.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::{Conv2dConfig, conv2d};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::ones((1, 1, 8, 7), DType::F32, &Device::Cpu)?;
/// let kernel = Tensor::ones((4, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let map = conv2d(&image, &kernel, None, Conv2dConfig::default().stride(2))?;
/// assert_eq!(map.dims(), [1, 4, 3, 3]);
/// # Ok(())
/// # }
/// ```
pub fn conv2d(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: Conv2dConfig) -> Result<Tensor> {
    conv2d_activated(input, weight, bias, cfg, Activation::None)
}

/// [`conv2d`] and an activation in one pass; ReLU6 behind sums over interleaved images is a second one over the map.
///
/// # Shapes
/// As [`conv2d`].
///
/// # Gradients
/// As [`conv2d`], those of the activation before them.
///
/// # Errors
/// As [`conv2d`].
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::{Activation, Conv2dConfig, conv2d_activated};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::ones((1, 8, 6, 6), DType::F32, &Device::Cpu)?;
/// let kernel = Tensor::ones((8, 1, 3, 3), DType::F32, &Device::Cpu)?; // depthwise
/// let map = conv2d_activated(&image, &kernel, None, Conv2dConfig::default().groups(8), Activation::Relu6)?;
/// assert_eq!((map.dims(), map.max_all()?.to_scalar::<f32>()?), (&[1, 8, 4, 4][..], 6.0));
/// # Ok(())
/// # }
/// ```
pub fn conv2d_activated(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
    activation: Activation,
) -> Result<Tensor> {
    apply("conv2d", input, weight, bias, cfg, After::Activation(activation))
}

/// What follows the convolution and its bias.
enum After {
    Activation(Activation),
    /// ReLU and, where there is one, max-pooling.
    Pool(Option<Pool2dConfig>),
}

/// Convolution, bias, ReLU and, where there is one, max-pooling in one pass: the map before the pooling is never in memory, but for batches of four
/// images and fewer and for depthwise kernels; in the frequency domain the spectra of some images' maps are.
///
/// The value and the gradients of [`conv2d`], ReLU and [`max_pool2d`](super::max_pool2d) one after the other (the order of ReLU and pooling
/// makes no difference to either).
///
/// # Shapes
/// As [`conv2d`], the result's sides those after the pooling.
///
/// # Gradients
/// As [`conv2d`]. A value of zero or less before the ReLU has gradient zero; of equal values in a window the first gets the gradient. NaN
/// passes the ReLU.
///
/// # Errors
/// Those of [`conv2d`] and of [`max_pool2d`](super::max_pool2d), and on windows of more than 255 pixels.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use stn_core::ops::{ConvBlockConfig, Pool2dConfig, conv_block};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::ones((2, 1, 28, 28), DType::F32, &Device::Cpu)?;
/// let kernel = Tensor::ones((32, 1, 9, 9), DType::F32, &Device::Cpu)?;
/// let cfg = ConvBlockConfig::default().pool(Pool2dConfig::new(2));
/// assert_eq!(conv_block(&image, &kernel, None, cfg)?.dims(), [2, 32, 10, 10]);
/// # Ok(())
/// # }
/// ```
pub fn conv_block(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: ConvBlockConfig) -> Result<Tensor> {
    apply("conv_block", input, weight, bias, cfg.conv, After::Pool(cfg.pool))
}

fn apply(
    op: &str,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
    after: After,
) -> Result<Tensor> {
    let none; // a bias of zeros, which no gradient is asked for
    let bias = match bias {
        Some(bias) => bias,
        None => {
            none = Tensor::zeros(weight.dims().first().copied().unwrap_or(0), weight.dtype(), weight.device())?;
            &none
        }
    };
    check(op, input, weight, bias, cfg, &after)?;
    let (input, weight, bias) = (input.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let geometry = Geometry::new(input.shape(), weight.shape(), cfg)?;
    match after {
        After::Activation(activation) => {
            let (conv, rest) = activated(&geometry, input.dtype(), activation);
            activate(&input.apply_op3_arc(&weight, &bias, Arc::new(conv))?, rest)
        }
        After::Pool(pool) if choose(&geometry, input.dtype()) == Way::Depthwise => {
            let maps = input.apply_op3(&weight, &bias, Depthwise { cfg, activation: Activation::Relu })?;
            pool.map_or(Ok(maps.clone()), |pool| max_pool2d(&maps, pool))
        }
        // Of few images the map before the pooling may well be in memory.
        After::Pool(pool)
            if choose(&geometry, input.dtype()) == Way::Product && (pool.is_none() || geometry.images <= FEW) =>
        {
            let maps = input.apply_op3(&weight, &bias, ByProduct { cfg, activation: Activation::Relu })?;
            pool.map_or(Ok(maps.clone()), |pool| max_pool2d(&maps, pool))
        }
        After::Pool(pool) => input.apply_op3(&weight, &bias, ConvBlock::new(cfg, true, pool)),
    }
}

/// A convolution with its bias and activation, and what of the activation is left to do after it.
type Activated = (Box<dyn CustomOp3 + Send + Sync>, Activation);

fn activated(geometry: &Geometry, dtype: DType, activation: Activation) -> Activated {
    let cfg = geometry.cfg;
    match (choose(geometry, dtype), activation) {
        (Way::Depthwise, _) => (Box::new(Depthwise { cfg, activation }), Activation::None),
        (Way::Product, _) => (Box::new(ByProduct { cfg, activation }), Activation::None),
        (Way::Sums, Activation::Relu6) => (Box::new(ConvBlock::new(cfg, false, None)), activation),
        (Way::Sums, _) => (Box::new(ConvBlock::new(cfg, activation == Activation::Relu, None)), Activation::None),
    }
}

/// The convolution, its bias and activation as an operation that another has inside.
pub(super) fn operation(
    op: &str,
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    cfg: Conv2dConfig,
    activation: Activation,
) -> Result<Activated> {
    check(op, input, weight, bias, cfg, &After::Activation(activation))?;
    let geometry = Geometry::new(input.shape(), weight.shape(), cfg)?;
    Ok(activated(&geometry, input.dtype(), activation))
}

/// How to convolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each channel with its own kernel.
    Depthwise,
    /// As products of matrices.
    Product,
    /// As sums over interleaved images, or in the frequency domain.
    Sums,
}

/// The fastest way.
fn choose(geometry: &Geometry, dtype: DType) -> Way {
    let product_pays = || match dtype {
        DType::F64 => by_product::pays::<f64>(geometry),
        _ => by_product::pays::<f32>(geometry) && !spectral::forward_pays::<f32>(geometry),
    };
    if depthwise::fits(geometry.cfg, geometry.channels, geometry.filters) {
        Way::Depthwise
    } else if by_product::is_plain(geometry) || product_pays() {
        Way::Product
    } else {
        Way::Sums
    }
}

/// Refuses what cannot be convolved.
fn check(op: &str, input: &Tensor, weight: &Tensor, bias: &Tensor, cfg: Conv2dConfig, after: &After) -> Result<()> {
    let (&[_, c, h, w], &[o, weight_c, kh, kw]) = (input.dims(), weight.dims()) else {
        bail!(
            "{op}: input must be (N, C, H, W) and weight (O, C / groups, kh, kw), got {:?} and {:?}",
            input.shape(),
            weight.shape()
        )
    };
    let sides = [cfg.stride.0, cfg.stride.1, cfg.dilation.0, cfg.dilation.1, cfg.groups, kh, kw];
    if sides.contains(&0) {
        bail!(
            "{op}: stride, dilation, groups and kernel sides must be at least 1, got {cfg:?} and weight {:?}",
            weight.shape()
        )
    }
    if c != weight_c.saturating_mul(cfg.groups) {
        bail!(
            "{op}: input has {c} channels, but weight {:?} in {} group(s) is for {}",
            weight.shape(),
            cfg.groups,
            weight_c.saturating_mul(cfg.groups)
        )
    }
    if !o.is_multiple_of(cfg.groups) {
        bail!("{op}: the number of filters must be a multiple of the groups, got {o} filters in {} groups", cfg.groups)
    }
    let Some(out) = cfg.out_size((h, w), (kh, kw)) else {
        bail!("{op}: a {kh}x{kw} kernel does not fit an image of {h}x{w} with {cfg:?}")
    };
    if let After::Pool(Some(pool)) = after {
        pool.check(op, out)?;
        if pool.kernel.0.saturating_mul(pool.kernel.1) > MOST_CELLS {
            bail!(
                "{op}: a window may have {} pixels at most, got {:?}; call conv2d, relu and max_pool2d instead",
                MOST_CELLS,
                pool.kernel
            )
        }
    }
    if bias.dims() != [o] {
        bail!("{op}: bias must be ({o},), got {:?}", bias.shape())
    }
    if input.dtype() != weight.dtype() || input.dtype() != bias.dtype() {
        let dtypes: [DType; 3] = [input.dtype(), weight.dtype(), bias.dtype()];
        bail!("{op}: input, weight and bias must have the same dtype, got {dtypes:?}")
    }
    if !matches!(input.dtype(), DType::F32 | DType::F64) {
        return unsupported(op, input.dtype());
    }
    if ![input, weight, bias].iter().all(|t| matches!(t.device(), Device::Cpu)) {
        bail!("{op}: there is a kernel for the CPU only; move the tensors with to_device(&Device::Cpu)")
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests of values and gradients choose sizes by this: whoever changes a rate sees here which of them go another way now.
    #[test]
    fn the_sizes_decide_the_way() -> Result<()> {
        let way = |input: (usize, usize, usize, usize), weight: (usize, usize, usize, usize), cfg, dtype| {
            Ok::<_, candle_core::Error>(choose(&Geometry::new(&input.into(), &weight.into(), cfg)?, dtype))
        };
        let (plain, padded) = (Conv2dConfig::new(), Conv2dConfig::new().padding(1));
        for dtype in [DType::F32, DType::F64] {
            assert_eq!(way((256, 1, 28, 28), (64, 1, 9, 9), plain, dtype)?, Way::Sums, "a full batch of small images");
            assert_eq!(way((16, 80, 52, 52), (192, 80, 3, 3), plain, dtype)?, Way::Product, "images beyond the cache");
            assert_eq!(way((1, 64, 10, 10), (64, 64, 7, 7), plain, dtype)?, Way::Product, "one image");
            assert_eq!(way((1, 64, 512, 512), (1, 64, 3, 3), padded, dtype)?, Way::Product, "a large one, one filter");
            assert_eq!(
                way((1, 3, 500, 500), (64, 3, 11, 11), plain, dtype)?,
                Way::Product,
                "a large one, large kernels"
            );
            assert_eq!(way((3, 3, 8, 7), (2, 3, 3, 3), padded, dtype)?, Way::Sums, "few filters");
            assert_eq!(way((3, 3, 8, 7), (20, 3, 3, 3), padded, dtype)?, Way::Product, "more filters");
            assert_eq!(way((256, 8, 8, 8), (8, 8, 1, 1), plain, dtype)?, Way::Product, "1x1");
            assert_eq!(way((3, 8, 8, 8), (8, 1, 3, 3), padded.groups(8), dtype)?, Way::Depthwise, "a kernel a channel");
        }
        Ok(())
    }
}
