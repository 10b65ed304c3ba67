//! Seeded initialisation: a store of named variables whose values depend on a seed and their names.
//!
//! Candle's CPU generator can't be seeded. This store stands behind a `VarBuilder`, so any layer that is built from one
//! is seeded too.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::init::{Init, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store of named variables, each initialised from (seed, full name) alone.
///
/// The order in which layers are made doesn't matter, nor does what else is made. Clones share the variables. It takes
/// the place of `candle_nn::VarMap`.
///
/// To a file and back: `candle_core::safetensors::save(&vars.tensors()?, path)?` and
/// `vars.load(&candle_core::safetensors::load(path, &Device::Cpu)?)?`, behind which the layers have been made.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device};
/// use stn_core::init::SeededVarMap;
///
/// let vars = SeededVarMap::new(7);
/// let vb = vars.var_builder(DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(3, 2, vb.pp("fc"))?;
///
/// let again = SeededVarMap::new(7);
/// let vb = again.var_builder(DType::F32, &Device::Cpu);
/// let same = candle_nn::linear(3, 2, vb.pp("fc"))?;
/// assert_eq!(layer.weight().to_vec2::<f32>()?, same.weight().to_vec2::<f32>()?);
///
/// let names: Vec<String> = vars.vars().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["fc.bias", "fc.weight"]);
/// assert_eq!(vars.num_params(), 8);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SeededVarMap {
    seed: u64,
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl SeededVarMap {
    /// Makes an empty store.
    pub fn new(seed: u64) -> Self {
        Self { seed, vars: Arc::default() }
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Makes a builder whose layers take their variables from this store.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// Lists all variables, sorted by name, [buffers](is_buffer) included.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Lists the variables that an optimiser should move, sorted by name: all but the [buffers](is_buffer).
    pub fn trainable_vars(&self) -> Vec<(String, Var)> {
        let mut vars = self.vars();
        vars.retain(|(name, _)| !is_buffer(name));
        vars
    }

    /// Counts the elements of the trainable variables.
    pub fn num_params(&self) -> usize {
        self.trainable_vars().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Copies all values, [buffers](is_buffer) included, as a checkpoint wants them.
    ///
    /// # Errors
    ///
    /// When a device can't copy.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        self.lock().iter().map(|(name, var)| Ok((name.clone(), var.copy()?.detach()))).collect()
    }

    /// Sets all variables to the given values, converted to each variable's dtype and device.
    ///
    /// All or nothing: the variables move only when every one has its value.
    ///
    /// # Errors
    ///
    /// When names are missing or unexpected, or shapes differ; the message lists them all.
    pub fn load(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let vars = self.lock();
        let expected = vars.iter().map(|(name, var)| (name.as_str(), var.shape()));
        check_names_and_shapes("load", expected, tensors)?;
        let mut values = Vec::with_capacity(vars.len());
        for (name, var) in vars.iter() {
            if let Some(tensor) = tensors.get(name) {
                // A copy, since a tensor that shares the variable's storage can't be its new value.
                values.push((var, tensor.to_device(var.device())?.to_dtype(var.dtype())?.copy()?));
            }
        }
        values.into_iter().try_for_each(|(var, value)| var.set(&value))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // An insertion can't be half done, so the map is sound even after a panic elsewhere.
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for SeededVarMap {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape || var.dtype() != dtype {
                candle_core::bail!(
                    "seeded var map: {name} is {:?} {:?}, got a request for {dtype:?} {:?}",
                    var.dtype(),
                    var.dims(),
                    shape.dims()
                )
            }
            return Ok(var.as_tensor().clone());
        }
        let values = seeded_values(self.seed, name, &shape, init);
        let values = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
        let var = Var::from_tensor(&values)?;
        vars.insert(name.to_string(), var.clone());
        Ok(var.into_inner())
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
        match self.lock().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => candle_core::bail!("seeded var map: no variable is named {name}; a new one needs its shape"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

/// Tells whether a variable is state that no gradient moves: batch norm's `running_mean` and `running_var`.
pub fn is_buffer(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("running_mean" | "running_var"))
}

/// The initial values of a variable: drawn in f64, so that an f32 model starts at the rounded values of its f64 twin.
fn seeded_values(seed: u64, name: &str, shape: &Shape, init: Init) -> Vec<f64> {
    let count = shape.elem_count();
    let mut rng = generator(seed, name);
    let mut uniform = |lo: f64, up: f64| (0..count).map(|_| lo + (up - lo) * unit(&mut rng)).collect();
    match init {
        Init::Const(value) => vec![value; count],
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => normal(&mut rng, count, mean, stdev),
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Uniform => uniform(-3f64.sqrt() * stdev, 3f64.sqrt() * stdev),
                NormalOrUniform::Normal => normal(&mut rng, count, 0.0, stdev),
            }
        }
    }
}

/// The generator of one variable. Different keys give ChaCha unrelated streams: it is enough to put seed and name there.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let words = [seed, fnv1a(name.bytes()), fnv1a(name.bytes().rev()), name.len() as u64];
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The FNV-1a hash.
pub(crate) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A uniform number in [0, 1), from 53 random bits.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Normal numbers by Box and Muller's transform, with `libm` for the same bits on every platform.
fn normal(rng: &mut ChaCha8Rng, count: usize, mean: f64, stdev: f64) -> Vec<f64> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * libm::log(1.0 - unit(rng))).sqrt(); // 1 - u is never 0
        let angle = std::f64::consts::TAU * unit(rng);
        values.push(mean + stdev * radius * libm::cos(angle));
        values.push(mean + stdev * radius * libm::sin(angle));
    }
    values.truncate(count);
    values
}

/// Fails, naming every difference, unless `tensors` has exactly the expected names and shapes: of a file of weights, say.
///
/// # Errors
///
/// When names are missing or unexpected, or shapes differ; the message begins with `what` and lists them all.
pub fn check_names_and_shapes<'a>(
    what: &str,
    expected: impl Iterator<Item = (&'a str, &'a Shape)>,
    tensors: &HashMap<String, Tensor>,
) -> Result<()> {
    let expected: BTreeMap<&str, &Shape> = expected.collect();
    let (mut missing, mut shapes) = (vec![], vec![]);
    for (&name, shape) in &expected {
        match tensors.get(name) {
            None => missing.push(name.to_string()),
            Some(tensor) if tensor.shape() != *shape => {
                shapes.push(format!("{name}: expected {:?}, got {:?}", shape.dims(), tensor.dims()));
            }
            Some(_) => {}
        }
    }
    let mut unexpected: Vec<String> =
        tensors.keys().filter(|name| !expected.contains_key(name.as_str())).cloned().collect();
    unexpected.sort();
    let parts = [("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    let message: Vec<String> = parts.map(|(kind, names)| format!("{kind} [{}]", names.join(", "))).collect();
    if message.is_empty() { Ok(()) } else { candle_core::bail!("{what}: {}", message.join("; ")) }
}
