//! The step in place: its values, what it may touch, and what it must not.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup, Sgd, SgdConfig};

const PLAIN: SgdConfig = SgdConfig { lr: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.05 };
const MOMENTUM: SgdConfig = SgdConfig { momentum: 0.9, ..PLAIN };
const NESTEROV: SgdConfig = SgdConfig { nesterov: true, ..MOMENTUM };
const ADAMW: AdamWConfig = AdamWConfig { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-4, weight_decay: 0.05 };

/// Every kind of step, for one variable `w`.
fn optimisers(w: &Var) -> Result<Vec<(&'static str, Box<dyn Optimiser>)>> {
    let group = || vec![ParamGroup::new(vec![("w".into(), w.clone())])];
    Ok(vec![
        ("plain", Box::new(Sgd::new(group(), PLAIN)?) as Box<dyn Optimiser>),
        ("momentum", Box::new(Sgd::new(group(), MOMENTUM)?)),
        ("nesterov", Box::new(Sgd::new(group(), NESTEROV)?)),
        ("adamw", Box::new(AdamW::new(group(), ADAMW)?)),
    ])
}

/// What PyTorch documents, element by element in f64; `state` begins as zeros and `t` as 1.
fn reference(kind: &str, w: &mut f64, state: &mut [f64; 2], g: f64, t: i32) {
    if kind == "adamw" {
        let AdamWConfig { lr, beta1, beta2, eps, weight_decay } = ADAMW;
        *w -= lr * weight_decay * *w;
        state[0] = beta1 * state[0] + (1.0 - beta1) * g;
        state[1] = beta2 * state[1] + (1.0 - beta2) * g * g;
        let (first, second) = (state[0] / (1.0 - beta1.powi(t)), state[1] / (1.0 - beta2.powi(t)));
        *w -= lr * first / (second.sqrt() + eps);
        return;
    }
    let g = g + PLAIN.weight_decay * *w;
    state[0] = MOMENTUM.momentum * state[0] + g;
    *w -= PLAIN.lr
        * match kind {
            "plain" => g,
            "momentum" => state[0],
            _ => g + NESTEROV.momentum * state[0],
        };
}

/// Numbers between -1 and 1 without a pattern.
fn numbers(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|i| libm::sin((i * 7919 + seed * 104_729) as f64)).collect()
}

fn variable(values: &[f64], shape: &[usize], dtype: DType) -> Result<Var> {
    Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

fn gradient(w: &Var, gradient: Tensor) -> Result<GradStore> {
    let mut grads = w.sum_all()?.backward()?;
    grads.insert(w, gradient);
    Ok(grads)
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// In both kernels' types and in one that tensor operations serve; for one element, and for more than a thread's share.
#[test]
fn steps_match_a_loop_over_the_elements() -> Result<()> {
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5), (DType::BF16, 0.05)] {
        for shape in [vec![1], vec![0], vec![3, 5, 7], vec![301, 257]] {
            let count = shape.iter().product();
            if count == 0 && dtype == DType::BF16 {
                continue; // Candle's `Var::set` refuses an empty tensor's result, which is the tensor itself
            }
            let start = numbers(count, 0);
            for kind in 0..4 {
                let w = variable(&start, &shape, dtype)?;
                let (name, mut optimiser) = optimisers(&w)?.swap_remove(kind);
                let mut expected: Vec<_> = start.iter().map(|&w| (w, [0.0; 2])).collect();
                for t in 1..=4 {
                    let grad = numbers(count, t);
                    for ((w, state), &g) in expected.iter_mut().zip(&grad) {
                        reference(name, w, state, g, t as i32);
                    }
                    let grad = Tensor::from_vec(grad, shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)?;
                    optimiser.step(&gradient(&w, grad)?)?;
                }
                for (i, (got, (want, _))) in values(&w)?.iter().zip(&expected).enumerate() {
                    assert!((got - want).abs() < tolerance, "{name} {dtype:?} {shape:?}, {i}: {got} but {want}");
                }
            }
        }
    }
    Ok(())
}

/// Whoever holds the variable's tensor, or a view of it, sees the step; saved state and loaded state do not move.
#[test]
fn variables_change_in_place_and_saved_state_does_not() -> Result<()> {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        for kind in 0..4 {
            let w = variable(&numbers(6, 0), &[2, 3], dtype)?;
            let (id, alias, view) = (w.id(), w.as_detached_tensor(), w.as_tensor().t()?);
            let (name, mut optimiser) = optimisers(&w)?.swap_remove(kind);
            let grads = gradient(&w, variable(&numbers(6, 1), &[2, 3], dtype)?.as_detached_tensor())?;
            let step = |optimiser: &mut dyn Optimiser| {
                let before = values(&w)?;
                optimiser.step(&grads)?;
                assert_ne!(values(&w)?, before);
                Result::Ok(())
            };
            step(optimiser.as_mut())?;
            assert_eq!(w.id(), id);
            assert_eq!(values(&alias)?, values(&w)?, "{name}");
            assert_eq!(values(&view.t()?)?, values(&w)?, "{name}");

            let saved = optimiser.state()?;
            let saved_values = || saved.values().map(values).collect::<Result<Vec<_>>>();
            let before = saved_values()?;
            step(optimiser.as_mut())?;
            assert_eq!(saved_values()?, before, "{name}: a step moved saved state");
            optimiser.load_state(&saved)?;
            step(optimiser.as_mut())?;
            assert_eq!(saved_values()?, before, "{name}: a step moved state that was loaded from");
        }
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let count = 100_003;
    for dtype in [DType::F64, DType::F32] {
        for kind in 0..4 {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.map_err(candle_core::Error::wrap)?.install(|| {
                    let w = variable(&numbers(count, 0), &[count], dtype)?;
                    let mut optimiser = optimisers(&w)?.swap_remove(kind).1;
                    for t in 1..4 {
                        let grad = Tensor::from_vec(numbers(count, t), count, &Device::Cpu)?.to_dtype(dtype)?;
                        optimiser.step(&gradient(&w, grad)?)?;
                    }
                    values(&w)
                })
            };
            assert!(run(1)? == run(3)?);
        }
    }
    Ok(())
}

/// Transposed, broadcast, and the variable's own tensor, which a layer's backward pass may give: reading it while the
/// variable is being written must neither wait for ever nor see new values.
#[test]
fn gradients_of_any_layout_or_storage() -> Result<()> {
    let shape = [40, 30];
    let start = numbers(1200, 0);
    for kind in 0..4 {
        let stepped = |grad: &dyn Fn(&Var) -> Result<Tensor>| {
            let w = variable(&start, &shape, DType::F32)?;
            let (name, mut optimiser) = optimisers(&w)?.swap_remove(kind);
            optimiser.step(&gradient(&w, grad(&w)?)?)?;
            optimiser.step(&gradient(&w, grad(&w)?)?)?;
            Result::Ok((name, values(&w)?))
        };
        let numbers = Tensor::from_vec(numbers(1200, 1), (30, 40), &Device::Cpu)?.to_dtype(DType::F32)?;
        let row = numbers.narrow(0, 3, 1)?.narrow(1, 2, 30)?;
        assert_eq!(stepped(&|_| numbers.t())?, stepped(&|_| numbers.t()?.force_contiguous())?);
        assert_eq!(
            stepped(&|_| row.broadcast_as(&shape))?,
            stepped(&|_| row.broadcast_as(&shape)?.force_contiguous())?
        );
        let (own, copied) = (stepped(&|w| Ok(w.as_detached_tensor()))?, stepped(&|w| w.force_contiguous())?);
        assert!(own.1.iter().zip(&copied.1).all(|(a, b)| (a - b).abs() < 1e-6), "{}", own.0);
    }
    Ok(())
}

/// Units die, and their weights' gradients are zeros from then on. A running mean that shrinks by a tenth a step would
/// stay at a subnormal number, of which nine tenths round to itself, and every further step would be slow.
#[test]
fn running_means_of_dead_units_end_at_zero() -> Result<()> {
    let w = variable(&numbers(64, 0), &[64], DType::F32)?;
    let group = || vec![ParamGroup::new(vec![("w".into(), w.clone())])];
    let sgd = SgdConfig { weight_decay: 0.0, ..MOMENTUM };
    let optimisers: [Box<dyn Optimiser>; 2] =
        [Box::new(AdamW::new(group(), ADAMW)?), Box::new(Sgd::new(group(), sgd)?)];
    for mut optimiser in optimisers {
        optimiser.step(&gradient(&w, Tensor::ones(64, DType::F32, &Device::Cpu)?)?)?;
        let dead = gradient(&w, Tensor::zeros(64, DType::F32, &Device::Cpu)?)?;
        for _ in 0..1000 {
            optimiser.step(&dead)?;
        }
        let state = optimiser.state()?;
        let mean = state.get("w.first_moment").or(state.get("w.velocity")).expect("one of the two");
        assert_eq!(values(mean)?, vec![0.0; 64]);
    }
    // The square of a small gradient, times 1 - beta2: 1e-38.
    let mut adamw = AdamW::new(group(), ADAMW)?;
    adamw.step(&gradient(&w, Tensor::full(1e-18f32, 64, &Device::Cpu)?)?)?;
    assert_eq!(values(&adamw.state()?["w.second_moment"])?, vec![0.0; 64]);
    // What is no number, though, must not be swept under the carpet.
    adamw.step(&gradient(&w, Tensor::full(f32::NAN, 64, &Device::Cpu)?)?)?;
    assert!(values(&w)?.iter().all(|w| w.is_nan()));
    Ok(())
}
