//! Birds: section 4.3, A.6 and Table 3.
//!
//! `just reproduce cub` fine-tunes the CNN and the 2xST-CNN on EfficientNet-Lite0 at 224 px; `--budget full` trains every model, `--backbone` names another network.
//! Where CUB cannot be had, synthetic creatures take its place, and the networks are small ones trained from nothing.

mod claims;
mod evaluation;
mod figures;
mod samples;
mod setting;
mod stock;
mod trial;
mod weights;

pub use evaluation::Answers;
pub use setting::Setting;
pub use trial::BirdTrial;

use super::{Evaluation, Experiment};
use crate::budget::Budget;
use crate::data::birds::Birds;
use crate::data::{DataSource, Hub, Source};
use crate::figures::Figure;
use crate::metrics::Measure;
use crate::models::backbone::{BackboneKind, put_weights};
use crate::models::birds::{BirdConfig, BirdModel, BirdNetwork, birds};
use crate::paper;
use crate::record::RunDir;
use crate::report;
use crate::reproduce::{Ending, sweep_after};
use crate::request::Request;
use crate::run::{Config, Origin, Run, RunResult, Settings, Status, load_weights};
use crate::stop::Stop;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device};
use serde_json::json;
use std::path::Path;
use stn_core::dropout::DropoutRng;
use stn_core::init::SeededVarMap;
use stock::{Images, Stock};
use weights::{Weights, weights, weights_at_hand};

/// The species of CUB.
const SPECIES: usize = 200;

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
        let load = |source| Images::new(Birds::load(&hub, source, request.offline, request.budget.holdout)?);
        let mut stock = Stock::new(request.source, load);
        let (mut asked, mut done, mut failures) = (Vec::<Setting>::new(), Vec::new(), Vec::new());
        let mut finished = Vec::new();
        for (data, _) in request.cells() {
            let setting = data.parse()?;
            if !asked.contains(&setting) {
                asked.push(setting);
            }
        }
        let mut before = 0; // runs, of all machines
        for &setting in &asked {
            let request = &Request { shard: request.shard.after(before), ..request.clone() };
            let of_setting = Request { data: vec![setting.id().into()], ..request.clone() };
            before += of_setting.cells().len() * request.seeds.len();
            let mut attempt = || {
                if request.source != Source::Embedded && !setting.is_synthetic() {
                    // Before anything is fetched.
                    weights_at_hand(backbone(request.backbone, setting)?, request.weights.as_deref())?;
                }
                let (setting, images) = stock.of(setting)?;
                if done.contains(&setting) {
                    return Ok(Ending::Complete);
                }
                done.push(setting);
                train(&hub, request, setting, &images, &mut finished, stop)
            };
            match attempt() {
                Ok(Ending::Complete) => {}
                Ok(Ending::Interrupted) => return Ok(Ending::Interrupted),
                Err(error) if asked.len() == 1 => return Err(error),
                Err(error) => {
                    crate::warn!("{}: {error:#}\n", setting.id());
                    failures.push(format!("{}: {error:#}", setting.id()));
                }
            }
        }
        ensure!(
            failures.is_empty(),
            "{} of {} data sets failed:\n  {}",
            failures.len(),
            asked.len(),
            failures.join("\n  ")
        );
        Ok(Ending::Complete)
    }

    fn has_the_papers_network(&self, result: &RunResult) -> bool {
        result.trained_on.contains(&started_from(BackboneKind::BnInception))
    }

    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<Evaluation> {
        let (settings, network) = load(run)?;
        let setting: Setting = settings.data.parse()?;
        let (test, from) = match source {
            _ if setting.is_synthetic() => Birds::synthetic_test("asked for"),
            Source::Embedded => {
                bail!("the run is one of photographs: creatures, which --source embedded asks for, say nothing of it")
            }
            Source::Auto | Source::Hub => Birds::test_from_hub(&Hub::from_env(), offline)
                .context("the run is one of photographs, and CUB's cannot be had; creatures would say nothing of it")?,
        };
        let found = Answers::of(&network, &test, setting.crop())?;
        crate::say!("{} test images from {from}", test.len());
        let same = test.identity()? == settings.test_identity;
        Ok(Evaluation { draws: vec![found.error_percent()], images: test.len(), other_images: (!same).then_some(from) })
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
        if results.iter().any(|result| result.trained_on.contains("of the 200 species")) {
            text.push_str("**Figures of some of CUB's 200 species are not to be set against the paper's.**\n\n");
        }
        text += &report::beside_the_papers(self, results, claims::claims)?;
        text += &evaluation::table(self, results);
        Ok(text + &evaluation::confused(self, results))
    }
}

/// Trains what is asked for of one setting.
fn train(
    hub: &Hub,
    request: &Request,
    setting: Setting,
    images: &Images,
    finished: &mut Vec<(RunDir, RunResult)>,
    stop: &Stop,
) -> Result<Ending> {
    let Images { birds, .. } = images;
    crate::say!(
        "{} from {}: {} to train on, {} to test on, {} classes",
        setting.what(),
        birds.source,
        birds.train.len(),
        birds.test.len(),
        birds.train.classes()
    );
    let mut of_setting = Request {
        data: vec![setting.id().into()],
        budget: Budget::named(&request.base, setting.budgets())?.changed(&request.changes)?,
        ..request.clone()
    };
    if setting.is_synthetic() {
        let (backbone, file) = (of_setting.backbone.take(), of_setting.weights.take());
        if backbone.is_some_and(|kind| kind != BackboneKind::Small) || file.is_some() {
            crate::warn!(
                "--backbone and --weights are for photographs: networks for creatures are small ones that start from nothing"
            );
        }
    }
    let backbone = backbone(of_setting.backbone, setting)?;
    let weights = weights(hub, backbone, of_setting.weights.as_deref(), request.offline)?;
    let loaded = Loaded { setting, images, backbone, weights };
    sweep_after(finished, &of_setting, |run| perform(run, &loaded, stop), stop)
}

/// The backbone that was asked for, else the setting's own.
fn backbone(asked: Option<BackboneKind>, setting: Setting) -> Result<BackboneKind> {
    ensure!(
        setting.is_synthetic() || asked != Some(BackboneKind::Small),
        "--backbone small starts from nothing, with statistics that never move: photographs need lite0, inception-v3 or bn-inception"
    );
    Ok(asked.unwrap_or(setting.backbone()))
}

/// What the runs of a setting share.
struct Loaded<'a> {
    setting: Setting,
    images: &'a Images,
    backbone: BackboneKind,
    /// None for a network that starts from nothing.
    weights: Option<Weights>,
}

/// How records say which pretrained network was trained on: `lite0 from ImageNet's weights`.
fn started_from(backbone: BackboneKind) -> String {
    format!("{backbone} from ImageNet's weights")
}

impl Loaded<'_> {
    /// What is trained on, and from what the network starts, in words.
    fn trained_on(&self) -> String {
        let birds = &self.images.birds;
        let species = match birds.train.species() {
            _ if self.setting.is_synthetic() => String::new(),
            SPECIES => String::new(),
            some => format!(", {some} of the {SPECIES} species"),
        };
        let start = match &self.weights {
            Some(weights) => format!("; {} {}", started_from(self.backbone), weights.label()),
            None => String::new(),
        };
        format!("{} images of {}{species}{start}", birds.train.len(), birds.source.images())
    }

    fn config(&self) -> BirdConfig {
        config(self.setting, self.backbone, self.images.birds.train.classes())
    }
}

fn config(setting: Setting, backbone: BackboneKind, classes: usize) -> BirdConfig {
    let (side, input, statistics) = (setting.crop().side, setting.input(), setting.statistics());
    BirdConfig { backbone, statistics, classes, side, input, dropout: setting.dropout() }
}

/// Trains and tests one run.
fn perform(run: &Run, loaded: &Loaded, stop: &Stop) -> Result<Status> {
    let model: BirdModel = run.model.parse()?;
    let (vars, rng, cfg) = (SeededVarMap::new(run.seed), DropoutRng::new(run.seed), loaded.config());
    let network = birds(model, cfg, &rng, vars.var_builder(DType::F32, &Device::Cpu))?;
    let mut from = "none: from nothing";
    if let Some(weights) = &loaded.weights {
        for prefix in network.backbones() {
            put_weights(&vars, &prefix, &weights.tensors)?;
        }
        from = &weights.name;
    }
    let details = [
        ("backbone", json!(cfg.backbone.id())),
        ("weights", json!(from)),
        ("weights_identity", json!(loaded.weights.as_ref().map(|weights| &weights.sha256))),
        ("classes", json!(cfg.classes)),
        ("dropout", json!(cfg.dropout)),
    ];
    let protocol = "training: a random square of each scaled image, flipped or not, every epoch anew; test accuracy on the square in the middle, last weights";
    let Images { birds, train_identity, test_identity } = loaded.images;
    let trained_on = &loaded.trained_on();
    let origin = Origin { source: &birds.source, trained_on, train_identity, test_identity, protocol };
    let trial = BirdTrial::new(model, network, rng, birds, loaded.setting.crop(), run.budget.batch, run.seed)?;
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
    use crate::run::{MODEL_FILE, SAMPLES_FILE, Trial};
    use crate::train::Cadence;

    /// The paper's schedule on a smaller network is still scaled down.
    #[test]
    fn the_papers_budget_with_another_backbone_is_scaled_down() {
        let result = |start: &str| RunResult {
            budget: "paper".into(),
            trained_on: format!("5994 images of a/b@c{start}"),
            ..crate::report::test_result("cub", "224", "cnn", 0, 20.0)
        };
        let of = |backbone| result(&format!("; {} FILE", started_from(backbone)));
        assert!(of(BackboneKind::EfficientNetLite0).scaled_down() && of(BackboneKind::InceptionV3).scaled_down());
        assert!(!of(BackboneKind::BnInception).scaled_down() && result("").scaled_down());
    }

    #[test]
    fn a_stopped_run_goes_on_and_ends_as_one_that_was_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let images = Images::new(Birds::synthetic([48, 16], "asked for", true)?)?;
        let (setting, backbone) = (Setting::Synthetic, BackboneKind::Small);
        let loaded = Loaded { setting, images: &images, backbone, weights: None };
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
                estimate: false,
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
        let found = Answers::of(&network, &images.birds.test, Setting::Synthetic.crop())?;
        assert_eq!(vec![found.error_percent()], result.error_percent_draws);
        let findings = FineGrainedBirds.findings(&[&result])?;
        assert!(
            findings.contains("creatures of our own drawing, not CUB") && findings.contains("Where the windows look")
        );
        // Rows are for the paper's models and for what was trained.
        assert!(findings.contains("| 4xST-CNN |") && !findings.contains("4xST-CNN, shared"), "{findings}");
        Ok(())
    }

    #[test]
    fn of_photographs_no_pixel_is_kept() -> Result<()> {
        let samples = |source: Option<DataSource>| {
            let birds = Birds::synthetic([16, 16], "asked for", false)?;
            let birds = Birds { source: source.unwrap_or(birds.source.clone()), ..birds };
            let (vars, cfg) = (SeededVarMap::new(0), config(Setting::Synthetic, BackboneKind::Small, 16));
            let (model, rng) = ("2xst-cnn".parse()?, DropoutRng::new(0));
            let network = super::birds(model, cfg, &rng, vars.var_builder(DType::F32, &Device::Cpu))?;
            BirdTrial::new(model, network, rng, &birds, Setting::Synthetic.crop(), 8, 0)?.samples()
        };
        let photographs = DataSource::Hub { repository: "a/b".into(), commit: "c".into() };
        let kept = samples(Some(photographs))?;
        assert!(kept.contains_key("thetas") && kept.contains_key("confusions") && kept.contains_key("pairs"));
        for (name, tensor) in &kept {
            assert!(tensor.elem_count() < 1000, "{name} {:?}", tensor.shape());
        }
        assert!(samples(None)?.contains_key("shown.images"));
        Ok(())
    }

    #[test]
    fn small_networks_are_not_for_photographs() -> Result<()> {
        let small = Some(BackboneKind::Small);
        let error = backbone(small, Setting::Px224).unwrap_err().to_string();
        assert!(error.contains("photographs need lite0"), "{error}");
        assert_eq!(backbone(small, Setting::Synthetic)?, BackboneKind::Small);
        assert_eq!(backbone(None, Setting::Px448)?, BackboneKind::EfficientNetLite0);
        Ok(())
    }
}
