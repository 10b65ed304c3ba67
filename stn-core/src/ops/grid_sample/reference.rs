//! The sampler from Candle's tensor operations alone: for devices without a kernel, and what the kernel is tested against.
//!
//! Candle differentiates it. What has no derivative, or another one than Candle's operations have at their bounds, is done on detached
//! numbers: a padded coordinate is `(p - p.detach()) * m + padded`, with the multiplier m that the padding gives the gradient.

use super::{GridSampleConfig, Interpolation, Padding, check_grid, check_input};
use candle_core::{DType, Result, Tensor};

/// Samples an image at the points of a grid, by tensor operations.
///
/// The same function as [`grid_sample`](super::grid_sample), many times slower and with many times the memory; coordinates are computed
/// in the tensors' own type. It is what `grid_sample` does on devices that there is no kernel for.
///
/// # Shapes
/// `input` (B, C, H, W), `grid` (B * k, H', W', 2) -> (B * k, C, H', W').
///
/// # Gradients
/// For `input` and `grid`, by Candle's own differentiation, equal to the kernel's.
///
/// # Errors
/// Those of `grid_sample`.
#[doc(hidden)]
pub fn grid_sample_reference(input: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    check_input("grid_sample", "grid", input, check_grid("grid_sample", grid)?)?;
    sample(input, grid, None, cfg)
}

/// The sampler, with what lies outside the image, (C,).
pub(super) fn sample(input: &Tensor, grid: &Tensor, fill: Option<&Tensor>, cfg: GridSampleConfig) -> Result<Tensor> {
    let (b, c, h, w) = input.dims4()?;
    let (n, out_h, out_w, _) = grid.dims4()?;
    let (k, pixels) = (n.checked_div(b).unwrap_or(0), out_h * out_w);
    if n * c * pixels == 0 {
        return Tensor::zeros((n, c, out_h, out_w), input.dtype(), input.device());
    }
    let windows = (b, k, c, h * w);
    let image = input.reshape((b, 1, c, h * w))?.broadcast_as(windows)?.reshape((n, c, h * w))?;
    let side = |i: usize, size: usize| side(&grid.narrow(3, i, 1)?.reshape((n, 1, pixels))?, size, cfg);
    let (columns, rows) = (side(0, w)?, side(1, h)?);
    let surroundings = match fill {
        Some(fill) => fill.reshape((1, c, 1))?.broadcast_as((n, c, pixels))?.contiguous()?,
        None => Tensor::zeros((n, c, pixels), input.dtype(), input.device())?,
    };
    let mut out = Tensor::zeros((n, c, pixels), input.dtype(), input.device())?;
    for y in &rows {
        for x in &columns {
            let index = (y.index.affine(w as f64, 0.0)? + &x.index)?.broadcast_as((n, c, pixels))?.contiguous()?;
            let inside = (&y.inside * &x.inside)?.broadcast_as((n, c, pixels))?.contiguous()?;
            let value = inside.where_cond(&image.gather(&index, 2)?, &surroundings)?;
            out = (out + value.broadcast_mul(&(&y.weight * &x.weight)?)?)?;
        }
    }
    out.reshape((n, c, out_h, out_w))
}

/// One tap along one side, for all points, (N, 1, P).
struct Tap {
    index: Tensor,
    inside: Tensor,
    weight: Tensor,
}

/// The taps of the normalised coordinates `g`.
fn side(g: &Tensor, size: usize, cfg: GridSampleConfig) -> Result<Vec<Tap>> {
    let n = size as f64;
    let last = n - 1.0;
    let (scale, shift) = if cfg.align_corners { (last / 2.0, 0.0) } else { (n / 2.0, -0.5) };
    // Candle drops the gradient of a product with the number zero, but not with a tensor of zeros.
    let p = if scale == 0.0 { (g * g.zeros_like()?)? } else { (((g + 1.0)? * scale)? + shift)? };

    // Numbers without halves count as infinite; NaN as minus infinity.
    let far = if g.dtype() == DType::F64 { 2f64.powi(51) } else { 2f64.powi(22) };
    let free = p.detach();
    let known = (free.ge(-far)? * free.le(far)?)?;
    let number = free.eq(&free)?.where_cond(&free, &free.zeros_like()?.affine(1.0, -far)?)?.clamp(-far, far)?;
    let p = known.where_cond(&p, &number)?;
    let known = known.to_dtype(g.dtype())?;
    let moved = |to: &Tensor, m: &Tensor| (((&p - p.detach())? * m)? + to)?.contiguous();

    let bicubic = cfg.interpolation == Interpolation::Bicubic;
    let p = match cfg.padding {
        Padding::Zeros => p.clone(),
        Padding::Border if bicubic => moved(&number.clamp(-4.0, n + 3.0)?, &known)?,
        Padding::Reflection if bicubic => moved(&(&number * &known)?, &known)?,
        Padding::Border => moved(&number.clamp(0.0, last)?, &within(&number, last)?)?,
        Padding::Reflection if last == 0.0 && cfg.align_corners => moved(&number.zeros_like()?, &number.zeros_like()?)?,
        Padding::Reflection => {
            let (low, span) = if cfg.align_corners { (0.0, last) } else { (-0.5, n) };
            let distance = (number - low)?;
            let sign = distance.ge(0.0)?.to_dtype(g.dtype())?.affine(2.0, -1.0)?;
            let around = modulo(&distance.abs()?, 2.0 * span)?;
            let flip = around.gt(span)?.to_dtype(g.dtype())?.affine(-2.0, 1.0)?; // -1 where the image is mirrored
            let folded = ((((around - span)? * &flip)? + span)? + low)?;
            let m = (((sign * flip)? * within(&folded, last)?)? * &known)?;
            moved(&(folded.clamp(0.0, last)? * &known)?, &m)?
        }
    };

    match cfg.interpolation {
        Interpolation::Nearest => {
            let place = p.detach();
            let up = (&place + 0.5)?.floor()?;
            // Half way: up to an even number, or down to one.
            let tie = (&up - &place)?.eq(0.5)?.to_dtype(g.dtype())?;
            let index = (&up - (tie * modulo(&up, 2.0)?)?)?;
            Ok(vec![tap(&index, (((&p - &place)? * place.zeros_like()?)? + 1.0)?, size, cfg)?])
        }
        Interpolation::Bilinear => {
            let floor = p.detach().floor()?;
            let t = (&p - &floor)?;
            Ok(vec![tap(&floor, t.affine(-1.0, 1.0)?, size, cfg)?, tap(&(floor + 1.0)?, t, size, cfg)?])
        }
        Interpolation::Bicubic => {
            let floor = p.detach().floor()?;
            let t = (&p - &floor)?;
            let a = super::bicubic::A;
            let near = |u: &Tensor| (((u * (a + 2.0))? - (a + 3.0))? * u)?.mul(u)? + 1.0;
            let far = |u: &Tensor| ((((u * a)? - 5.0 * a)? * u)? + 8.0 * a)?.mul(u)? - 4.0 * a;
            let weights = [far(&(&t + 1.0)?)?, near(&t)?, near(&t.affine(-1.0, 1.0)?)?, far(&t.affine(-1.0, 2.0)?)?];
            let taps = weights.into_iter().zip([-1.0, 0.0, 1.0, 2.0]);
            taps.map(|(weight, i)| tap(&(&floor + i)?, weight, size, cfg)).collect()
        }
    }
}

/// One where the coordinate is strictly between the first and the last pixel, else zero.
fn within(p: &Tensor, last: f64) -> Result<Tensor> {
    (p.gt(0.0)? * p.lt(last)?)?.to_dtype(p.dtype())
}

/// The rest of a division, never negative.
fn modulo(a: &Tensor, period: f64) -> Result<Tensor> {
    a - ((a / period)?.floor()? * period)?
}

/// The tap at the whole numbers `i`, padded.
fn tap(i: &Tensor, weight: Tensor, size: usize, cfg: GridSampleConfig) -> Result<Tap> {
    let last = size as f64 - 1.0;
    let index = match cfg.padding {
        Padding::Reflection if cfg.interpolation == Interpolation::Bicubic && size > 1 => {
            let twice = if cfg.align_corners { 0.0 } else { 1.0 };
            let around = modulo(i, 2.0 * (last + twice))?;
            let mirrored = around.affine(-1.0, 2.0 * last + twice)?;
            around.gt(last)?.where_cond(&mirrored, &around)?
        }
        _ => i.clone(),
    };
    let inside = match cfg.padding {
        Padding::Zeros => (i.ge(0.0)? * i.le(last)?)?,
        _ => i.ones_like()?.to_dtype(DType::U8)?,
    };
    Ok(Tap { index: index.clamp(0.0, last)?.to_dtype(DType::U32)?, inside, weight })
}
