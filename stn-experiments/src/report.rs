//! From finished runs to tables, ours beside the paper's, and a report in Markdown with figures.

use crate::cells::{Cells, Training};
use crate::claims::{self, Claim};
use crate::experiments::{self, Experiment};
use crate::figures::{self, Figure};
use crate::finished;
use crate::metrics::Spread;
use crate::record::{RunDir, write_atomically};
use crate::run::RunResult;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The table of an experiment's runs, one row a [`Training`], data set and model: ours as mean ± standard deviation over the seeds, the paper's
/// beside.
///
/// # Errors
/// When a result names an unknown data set or model.
pub fn table(experiment: &dyn Experiment, results: &[&RunResult]) -> Result<String> {
    let mut rows: BTreeMap<(Training, usize, usize), Vec<&RunResult>> = BTreeMap::new();
    for &result in results {
        let (column, row) = finished::place(experiment, result)?;
        rows.entry((Training::of(result), column, row)).or_default().push(result);
    }
    let measure = experiment.measure();
    let training = experiment.paper_training().map_or(String::new(), |training| format!(" (the paper: {training})"));
    let mut text = format!(
        "| data | model | {0} % (ours) | {0} % (paper) | draws ± | validation % | seeds | parameters | minutes | budget | trained on | training{training} |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        measure.noun()
    );
    for ((training, ..), runs) in rows {
        let first = runs[0];
        let over = |value: &dyn Fn(&RunResult) -> Option<f64>| {
            Spread::of(&runs.iter().filter_map(|r| value(r)).collect::<Vec<_>>())
        };
        let show = |spread: Option<Spread>| spread.map_or("-".into(), |s| s.to_string());
        let mean = |value: &dyn Fn(&RunResult) -> Option<f64>, digits: usize| {
            over(value).map_or("-".into(), |spread| format!("{:.digits$}", spread.mean))
        };
        let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
        let paper = experiment.paper_error_percent(&first.data, &first.model);
        let paper = paper.map_or("-".into(), |error| format!("{:.1}", measure.of(error)));
        writeln!(
            text,
            "| {} | {} | {} | {paper} | {} | {} | {} | {} | {} | {} | {} | {} |",
            first.data,
            experiment.label(&first.model),
            show(over(&|run| Some(measure.of(run.error_percent)))),
            mean(&|run| run.error_percent_std, 2),
            show(over(&|run| run.val_error_percent.map(|error| measure.of(error)))),
            seeds.join(", "),
            first.params,
            mean(&|run| Some(run.seconds / 60.0), 1),
            first.budget_label(),
            training.on,
            training.how,
        )?;
    }
    Ok(text)
}

/// For each [`Training`] the table as the paper lays it out, ours beside the paper's; what the cells cost; and the paper's claims.
///
/// # Errors
/// When a result names an unknown data set or model.
pub fn beside_the_papers(
    experiment: &dyn Experiment,
    results: &[&RunResult],
    claims: fn(&Cells) -> Vec<Claim>,
) -> Result<String> {
    for result in results {
        finished::place(experiment, result)?;
    }
    let mut text = String::new();
    for cells in Cells::by_training(results) {
        writeln!(text, "{}\n", cells.heading(experiment))?;
        writeln!(text, "Test {} in percent, ours over the seeds (the paper's):\n", experiment.measure().noun())?;
        writeln!(text, "{}", cells.beside_the_papers(experiment))?;
        writeln!(text, "Parameters / seeds / minutes a run:\n\n{}", cells.costs(experiment))?;
        text.push_str(&claims::markdown(&claims(&cells)));
        text.push_str("\nClaims are judged by the means over the seeds, as they stand.\n");
    }
    Ok(text)
}

/// Writes `report.md` and its figures for finished runs, and returns its path and the tables.
///
/// # Errors
/// When there are no runs, or the report cannot be written.
pub fn write(runs: &[(RunDir, RunResult)], out: &Path, command: &str) -> Result<(PathBuf, String)> {
    let runs = finished::that_count(runs);
    if runs.is_empty() {
        bail!("there are no finished runs to report; train some with `cargo stn reproduce mnist`")
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make the report's folder {}", out.display()))?;
    let mut text = format!("# Spatial Transformer Networks\n\nLast written by `{command}`.\n");
    let mut printed = Vec::new();
    let several = runs.iter().any(|(_, result)| result.experiment != runs[0].1.experiment);
    for experiment in experiments::ALL {
        let of = |run: &&(RunDir, RunResult)| run.1.experiment == experiment.id();
        let runs: Vec<&(RunDir, RunResult)> = runs.iter().copied().filter(of).collect();
        if !runs.is_empty() {
            let prefix = if several { format!("{}-", experiment.id()) } else { String::new() };
            let (section, tables) = section(experiment, &runs, out, &prefix)?;
            text += &section;
            printed.push(tables);
        }
    }
    let path = out.join("report.md");
    write_atomically(&path, |part| Ok(fs::write(part, text.as_bytes())?))?;
    Ok((path, printed.join("\n")))
}

/// An experiment's part of the report, and its tables alone.
fn section(
    experiment: &dyn Experiment,
    runs: &[&(RunDir, RunResult)],
    out: &Path,
    prefix: &str,
) -> Result<(String, String)> {
    let results: Vec<&RunResult> = runs.iter().map(|(_, result)| result).collect();
    let (table, findings) = (table(experiment, &results)?, experiment.findings(&results)?);
    let (mut figures, mut left_out) = (Vec::new(), Vec::new());
    match figures::learning_curves(out, prefix, experiment, runs) {
        Ok(curves) => figures.extend(curves),
        Err(error) => {
            crate::warn!("the learning curves are left out: {error:#}");
            left_out.push(format!("the learning curves: {error:#}").replace(&out.display().to_string(), "the report"));
        }
    }
    let mut drawn = BTreeSet::new();
    // Those of a second training, whose names are the same, go into a folder of their own.
    let trainings: BTreeSet<Training> = results.iter().map(|&result| Training::of(result)).collect();
    for (run, result) in runs {
        let training = Training::of(result);
        let place = trainings.iter().position(|other| *other == training).filter(|&place| place > 0);
        // The seeds of a cell look alike: the first is drawn.
        if drawn.insert((training, &result.data, &result.model)) {
            let folder = place.map_or(String::new(), |place| format!("{prefix}training-{}/", place + 1));
            fs::create_dir_all(out.join(&folder)).with_context(|| format!("cannot make {folder}"))?;
            // What a run's samples cannot show is left out: the tables need its result alone.
            match experiment.figures(&out.join(&folder), run, result) {
                Ok(of_run) => figures.extend(
                    of_run.into_iter().map(|figure| Figure { file: format!("{folder}{}", figure.file), ..figure }),
                ),
                Err(error) => {
                    let note = format!("{} on {}: {error:#}", experiment.label(&result.model), result.data);
                    crate::warn!("figures are left out, {note}");
                    // Others read the report, on whose machines the folder is another.
                    let RunResult { data, model, seed, .. } = result;
                    let place = format!("{data}/{model}/seed-{seed}");
                    left_out.push(note.replace(&run.path().display().to_string(), &place));
                }
            }
        }
    }

    let mut text = format!("\n## {}\n\n", experiment.title());
    let sources: BTreeSet<String> = results.iter().map(|result| result.data_source.to_string()).collect();
    writeln!(text, "Data: {}.\n", sources.into_iter().collect::<Vec<_>>().join("; "))?;
    if !findings.is_empty() {
        writeln!(text, "{findings}\n### All runs\n")?;
    }
    writeln!(text, "{table}\n{}", experiment.protocol())?;
    if let Some(training) = experiment.paper_training()
        && results.iter().any(|result| result.scaled_down())
    {
        writeln!(text, "\nThe runs whose budget says so are scaled down; the paper has {training}.")?;
    }
    text.push_str("\n### Figures\n");
    for Figure { file, caption, svg } in figures {
        let svg = if svg { format!(" ([SVG]({file}.svg))") } else { String::new() };
        writeln!(text, "\n![{caption}]({file}.png)\n\n{caption}{svg}")?;
    }
    for note in left_out {
        writeln!(text, "\nLeft out, {note}")?;
    }
    let tables = if findings.is_empty() { table } else { format!("{findings}\n{table}") };
    Ok((text, tables))
}

/// A result for tests.
#[cfg(test)]
pub(crate) fn test_result(experiment: &str, data: &str, model: &str, seed: u64, error_percent: f64) -> RunResult {
    RunResult {
        experiment: experiment.into(),
        data: data.into(),
        model: model.into(),
        seed,
        budget: "quick".into(),
        error_percent,
        error_percent_std: Some(0.1),
        error_percent_draws: vec![error_percent],
        val_error_percent: None,
        paper_error_percent: None,
        params: 208_586,
        steps: 2500,
        batch: 256,
        training: "2500 steps of 256".into(),
        trained_on: "55000 images of MNIST".into(),
        seconds: 90.0,
        data_source: crate::data::DataSource::Embedded { reason: "--offline".into() },
        device: "cpu".into(),
        details: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSource;
    use crate::experiments::mnist::DistortedMnist;
    use crate::experiments::svhn::HouseNumbers;

    #[test]
    fn seeds_become_mean_and_spread_beside_the_papers_figure() -> Result<()> {
        let result = |model: &str, seed, error| test_result("mnist", "R", model, seed, error);
        let (a, b, c) = (result("st-cnn-aff", 0, 1.0), result("st-cnn-aff", 1, 2.0), result("cnn", 0, 2.5));
        let table = table(&DistortedMnist, &[&a, &b, &c])?;
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "| R | CNN | 2.50 | 1.2 | 0.10 | - | 0 | 208586 | 1.5 | quick, scaled down | 55000 images of MNIST | 2500 steps of 256 |"
        );
        assert!(rows[1].starts_with("| R | ST-CNN Aff | 1.50 ± 0.71 | 0.7 |"), "{}", rows[1]);
        assert_eq!(rows.len(), 2);

        let paper = DistortedMnist.findings(&[&a, &b, &c])?;
        assert!(paper.contains("| model | R | RTS | P | E | TC |"), "{paper}");
        assert!(
            paper.contains("| ST-CNN Aff | 1.50 ± 0.71 (0.7) | - (0.5) | - (0.8) | - (1.2) | - (1.7) |"),
            "{paper}"
        );
        assert!(paper.contains("| ST-CNN TPS | - (0.7) | - (0.5) | - (0.8) | - (1.1) | - |"), "{paper}");
        assert!(paper.contains("| ST-CNN Aff | 208586 / 2 / 1.5 | - | - | - | - |"), "{paper}");
        assert!(paper.contains("scaled down, the paper has 150,000 steps"), "{paper}");
        Ok(())
    }

    #[test]
    fn runs_on_other_images_are_not_averaged() -> Result<()> {
        let result = |seed, error, trained_on: &str| RunResult {
            trained_on: trained_on.into(),
            ..test_result("svhn", "128", "cnn", seed, error)
        };
        let all = [
            result(0, 10.0, "91000 images of SYNTHETIC house numbers v1"),
            result(1, 12.0, "91000 images of SYNTHETIC house numbers v1"),
            result(0, 20.0, "43200 images of SYNTHETIC house numbers v1"),
            result(0, 5.0, "230755 images of a/b@c"),
            result(0, 7.0, "28402 images of a/b@c"),
        ];
        let all: Vec<&RunResult> = all.iter().collect();
        let table = table(&HouseNumbers, &all)?;
        for row in ["11.00 ± 1.41 |", "20.00 |", "5.00 |", "7.00 |"] {
            assert_eq!(table.matches(&format!("| 128 | CNN | {row}")).count(), 1, "{table}");
        }
        assert!(
            table.contains("| 91000 images of SYNTHETIC house numbers v1 |")
                && table.contains("| 28402 images of a/b@c |")
        );
        let findings = HouseNumbers.findings(&all)?;
        assert_eq!(findings.matches("### Budget quick").count(), 4, "{findings}");
        assert!(findings.contains("| CNN | - (4.0) | 11.00 ± 1.41 (5.6) |"), "{findings}");
        Ok(())
    }

    #[test]
    fn the_same_images_from_elsewhere_are() -> Result<()> {
        let embedded = test_result("mnist", "R", "cnn", 0, 2.0);
        let hub = DataSource::Hub { repository: "ylecun/mnist".into(), commit: "c".into() };
        let hub = RunResult { data_source: hub, ..test_result("mnist", "R", "cnn", 1, 3.0) };
        let table = table(&DistortedMnist, &[&embedded, &hub])?;
        assert!(table.contains("| R | CNN | 2.50 ± 0.71 |"), "{table}");
        Ok(())
    }

    #[test]
    fn unknown_names_are_named() {
        let result = test_result("mnist", "R", "resnet", 0, 1.0);
        let error = table(&DistortedMnist, &[&result]).unwrap_err().to_string();
        assert!(error.contains("the model `resnet`; there are fcn"), "{error}");
    }

    #[test]
    fn a_folder_without_runs_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let runs = finished::under(folder.path()).unwrap();
        let error = write(&runs, &folder.path().join("report"), "").unwrap_err().to_string();
        assert!(error.contains("no finished runs") && error.contains("cargo stn reproduce mnist"), "{error}");
    }
}
