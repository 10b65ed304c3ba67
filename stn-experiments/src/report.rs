//! From finished runs to a table, ours beside the paper's, and a report in Markdown with figures.

use crate::data::Distortion;
use crate::experiments::mnist::{Cell, RunResult};
use crate::figures::{self, Figure};
use crate::metrics::Spread;
use crate::models::Model;
use crate::record::{RunDir, write_atomically};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The finished runs under a folder, in the order of their paths. A damaged result is left out with a warning.
///
/// # Errors
/// When the folder cannot be read.
pub fn finished_runs(folder: &Path) -> Result<Vec<(RunDir, RunResult)>> {
    let mut runs = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let run = RunDir::new(&folder);
        match run.result() {
            Ok(Some(result)) => {
                runs.push((run, result));
                continue;
            }
            Ok(None) => {}
            Err(error) => crate::warn!("left out: {error:#}"),
        }
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    runs.sort_by(|a, b| a.0.path().cmp(b.0.path()));
    Ok(runs)
}

/// A table of test errors, one row a budget, data set and model: ours as mean ± standard deviation over the seeds, the paper's beside.
///
/// # Errors
/// When a result names an unknown model.
pub fn table(results: &[&RunResult]) -> Result<String> {
    let mut rows: BTreeMap<(String, String, usize, usize), Vec<&RunResult>> = BTreeMap::new();
    for &result in results {
        let model: Model = result.model.parse()?;
        let column = Distortion::ALL.iter().position(|&data| data == result.data);
        let row = Model::ALL.iter().position(|&m| m == model);
        let (budget, training) = (result.budget.clone(), result.training.clone());
        let key = (budget, training, column.unwrap_or_default(), row.unwrap_or_default());
        rows.entry(key).or_default().push(result);
    }
    let mut text = String::from(
        "| data | model | error % (ours) | error % (paper) | draws ± | validation % | seeds | parameters | minutes | budget | training (the paper: 150,000 steps of 256, SGD) |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ((budget, training, ..), runs) in rows {
        let first = runs[0];
        let model: Model = first.model.parse()?;
        let over = |value: fn(&RunResult) -> Option<f64>| {
            Spread::of(&runs.iter().filter_map(|r| value(r)).collect::<Vec<_>>())
        };
        let show = |spread: Option<Spread>| spread.map_or("-".into(), |s| s.to_string());
        let mean = |value: fn(&RunResult) -> Option<f64>, digits: usize| {
            over(value).map_or("-".into(), |spread| format!("{:.digits$}", spread.mean))
        };
        let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
        let paper = Cell::new(first.data, model).paper_error_percent();
        let paper = paper.map_or("-".into(), |error| format!("{error:.1}"));
        writeln!(
            text,
            "| {} | {} | {} | {paper} | {} | {} | {} | {} | {} | {budget} | {training} |",
            first.data,
            model.label(),
            show(over(|run| Some(run.error_percent))),
            mean(|run| run.error_percent_std, 2),
            show(over(|run| run.val_error_percent)),
            seeds.join(", "),
            first.params,
            mean(|run| Some(run.seconds / 60.0), 1),
        )?;
    }
    Ok(text)
}

/// Writes `report.md` and its figures for finished runs, and returns its path and the table.
///
/// # Errors
/// When there are no runs, or the report cannot be written.
pub fn write(runs: &[(RunDir, RunResult)], out: &Path, command: &str) -> Result<(PathBuf, String)> {
    if runs.is_empty() {
        bail!("there are no finished runs to report; train some with `cargo stn reproduce mnist`")
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make the report's folder {}", out.display()))?;
    let table = table(&runs.iter().map(|(_, result)| result).collect::<Vec<_>>())?;
    let mut figures = figures::learning_curves(out, runs)?;
    for (run, _) in runs {
        figures.extend(figures::transforms(out, run)?);
    }
    let path = out.join("report.md");
    let text = markdown(runs, &table, &figures, command)?;
    write_atomically(&path, |part| Ok(fs::write(part, text.as_bytes())?))?;
    Ok((path, table))
}

fn markdown(runs: &[(RunDir, RunResult)], table: &str, figures: &[Figure], command: &str) -> Result<String> {
    let mut text = String::from("# Spatial Transformer Networks: distorted MNIST\n\n");
    writeln!(text, "Last written by `{command}`.\n")?;
    let mut sources: Vec<String> = runs.iter().map(|(_, result)| result.data_source.to_string()).collect();
    sources.sort();
    sources.dedup();
    writeln!(text, "Data: {}.\n", sources.join("; "))?;
    text.push_str(table);
    text.push_str(
        "\nTest error: the mean over seeded distortion draws of the 10,000 test images (\"draws ±\": standard deviation of single \
         draws), last weights; over several seeds mean ± standard deviation. Validation: the last 5,000 training images, held out. \
         The paper's figures: Jaderberg et al. 2015, Table 1 (TC: section 4.1).\n",
    );
    if runs.iter().any(|(_, result)| result.budget != "paper") {
        text.push_str(
            "\nThese runs are scaled down against the paper's 150,000 steps of 256 images, as the last column says.\n",
        );
    }
    text.push_str("\n## Figures\n");
    for Figure { file, caption } in figures {
        writeln!(text, "\n![{caption}]({file}.png)\n\n{caption} ([SVG]({file}.svg))")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSource;

    fn result(model: &str, seed: u64, error_percent: f64) -> RunResult {
        RunResult {
            experiment: "mnist".into(),
            data: Distortion::R,
            model: model.into(),
            seed,
            budget: "quick".into(),
            error_percent,
            error_percent_std: Some(0.1),
            error_percent_draws: vec![error_percent],
            val_error_percent: None,
            paper_error_percent: Some(1.2),
            params: 208_586,
            steps: 2500,
            batch: 256,
            training: "2500 steps of 256".into(),
            seconds: 90.0,
            data_source: DataSource::Embedded { reason: "--offline".into() },
            device: "cpu".into(),
        }
    }

    #[test]
    fn seeds_become_mean_and_spread_beside_the_papers_figure() -> Result<()> {
        let (a, b, c) = (result("st-cnn-aff", 0, 1.0), result("st-cnn-aff", 1, 2.0), result("cnn", 0, 2.5));
        let table = table(&[&a, &b, &c])?;
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(rows[0], "| R | CNN | 2.50 | 1.2 | 0.10 | - | 0 | 208586 | 1.5 | quick | 2500 steps of 256 |");
        assert!(rows[1].starts_with("| R | ST-CNN Aff | 1.50 ± 0.71 | 0.7 |"), "{}", rows[1]);
        assert_eq!(rows.len(), 2);
        Ok(())
    }

    #[test]
    fn a_folder_without_runs_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let runs = finished_runs(folder.path()).unwrap();
        let error = write(&runs, &folder.path().join("report"), "").unwrap_err().to_string();
        assert!(error.contains("no finished runs") && error.contains("cargo stn reproduce mnist"), "{error}");
    }
}
