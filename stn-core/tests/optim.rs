//! Optimisers: PyTorch's trajectories, groups, state that continues bit for bit, errors.

use candle_core::{DType, Device, Result, Tensor, Var};
use std::collections::HashMap;
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup, Sgd, SgdConfig};

/// A small regression: weights (2, 2), a bias (2,), and its loss.
struct Problem {
    w: Var,
    b: Var,
    x: Tensor,
}

impl Problem {
    fn new(dtype: DType) -> Result<Self> {
        let tensor = |t: Tensor| t.to_dtype(dtype);
        Ok(Self {
            w: Var::from_tensor(&tensor(Tensor::new(&[[0.5, -1.25], [2.0, 0.75]], &Device::Cpu)?)?)?,
            b: Var::from_tensor(&tensor(Tensor::new(&[0.1, -0.3], &Device::Cpu)?)?)?,
            x: tensor(Tensor::new(&[[1.0, 2.0], [-0.5, 0.25], [0.75, -1.5]], &Device::Cpu)?)?,
        })
    }

    fn loss(&self) -> Result<Tensor> {
        let y = self.x.matmul(&self.w.t()?)?.broadcast_add(&self.b)?.tanh()?;
        (y - &self.x)?.sqr()?.mean_all()
    }

    fn run(&self, optimiser: &mut dyn Optimiser, steps: usize) -> Result<()> {
        (0..steps).try_for_each(|_| optimiser.step(&self.loss()?.backward()?))
    }

    fn values(&self) -> Result<Vec<f64>> {
        Tensor::cat(&[&self.w.flatten_all()?, self.b.as_tensor()], 0)?.to_dtype(DType::F64)?.to_vec1()
    }

    fn one_group(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::new(vec![("w".into(), self.w.clone()), ("b".into(), self.b.clone())])]
    }

    /// The bias at a tenth of the learning rate and without decay.
    fn two_groups(&self) -> Vec<ParamGroup> {
        let b = ParamGroup::new(vec![("b".into(), self.b.clone())]);
        vec![ParamGroup::new(vec![("w".into(), self.w.clone())]), b.lr_scale(0.1).weight_decay(0.0)]
    }
}

const MOMENTUM: SgdConfig = SgdConfig { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.05 };
const NESTEROV: SgdConfig = SgdConfig { nesterov: true, ..MOMENTUM };
const ADAMW: AdamWConfig = AdamWConfig { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 };

/* import torch
def run(make):
    w = torch.tensor([[.5, -1.25], [2., .75]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([.1, -.3], dtype=torch.float64, requires_grad=True)
    optimiser = make(w, b)
    x = torch.tensor([[1., 2.], [-.5, .25], [.75, -1.5]], dtype=torch.float64)
    for step in range(5):
        optimiser.zero_grad()
        (torch.tanh(x @ w.T + b) - x).square().mean().backward()
        optimiser.step()
    print(w.flatten().tolist() + b.tolist())
groups = lambda w, b: [{"params": [w]}, {"params": [b], "lr": .01, "weight_decay": 0.}]
run(lambda w, b: torch.optim.SGD([w, b], lr=.1))
run(lambda w, b: torch.optim.SGD(groups(w, b), lr=.1, momentum=.9, weight_decay=.05))
run(lambda w, b: torch.optim.SGD(groups(w, b), lr=.1, momentum=.9, weight_decay=.05, nesterov=True))
run(lambda w, b: torch.optim.AdamW(groups(w, b), lr=.1, weight_decay=.05)) */
#[test]
fn five_steps_match_pytorch() -> Result<()> {
    type Make = fn(&Problem) -> Result<Box<dyn Optimiser>>;
    let cases: [(&str, Make, [f64; 6]); 4] = [
        (
            "plain",
            |p| Ok(Box::new(Sgd::new(p.one_group(), SgdConfig { lr: 0.1, ..Default::default() })?)),
            [
                0.5357443616391143,
                -1.1867359289991268,
                1.8265720183634278,
                1.053211843957938,
                0.12037987663006611,
                -0.4269581085573045,
            ],
        ),
        (
            "momentum",
            |p| Ok(Box::new(Sgd::new(p.two_groups(), MOMENTUM)?)),
            [
                0.5660756302471941,
                -0.992219784943932,
                1.409529217257145,
                1.4959012010728412,
                0.10591570649203112,
                -0.3320420669537115,
            ],
        ),
        (
            "nesterov",
            |p| Ok(Box::new(Sgd::new(p.two_groups(), NESTEROV)?)),
            [
                0.6060389848292701,
                -0.8795681291985264,
                1.3321059615323623,
                1.5220490321004898,
                0.10948044342540451,
                -0.32787085866181276,
            ],
        ),
        (
            "adamw",
            |p| Ok(Box::new(AdamW::new(p.two_groups(), ADAMW)?)),
            [
                0.9666884792982641,
                -0.7431370329525482,
                1.4719671171621544,
                1.2038734501763393,
                0.14700745606532215,
                -0.3440743868534124,
            ],
        ),
    ];
    for (name, make, expected) in cases {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
            let problem = Problem::new(dtype)?;
            problem.run(make(&problem)?.as_mut(), 5)?;
            for (got, want) in problem.values()?.iter().zip(expected) {
                assert!((got - want).abs() < tolerance, "{name} {dtype:?}: {got} but {want}");
            }
        }
    }
    Ok(())
}

/// Three steps, save, restore into a new optimiser, two more steps: the same bits as five steps.
#[test]
fn restored_state_continues_bit_for_bit() -> Result<()> {
    type Make = fn(&Problem) -> Result<Box<dyn Optimiser>>;
    let kinds: [Make; 3] = [
        |p| Ok(Box::new(Sgd::new(p.two_groups(), MOMENTUM)?)),
        |p| Ok(Box::new(Sgd::new(p.two_groups(), NESTEROV)?)),
        |p| Ok(Box::new(AdamW::new(p.two_groups(), ADAMW)?)),
    ];
    for make in kinds {
        let straight = Problem::new(DType::F32)?;
        straight.run(make(&straight)?.as_mut(), 5)?;

        let first = Problem::new(DType::F32)?;
        let mut optimiser = make(&first)?;
        first.run(optimiser.as_mut(), 3)?;
        let state = optimiser.state()?;

        let second = Problem::new(DType::F32)?;
        second.w.set(first.w.as_tensor())?;
        second.b.set(first.b.as_tensor())?;
        // The first run goes on; the saved state must not follow it.
        first.run(optimiser.as_mut(), 2)?;
        let mut optimiser = make(&second)?;
        optimiser.load_state(&state)?;
        second.run(optimiser.as_mut(), 2)?;
        assert_eq!(second.values()?, straight.values()?);
        assert_eq!(first.values()?, straight.values()?);
    }
    Ok(())
}

/// The gradient of a second layer refers to the first layer's activations: state that refers to it would keep every
/// step's graph in memory.
#[test]
fn state_keeps_no_graph() -> Result<()> {
    let first = Var::new(&[[0.5, -1.25], [2.0, 0.75]], &Device::Cpu)?;
    let second = Var::new(&[[1.0], [0.25]], &Device::Cpu)?;
    let group = ParamGroup::new(vec![("first".into(), first.clone()), ("second".into(), second.clone())]);
    let mut optimisers: [Box<dyn Optimiser>; 2] =
        [Box::new(Sgd::new(vec![group.clone()], MOMENTUM)?), Box::new(AdamW::new(vec![group], ADAMW)?)];
    for optimiser in &mut optimisers {
        let grads = first.matmul(&second)?.tanh()?.sum_all()?.backward()?;
        assert!(grads.get(&second).is_some_and(Tensor::track_op), "the case no longer shows anything");
        optimiser.step(&grads)?;
        assert!(optimiser.state()?.values().all(|tensor| !tensor.track_op()));
    }
    Ok(())
}

#[test]
fn names_of_the_state() -> Result<()> {
    let problem = Problem::new(DType::F32)?;
    let names = |optimiser: &dyn Optimiser| {
        let mut names: Vec<String> = optimiser.state()?.into_keys().collect();
        names.sort();
        Result::Ok(names)
    };
    assert!(names(&Sgd::new(problem.one_group(), SgdConfig::default())?)?.is_empty());
    assert_eq!(names(&Sgd::new(problem.one_group(), MOMENTUM)?)?, ["b.velocity", "w.velocity"]);
    let expected = ["b.first_moment", "b.second_moment", "b.step", "w.first_moment", "w.second_moment", "w.step"];
    assert_eq!(names(&AdamW::new(problem.one_group(), ADAMW)?)?, expected);
    Ok(())
}

#[test]
fn load_state_is_all_or_nothing() -> Result<()> {
    let problem = Problem::new(DType::F32)?;
    let mut sgd = Sgd::new(problem.one_group(), MOMENTUM)?;
    problem.run(&mut sgd, 1)?;
    let before = sgd.state()?["b.velocity"].to_vec1::<f32>()?;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let state = HashMap::from([
        ("b.velocity".to_string(), zeros(&[2])?),
        ("w.velocity".to_string(), zeros(&[4])?),
        ("v.velocity".to_string(), zeros(&[2])?),
    ]);
    let message = sgd.load_state(&state).expect_err("does not fit").to_string();
    let expected = "sgd: unexpected [v.velocity]; wrong shape [w.velocity: expected [2, 2], got [4]]";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(sgd.state()?["b.velocity"].to_vec1::<f32>()?, before);

    let mut adamw = AdamW::new(problem.two_groups(), ADAMW)?;
    let message = adamw.load_state(&HashMap::new()).expect_err("nothing there").to_string();
    assert!(message.starts_with("adamw: missing [b.first_moment, b.second_moment, b.step, w.first"), "{message}");
    Ok(())
}

/// Neither decayed nor counted: PyTorch skips it too.
#[test]
fn variable_without_gradient_is_left_alone() -> Result<()> {
    let problem = Problem::new(DType::F64)?;
    let idle = Var::new(&[1.0, 2.0], &Device::Cpu)?;
    let mut groups = problem.one_group();
    groups[0].vars.push(("idle".into(), idle.clone()));
    let mut adamw = AdamW::new(groups.clone(), ADAMW)?;
    problem.run(&mut adamw, 3)?;
    assert_eq!(adamw.state()?["idle.step"].to_scalar::<u32>()?, 0);
    assert_eq!(adamw.state()?["w.step"].to_scalar::<u32>()?, 3);
    problem.run(&mut Sgd::new(groups, MOMENTUM)?, 3)?;
    assert_eq!(idle.to_vec1::<f64>()?, [1.0, 2.0]);
    Ok(())
}

#[test]
fn learning_rate_can_be_set() -> Result<()> {
    let problem = Problem::new(DType::F64)?;
    let before = problem.values()?;
    let mut optimisers: [Box<dyn Optimiser>; 2] =
        [Box::new(Sgd::new(problem.one_group(), MOMENTUM)?), Box::new(AdamW::new(problem.one_group(), ADAMW)?)];
    for optimiser in &mut optimisers {
        assert_eq!(optimiser.learning_rate(), 0.1);
        optimiser.set_learning_rate(0.0);
        assert_eq!(optimiser.learning_rate(), 0.0);
        problem.run(optimiser.as_mut(), 1)?;
        assert_eq!(problem.values()?, before);
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let problem = Problem::new(DType::F32)?;
    let sgd = |groups, cfg| Sgd::new(groups, cfg).expect_err("an error").to_string();
    let twice = [problem.one_group(), problem.two_groups()].concat();
    assert!(sgd(twice, MOMENTUM).starts_with("sgd: w occurs twice"));
    let renamed = vec![ParamGroup::new(vec![("w".into(), problem.w.clone()), ("v".into(), problem.w.clone())])];
    assert!(sgd(renamed, MOMENTUM).starts_with("sgd: v occurs twice"));
    let counts = Var::zeros(2, DType::U32, &Device::Cpu)?;
    let message = sgd(vec![ParamGroup::new(vec![("n".into(), counts)])], MOMENTUM);
    assert!(message.starts_with("sgd: n must be of a float type, got U32"), "{message}");
    let half = Var::from_tensor(&Tensor::ones(2, DType::F16, &Device::Cpu)?)?;
    let group = || vec![ParamGroup::new(vec![("half".into(), half.clone())])];
    let message = AdamW::new(group(), AdamWConfig::default()).unwrap_err().to_string();
    assert!(message.starts_with("adamw: half must be bf16, f32 or f64, got F16"), "{message}");
    assert!(Sgd::new(group(), SgdConfig::default()).is_ok());
    for beta1 in [1.0, -0.1, f64::NAN] {
        let cfg = AdamWConfig { beta1, ..Default::default() };
        let message = AdamW::new(problem.one_group(), cfg).unwrap_err().to_string();
        assert!(message.starts_with("adamw: beta1 and beta2 must be at least 0 and less than 1"), "{message}");
    }
    let message = sgd(problem.one_group(), SgdConfig { nesterov: true, ..Default::default() });
    assert!(message.starts_with("sgd: nesterov needs a momentum, got 0"), "{message}");
    Ok(())
}
