//! Co-localisation: appendix A.2, Table 5 and Figure 4.
//!
//! A hundred images hold a digit of one class each, at some place; nothing says where, nor which class. `just reproduce colocalisation`
//! trains a transformer for each set of images, T and TC, whose windows look alike to a fixed encoder. There is no test set: the optimisation
//! itself is measured, on the images that it sees, by the share of windows that cover the digit's frame with an IoU above one half.

mod encoder;
mod figures;
mod findings;
mod overlap;
mod scenes;
mod trial;

pub use overlap::Frame;
pub use scenes::{SCENES, Scenery, Scenes};
pub use trial::ColocalisationTrial;

use super::{Evaluation, Experiment};
use crate::budget::{Budget, OptimiserConfig};
use crate::data::mnist::{CLASSES, TEST_IDENTITY};
use crate::data::{Mnist, Source};
use crate::figures::Figure;
use crate::metrics::Measure;
use crate::models::colocalisation::localiser;
use crate::paper;
use crate::record::RunDir;
use crate::reproduce::{Ending, sweep};
use crate::request::Request;
use crate::run::{Config, Origin, Run, RunResult, Status, load_weights};
use crate::schedule::Schedule;
use crate::stop::Stop;
use anyhow::{Result, ensure};
use candle_core::{DType, Device};
use encoder::TrainedEncoder;
use serde_json::json;
use std::path::Path;
use stn_core::init::SeededVarMap;

/// Steps of `quick`.
const QUICK_STEPS: usize = 1000;

/// The budget that has the loss as the paper writes it.
const LITERAL: &str = "literal";

/// Co-localisation of each digit class, alone and among clutter.
#[derive(Debug, Clone, Copy)]
pub struct Colocalisation;

impl Experiment for Colocalisation {
    fn id(&self) -> &'static str {
        "colocalisation"
    }

    fn title(&self) -> &'static str {
        "co-localisation"
    }

    fn place(&self, _data: &str) -> &'static str {
        "table 5"
    }

    fn data(&self) -> Vec<String> {
        Scenery::ALL.map(|scenery| scenery.id().into()).to_vec()
    }

    /// A digit class each.
    fn models(&self) -> Vec<String> {
        (0..CLASSES).map(|class| class.to_string()).collect()
    }

    fn label(&self, model: &str) -> String {
        format!("digit {model}")
    }

    fn first_look(&self) -> (Vec<String>, Vec<String>) {
        (self.data(), self.models())
    }

    /// `literal` has the steps of `full`, and eq. (8) without what we add to it.
    fn budgets(&self) -> Vec<Budget> {
        let quick = Budget {
            name: "quick".into(),
            steps: QUICK_STEPS,
            batch: 50,
            optimiser: OptimiserConfig::Adamw { lr: 3e-3, weight_decay: 0.0 },
            localisation_lr_scale: 1.0,
            localisation_fan_in: None,
            schedule: Schedule::OneCycle { warmup: 0.05 },
            holdout: false,
            test_draws: 1,
        };
        let full = Budget { name: "full".into(), steps: 3 * QUICK_STEPS, ..quick.clone() };
        let literal = Budget { name: LITERAL.into(), ..full.clone() };
        vec![quick, full, literal]
    }

    fn measure(&self) -> Measure {
        Measure::Correct
    }

    fn paper_error_percent(&self, data: &str, model: &str) -> Option<f64> {
        Some(100.0 - paper::colocalisation_correct_percent(data.parse().ok()?, model.parse().ok()?)?)
    }

    fn seeds_choose_images(&self) -> bool {
        true
    }

    fn reproduce(&self, request: &Request, stop: &Stop) -> Result<Ending> {
        trial::check_batch(&request.budget)?; // before an encoder is trained
        ensure!(
            !request.budget.holdout,
            "co-localisation is measured on the images that it sees: there are none to hold out"
        );
        let mnist = Mnist::load(request.source, request.offline)?;
        crate::say!("MNIST from {}", mnist.source);
        let literal = request.base == LITERAL;
        let Some(encoder) = encoder::encoder(request, &mnist, stop)? else { return Ok(Ending::Interrupted) };
        sweep(request, |run| perform(run, &mnist, &encoder, literal, stop), stop)
    }

    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<Evaluation> {
        let settings = Config::of(run)?.settings;
        let digits = Mnist::load(source, offline)?.train;
        let scenes = Scenes::new(&digits, settings.data.parse()?, settings.model.parse()?, settings.seed)?;
        let vars = SeededVarMap::new(settings.seed);
        let localiser = localiser(vars.var_builder(DType::F32, &Device::Cpu).pp("transformer"))?;
        load_weights(run, &vars)?;
        let missed = trial::missed_percent(&trial::overlaps(&localiser, &scenes)?);
        Ok(Evaluation { draws: vec![missed], images: SCENES, other_images: None })
    }

    fn protocol(&self) -> &'static str {
        "Found: the window's box and the digit's 28x28 frame have an IoU above one half, on the hundred images of the optimisation, with \
         the last weights; there is no test set. The paper's figures: Jaderberg et al. 2015, Table 5."
    }

    fn figures(&self, folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
        figures::windows(folder, run, result)
    }

    fn findings(&self, results: &[&RunResult]) -> Result<String> {
        Ok(findings::table_5(results))
    }
}

/// Trains and measures one run.
fn perform(run: &Run, mnist: &Mnist, encoder: &TrainedEncoder, literal: bool, stop: &Stop) -> Result<Status> {
    let scenes = Scenes::new(&mnist.train, run.data.parse()?, run.model.parse()?, run.seed)?;
    let vars = SeededVarMap::new(run.seed);
    let localiser = localiser(vars.var_builder(DType::F32, &Device::Cpu).pp("transformer"))?;
    let identity = scenes.images.identity();
    let loss = if literal { ", loss eq. (8) as it stands" } else { "" };
    let trained_on = format!(
        "{} images made of {}, encoder {} ({}){loss}",
        scenes.images.len(),
        mnist.source.images(),
        encoder.run,
        encoder.identity.get(..8).unwrap_or(&encoder.identity),
    );
    let origin = Origin {
        source: &mnist.source,
        trained_on: &trained_on,
        train_identity: &identity,
        test_identity: TEST_IDENTITY,
        protocol: "a hundred training images of one class, chosen and placed by the seed; measured on the same images, last weights",
    };
    let mut details = vec![("encoder", json!(encoder.run)), ("encoder_identity", json!(encoder.identity))];
    let mut trial = ColocalisationTrial::new(localiser, &encoder.encoder, scenes, run.budget, run.seed)?;
    if literal {
        details.push(("loss", json!("eq. (8) as it stands")));
        trial = trial.literal();
    }
    run.perform(&trial, &vars, origin, &details, stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Distortion;
    use crate::models::colocalisation::Encoder;
    use crate::models::{Model, Network};
    use crate::run::{MODEL_FILE, SAMPLES_FILE};
    use crate::train::Cadence;

    /// An encoder that has learned nothing.
    fn untrained() -> Result<TrainedEncoder> {
        let vars = SeededVarMap::new(5);
        Network::new(Model::Cnn, Distortion::R, vars.var_builder(DType::F32, &Device::Cpu))?;
        Ok(TrainedEncoder { encoder: Encoder::new(vars.tensors()?)?, run: "none".into(), identity: "none".into() })
    }

    #[test]
    fn a_stopped_run_goes_on_and_ends_as_one_that_was_not() -> Result<()> {
        let (mnist, encoder) = (Mnist::embedded("asked for")?, untrained()?);
        let budget = Budget { steps: 45, batch: 8, ..Colocalisation.budgets().remove(0) };
        let folder = tempfile::tempdir()?;
        let run = |runs: &str, stop: &Stop| {
            let runs = folder.path().join(runs);
            let run = Run {
                experiment: &Colocalisation,
                data: "TC".into(),
                model: "6".into(),
                seed: 1,
                budget: &budget,
                runs: &runs,
                finished: None,
                cadence: Cadence::default(),
                estimate: false,
            };
            Ok::<_, anyhow::Error>((perform(&run, &mnist, &encoder, false, stop)?, run.dir()))
        };
        let (status, whole) = run("whole", &Stop::new())?;
        let Status::Finished(result) = status else { panic!("{status:?}") };
        assert_eq!((result.steps, result.error_percent_draws.len()), (45, 1));
        assert!(result.details["mean_iou"].as_f64().is_some_and(|iou| (0.0..1.0).contains(&iou)));

        let stop = Stop::new();
        stop.request();
        assert!(matches!(run("stopped", &stop)?.0, Status::Interrupted { step: 1 }));
        let (_, stopped) = run("stopped", &Stop::new())?;
        for file in [MODEL_FILE, SAMPLES_FILE] {
            let read = |dir: &RunDir| std::fs::read(dir.path().join(file));
            assert!(read(&whole)? == read(&stopped)?, "{file} differs");
        }
        let windows = |dir: &RunDir| -> Result<Vec<_>> {
            Ok(dir.metrics()?.into_iter().map(|line| (line["step"].clone(), line["windows"].clone())).collect())
        };
        assert_eq!(windows(&whole)?, windows(&stopped)?);
        let steps: Vec<_> = windows(&whole)?.into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [0, 20, 40, 45], "the course begins with the whole image");

        let figures = Colocalisation.figures(folder.path(), &whole, &result)?;
        let [Figure { file, .. }] = &figures[..] else { panic!("{figures:?}") };
        assert!(
            folder.path().join(format!("{file}.png")).exists() && folder.path().join(format!("{file}.svg")).exists()
        );
        Ok(())
    }

    #[test]
    fn there_is_no_budget_of_the_papers() {
        let error = Budget::named("paper", Colocalisation.budgets()).unwrap_err().to_string();
        assert!(error.contains("there are quick, full, literal"), "{error}");
        assert_eq!(Colocalisation.paper_error_percent("TC", "3"), Some(25.0));
        assert_eq!(Colocalisation.paper_error_percent("T", "9"), Some(0.0));
    }
}
