//! `stn eval`: a run's test error, measured again.

use super::SourceArgs;
use crate::experiments::{self, Evaluation};
use crate::metrics::Spread;
use crate::record::RunDir;
use crate::run::{Config, RunResult};
use anyhow::{Context, Result, bail};

/// Measures it, and compares it with what the run says.
pub(super) fn eval(run: &RunDir, source: SourceArgs) -> Result<()> {
    let experiment = experiments::named(&Config::of(run)?.settings.experiment)?;
    let stored: Option<RunResult> = run.result()?;
    let Evaluation { draws, other_images } = experiment.evaluate(run, source.source, source.offline)?;
    let spread = Spread::of(&draws).context("the run's budget has no test draws")?;
    if let Some(result) = &stored {
        let RunResult { data, model, seed, .. } = result;
        let label = experiment.label(model);
        crate::say!(
            "{label} on {data}, seed {seed}, budget {}; trained on {}",
            result.budget_label(),
            result.images_label()
        );
    }
    let measure = experiment.measure();
    let shown = Spread { mean: measure.of(spread.mean), ..spread };
    let draws_of = if spread.count > 1 {
        format!(" (mean ± standard deviation of {} draws)", spread.count)
    } else {
        String::new()
    };
    crate::say!("test {} {shown} %{draws_of}", measure.noun());
    if let Some(images) = other_images {
        crate::say!("on other images than result.json speaks of: {images}");
        return Ok(());
    }
    match stored {
        Some(result) if result.error_percent_draws == draws => crate::say!("the same as result.json says"),
        // Another processor may round otherwise and so decide a few images otherwise.
        Some(result) if (result.error_percent - spread.mean).abs() < 0.05 => {
            crate::say!(
                "result.json says {:.4} %, within what another processor's rounding may change",
                result.error_percent
            );
        }
        Some(result) => bail!("result.json says {:.4} %, now it is {:.4} %", result.error_percent, spread.mean),
        None => crate::say!("the run has no result.json to compare with"),
    }
    Ok(())
}
