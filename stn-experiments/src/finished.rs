//! The finished runs under a folder, and those of them that count as seeds of their cells.

use crate::cells::Training;
use crate::experiments::{self, Experiment};
use crate::record::RunDir;
use crate::run::{Config, RunResult, Settings};
use anyhow::{Context, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

/// The finished runs under a folder, in the order of their paths. A damaged result, or one of an unknown experiment, data set or model, is left out with a
/// warning.
///
/// # Errors
/// When the folder cannot be read.
pub fn under(folder: &Path) -> Result<Vec<(RunDir, RunResult)>> {
    let mut runs = Vec::new();
    let (mut folders, mut seen) = (vec![folder.to_path_buf()], HashSet::new());
    while let Some(folder) = folders.pop() {
        // A link may lead to where we were.
        if !seen.insert(fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let run = RunDir::new(&folder);
        match run.result::<RunResult>() {
            Ok(Some(result)) => {
                match experiments::named(&result.experiment).and_then(|experiment| place(experiment, &result)) {
                    Ok(_) => runs.push((run, result)),
                    Err(error) => crate::warn!("left out: {}: {error:#}", folder.display()),
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => crate::warn!("left out: {error:#}"),
        }
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    runs.sort_by(|a, b| a.0.path().cmp(b.0.path()));
    Ok(runs)
}

/// A run's column (data set) and row (model) in its experiment's table.
///
/// # Errors
/// When the experiment has no data set or no model of the run's names.
pub(crate) fn place(experiment: &dyn Experiment, result: &RunResult) -> Result<(usize, usize)> {
    let position = |what: &str, id: &str, known: &[String]| {
        let position = known.iter().position(|known| known == id);
        position.with_context(|| format!("a result names the {what} `{id}`; there are {}", known.join(", ")))
    };
    let column = position("data set", &result.data, &experiment.data())?;
    Ok((column, position("model", &result.model, &experiment.models())?))
}

/// The runs without those that are no further seeds of their cells: copies of a run, and runs of another configuration. They are named in warnings.
pub(crate) fn that_count(runs: &[(RunDir, RunResult)]) -> Vec<&(RunDir, RunResult)> {
    of_one_configuration(each_once(runs))
}

/// The runs without copies of one of them, which would count as further seeds.
fn each_once(runs: &[(RunDir, RunResult)]) -> Vec<&(RunDir, RunResult)> {
    let mut first: BTreeMap<_, &RunDir> = BTreeMap::new();
    let mut kept = Vec::with_capacity(runs.len());
    for run in runs {
        let (dir, result) = run;
        let RunResult { experiment, data, model, seed, .. } = result;
        match first.entry((experiment, Training::of(result), data, model, seed)) {
            Entry::Vacant(place) => {
                place.insert(dir);
                kept.push(run);
            }
            Entry::Occupied(other) => crate::warn!(
                "left out: {} is the same cell and seed as {}",
                dir.path().display(),
                other.get().path().display()
            ),
        }
    }
    kept
}

/// The runs without those whose `config.json` asks, the seed apart, for something else than that of the first run of the same cell: they are no further seeds of it.
fn of_one_configuration(mut runs: Vec<&(RunDir, RunResult)>) -> Vec<&(RunDir, RunResult)> {
    let mut first: BTreeMap<_, (&RunDir, Settings)> = BTreeMap::new();
    runs.retain(|(dir, result)| {
        // Of a result alone there is nothing more to be told.
        let Ok(Config { mut settings, .. }) = Config::of(dir) else { return true };
        settings.seed = 0;
        if experiments::named(&result.experiment).is_ok_and(Experiment::seeds_choose_images) {
            settings.train_identity.clear();
        }
        let RunResult { experiment, data, model, .. } = result;
        match first.entry((experiment, Training::of(result), data, model)) {
            Entry::Vacant(place) => _ = place.insert((dir, settings)),
            Entry::Occupied(other) if other.get().1 != settings => {
                crate::warn!(
                    "left out: {} is a run of another configuration than {}; compare their config.json",
                    dir.path().display(),
                    other.get().0.path().display()
                );
                return false;
            }
            Entry::Occupied(_) => {}
        }
        true
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::data::DataSource;
    use crate::report::{self, test_result};

    /// A copy of a run, and a folder that is reached by two ways, are no further seeds.
    #[test]
    fn a_run_counts_once() -> Result<()> {
        let home = tempfile::tempdir()?;
        for folder in ["runs/seed-0", "copy/seed-0", "runs/seed-1"] {
            let seed = if folder.ends_with('1') { 1 } else { 0 };
            let run = RunDir::new(home.path().join(folder));
            run.open(&serde_json::json!({}))?;
            run.finish(&test_result("mnist", "R", "cnn", seed, 2.0))?;
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(home.path(), home.path().join("runs/again"))?;
        let runs = under(home.path())?;
        assert_eq!(runs.len(), 3);
        let seeds: Vec<u64> = that_count(&runs).iter().map(|(_, result)| result.seed).collect();
        assert_eq!(seeds, [0, 1]);
        #[cfg(unix)]
        {
            let linked = tempfile::tempdir()?;
            std::os::unix::fs::symlink(home.path().join("runs"), linked.path().join("moved"))?;
            assert_eq!(under(linked.path())?.len(), 3, "a linked folder is read");
        }
        Ok(())
    }

    /// `runs/` outlives a change of a recipe that neither the budget nor the images' words show.
    #[test]
    fn runs_of_another_configuration_are_no_further_seeds() -> Result<()> {
        let home = tempfile::tempdir()?;
        for (seed, width) in [(0, 64), (1, 100), (2, 64)] {
            let run = RunDir::new(home.path().join(format!("seed-{seed}")));
            let config = Config {
                settings: Settings {
                    experiment: "mnist".into(),
                    data: "R".into(),
                    model: "cnn".into(),
                    seed,
                    budget: Budget::quick(),
                    params: 208_586,
                    localisation_params: 0,
                    train_identity: "ab".into(),
                    test_identity: "cd".into(),
                    device: "cpu".into(),
                    details: [("width".to_string(), width.into())].into_iter().collect(),
                },
                data_source: DataSource::Embedded { reason: "--offline".into() },
                protocol: String::new(),
                versions: Default::default(),
            };
            run.open(&config)?;
            run.finish(&test_result("mnist", "R", "cnn", seed, 1.0 + seed as f64))?;
        }
        let (_, tables) = report::write(&under(home.path())?, &home.path().join("report"), "")?;
        assert!(tables.contains("| R | CNN | 2.00 ± 1.41 |") && tables.contains("| 0, 2 |"), "{tables}");
        Ok(())
    }

    #[test]
    fn results_of_unknown_names_are_left_out() -> Result<()> {
        let home = tempfile::tempdir()?;
        for (experiment, model) in [("mnist", "cnn"), ("mnist", "resnet"), ("imagenet", "cnn")] {
            let run = RunDir::new(home.path().join(experiment).join(model));
            run.open(&serde_json::json!({}))?;
            run.finish(&test_result(experiment, "R", model, 0, 1.0))?;
        }
        assert_eq!(under(home.path())?.len(), 1);
        Ok(())
    }
}
