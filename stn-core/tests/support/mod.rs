//! What the tests of the ops share: seeded tensors, comparison, finite differences, known values, thread counts.
#![allow(dead_code)] // each test file uses its part

pub mod sampler;

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Numbers between -1 and 1, in f64.
pub fn random(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let shape = shape.into();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.elem_count()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec::<_, f64>(values, shape, &Device::Cpu)
}

pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// The largest difference of two tensors of one shape; infinite where a number is compared with a NaN.
pub fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    let differences = values(a)?.into_iter().zip(values(b)?).map(|(a, b)| (a - b).abs());
    Ok(differences.fold(0.0, larger))
}

/// The larger of two numbers; infinite where one is a NaN, which `f64::max` passes over.
pub fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// A loss in which every element has a weight of its own.
pub fn weighted_sum(tensor: &Tensor) -> Result<Tensor> {
    let weights = Tensor::arange(0.0, tensor.elem_count() as f64, &Device::Cpu)?.cos()?.to_dtype(tensor.dtype())?;
    (tensor * weights.reshape(tensor.shape())?)?.sum_all()
}

/// The value of `f` and the gradients of a weighted sum of it for each of the inputs.
pub fn run(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<(Tensor, Vec<Tensor>)> {
    let vars = inputs.iter().map(|t| Var::from_tensor(t)).collect::<Result<Vec<_>>>()?;
    let out = f(&vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>())?;
    let grads = weighted_sum(&out)?.backward()?;
    let gradients = vars.iter().map(|v| grads.get(v).expect("every input has a gradient").clone()).collect();
    Ok((out.detach(), gradients))
}

/// How far the gradients of a weighted sum of `f` are from central differences, in f64: the largest difference, relative to the
/// derivative where that is above one.
pub fn gradient_error(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<f64> {
    let step = 1e-6;
    let (_, gradients) = run(inputs, &f)?;
    let mut moved = inputs.iter().map(|t| t.copy()).collect::<Result<Vec<_>>>()?;
    let mut worst = 0f64;
    for (at, (&input, gradient)) in inputs.iter().zip(&gradients).enumerate() {
        let point = values(input)?;
        for (i, analytic) in values(gradient)?.into_iter().enumerate() {
            let mut loss = |by: f64| -> Result<f64> {
                let mut point = point.clone();
                point[i] += by;
                moved[at] = Tensor::from_vec(point, input.shape(), &Device::Cpu)?;
                weighted_sum(&f(&moved)?)?.to_scalar()
            };
            let numeric = (loss(step)? - loss(-step)?) / (2.0 * step);
            worst = larger(worst, (analytic - numeric).abs() / numeric.abs().max(1.0));
        }
        moved[at] = input.clone();
    }
    Ok(worst)
}

/// The same with a check in place of the number.
pub fn check_gradients(what: &str, inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let error = gradient_error(inputs, f)?;
    assert!(error < 1e-6, "{what}: gradients are off by {error}");
    Ok(())
}

/// Runs `f` in a pool of so many threads.
pub fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool").install(f)
}

/// The bits of several tensors, for comparisons that allow no difference at all.
pub fn bits<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Vec<u64>> {
    Ok(tensors.into_iter().map(values).collect::<Result<Vec<_>>>()?.concat().into_iter().map(f64::to_bits).collect())
}

/// The first line of an error's message.
pub fn message(result: Result<Tensor>) -> String {
    result.expect_err("an error").to_string().lines().next().unwrap_or_default().to_string()
}

/// The known values of an op, which `data/pytorch_goldens.py` prints.
pub fn goldens(op: &str) -> Vec<Value> {
    let goldens: Value = serde_json::from_str(include_str!("../data/pytorch_goldens.json")).expect("valid JSON");
    goldens[op].as_array().expect("a list of cases").clone()
}

/// An array of numbers.
pub fn numbers(json: &Value) -> Vec<f64> {
    match json {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

pub fn number(json: &Value) -> usize {
    json.as_u64().expect("a whole number") as usize
}

/// A tensor from its shape and values.
pub fn tensor(json: &Value) -> Result<Tensor> {
    let shape: Vec<usize> = json["shape"].as_array().expect("a shape").iter().map(number).collect();
    Tensor::from_vec(numbers(&json["values"]), shape, &Device::Cpu)
}

/// Compares values and gradients with those of a golden case; `names` are the inputs in the order that `f` takes them.
pub fn check_golden(case: &Value, names: &[&str], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let inputs = names.iter().map(|&name| tensor(&case["inputs"][name])).collect::<Result<Vec<_>>>()?;
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let out = f(&vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>())?;
    assert!(distance(&out, &tensor(&case["output"])?)? < 1e-9, "output of {case}");
    let grads = (out * tensor(&case["upstream"])?)?.sum_all()?.backward()?;
    for (name, var) in names.iter().zip(&vars) {
        let gradient = grads.get(var).expect("every input has a gradient");
        assert!(distance(gradient, &tensor(&case["gradients"][name])?)? < 1e-9, "gradient of {name} in {case}");
    }
    Ok(())
}
