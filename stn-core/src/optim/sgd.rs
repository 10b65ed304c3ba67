use super::inplace::{self, Element, Rule};
use super::{Optimiser, ParamGroup, check_groups, restored, snapshot};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use std::collections::HashMap;

/// Configures [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdConfig {
    /// Base learning rate.
    pub lr: f64,
    /// What the last step's velocity is multiplied by; 0 for plain gradient descent.
    pub momentum: f64,
    /// Whether the gradient is taken ahead, where the velocity leads.
    pub nesterov: bool,
    /// The part of each variable that is added to its gradient.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 0.01, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

/// Stochastic gradient descent with momentum and weight decay.
///
/// The same as PyTorch's `SGD` without dampening: `g += weight_decay * w; v = momentum * v + g; w -= lr * v`, and with
/// `nesterov` `w -= lr * (g + momentum * v)`; a velocity below the smallest normal number becomes zero on the CPU in
/// `f32` and `f64`: on those, steps are slow. Its state is `<variable>.velocity`, with momentum alone.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Var};
/// use stn_core::optim::{Optimiser, ParamGroup, Sgd, SgdConfig};
///
/// let w = Var::new(&[3f64], &Device::Cpu)?;
/// let group = ParamGroup::new(vec![("w".into(), w.clone())]);
/// let mut sgd = Sgd::new(vec![group], SgdConfig { lr: 0.1, ..Default::default() })?;
/// sgd.step(&w.sqr()?.sum_all()?.backward()?)?;
/// assert_eq!(w.to_vec1::<f64>()?, [3. - 0.1 * 6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Sgd {
    cfg: SgdConfig,
    params: Vec<Param>,
}

#[derive(Debug)]
struct Param {
    name: String,
    var: Var,
    lr_scale: f64,
    weight_decay: f64,
    /// There with momentum alone; it shares its storage with nothing, since it changes in place. PyTorch's first velocity is
    /// the gradient itself: from zero, the same.
    velocity: Option<Tensor>,
}

impl Sgd {
    /// Makes an optimiser of the groups' variables.
    ///
    /// # Errors
    ///
    /// When a variable occurs twice or isn't of a float type, or `nesterov` is asked for without momentum.
    pub fn new(groups: Vec<ParamGroup>, cfg: SgdConfig) -> Result<Self> {
        check_groups("sgd", &groups)?;
        if cfg.nesterov && cfg.momentum == 0.0 {
            candle_core::bail!("sgd: nesterov needs a momentum, got {}", cfg.momentum)
        }
        let mut params = vec![];
        for ParamGroup { vars, lr_scale, weight_decay } in groups {
            let weight_decay = weight_decay.unwrap_or(cfg.weight_decay);
            for (name, var) in vars {
                let velocity = if cfg.momentum == 0.0 { None } else { Some(var.zeros_like()?.detach()) };
                params.push(Param { name, var, lr_scale, weight_decay, velocity });
            }
        }
        Ok(Self { cfg, params })
    }

    /// The present tensors and their names.
    fn named_state(&self) -> Vec<(String, Tensor)> {
        let velocity = |p: &Param| p.velocity.as_ref().map(|v| (format!("{}.velocity", p.name), v.clone()));
        self.params.iter().filter_map(velocity).collect()
    }
}

/// One step's constants for one variable.
struct Update {
    lr: f64,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Update {
    #[inline]
    fn descent<T: Element>(&self, w: T, grad: T) -> T {
        if self.weight_decay == 0.0 { grad } else { grad + w * T::of(self.weight_decay) }
    }
}

/// Without momentum: the variable alone.
impl Rule<1> for Update {
    #[inline]
    fn step<T: Element>(&self, [w]: [T; 1], grad: T) -> [T; 1] {
        [w - self.descent(w, grad) * T::of(self.lr)]
    }
}

/// The variable and its velocity.
impl Rule<2> for Update {
    #[inline]
    fn step<T: Element>(&self, [w, velocity]: [T; 2], grad: T) -> [T; 2] {
        let descent = self.descent(w, grad);
        let velocity = (velocity * T::of(self.momentum) + descent).without_subnormals();
        let descent = if self.nesterov { descent + velocity * T::of(self.momentum) } else { velocity };
        [w - descent * T::of(self.lr), velocity]
    }
}

impl Param {
    /// The same as [`Update`]'s steps by tensor operations, for what has no loop of ours.
    fn step_by_operations(&mut self, grad: Tensor, update: &Update) -> Result<()> {
        let &Update { lr, momentum, nesterov, weight_decay } = update;
        let w = self.var.as_detached_tensor();
        let mut descent = if weight_decay == 0.0 { grad } else { (grad + (&w * weight_decay)?)? };
        if let Some(velocity) = &mut self.velocity {
            *velocity = ((&*velocity * momentum)? + &descent)?;
            descent = if nesterov { (descent + (&*velocity * momentum)?)? } else { velocity.clone() };
        }
        self.var.set(&(w - (descent * lr)?)?)
    }
}

impl Optimiser for Sgd {
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let SgdConfig { lr, momentum, nesterov, .. } = self.cfg;
        for p in &mut self.params {
            let Some(grad) = grads.get(&p.var).map(Tensor::detach) else { continue }; // without its graph
            let update = Update { lr: lr * p.lr_scale, momentum, nesterov, weight_decay: p.weight_decay };
            let done = match &p.velocity {
                Some(velocity) => inplace::step([p.var.as_tensor(), velocity], &grad, &update)?,
                None => inplace::step([p.var.as_tensor()], &grad, &update)?,
            };
            if !done {
                p.step_by_operations(grad, &update)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.cfg.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.cfg.lr = lr;
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        snapshot(&self.named_state())
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let velocities = restored("sgd", &self.named_state(), state)?;
        let present = self.params.iter_mut().filter_map(|p| p.velocity.as_mut());
        present.zip(velocities).for_each(|(present, saved)| *present = saved);
        Ok(())
    }
}
