//! The race: ours and PyTorch's in alternating blocks, so that whatever else the machine does hits both alike.

use crate::ours::{self, Ours, Step};
use crate::python::Peer;
use crate::rows::Row;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

/// How long is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Blocks of each side.
    pub rounds: usize,
    /// What a block should take, in milliseconds; it has at least one repetition.
    pub block_ms: f64,
}

/// A block starts with so many milliseconds that don't count: the other side's threads fall asleep meanwhile, and caches warm up.
const WARM_MS: f64 = 20.0;

/// A row's result: medians over all repetitions of all rounds.
#[derive(Debug, Clone)]
pub struct Measured {
    pub row: Row,
    pub ours_ms: f64,
    pub pytorch_ms: f64,
}

/// A row, built on both sides.
struct Entry<'a> {
    row: &'a Row,
    ours: Ours,
    pace: [Pace; 2],
    times: [Vec<f64>; 2],
}

/// Repetitions of a block: uncounted and counted.
#[derive(Debug, Clone, Copy)]
struct Pace {
    warm: usize,
    reps: usize,
}

impl Pace {
    fn of(ms: f64, effort: Effort) -> Self {
        let count = |budget: f64| (budget / ms.max(1e-3)) as usize;
        // Where one repetition is long, the few milliseconds at its start don't matter.
        Self {
            warm: (count(WARM_MS) + 1).min(if ms > 10.0 * WARM_MS { 0 } else { usize::MAX }),
            reps: count(effort.block_ms).max(1),
        }
    }
}

/// Races the rows of one group.
pub fn race(rows: &[Row], peer: &mut Peer, effort: Effort) -> Result<Vec<Measured>> {
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        entries.push(open(row, peer, effort).with_context(|| row.name.clone())?);
    }
    for round in 0..effort.rounds {
        for entry in &mut entries {
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let Pace { warm, reps } = entry.pace[side];
                let times = match side {
                    0 => time(&mut entry.ours.step, warm, reps)?,
                    _ => peer.time(&entry.row.name, warm, reps)?,
                };
                entry.times[side].extend(times);
            }
        }
    }
    entries
        .into_iter()
        .map(|Entry { row, times: [ours, pytorch], .. }| {
            peer.close(&row.name)?;
            Ok(Measured { row: row.clone(), ours_ms: median(ours), pytorch_ms: median(pytorch) })
        })
        .collect()
}

/// Builds a row on both sides, compares what they say of it, and finds out how long a repetition takes.
fn open<'a>(row: &'a Row, peer: &mut Peer, effort: Effort) -> Result<Entry<'a>> {
    let mut ours = ours::build(&row.work)?;
    let shape = (ours.step)()?.dims().to_vec();
    let theirs = peer.open(&row.name, &row.work.request())?;
    ensure!(shape == theirs.shape, "our output is {shape:?}, PyTorch's {:?}", theirs.shape);
    ensure!(ours.params == theirs.params, "we train {} elements, PyTorch {}", ours.params, theirs.params);
    let (first, second) = (time(&mut ours.step, 0, 1)?, peer.time(&row.name, 0, 1)?);
    let pace = [first, second].map(|times| Pace::of(median(times), effort));
    Ok(Entry { row, ours, pace, times: Default::default() })
}

/// Runs a step `warm` times, and then `reps` times by the clock: milliseconds. Each runs on a thread of the pool, as in the training loop.
pub fn time(step: &mut Step, warm: usize, reps: usize) -> Result<Vec<f64>> {
    let mut step = || rayon::scope(|_| step());
    for _ in 0..warm {
        step()?;
    }
    let mut times = Vec::with_capacity(reps);
    for _ in 0..reps {
        let start = Instant::now();
        drop(step()?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// The middle value; the mean of the two where there are two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}
