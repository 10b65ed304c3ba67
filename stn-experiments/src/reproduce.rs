//! A sweep over an experiment's cells and seeds: what is finished is skipped, what was stopped goes on, and the rest is trained.

use crate::cells::Training;
use crate::console::duration;
use crate::experiments::Experiment;
use crate::finished;
use crate::record::RunDir;
use crate::report;
use crate::request::Request;
use crate::run::{Run, RunResult, Status};
use crate::stop::Stop;
use anyhow::{Result, bail, ensure};
use std::collections::HashMap;

/// Steps of a run from which on a sweep of `full` or `paper` says beforehand how long it will take.
const ESTIMATED_FROM: usize = 500;

/// Whether a sweep came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its runs are finished.
    Complete,
    /// It was stopped; the same command goes on.
    Interrupted,
}

/// Trains what is asked for, prints the table and writes the report.
///
/// # Errors
/// When the data cannot be had, or a run fails: the others are trained all the same, and the failures listed at the end.
pub fn reproduce(request: &Request, stop: &Stop) -> Result<Ending> {
    if let Some(folder) = &request.finished {
        ensure!(folder.is_dir(), "there is no folder {} of finished runs; see --finished", folder.display());
        let id = request.experiment.id();
        if !folder.join(id).is_dir() {
            crate::warn!(
                "--finished: {} has no folder `{id}`, so none of its runs counts; a run lies in <folder>/{id}/<budget>/<data>/<model>/seed-<n>",
                folder.display()
            );
        }
    }
    request.experiment.reproduce(request, stop)
}

/// Performs the request's runs one by one, prints the table and writes the report; the experiment calls it with its data at hand.
///
/// # Errors
/// When a run fails: the others are performed all the same, and the failures listed at the end.
pub fn sweep(request: &Request, perform: impl Fn(&Run) -> Result<Status>, stop: &Stop) -> Result<Ending> {
    sweep_after(&mut Vec::new(), request, perform, stop)
}

/// A [`sweep`] whose table and report have the runs of `earlier` ones of the same command too; its own are put to them.
///
/// # Errors
/// As [`sweep`].
pub fn sweep_after(
    earlier: &mut Vec<(RunDir, RunResult)>,
    request: &Request,
    perform: impl Fn(&Run) -> Result<Status>,
    stop: &Stop,
) -> Result<Ending> {
    let (budget, runs) = (&request.budget, request.runs());
    let root = request.out.join(request.experiment.id()).join(&budget.name);
    crate::say!("{} runs, budget {}: {}; into {}\n", runs.len(), budget.name, budget.describe(), root.display());

    if matches!(request.base.as_str(), "full" | "paper") && budget.steps >= ESTIMATED_FROM {
        estimate(&runs, &perform, stop);
    }
    let (finished, mut failures) = (earlier, Vec::new());
    for (i, run) in runs.iter().enumerate() {
        if stop.requested() {
            return Ok(interrupted(0, request));
        }
        crate::say!("[{}/{}]", i + 1, runs.len());
        match perform(run) {
            Ok(Status::Finished(result)) => {
                print_result("", run.experiment, &result, &run.dir());
                finished.push((run.dir(), result));
            }
            Ok(Status::Already(result, dir)) => {
                print_result("finished before: ", run.experiment, &result, &dir);
                finished.push((dir, result));
            }
            Ok(Status::Interrupted { step }) => return Ok(interrupted(step, request)),
            Ok(Status::Estimated { .. }) => bail!("a run was estimated that was to be trained: this is a bug"),
            Err(error) => {
                crate::warn!("  failed: {error:#}\n");
                failures.push((run.dir(), format!("{error:#}")));
            }
        }
    }

    // What other shards or earlier commands have finished in the same place belongs into the table too, but for what has just been refused.
    let here: Vec<RunResult> = finished.iter().map(|(_, result)| result.clone()).collect();
    let mut others = if root.is_dir() { finished::under(&root)? } else { Vec::new() };
    others.retain(|(dir, _)| !failures.iter().any(|(failed, _)| failed.path() == dir.path()));
    // A run that counted as finished in another folder may lie here too.
    let same = |a: &RunResult, b: &RunResult| {
        Training::of(a) == Training::of(b) && (&a.data, &a.model, a.seed) == (&b.data, &b.model, b.seed)
    };
    finished.extend(others.into_iter().filter(|(_, result)| !here.iter().any(|other| same(other, result))));
    finished.sort_by(|a, b| a.0.path().cmp(b.0.path()));
    if finished.is_empty() {
        crate::say!("no run is finished: there is no table to show");
    } else {
        let (path, tables) = report::write(finished, &root.join("report"), &request.command())?;
        crate::say!("\n{tables}\nreport and figures: {}", path.display());
    }
    let lines: Vec<String> = failures.iter().map(|(dir, error)| format!("{}: {error}", dir.path().display())).collect();
    ensure!(lines.is_empty(), "{} of {} runs failed:\n  {}", lines.len(), runs.len(), lines.join("\n  "));
    crate::say!("{}", next_steps(request));
    Ok(Ending::Complete)
}

/// Says how long the runs will take that are not finished, from a few steps of each cell. What is wrong with a run is said when its turn comes.
fn estimate(runs: &[Run], perform: impl Fn(&Run) -> Result<Status>, stop: &Stop) {
    crate::say!("how long it will take, from a few steps of each network:");
    let mut times = HashMap::new();
    let (mut known, mut unknown, mut steps, mut seconds) = (0, 0, 0, 0.0);
    for run in runs {
        if stop.requested() {
            return;
        }
        let of_run = run.steps_left().ok();
        if of_run == Some(0) {
            continue;
        }
        let cell = (&run.data, &run.model);
        let mut time = times.get(&cell).copied().flatten();
        // Of a run that may have been finished in another folder its settings tell whether it counts.
        let elsewhere =
            run.finished.is_some_and(|folder| run.dir_in(folder).result::<RunResult>().is_ok_and(|r| r.is_some()));
        if elsewhere || !times.contains_key(&cell) {
            time = match perform(&Run { estimate: true, ..run.clone() }) {
                Ok(Status::Already(..)) => continue,
                Ok(Status::Estimated { a_step }) => {
                    let model = run.experiment.label(&run.model);
                    crate::say!("  {model} on {}: {:.1} ms a step", run.data, 1e3 * a_step);
                    Some(a_step)
                }
                _ => None,
            };
            times.insert(cell, time);
        }
        match time.zip(of_run) {
            Some((a_step, of_run)) => {
                (known, steps, seconds) = (known + 1, steps + of_run, seconds + a_step * of_run as f64);
            }
            None => unknown += 1,
        }
    }
    let unknown = if unknown > 0 { format!("; of {unknown} more it cannot be told") } else { String::new() };
    crate::say!(
        "  {known} runs of {} are not finished, {steps} steps: about {}{unknown}\n",
        runs.len(),
        duration(seconds)
    );
}

fn interrupted(step: usize, request: &Request) -> Ending {
    crate::say!(
        "\nStopped after {step} of {} steps; nothing is lost. The same command goes on from there:\n  {}",
        request.budget.steps,
        request.typed
    );
    Ending::Interrupted
}

fn print_result(prefix: &str, experiment: &dyn Experiment, result: &RunResult, dir: &RunDir) {
    let measure = experiment.measure();
    let spread = result.error_percent_std.map_or(String::new(), |std| format!(" (single draws ± {std:.2})"));
    let validation =
        result.val_error_percent.map_or(String::new(), |error| format!(", validation {:.2} %", measure.of(error)));
    let paper = result.paper_error_percent.map_or("not given".into(), |error| format!("{:.1} %", measure.of(error)));
    crate::say!(
        "  {prefix}test {} {:.2} %{spread}{validation} (budget {}; {}; {}); the paper's: {paper}; {:.1} minutes; {}\n",
        measure.noun(),
        measure.of(result.error_percent),
        result.budget_label(),
        result.trained_on,
        result.data_source,
        result.seconds / 60.0,
        dir.path().display()
    );
}

fn next_steps(request: &Request) -> String {
    match request.budget.name.as_str() {
        "paper" => "next: `cargo stn report` on several seeds' runs".into(),
        "full" => {
            let paper = if request.experiment.paper_training().is_some() {
                ", or --budget paper for the paper's own schedule"
            } else {
                ""
            };
            format!("next: --seeds 0,1,2 for the spread{paper}")
        }
        _ => {
            let id = request.experiment.id();
            let look = if id == "mnist" { "; one image through a transformer with `cargo stn look <run>`" } else { "" };
            format!(
                "next: other cells (`cargo stn list {id}`) with --data and --model; more seeds with --seeds 0,1,2;\n      \
                 our full schedule with --budget full{look}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::request::test_request;

    /// A run of another configuration, say, that lies where one of the sweep's should.
    #[test]
    fn a_run_that_was_refused_is_not_in_the_table() -> Result<()> {
        let out = tempfile::tempdir()?;
        let request =
            Request { seeds: vec![0, 1], models: vec!["cnn".into()], out: out.path().into(), ..test_request("quick") };
        let request = Request { data: vec!["R".into()], ..request };
        for run in request.runs() {
            run.dir().open(&serde_json::json!({}))?;
            run.dir().finish(&report::test_result("mnist", "R", "cnn", run.seed, 1.5 + 48.0 * run.seed as f64))?;
        }
        let perform = |run: &Run| match run.seed {
            0 => Ok(Status::Already(run.dir().result()?.unwrap(), run.dir())),
            _ => bail!("another configuration"),
        };
        let error = sweep(&request, perform, &Stop::new()).unwrap_err().to_string();
        assert!(error.contains("1 of 2 runs failed") && error.contains("seed-1: another configuration"), "{error}");
        let report = std::fs::read_to_string(out.path().join("mnist/quick/report/report.md"))?;
        assert!(report.contains("| R | CNN | 1.50 |"), "{report}");
        Ok(())
    }

    #[test]
    fn sweeps_of_one_command_share_the_last_ones_report() -> Result<()> {
        let out = tempfile::tempdir()?;
        let (mut finished, stop) = (Vec::new(), Stop::new());
        for (data, budget) in [("R", Budget::quick()), ("P", Budget { name: "custom-9".into(), ..Budget::quick() })] {
            let (data, models, out) = (vec![data.into()], vec!["cnn".into()], out.path().into());
            let request = Request { data, models, budget, out, ..test_request("quick") };
            let trained = |run: &Run| {
                let result = report::test_result("mnist", &run.data, &run.model, run.seed, 1.5);
                Ok(Status::Finished(RunResult { budget: run.budget.name.clone(), ..result }))
            };
            assert!(matches!(sweep_after(&mut finished, &request, trained, &stop)?, Ending::Complete));
        }
        let report =
            |budget: &str| std::fs::read_to_string(out.path().join("mnist").join(budget).join("report/report.md"));
        let (first, last) = (report("quick")?, report("custom-9")?);
        assert!(first.contains("| R | CNN | 1.50 |") && !first.contains("| P | CNN |"), "{first}");
        assert!(last.contains("| R | CNN | 1.50 |") && last.contains("| P | CNN | 1.50 |"), "{last}");
        Ok(())
    }
}
