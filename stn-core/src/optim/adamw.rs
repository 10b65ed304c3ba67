use super::{Optimiser, ParamGroup, check_groups, restored, step_tensor};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
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
/// The same as PyTorch's `AdamW`. Its state is `<variable>.first_moment`, `<variable>.second_moment` and
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
    first_moment: Tensor,
    second_moment: Tensor,
    step: u32,
}

impl AdamW {
    /// Makes an optimiser of the groups' variables.
    ///
    /// # Errors
    ///
    /// When a variable occurs twice or isn't of a float type.
    pub fn new(groups: Vec<ParamGroup>, cfg: AdamWConfig) -> Result<Self> {
        check_groups("adamw", &groups)?;
        let mut params = vec![];
        for ParamGroup { vars, lr_scale, weight_decay } in groups {
            let weight_decay = weight_decay.unwrap_or(cfg.weight_decay);
            for (name, var) in vars {
                let zeros = var.zeros_like()?.detach();
                let (first_moment, second_moment) = (zeros.clone(), zeros);
                params.push(Param { name, var, lr_scale, weight_decay, first_moment, second_moment, step: 0 });
            }
        }
        Ok(Self { cfg, params })
    }

    /// The saved tensors and their names, three a variable.
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

impl Optimiser for AdamW {
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let AdamWConfig { lr, beta1, beta2, eps, .. } = self.cfg;
        for p in &mut self.params {
            let Some(grad) = grads.get(&p.var).map(Tensor::detach) else { continue }; // without its graph
            p.step += 1;
            p.first_moment = ((&p.first_moment * beta1)? + (&grad * (1.0 - beta1))?)?;
            p.second_moment = ((&p.second_moment * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
            let correction = |beta| 1.0 - libm::pow(beta, f64::from(p.step));
            let lr = lr * p.lr_scale;
            let denominator = p.second_moment.sqrt()?.affine(1.0 / correction(beta2).sqrt(), eps)?;
            let descent = ((&p.first_moment / denominator)? * (lr / correction(beta1)))?;
            let w = p.var.as_detached_tensor();
            let w = if p.weight_decay == 0.0 { w } else { (w * (1.0 - lr * p.weight_decay))? };
            p.var.set(&(w - descent)?)?;
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
        Ok(self.named_state()?.into_iter().collect())
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
