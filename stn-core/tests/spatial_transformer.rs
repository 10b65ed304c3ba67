//! The whole module: identity at the start, gradients that arrive, variables that move, a transform that is learnt.

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, Var};
use candle_nn::ops::softmax;
use stn_core::dropout::{DropoutRng, dropout};
use stn_core::init::SeededVarMap;
use stn_core::localisation::{ConvLocalisation, conv_localisation, fc_localisation, regression};
use stn_core::ops::GridSampleConfig;
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup, Sgd, SgdConfig};
use stn_core::transform::{Affine, Attention, Translation};
use stn_core::{SpatialTransformer, Transform, Transformed, layers};

const F32: DType = DType::F32;

/// Smooth images with values near 0..1.
fn images(n: usize, channels: usize, side: usize) -> Result<Tensor> {
    let count = n * channels * side * side;
    Tensor::arange(0f32, count as f32, &Device::Cpu)?.affine(0.37, 0.1)?.sin()?.reshape((n, channels, side, side))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn size(tensor: &Tensor) -> Result<f32> {
    tensor.sqr()?.sum_all()?.sqrt()?.to_scalar()
}

/// A transformer with a linear localisation net of theta = identity + W u.
fn linear_transformer<T: Transform>(
    transform: T,
    side: usize,
    out_size: (usize, usize),
) -> Result<(SeededVarMap, SpatialTransformer<impl ModuleT, T>)> {
    let vars = SeededVarMap::new(0);
    let last = regression(side * side, &transform.identity(), vars.var_builder(F32, &Device::Cpu))?;
    let net = move |u: &Tensor| last.forward(&u.flatten_from(1)?);
    Ok((vars, SpatialTransformer::new(net, transform, out_size, GridSampleConfig::new(true))))
}

#[test]
fn new_transformer_is_the_identity() -> Result<()> {
    let u = images(3, 2, 28)?;
    for align_corners in [true, false] {
        let vb = SeededVarMap::new(1).var_builder(F32, &Device::Cpu);
        let cfg = GridSampleConfig::new(align_corners);
        let net = conv_localisation((2, 28, 28), &Affine.identity(), Default::default(), vb.pp("conv"))?;
        let conv = SpatialTransformer::new(net, Affine, (28, 28), cfg);
        let net = fc_localisation((2, 28, 28), &Attention.identity(), Default::default(), vb.pp("fc"))?;
        let family: Box<dyn Transform> = Box::new(Attention); // chosen by name at run time
        let fc = SpatialTransformer::new(net, family, (28, 28), cfg);
        for v in [conv.forward_t(&u, true)?, conv.forward_t(&u, false)?, fc.forward_t(&u, true)?] {
            let distance = (v - &u)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(distance < 2e-6, "{cfg:?}: {distance}");
        }
    }
    Ok(())
}

#[test]
fn shapes_and_parts_agree() -> Result<()> {
    let u = images(3, 1, 8)?;
    let (_, st) = linear_transformer(Affine, 8, (5, 11))?;
    let transformed = st.transform(&u, true)?;
    assert_eq!(transformed.theta.dims(), [3, 6]);
    assert_eq!(transformed.output.dims(), [3, 1, 5, 11]);
    assert_eq!(st.grid(&transformed.theta)?.dims(), [3, 5, 11, 2]);
    assert_eq!(values(&st.theta(&u, true)?)?, values(&transformed.theta)?);
    assert_eq!(values(&st.warp(&u, &transformed.theta)?)?, values(&transformed.output)?);
    assert_eq!(values(&st.forward_t(&u, true)?)?, values(&transformed.output)?);
    assert_eq!(st.out_size(), (5, 11));
    assert_eq!(st.grid_generator(), &Affine);
    assert_eq!(st.config(), GridSampleConfig::new(true));
    Ok(())
}

/// The corner of an identity's grid: the corner pixel's centre, which is -1 or half a pixel inside the edge at -1.
#[test]
fn align_corners_reaches_the_grid() -> Result<()> {
    let theta = Tensor::new(&[[1f32, 0.0, 0.0]], &Device::Cpu)?;
    for (align_corners, corner) in [(true, -1.0), (false, -0.75)] {
        let net = |_: &Tensor| Ok(theta.clone());
        let st = SpatialTransformer::new(net, Attention, (4, 4), GridSampleConfig::new(align_corners));
        assert_eq!(values(&st.grid(&theta)?)?[0], corner);
    }
    Ok(())
}

#[test]
fn theta_of_the_wrong_shape() -> Result<()> {
    let u = images(2, 1, 4)?;
    for (shape, got) in [((2, 3), "[2, 3]"), ((1, 6), "[1, 6]")] {
        let net = move |_: &Tensor| Tensor::zeros(shape, F32, &Device::Cpu);
        let st = SpatialTransformer::new(net, Affine, (4, 4), GridSampleConfig::new(true));
        let message = st.transform(&u, false).expect_err("wrong theta").to_string();
        let expected = "spatial_transformer: the localisation net must give theta [2, 6], got ";
        assert!(message.starts_with(&format!("{expected}{got}")), "{message}");
    }
    Ok(())
}

/// The `train` flag reaches the localisation net.
#[test]
fn training_mode_reaches_the_localisation_net() -> Result<()> {
    struct Net(stn_core::dropout::Dropout);
    impl ModuleT for Net {
        fn forward_t(&self, u: &Tensor, train: bool) -> Result<Tensor> {
            self.0.forward_t(&u.flatten_from(1)?.narrow(1, 0, 6)?, train)
        }
    }
    let net = Net(dropout(0.5, "net", &DropoutRng::new(0))?);
    let st = SpatialTransformer::new(net, Affine, (4, 4), GridSampleConfig::new(true));
    let u = Tensor::ones((4, 1, 4, 4), F32, &Device::Cpu)?;
    assert_eq!(values(&st.theta(&u, false)?)?, [1.0; 24]);
    assert!(values(&st.theta(&u, true)?)?.contains(&0.0));
    Ok(())
}

/// The loss of the output alone moves theta; with theta cut out of the graph it would not.
#[test]
fn localisation_is_in_the_graph() -> Result<()> {
    let u = images(2, 1, 8)?;
    let (vars, st) = linear_transformer(Translation { scale: 0.8 }, 8, (8, 8))?;
    let Transformed { output, theta } = st.transform(&u, true)?;
    let weights = images(2, 1, 8)?.affine(1.7, 0.0)?.cos()?;
    let grads = (output * &weights)?.sum_all()?.backward()?;
    for (name, var) in vars.vars() {
        assert!(size(grads.get(&var).expect("a gradient"))? > 1e-3, "{name}");
    }
    // And the input has two ways to the output: through the pixels and through theta.
    let input = Var::from_tensor(&u)?;
    vars.vars().iter().try_for_each(|(_, var)| var.set(&var.ones_like()?.affine(0.01, 0.0)?))?;
    let gradient = |output: Tensor| {
        let grads = (output * &weights)?.sum_all()?.backward()?;
        values(grads.get(&input).expect("a gradient"))
    };
    let both = gradient(st.forward_t(&input, true)?)?;
    let pixels_alone = gradient(st.warp(&input, &st.theta(&input, true)?.detach())?)?;
    assert_ne!(both, pixels_alone);
    assert_eq!(theta.dims(), [2, 2]);
    Ok(())
}

/// A spatial transformer before a linear classifier.
struct Classifier {
    st: SpatialTransformer<ConvLocalisation, Affine>,
    fc: layers::Linear,
}

impl Classifier {
    fn loss(&self, u: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let logits = self.fc.forward(&self.st.forward_t(u, true)?.flatten_from(1)?)?;
        candle_nn::loss::cross_entropy(&logits, labels)
    }
}

/// Every variable gets a finite gradient in the first step. Those before the zero-weight regression get zeros then, and
/// their share in the second step.
#[test]
fn every_variable_gets_a_gradient_and_moves() -> Result<()> {
    let device = &Device::Cpu;
    let vars = SeededVarMap::new(2);
    let vb = vars.var_builder(F32, device);
    let net = conv_localisation((1, 28, 28), &Affine.identity(), Default::default(), vb.pp("localisation"))?;
    let st = SpatialTransformer::new(net, Affine, (20, 24), GridSampleConfig::new(true));
    let model = Classifier { st, fc: layers::linear(20 * 24, 5, vb.pp("classifier"))? };
    let u = images(10, 1, 28)?;
    let labels = Tensor::arange(0u32, 10, device)?.to_vec1::<u32>()?.iter().map(|i| i % 5).collect::<Vec<_>>();
    let labels = Tensor::new(labels, device)?;

    let start = vars.tensors()?;
    let mut sgd = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], SgdConfig { lr: 0.01, ..Default::default() })?;
    let before_the_regression =
        |name: &str| name.starts_with("localisation.") && !name.starts_with("localisation.regression.");
    for step in 0..3 {
        let grads = model.loss(&u, &labels)?.backward()?;
        for (name, var) in vars.trainable_vars() {
            let gradient = size(grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")))?;
            assert!(gradient.is_finite(), "{name}");
            let expect_zero = step == 0 && before_the_regression(&name);
            assert_eq!(gradient == 0.0, expect_zero, "step {step}: {name} has a gradient of size {gradient}");
        }
        sgd.step(&grads)?;
    }
    for (name, tensor) in vars.tensors()? {
        assert_ne!(values(&tensor)?, values(&start[&name])?, "{name} did not move");
    }
    Ok(())
}

/// A bump away from the centre, and the target a bump in the centre: the transformer learns where to look.
#[test]
fn learns_a_translation() -> Result<()> {
    let side = 12;
    let bump = |cx: f64, cy: f64| {
        let pixel = move |i: usize| {
            let (x, y) = ((i % side) as f64, (i / side) as f64);
            (-((x - cx).powi(2) + (y - cy).powi(2)) / 8.0).exp() as f32
        };
        Tensor::from_vec((0..side * side).map(pixel).collect(), (1, 1, side, side), &Device::Cpu)
    };
    let u = Tensor::cat(&[bump(7.5, 4.5)?, bump(3.5, 6.5)?, bump(5.5, 7.5)?], 0)?;
    let target = bump(5.5, 5.5)?.broadcast_as(u.shape())?;
    let (vars, st) = linear_transformer(Translation { scale: 1.0 }, side, (side, side))?;
    let mut adamw = AdamW::new(
        vec![ParamGroup::new(vars.trainable_vars())],
        AdamWConfig { lr: 0.02, weight_decay: 0.0, ..Default::default() },
    )?;
    for _ in 0..150 {
        let loss = (st.forward_t(&u, true)? - &target)?.sqr()?.mean_all()?;
        adamw.step(&loss.backward()?)?;
    }
    // tx = 2 pixels / 5.5, and so on: align_corners = true.
    let expected = [2.0, -1.0, -2.0, 1.0, 0.0, 2.0].map(|pixels| pixels / 5.5);
    for (got, want) in values(&st.theta(&u, false)?)?.iter().zip(expected) {
        assert!((got - want).abs() < 0.03, "{got} but {want}");
    }
    Ok(())
}

/// The same seed gives the same bits, whatever the number of threads.
#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let run = |threads: usize| -> Result<Vec<f32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| {
            let vars = SeededVarMap::new(3);
            let vb = vars.var_builder(F32, &Device::Cpu);
            let net = fc_localisation((1, 9, 9), &Affine.identity(), Default::default(), vb)?;
            let st = SpatialTransformer::new(net, Affine, (7, 8), GridSampleConfig::new(true));
            let mut sgd = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], SgdConfig::default())?;
            let u = images(6, 1, 9)?;
            for _ in 0..3 {
                let probabilities = softmax(&st.forward_t(&u, true)?.flatten_from(1)?, 1)?;
                sgd.step(&probabilities.sqr()?.sum_all()?.backward()?)?;
            }
            values(&st.forward_t(&u, true)?)
        })
    };
    assert_eq!(run(1)?, run(4)?);
    Ok(())
}
