use super::inplace::{self, Element, Rule};
use super::{Optimiser, ParamGroup, check_groups, restored, snapshot, step_tensor};
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var, bail};
use std::collections::HashMap;

/// Configures [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Base learning rate.
    pub lr: f64,
    /// Decay of the gradient's running mean.
    pub beta1: f64,
    /// Decay of the squared gradient's running mean.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// The part of each variable that is taken off, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Adam with decoupled weight decay; with a decay of 0, Adam.
///
/// The same as PyTorch's `AdamW`, but that running means below the smallest normal number become zero on the CPU in
/// `f32` and `f64`: on those, steps are slow. In `bf16`, as Candle computes in it, 0.999 is 1: the squared gradient's mean never falls, and small decays of
/// weights are none; train in `f32` where that matters. Its state is `<variable>.first_moment`, `<variable>.second_moment` and
/// `<variable>.step`, the count of the steps in which the variable had a gradient.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Var};
/// use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup};
///
/// let w = Var::new(&[3f64], &Device::Cpu)?;
/// let mut adam = AdamW::new(vec![ParamGroup::new(vec![("w".into(), w.clone())])], AdamWConfig::default())?;
/// adam.step(&w.sqr()?.sum_all()?.backward()?)?;
/// assert!(w.to_vec1::<f64>()?[0] < 3.);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AdamW {
    cfg: AdamWConfig,
    params: Vec<Param>,
}

#[derive(Debug)]
struct Param {
    name: String,
    var: Var,
    lr_scale: f64,
    weight_decay: f64,
    /// The moments share their storage with nothing: they change in place.
    first_moment: Tensor,
    second_moment: Tensor,
    step: u32,
}

impl AdamW {
    /// Makes an optimiser of the groups' variables.
    ///
    /// # Errors
    ///
    /// When a variable occurs twice or isn't of a float type; when a beta is not at least 0 and less than 1; and in `f16`, where squares of small gradients and `eps` are zero, so that the first
    /// step divides by it.
    pub fn new(groups: Vec<ParamGroup>, cfg: AdamWConfig) -> Result<Self> {
        check_groups("adamw", &groups)?;
        if !(0.0..1.0).contains(&cfg.beta1) || !(0.0..1.0).contains(&cfg.beta2) {
            bail!("adamw: beta1 and beta2 must be at least 0 and less than 1, got {} and {}", cfg.beta1, cfg.beta2)
        }
        if let Some((name, _)) = groups.iter().flat_map(|group| &group.vars).find(|(_, var)| var.dtype() == DType::F16)
        {
            bail!("adamw: {name} must be bf16, f32 or f64, got F16: its moments would be zero in f16; train in f32")
        }
        let mut params = vec![];
        for ParamGroup { vars, lr_scale, weight_decay } in groups {
            let weight_decay = weight_decay.unwrap_or(cfg.weight_decay);
            for (name, var) in vars {
                let (first_moment, second_moment) = (var.zeros_like()?.detach(), var.zeros_like()?.detach());
                params.push(Param { name, var, lr_scale, weight_decay, first_moment, second_moment, step: 0 });
            }
        }
        Ok(Self { cfg, params })
    }

    /// The present tensors and their names, three a variable.
    fn named_state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(self.params.len() * 3);
        for p in &self.params {
            state.push((format!("{}.first_moment", p.name), p.first_moment.clone()));
            state.push((format!("{}.second_moment", p.name), p.second_moment.clone()));
            state.push((format!("{}.step", p.name), step_tensor(p.step)?));
        }
        Ok(state)
    }
}

/// One step's constants for one variable.
struct Update {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// What the variable is multiplied by.
    decay: f64,
    /// The learning rate, corrected for a running mean that began at zero.
    lr: f64,
    /// The same correction of the squared gradient's, for its root.
    root_scale: f64,
}

impl Rule<3> for Update {
    #[inline]
    fn step<T: Element>(&self, [w, first, second]: [T; 3], grad: T) -> [T; 3] {
        let first = (first * T::of(self.beta1) + grad * T::of(1.0 - self.beta1)).without_subnormals();
        let second = (second * T::of(self.beta2) + grad * grad * T::of(1.0 - self.beta2)).without_subnormals();
        let denominator = second.sqrt() * T::of(self.root_scale) + T::of(self.eps);
        [w * T::of(self.decay) - first / denominator * T::of(self.lr), first, second]
    }
}

impl Param {
    /// The same as [`Update::step`] by tensor operations, for what has no loop of ours.
    fn step_by_operations(&mut self, grad: &Tensor, update: &Update) -> Result<()> {
        let Update { beta1, beta2, eps, decay, lr, root_scale } = *update;
        self.first_moment = ((&self.first_moment * beta1)? + (grad * (1.0 - beta1))?)?;
        self.second_moment = ((&self.second_moment * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
        let denominator = self.second_moment.sqrt()?.affine(root_scale, eps)?;
        let descent = ((&self.first_moment / denominator)? * lr)?;
        self.var.set(&((self.var.as_detached_tensor() * decay)? - descent)?)
    }
}

impl Optimiser for AdamW {
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let AdamWConfig { lr, beta1, beta2, eps, .. } = self.cfg;
        for p in &mut self.params {
            let Some(grad) = grads.get(&p.var).map(Tensor::detach) else { continue }; // without its graph
            p.step += 1;
            let correction = |beta| 1.0 - libm::pow(beta, f64::from(p.step));
            let lr = lr * p.lr_scale;
            let update = Update {
                beta1,
                beta2,
                eps,
                decay: 1.0 - lr * p.weight_decay,
                lr: lr / correction(beta1),
                root_scale: 1.0 / correction(beta2).sqrt(),
            };
            if !inplace::step([p.var.as_tensor(), &p.first_moment, &p.second_moment], &grad, &update)? {
                p.step_by_operations(&grad, &update)?;
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
        snapshot(&self.named_state()?)
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let saved = restored("adamw", &self.named_state()?, state)?;
        let steps: Vec<u32> = saved.iter().skip(2).step_by(3).map(Tensor::to_scalar).collect::<Result<_>>()?;
        for ((p, saved), step) in self.params.iter_mut().zip(saved.chunks_exact(3)).zip(steps) {
            (p.first_moment, p.second_moment) = (saved[0].clone(), saved[1].clone());
            p.step = step;
        }
        Ok(())
    }
}
