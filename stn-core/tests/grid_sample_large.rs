//! Images whose offsets do not fit 32 bits (case J of PyTorch's own tests: 32769 x 65536 pixels).
//!
//! `cargo test -p stn-core --test grid_sample_large -- --ignored`

use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use stn_core::ops::{GridSampleConfig, grid_sample};

const SIZE: (usize, usize) = (32769, 65536);

#[test]
#[ignore = "needs 10 GB of memory"]
fn the_far_corner_of_a_huge_image_is_sampled_like_a_small_one() -> Result<()> {
    let (h, w) = SIZE;
    let mut pixels = vec![0f32; h * w];
    for y in 0..4 {
        for x in 0..4 {
            pixels[(h - 4 + y) * w + (w - 4 + x)] = (4 * y + x + 1) as f32;
        }
    }
    let image = Var::from_tensor(&Tensor::from_vec(pixels, (1, 1, h, w), &Device::Cpu)?)?;
    // The last 4x4 pixels: the same places in the coordinates of the huge image and of the small one.
    let places = [(2.25, 1.5), (0.5, 2.75), (3.0, 3.0), (1.0, 0.0)];
    let grid = |size: (usize, usize)| {
        let to = |p: f64, n: usize| (2.0 * (n as f64 - 4.0 + p) / (n as f64 - 1.0) - 1.0) as f32;
        let points: Vec<f32> = places.iter().flat_map(|&(x, y)| [to(x, size.1), to(y, size.0)]).collect();
        Var::from_tensor(&Tensor::from_vec(points, (1, 1, places.len(), 2), &Device::Cpu)?)
    };
    let (far, near) = (grid(SIZE)?, grid((4, 4))?);
    let small = Var::from_tensor(&image.i((.., .., h - 4.., w - 4..))?.contiguous()?)?;
    let cfg = GridSampleConfig::new(true);
    let (huge_out, small_out) = (grid_sample(&image, &far, cfg)?, grid_sample(&small, &near, cfg)?);
    // A coordinate near 1 is known to 2^-25, which is a thousandth of a pixel here.
    let close = |a: &Tensor, b: &Tensor| -> Result<()> {
        let off = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 0.05, "{off}: {a} {b}");
        Ok(())
    };
    close(&huge_out, &small_out)?;
    let (huge_grads, small_grads) = (huge_out.sum_all()?.backward()?, small_out.sum_all()?.backward()?);
    let missing = || candle_core::Error::Msg("no gradient".into());
    let huge_image = huge_grads.get(&image).ok_or_else(missing)?;
    close(&huge_image.i((.., .., h - 4.., w - 4..))?, small_grads.get(&small).ok_or_else(missing)?)?;
    assert_eq!(huge_image.i((0, 0, ..4, ..4))?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?, 0.0);
    Ok(())
}
