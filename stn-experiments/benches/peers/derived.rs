//! What follows from times: what a transformer adds to a step, how a step scales with threads, how fast images are distorted.

use crate::nets;
use crate::race::{Effort, Measured, median, time};
use crate::rows::{step_name, svhn_name};
use anyhow::Result;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::Instant;
use stn_experiments::data::{Distortion, Mnist, Purpose, rng};
use stn_experiments::models::{Model, TransformKind};

/// A line below the table.
#[derive(Debug, Clone)]
pub struct Derived {
    pub name: &'static str,
    pub unit: &'static str,
    pub ours: f64,
    /// None where PyTorch has no part in it.
    pub pytorch: Option<f64>,
    pub target: Option<Target>,
}

/// What a line should reach.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

const ADDED_ON_R: &str = "transformer's cost over the plain CNN, R, 32 filters";
const ADDED_ON_SVHN: &str = "transformers' cost over the plain CNN, SVHN Multi";
const SCALING: &str = "scaling of the ST-CNN Aff step on R, 1 to 2 threads";
const DISTORTIONS: [(&str, Distortion); 5] = [
    ("distortion R, one core", Distortion::R),
    ("distortion RTS, one core", Distortion::Rts),
    ("distortion P, one core", Distortion::P),
    ("distortion E, one core", Distortion::E),
    ("distortion TC, one core", Distortion::Tc),
];

/// Every name, for `--list`.
pub const NAMES: [&str; 8] = [
    ADDED_ON_R,
    ADDED_ON_SVHN,
    SCALING,
    DISTORTIONS[0].0,
    DISTORTIONS[1].0,
    DISTORTIONS[2].0,
    DISTORTIONS[3].0,
    DISTORTIONS[4].0,
];

/// The selected lines; a share only where both of its rows were raced.
pub fn all(measured: &[Measured], effort: Effort, selects: impl Fn(&str) -> bool) -> Result<Vec<Derived>> {
    let on_r = |model| step_name(model, Distortion::R, 32);
    let shares = [
        (ADDED_ON_R, on_r(Model::Cnn), on_r(Model::StCnn(TransformKind::Affine)), None),
        (ADDED_ON_SVHN, svhn_name("CNN"), svhn_name("ST-CNN Multi"), Some(Target::AtMost(6.0))),
    ];
    let mut lines = Vec::new();
    for (name, plain, with, target) in shares {
        let find = |name: &String| measured.iter().find(|m| m.row.name == *name);
        if let (true, Some(plain), Some(with)) = (selects(name), find(&plain), find(&with)) {
            let added = |with: f64, plain: f64| 100.0 * (with / plain - 1.0);
            let pytorch = Some(added(with.pytorch_ms, plain.pytorch_ms));
            lines.push(Derived { name, unit: "%", ours: added(with.ours_ms, plain.ours_ms), pytorch, target });
        }
    }
    if selects(SCALING) {
        let target = Some(Target::AtLeast(1.8));
        lines.push(Derived { name: SCALING, unit: "times", ours: scaling(effort)?, pytorch: None, target });
    }
    if DISTORTIONS.iter().any(|(name, _)| selects(name)) {
        let digits = Mnist::embedded("the race needs no network")?.train.range(0..2000)?;
        for (name, data) in DISTORTIONS.into_iter().filter(|(name, _)| selects(name)) {
            let target = (data == Distortion::R).then_some(Target::AtLeast(20_000.0));
            let ours = distortion(&digits, data, effort);
            lines.push(Derived { name, unit: "images/s", ours, pytorch: None, target });
        }
    }
    Ok(lines)
}

/// The time with one thread over that with two, the pools taking turns.
fn scaling(effort: Effort) -> Result<f64> {
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build();
    let (one, two): (ThreadPool, ThreadPool) = (pool(1)?, pool(2)?);
    let model = Model::StCnn(TransformKind::Affine);
    let mut step = nets::mnist(model, Distortion::R, model.width(Distortion::R), false, 256, true)?.step;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..effort.rounds {
        for (pool, times) in [&one, &two].into_iter().zip(&mut times) {
            times.extend(pool.install(|| time(&mut step, 1, 5))?);
        }
    }
    let [one, two] = times.map(median);
    Ok(one / two)
}

/// Training images a second on one core.
fn distortion(digits: &stn_experiments::data::Dataset, data: Distortion, effort: Effort) -> f64 {
    let mut out = vec![0; data.canvas() * data.canvas()];
    let seconds = (0..effort.rounds as u64).map(|epoch| {
        let start = Instant::now();
        for index in 0..digits.len() {
            data.apply(digits, index, &mut rng(0, Purpose::Distortion, epoch, index as u64), &mut out);
        }
        start.elapsed().as_secs_f64()
    });
    digits.len() as f64 / median(seconds.collect())
}
