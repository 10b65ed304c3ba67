//! Digits in volumes: appendix A.3 and Figure 5.
//!
//! `just reproduce volume` trains the CNN on the projection of the volume as it is, and the same CNN behind a 3-D transformer. The paper
//! gives no figure to compare with.

mod figures;
mod samples;
mod trial;

pub use trial::VolumeTrial;

use super::{Digits, Evaluation, Experiment, TEST_SEED};
use crate::budget::Budget;
use crate::data::distort::extrusion::volume_set;
use crate::data::{Mnist, Source};
use crate::figures::Figure;
use crate::models::volume::{VolumeModel, VolumeNetwork};
use crate::record::RunDir;
use crate::reproduce::{Ending, sweep};
use crate::request::Request;
use crate::run::{Config, Run, RunResult, Settings, Status, load_weights};
use crate::stop::Stop;
use anyhow::Result;
use candle_core::{DType, Device};
use serde_json::json;
use std::path::Path;
use stn_core::init::SeededVarMap;

/// The volumes of the test set whose checksum the settings hold: all of them are two gigabytes.
const IDENTIFIED: usize = 200;

/// Extruded digits in volumes of 60x60x60 voxels, turned and moved, with and without the transformer.
#[derive(Debug, Clone, Copy)]
pub struct DigitsInVolumes;

impl Experiment for DigitsInVolumes {
    fn id(&self) -> &'static str {
        "volume"
    }

    fn title(&self) -> &'static str {
        "digits in volumes"
    }

    fn place(&self, _data: &str) -> &'static str {
        "sec. A.3"
    }

    /// One: turned and moved.
    fn data(&self) -> Vec<String> {
        vec!["3D".into()]
    }

    fn models(&self) -> Vec<String> {
        VolumeModel::ALL.map(|model| model.id().into()).to_vec()
    }

    fn label(&self, model: &str) -> String {
        model.parse::<VolumeModel>().map_or_else(|_| model.into(), |model| model.label().into())
    }

    fn first_look(&self) -> (Vec<String>, Vec<String>) {
        (self.data(), self.models())
    }

    fn budgets(&self) -> Vec<Budget> {
        let quick = Budget { name: "quick".into(), steps: 4000, batch: 64, ..Budget::quick() };
        let full = Budget { name: "full".into(), steps: 10 * 60_000 / 64, holdout: false, ..quick.clone() };
        // The paper says no more than that class labels are all it is trained with: the schedule of A.4.
        vec![quick, full, Budget::paper()]
    }

    fn paper_error_percent(&self, _data: &str, _model: &str) -> Option<f64> {
        None
    }

    fn reproduce(&self, request: &Request, stop: &Stop) -> Result<Ending> {
        let digits = Digits::load(request.source, request.offline, &request.budget)?;
        sweep(request, |run| perform(run, &digits, stop), stop)
    }

    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<Evaluation> {
        let (settings, network) = load(run)?;
        let Mnist { test, source, .. } = Mnist::load(source, offline)?;
        let draws = trial::test_error_percent(&network, &test, settings.budget.test_draws)?;
        let (first, _) = volume_set(&test, 0..IDENTIFIED.min(test.len()), TEST_SEED, 0)?;
        let evaluation = Evaluation::of_draws(draws, &settings, "first_test_volumes_identity", &first, source);
        Ok(Evaluation { images: test.len(), ..evaluation })
    }

    fn protocol(&self) -> &'static str {
        "Test error: the mean over seeded draws of poses of the 10,000 test digits (\"draws ±\": standard deviation of single draws), \
         last weights; over several seeds mean ± standard deviation. Validation: the last 5,000 training images, held out. The paper \
         (Jaderberg et al. 2015, A.3) gives no error."
    }

    fn figures(&self, folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
        figures::learned_projections(folder, run, result)
    }
}

/// Trains and tests one run.
fn perform(run: &Run, digits: &Digits, stop: &Stop) -> Result<Status> {
    let model: VolumeModel = run.model.parse()?;
    let vars = SeededVarMap::new(run.seed);
    let network = VolumeNetwork::new(model, vars.var_builder(DType::F32, &Device::Cpu))?;
    let (test, _) = volume_set(&digits.test, 0..IDENTIFIED.min(digits.test.len()), TEST_SEED, 0)?;
    let details = [("width", json!(model.width())), ("first_test_volumes_identity", json!(test.identity()))];
    let trial = VolumeTrial::new(network, digits, run.budget.batch, run.seed)?;
    run.perform(&trial, &vars, digits.origin(&protocol(run.budget)), &details, stop)
}

/// The trained network of a finished run.
fn load(dir: &RunDir) -> Result<(Settings, VolumeNetwork)> {
    let Config { settings, .. } = Config::of(dir)?;
    let vars = SeededVarMap::new(settings.seed);
    let network = VolumeNetwork::new(settings.model.parse()?, vars.var_builder(DType::F32, &Device::Cpu))?;
    load_weights(dir, &vars)?;
    Ok((settings, network))
}

fn protocol(budget: &Budget) -> String {
    let training = if budget.holdout {
        "training images 0..55000, posed afresh every epoch; validation: the last 5,000 training images, one seeded draw of poses"
    } else {
        "all 60,000 training images, posed afresh every epoch; no validation"
    };
    format!(
        "{training}; test error: mean over {} seeded draws of poses of the 10,000 test images, last weights",
        budget.test_draws
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::run::{MODEL_FILE, SAMPLES_FILE};
    use crate::train::Cadence;

    /// What every platform must draw.
    const IDENTITY: &str = "e96373e4bf0be9b0cddd14a2d24b71a777087575080b5b00494274d0db07590c";

    #[test]
    fn the_test_volumes_are_pinned() -> Result<()> {
        let digits = Mnist::embedded("asked for")?.test;
        let set = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let (set, poses) = pool.install(|| volume_set(&digits, 0..IDENTIFIED, TEST_SEED, 0))?;
            Ok::<(Dataset, _), anyhow::Error>((set, poses))
        };
        let (one, four) = (set(1)?, set(4)?);
        assert!(one == four, "the number of threads changes nothing");
        assert_eq!(one.0.identity(), IDENTITY, "a change here changes every published test error");
        let (part, _) = volume_set(&digits, 20..22, TEST_SEED, 0)?;
        assert_eq!(part.image(1), one.0.image(21), "a volume is its index's own");
        Ok(())
    }

    #[test]
    fn a_run_that_is_asked_for_its_time_leaves_nothing() -> Result<()> {
        let mnist = Mnist::embedded("asked for")?;
        let (train, test) = (mnist.train.range(0..40)?, mnist.test.range(0..10)?);
        let budget = Budget { steps: 900, batch: 10, test_draws: 1, holdout: false, ..Budget::quick() };
        let digits = Digits::new(Mnist { train, test, source: mnist.source }, &budget)?;
        let folder = tempfile::tempdir()?;
        let run = Run {
            experiment: &DigitsInVolumes,
            data: "3D".into(),
            model: VolumeModel::StCnn.id().into(),
            seed: 1,
            budget: &budget,
            runs: folder.path(),
            finished: None,
            cadence: Cadence::default(),
            estimate: true,
        };
        let Status::Estimated { a_step } = perform(&run, &digits, &Stop::new())? else { panic!() };
        assert!(a_step > 0.0 && run.steps_left()? == 900 && std::fs::read_dir(folder.path())?.next().is_none());

        // What was logged is done, and a finished run takes no more time.
        std::fs::create_dir_all(run.dir().path())?;
        std::fs::write(run.dir().path().join("metrics.jsonl"), "{\"step\":50}\n{\"step\":150}\n")?;
        assert_eq!(run.steps_left()?, 750);
        let short = Budget { steps: 1, ..budget.clone() };
        let short = Run { budget: &short, model: VolumeModel::Cnn.id().into(), estimate: false, ..run };
        assert!(matches!(perform(&short, &digits, &Stop::new())?, Status::Finished(_)));
        assert_eq!(short.steps_left()?, 0);
        Ok(())
    }

    #[test]
    fn a_stopped_run_goes_on_and_ends_as_one_that_was_not() -> Result<()> {
        let mnist = Mnist::embedded("asked for")?;
        let (train, test) = (mnist.train.range(0..60)?, mnist.test.range(0..30)?);
        let budget = Budget { steps: 4, batch: 10, test_draws: 2, holdout: false, ..Budget::quick() };
        let digits = Digits::new(Mnist { train, test, source: mnist.source }, &budget)?;
        let folder = tempfile::tempdir()?;
        let run = |runs: &str, stop: &Stop| {
            let runs = folder.path().join(runs);
            let run = Run {
                experiment: &DigitsInVolumes,
                data: "3D".into(),
                model: VolumeModel::StCnn.id().into(),
                seed: 1,
                budget: &budget,
                runs: &runs,
                finished: None,
                cadence: Cadence::default(),
                estimate: false,
            };
            Ok::<_, anyhow::Error>((perform(&run, &digits, stop)?, run.dir()))
        };
        let (status, whole) = run("whole", &Stop::new())?;
        let Status::Finished(result) = status else { panic!("{status:?}") };
        assert_eq!((result.error_percent_draws.len(), result.batch, result.val_error_percent), (2, 10, None));

        let stop = Stop::new();
        stop.request();
        assert!(matches!(run("stopped", &stop)?.0, Status::Interrupted { step: 1 }));
        let (_, stopped) = run("stopped", &Stop::new())?;
        for file in [MODEL_FILE, SAMPLES_FILE] {
            let read = |dir: &RunDir| std::fs::read(dir.path().join(file));
            assert!(read(&whole)? == read(&stopped)?, "{file} differs");
        }
        assert!(matches!(run("whole", &Stop::new())?.0, Status::Already(..)));

        // The figure is drawn from what the run left, and its network can be had again.
        let figures = DigitsInVolumes.figures(folder.path(), &whole, &result)?;
        let [Figure { file, .. }] = &figures[..] else { panic!("{figures:?}") };
        assert!(
            folder.path().join(format!("{file}.png")).exists() && folder.path().join(format!("{file}.svg")).exists()
        );
        let (_, network) = load(&whole)?;
        assert_eq!(trial::test_error_percent(&network, &digits.test, 2)?, result.error_percent_draws);
        Ok(())
    }

    #[test]
    fn the_budgets_are_the_experiments_own() -> Result<()> {
        let budget = |name| Budget::named(name, DigitsInVolumes.budgets());
        assert!(budget("quick")?.holdout && !budget("full")?.holdout);
        assert_eq!((budget("quick")?.batch, budget("paper")?.steps), (64, 150_000));
        Ok(())
    }
}
