//! Optimisers with parameter groups, and with state that can be saved and restored.

mod adamw;
mod inplace;
mod sgd;

pub use adamw::{AdamW, AdamWConfig};
pub use sgd::{Sgd, SgdConfig};

use crate::init::check_names_and_shapes;
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use std::collections::{HashMap, HashSet};

/// What a training loop asks of an optimiser.
///
/// Object safe, unlike Candle's `Optimizer`: a loop can hold a `Box<dyn Optimiser>`.
pub trait Optimiser {
    /// Moves the variables one step down their gradients. A variable without a gradient is left alone.
    ///
    /// The values change in place: tensors that share a variable's storage see the new ones. Other tasks of the same Rayon pool must not use the variables
    /// meanwhile: they would wait for the step, which may wait for a thread of the pool.
    ///
    /// # Errors
    ///
    /// When a tensor operation fails.
    fn step(&mut self, grads: &GradStore) -> Result<()>;

    /// Returns the base learning rate; a group's own is this times its `lr_scale`.
    fn learning_rate(&self) -> f64;

    /// Sets the base learning rate.
    fn set_learning_rate(&mut self, lr: f64);

    /// Copies the state out by name, `<variable>.<what>`.
    ///
    /// With the variables' values and the learning rate, it is what resumes a run bit for bit.
    ///
    /// # Errors
    ///
    /// When a tensor can't be made.
    fn state(&self) -> Result<HashMap<String, Tensor>>;

    /// Restores what [`state`](Optimiser::state) gave, all or nothing.
    ///
    /// # Errors
    ///
    /// When names are missing or unexpected, or shapes differ; the message lists them all.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()>;
}

/// Variables that share settings.
///
/// # Example
///
/// A localisation net at a tenth of the learning rate, and without weight decay:
///
/// ```
/// use candle_core::{DType, Device};
/// use stn_core::init::SeededVarMap;
/// use stn_core::optim::{ParamGroup, Sgd, SgdConfig};
///
/// let vars = SeededVarMap::new(0);
/// let vb = vars.var_builder(DType::F32, &Device::Cpu);
/// candle_nn::linear(8, 6, vb.pp("localisation"))?;
/// candle_nn::linear(8, 10, vb.pp("classifier"))?;
///
/// let (slow, rest) = vars.trainable_vars().into_iter().partition(|(name, _)| name.starts_with("localisation."));
/// let groups = vec![ParamGroup::new(rest), ParamGroup::new(slow).lr_scale(0.1).weight_decay(0.0)];
/// let sgd = Sgd::new(groups, SgdConfig { lr: 0.01, weight_decay: 5e-4, ..Default::default() })?;
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParamGroup {
    /// The variables and their names, by which their state is saved.
    pub vars: Vec<(String, Var)>,
    /// What the learning rate is multiplied by.
    pub lr_scale: f64,
    /// The weight decay, where it isn't that of the configuration.
    pub weight_decay: Option<f64>,
}

impl ParamGroup {
    /// Makes a group with the optimiser's own learning rate and weight decay.
    pub fn new(vars: Vec<(String, Var)>) -> Self {
        Self { vars, lr_scale: 1.0, weight_decay: None }
    }

    /// Scales the group's learning rate.
    pub fn lr_scale(self, lr_scale: f64) -> Self {
        Self { lr_scale, ..self }
    }

    /// Gives the group a weight decay of its own.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay: Some(weight_decay), ..self }
    }
}

/// Fails unless every variable is of a float type and occurs once, by name and by identity.
fn check_groups(optimiser: &str, groups: &[ParamGroup]) -> Result<()> {
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for (name, var) in groups.iter().flat_map(|group| &group.vars) {
        if !var.dtype().is_float() {
            candle_core::bail!("{optimiser}: {name} must be of a float type, got {:?}", var.dtype())
        }
        if !names.insert(name) || !ids.insert(var.id()) {
            candle_core::bail!("{optimiser}: {name} occurs twice")
        }
    }
    Ok(())
}

/// Checks saved tensors against `present`, and brings them to its dtypes and devices, in its order.
fn restored(optimiser: &str, present: &[(String, Tensor)], state: &HashMap<String, Tensor>) -> Result<Vec<Tensor>> {
    check_names_and_shapes(optimiser, present.iter().map(|(name, t)| (name.as_str(), t.shape())), state)?;
    let convert = |(name, like): &(String, Tensor)| match state.get(name) {
        Some(tensor) => own_copy(&tensor.to_device(like.device())?.to_dtype(like.dtype())?),
        None => candle_core::bail!("{optimiser}: missing [{name}]"),
    };
    present.iter().map(convert).collect()
}

/// Copies state for the caller, since a later step changes it in place.
fn snapshot(state: &[(String, Tensor)]) -> Result<HashMap<String, Tensor>> {
    state.iter().map(|(name, tensor)| Ok((name.clone(), own_copy(tensor)?))).collect()
}

/// A contiguous copy that shares nothing with the tensor.
fn own_copy(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.force_contiguous()?.detach())
}

/// A step count as a tensor.
fn step_tensor(step: u32) -> Result<Tensor> {
    Tensor::new(step, &Device::Cpu)
}
