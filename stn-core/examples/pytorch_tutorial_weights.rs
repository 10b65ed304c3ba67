//! Expect one line: theta and output are PyTorch's within 1e-5. Takes a second.
//!
//! The idea: weights that PyTorch has trained. The net is that of PyTorch's tutorial on spatial transformers, saved as safetensors under
//! the tutorial's names; `data/pytorch_tutorial.py` made the file, with random weights, four inputs and what PyTorch makes of them.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear};
use stn_core::layers::{Conv2d, conv2d};
use stn_core::ops::{GridSampleConfig, Pool2dConfig, max_pool2d};
use stn_core::{SpatialTransformer, Transformed, transform::Affine};

/// The tutorial's localisation net for images of 28 x 28: its numbers are the places in PyTorch's `nn.Sequential`s.
struct Localisation {
    conv0: Conv2d,
    conv3: Conv2d,
    fc0: Linear,
    fc2: Linear,
}

impl Localisation {
    fn load(vb: VarBuilder) -> Result<Self> {
        let (localization, fc_loc) = (vb.pp("localization"), vb.pp("fc_loc"));
        Ok(Self {
            conv0: conv2d(1, 8, 7, Default::default(), localization.pp(0))?,
            conv3: conv2d(8, 10, 5, Default::default(), localization.pp(3))?,
            fc0: linear(90, 32, fc_loc.pp(0))?,
            fc2: linear(32, 6, fc_loc.pp(2))?,
        })
    }
}

impl Module for Localisation {
    fn forward(&self, u: &Tensor) -> Result<Tensor> {
        let xs = max_pool2d(&self.conv0.forward(u)?, Pool2dConfig::new(2))?.relu()?; // (N, 8, 11, 11)
        let xs = max_pool2d(&self.conv3.forward(&xs)?, Pool2dConfig::new(2))?.relu()?; // (N, 10, 3, 3)
        self.fc2.forward(&self.fc0.forward(&xs.flatten_from(1)?)?.relu()?) // (N, 6), row-major, as PyTorch's view(-1, 2, 3)
    }
}

fn main() -> Result<()> {
    let device = &Device::Cpu;
    let file = include_bytes!("data/pytorch_tutorial.safetensors");
    let tensors = candle_core::safetensors::load_buffer(file, device)?;
    let vb = VarBuilder::from_tensors(tensors.clone(), DType::F32, device);

    // The tutorial calls affine_grid and grid_sample with their default: align_corners = False.
    let transformer = SpatialTransformer::new(Localisation::load(vb)?, Affine, (28, 28), GridSampleConfig::new(false));
    let Transformed { output, theta } = transformer.transform(&tensors["input"], false)?;

    let distance = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f32>();
    let of_theta = distance(&theta, &tensors["theta"].flatten_from(1)?)?;
    let of_output = distance(&output, &tensors["output"])?;
    println!("largest difference to PyTorch: theta {of_theta:e}, output {of_output:e}");
    if of_theta.max(of_output) < 1e-5 { Ok(()) } else { candle_core::bail!("not PyTorch's") }
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    main()
}
