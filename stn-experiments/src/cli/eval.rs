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
    let Evaluation { draws, images, other_images } = experiment.evaluate(run, source.source, source.offline)?;
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
    let Some(result) = stored else {
        crate::say!("the run has no result.json to compare with");
        return Ok(());
    };
    let off = (result.error_percent - spread.mean).abs();
    let says = format!("result.json says {:.4} %", measure.of(result.error_percent));
    // Less is what a number loses on its way through JSON.
    if off < 1e-9 {
        crate::say!("the same as result.json says");
    } else if off <= tolerance(images) {
        crate::say!("{says}, within what another processor's rounding may change");
    } else {
        bail!("{says}, now it is {:.4} %", shown.mean)
    }
    Ok(())
}

/// By how many points the error on so many images may differ: another processor may round otherwise and so decide a few images otherwise.
fn tolerance(images: usize) -> f64 {
    (3.0 * 100.0 / images.max(1) as f64 + 1e-9).max(0.05)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_images_may_be_decided_otherwise_whatever_the_size_of_the_set() {
        assert!(tolerance(100) >= 3.0 && tolerance(100) < 4.0);
        assert!(tolerance(1389) > 2.0 * 100.0 / 1389.0);
        assert_eq!(tolerance(10_000), 0.05);
    }
}
