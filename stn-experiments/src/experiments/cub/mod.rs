//! Birds: section 4.3, A.6 and Table 3.
//!
//! `just reproduce cub` fine-tunes the CNN and the 2xST-CNN on EfficientNet-Lite0 at 224 px; `--budget full` trains every model, `--backbone` names another network.
//! Where CUB cannot be had, synthetic creatures take its place, and the networks are small ones trained from nothing.

mod claims;
mod evaluation;
mod figures;
mod samples;
mod setting;
mod trial;

pub use evaluation::Answers;
pub use setting::Setting;
pub use trial::BirdTrial;

use super::Experiment;
use crate::budget::Budget;
use crate::data::birds::Birds;
use crate::data::{DataSource, Hub, Source};
use crate::figures::Figure;
use crate::metrics::Measure;
use crate::models::backbone::{BackboneKind, backbone_weights, put_weights};
use crate::models::birds::{BirdConfig, BirdModel, BirdNetwork, birds};
use crate::paper;
use crate::record::RunDir;
use crate::report;
use crate::reproduce::{Ending, Request, sweep};
use crate::run::{Config, Origin, Run, RunResult, Settings, Status, load_weights};
use crate::stop::Stop;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use stn_core::dropout::DropoutRng;
use stn_core::init::SeededVarMap;

/// The probability of dropout before the classifier, A.6.
const DROPOUT: f64 = 0.7;

/// Fine-grained classification: windows on birds.
#[derive(Debug, Clone, Copy)]
pub struct FineGrainedBirds;

impl Experiment for FineGrainedBirds {
    fn id(&self) -> &'static str {
        "cub"
    }

    fn title(&self) -> &'static str {
        "birds"
    }

    fn place(&self, _data: &str) -> &'static str {
        "table 3"
    }

    fn data(&self) -> Vec<String> {
        Setting::ALL.map(|setting| setting.id().into()).to_vec()
    }

    fn models(&self) -> Vec<String> {
        BirdModel::all().into_iter().map(BirdModel::id).collect()
    }

    fn label(&self, model: &str) -> String {
        model.parse::<BirdModel>().map_or_else(|_| model.into(), BirdModel::label)
    }

    fn first_look(&self) -> (Vec<String>, Vec<String>) {
        (vec![Setting::Px224.id().into()], BirdModel::table()[..2].iter().map(|model| model.id()).collect())
    }

    /// Those of real birds; [`Setting::budgets`] has those of synthetic creatures, whose networks start from nothing.
    fn budgets(&self) -> Vec<Budget> {
        Setting::Px224.budgets()
    }

    fn measure(&self) -> Measure {
        Measure::Correct
    }

    fn paper_error_percent(&self, data: &str, model: &str) -> Option<f64> {
        paper::cub_error_percent(data.parse().ok()?, model.parse().ok()?)
    }

    fn paper_training(&self) -> Option<&'static str> {
        Some("30,000 steps of 256, SGD, on all 200 species of CUB, from BN-Inception")
    }

    fn reproduce(&self, request: &Request, stop: &Stop) -> Result<Ending> {
        let hub = Hub::from_env();
        let mut settings: Vec<Setting> = Vec::new();
        for (data, _) in request.cells() {
            let setting: Setting = data.parse()?;
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
        // Real birds, unless they cannot be had: their settings then become the synthetic one.
        let real = settings.iter().any(|setting| !setting.is_synthetic());
        let mut birds = match real {
            true => Birds::load(&hub, request.source, request.offline, request.budget.holdout)?,
            false => creatures(request)?,
        };
        if real && matches!(birds.source, DataSource::Synthetic { .. }) {
            settings = vec![Setting::Synthetic];
        }
        for setting in settings {
            let synthetic = matches!(birds.source, DataSource::Synthetic { .. });
            if setting.is_synthetic() && !synthetic {
                birds = creatures(request)?;
            }
            crate::say!(
                "{} from {}: {} to train on, {} to test on, {} classes",
                setting.what(),
                birds.source,
                birds.train.len(),
                birds.test.len(),
                birds.train.classes()
            );
            let loaded = Loaded::new(&hub, request, setting, &birds)?;
            let of_setting = Request {
                data: vec![setting.id().into()],
                budget: Budget::named(&request.base, setting.budgets())?.changed(&request.changes)?,
                ..request.clone()
            };
            if sweep(&of_setting, |run| perform(run, &loaded, stop), stop)? == Ending::Interrupted {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Complete)
    }

    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<super::Evaluation> {
        let (settings, network) = load(run)?;
        let setting: Setting = settings.data.parse()?;
        let source = if setting.is_synthetic() { Source::Embedded } else { source };
        let birds = Birds::load(&Hub::from_env(), source, offline, false)?;
        Ok(vec![Answers::of(&network, &birds.test, setting.crop())?.error_percent()].into())
    }

    fn protocol(&self) -> &'static str {
        "Test accuracy on single squares from the middle of the test images, last weights; over several seeds mean ± standard deviation. Boxes and parts are trained on \
         nowhere. The paper's figures, on all 200 species: Jaderberg et al. 2015, Table 3."
    }

    fn figures(&self, folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
        figures::all(folder, run, result)
    }

    fn findings(&self, results: &[&RunResult]) -> Result<String> {
        let mut text = String::new();
        if results.iter().any(|result| matches!(result.data_source, DataSource::Synthetic { .. })) {
            text.push_str("**Those of `synthetic` are creatures of our own drawing, not CUB.**\n\n");
        }
        let classes = |result: &&&RunResult| result.details.get("classes").and_then(serde_json::Value::as_u64);
        let real = results.iter().filter(|result| !matches!(result.data_source, DataSource::Synthetic { .. }));
        let fewest = real.filter_map(|result| classes(&result)).min();
        if let Some(fewest) = fewest.filter(|&fewest| fewest < 200) {
            text += &format!(
                "**These are {fewest} of CUB's 200 species: figures are not to be set against the paper's.**\n\n"
            );
        }
        Ok(text + &report::beside_the_papers(self, results, claims::claims)? + &evaluation::table(self, results))
    }
}

fn creatures(request: &Request) -> Result<Birds> {
    Birds::load(&Hub::from_env(), Source::Embedded, request.offline, request.budget.holdout)
}

/// What the runs of a setting share.
struct Loaded<'a> {
    setting: Setting,
    birds: &'a Birds,
    backbone: BackboneKind,
    /// ImageNet's, and where they came from; none for a network that starts from nothing.
    weights: Option<(HashMap<String, Tensor>, String)>,
    train_identity: String,
    test_identity: String,
}

impl<'a> Loaded<'a> {
    fn new(hub: &Hub, request: &Request, setting: Setting, birds: &'a Birds) -> Result<Self> {
        let backbone = match &request.backbone {
            Some(_) if setting.is_synthetic() => BackboneKind::Small,
            Some(backbone) => *backbone,
            None => setting.backbone(),
        };
        Ok(Self {
            setting,
            birds,
            backbone,
            weights: weights(hub, backbone, request.weights.as_deref(), request.offline)?,
            train_identity: birds.train.identity()?,
            test_identity: birds.test.identity()?,
        })
    }

    fn config(&self) -> BirdConfig {
        config(self.setting, self.backbone, self.birds.train.classes())
    }
}

fn config(setting: Setting, backbone: BackboneKind, classes: usize) -> BirdConfig {
    let (side, input, statistics) = (setting.crop().side, setting.input(), setting.statistics());
    BirdConfig { backbone, statistics, classes, side, input, dropout: DROPOUT }
}

/// ImageNet's weights of a backbone: from the user's file, else from the hub.
fn weights(
    hub: &Hub,
    kind: BackboneKind,
    file: Option<&Path>,
    offline: bool,
) -> Result<Option<(HashMap<String, Tensor>, String)>> {
    if kind == BackboneKind::Small {
        return Ok(None);
    }
    let (file, from): (PathBuf, String) = match (file, kind.repository()) {
        (Some(file), _) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (file.to_path_buf(), format!("the user's file {name}"))
        }
        (None, Some(repository)) => {
            let fetched = hub.file(&repository, "model.safetensors", offline);
            let fetched =
                fetched.with_context(|| format!("ImageNet's weights of {kind} (--weights takes a file of yours)"))?;
            let file = fetched.files.into_iter().next().context("no file of weights")?;
            (file, format!("hub {}@{}", repository.id, fetched.commit))
        }
        (None, None) => bail!("nobody hosts the weights of {kind}; name a safetensors file of yours with --weights"),
    };
    Ok(Some((backbone_weights(kind, &file)?, from)))
}

/// Trains and tests one run.
fn perform(run: &Run, loaded: &Loaded, stop: &Stop) -> Result<Status> {
    let model: BirdModel = run.model.parse()?;
    let (vars, rng, cfg) = (SeededVarMap::new(run.seed), DropoutRng::new(run.seed), loaded.config());
    let network = birds(model, cfg, &rng, vars.var_builder(DType::F32, &Device::Cpu))?;
    let mut from = "none: from nothing";
    if let Some((weights, source)) = &loaded.weights {
        for prefix in network.backbones() {
            put_weights(&vars, &prefix, weights)?;
        }
        from = source;
    }
    let details = [
        ("backbone", json!(cfg.backbone.id())),
        ("weights", json!(from)),
        ("classes", json!(cfg.classes)),
        ("dropout", json!(cfg.dropout)),
    ];
    let protocol = "training: a random square of each scaled image, flipped or not, every epoch anew; test accuracy on the square in the middle, last weights";
    let origin = Origin {
        source: &loaded.birds.source,
        train_identity: &loaded.train_identity,
        test_identity: &loaded.test_identity,
        protocol,
    };
    let trial = BirdTrial::new(model, network, rng, loaded.birds, loaded.setting.crop(), run.budget.batch, run.seed);
    run.perform(&trial, &vars, origin, &details, stop)
}

/// The trained network of a finished run.
///
/// # Errors
/// When the directory holds no trained model.
pub fn load(dir: &RunDir) -> Result<(Settings, BirdNetwork)> {
    let Config { settings, .. } = Config::of(dir)?;
    let detail = |name: &str| {
        settings.details.get(name).with_context(|| format!("the run's config.json does not say its {name}"))
    };
    let backbone: BackboneKind = detail("backbone")?.as_str().unwrap_or_default().parse()?;
    let classes = detail("classes")?.as_u64().context("classes must be a number")? as usize;
    let cfg = config(settings.data.parse()?, backbone, classes);
    let vars = SeededVarMap::new(settings.seed);
    let network = birds(settings.model.parse()?, cfg, &DropoutRng::new(0), vars.var_builder(DType::F32, &Device::Cpu))?;
    load_weights(dir, &vars)?;
    Ok((settings, network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{MODEL_FILE, SAMPLES_FILE};
    use crate::train::Cadence;

    #[test]
    fn a_stopped_run_goes_on_and_ends_as_one_that_was_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let birds = Birds::synthetic([48, 16], "asked for", true)?;
        let loaded = Loaded {
            setting: Setting::Synthetic,
            birds: &birds,
            backbone: BackboneKind::Small,
            weights: None,
            train_identity: birds.train.identity()?,
            test_identity: birds.test.identity()?,
        };
        let budget = Budget { steps: 3, batch: 8, ..Budget::named("quick", Setting::Synthetic.budgets())? };
        let run = |runs: &str, stop: &Stop| {
            let runs = folder.path().join(runs);
            let run = Run {
                experiment: &FineGrainedBirds,
                data: Setting::Synthetic.id().into(),
                model: "2xst-cnn".into(),
                seed: 1,
                budget: &budget,
                runs: &runs,
                finished: None,
                cadence: Cadence::default(),
            };
            Ok::<_, anyhow::Error>((perform(&run, &loaded, stop)?, run.dir()))
        };
        let (status, whole) = run("whole", &Stop::new())?;
        let Status::Finished(result) = status else { panic!("{status:?}") };
        assert!(result.val_error_percent.is_some());
        for detail in ["windows_on_bird_percent_before", "windows_on_bird_percent_after", "parts_found_percent_after"] {
            assert!(result.details[detail].as_f64().is_some_and(|share| (0.0..=100.0).contains(&share)), "{detail}");
        }

        let stop = Stop::new();
        stop.request();
        assert!(matches!(run("stopped", &stop)?.0, Status::Interrupted { step: 1 }));
        let (_, stopped) = run("stopped", &Stop::new())?;
        for file in [MODEL_FILE, SAMPLES_FILE] {
            let read = |dir: &RunDir| std::fs::read(dir.path().join(file));
            assert!(
                read(&whole)? == read(&stopped)?,
                "{file} differs: running statistics are saved too, and dropout depends on the step"
            );
        }

        // Its figures are drawn from what the run left, and its network can be had again.
        let figures = FineGrainedBirds.figures(folder.path(), &whole, &result)?;
        assert_eq!(figures.len(), 4, "{figures:?}");
        for Figure { file, .. } in &figures {
            assert!(folder.path().join(format!("{file}.png")).exists());
        }
        let (_, network) = load(&whole)?;
        let found = Answers::of(&network, &birds.test, Setting::Synthetic.crop())?;
        assert_eq!(vec![found.error_percent()], result.error_percent_draws);
        let findings = FineGrainedBirds.findings(&[&result])?;
        assert!(
            findings.contains("creatures of our own drawing, not CUB") && findings.contains("Where the windows look")
        );
        Ok(())
    }

    #[test]
    fn of_photographs_no_pixel_is_kept() -> Result<()> {
        let birds = Birds::synthetic([16, 16], "asked for", false)?;
        let (vars, cfg) = (SeededVarMap::new(0), config(Setting::Synthetic, BackboneKind::Small, 16));
        let vb = vars.var_builder(DType::F32, &Device::Cpu);
        let network = crate::models::birds::birds("2xst-cnn".parse()?, cfg, &DropoutRng::new(0), vb)?;
        let crop = Setting::Synthetic.crop();
        let found = Answers::of(&network, &birds.test, crop)?;
        let kept = samples::samples(&found, &birds.test, crop, false)?;
        assert!(kept.contains_key("thetas") && kept.contains_key("confusions") && kept.contains_key("pairs"));
        for (name, tensor) in &kept {
            assert!(tensor.elem_count() < 1000, "{name} {:?}", tensor.shape());
        }
        assert!(samples::samples(&found, &birds.test, crop, true)?.contains_key("shown.images"));
        Ok(())
    }

    #[test]
    fn weights_that_nobody_hosts_are_asked_for() {
        let hub = Hub::new("http://127.0.0.1:1", "/nonexistent");
        let error = weights(&hub, BackboneKind::BnInception, None, true).unwrap_err().to_string();
        assert_eq!(error, "nobody hosts the weights of bn-inception; name a safetensors file of yours with --weights");
        let error = format!("{:#}", weights(&hub, BackboneKind::EfficientNetLite0, None, true).unwrap_err());
        assert!(error.contains("--weights takes a file of yours") && error.contains("not in the cache"), "{error}");
    }
}
