//! What is raced: each row's name, target and work. Both sides build their half from the same [`Work`].

use serde_json::{Value, json};
use stn_core::conv_norm::Statistics;
use stn_experiments::data::Distortion;
use stn_experiments::models::backbone::BackboneKind;
use stn_experiments::models::svhn::{SvhnConfig, SvhnModel};
use stn_experiments::models::{Model, TransformKind};

/// Images a step on MNIST.
const BATCH: usize = 256;

/// A line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub work: Work,
    /// What PyTorch's time over ours should reach.
    pub target: Option<f64>,
    /// Rows of one group take turns within each round, so that their times can be set against each other.
    pub group: Option<&'static str>,
}

/// What a row does.
#[derive(Debug, Clone)]
pub enum Work {
    /// A square product.
    Matmul { n: usize },
    /// A convolution with bias; with `pool` also ReLU and max-pool 2x2.
    Conv { input: [usize; 4], filters: usize, kernel: usize, padding: usize, pool: bool, pass: Pass },
    /// The sampler on an image or a volume, given a grid or the affine parameters that make one.
    Sample { input: Vec<usize>, out: Vec<usize>, affine: bool, backward: bool },
    /// The grids of thin plate splines with 16 control points.
    TpsGrid { batch: usize, side: usize, backward: bool },
    /// A network of Table 1: forward alone, or a training step with cross-entropy and AdamW.
    Mnist { model: Model, data: Distortion, width: usize, full_resolution: bool, train: bool },
    /// A backbone with a classifier of 1,000 classes on 224 px: forward alone in evaluation, or a training step with cross-entropy and SGD.
    Backbone { kind: BackboneKind, batch: usize, train: Option<Statistics> },
    /// A training step of an SVHN network with the five heads' cross-entropy and SGD.
    Svhn { model: SvhnModel, side: usize, batch: usize },
}

/// Which passes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    Forward,
    /// Forward and backward; no gradient of the image, as in a network's first layer.
    Weights,
    /// Forward and backward.
    All,
}

impl Pass {
    fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Weights => "fwd+bwd, no image gradient",
            Self::All => "fwd+bwd",
        }
    }
}

impl Work {
    /// What PyTorch's side is told.
    pub fn request(&self) -> Value {
        match self {
            Self::Matmul { n } => json!({"work": "matmul", "n": n}),
            Self::Conv { input, filters, kernel, padding, pool, pass } => json!({
                "work": "conv", "input": input, "filters": filters, "kernel": kernel, "padding": padding, "pool": pool,
                "backward": *pass != Pass::Forward, "image_gradient": *pass == Pass::All,
            }),
            Self::Sample { input, out, affine, backward } => {
                json!({"work": "sample", "input": input, "out": out, "affine": affine, "backward": backward})
            }
            Self::TpsGrid { batch, side, backward } => {
                json!({"work": "tps-grid", "batch": batch, "side": side, "backward": backward})
            }
            Self::Mnist { model, data, width, full_resolution, train } => {
                let (classifier, localisation) = match model {
                    Model::Fcn => ("fcn", None),
                    Model::Cnn => ("cnn", None),
                    Model::StFcn(_) => ("fcn", Some("fc")),
                    Model::StCnn(_) => ("cnn", Some(if *full_resolution { "full" } else { "conv" })),
                };
                json!({
                    "work": "mnist", "side": data.canvas(), "width": width, "classifier": classifier,
                    "localisation": localisation, "transform": model.transform().map(TransformKind::id),
                    "batch": BATCH, "train": train,
                })
            }
            Self::Backbone { kind, batch, train } => json!({
                "work": "backbone", "kind": kind.id(), "batch": batch, "train": train.is_some(),
                "frozen": *train == Some(Statistics::Frozen),
            }),
            Self::Svhn { model, side, batch } => {
                let SvhnConfig { filters, units, dropout, .. } = SvhnConfig::new(*side);
                let transformers = match model {
                    SvhnModel::Cnn => 0,
                    SvhnModel::Single => 1,
                    SvhnModel::Multi => 4,
                };
                json!({
                    "work": "svhn", "transformers": transformers, "side": side, "batch": batch, "filters": filters,
                    "units": units, "dropout": dropout,
                })
            }
        }
    }

    /// Images a step.
    pub fn batch(&self) -> usize {
        match self {
            Self::Svhn { batch, .. } | Self::Backbone { batch, .. } => *batch,
            _ => BATCH,
        }
    }
}

fn row(name: impl Into<String>, target: Option<f64>, work: Work) -> Row {
    Row { name: name.into(), work, target, group: None }
}

/// Every row, in the order of the table.
pub fn all() -> Vec<Row> {
    let mut rows = training_steps();
    rows.extend(other_networks());
    rows.extend(backbones());
    rows.extend(convolutions());
    rows.extend(samplers());
    rows
}

/// The name of a training step on MNIST.
pub fn step_name(model: Model, data: Distortion, width: usize) -> String {
    let units = if matches!(model, Model::Fcn | Model::StFcn(_)) { "units" } else { "filters" };
    format!("step: {} on {data}, {width} {units}", model.label())
}

/// Training steps on R, RTS and TC at the widths of Table 1, and of the CNNs at 32 filters too.
fn training_steps() -> Vec<Row> {
    let (affine, spline) = (TransformKind::Affine, TransformKind::ThinPlateSpline);
    let mut rows = Vec::new();
    for data in [Distortion::R, Distortion::Rts, Distortion::Tc] {
        for model in [Model::Cnn, Model::StCnn(affine), Model::StCnn(spline), Model::Fcn, Model::StFcn(affine)] {
            let convolutional = matches!(model, Model::Cnn | Model::StCnn(_));
            let on_r = data == Distortion::R && convolutional && model != Model::StCnn(spline);
            for width in if convolutional { vec![32, model.width(data)] } else { vec![model.width(data)] } {
                rows.push(Row {
                    name: step_name(model, data, width),
                    work: Work::Mnist { model, data, width, full_resolution: false, train: true },
                    target: Some(if on_r { 2.0 } else { 1.5 }),
                    group: on_r.then_some("transformer on R"),
                });
            }
        }
    }
    rows
}

fn other_networks() -> Vec<Row> {
    let on_r =
        |model, full_resolution, train| Work::Mnist { model, data: Distortion::R, width: 32, full_resolution, train };
    let st_cnn = Model::StCnn(TransformKind::Affine);
    let mut rows = vec![
        row("forward: CNN on R, 32 filters", None, on_r(Model::Cnn, false, false)),
        row("step: ST-CNN Aff on R, 32 filters, localisation at full resolution", None, on_r(st_cnn, true, true)),
    ];
    for (name, model) in [("CNN", SvhnModel::Cnn), ("ST-CNN Multi", SvhnModel::Multi)] {
        rows.push(Row {
            name: svhn_name(name),
            work: Work::Svhn { model, side: 64, batch: 16 },
            target: Some(0.9),
            group: Some("transformers on SVHN"),
        });
    }
    rows
}

/// The backbones of birds: one image, and batches.
fn backbones() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, kind) in [
        ("EfficientNet-Lite0", BackboneKind::EfficientNetLite0),
        ("Inception-v3", BackboneKind::InceptionV3),
        ("BN-Inception", BackboneKind::BnInception),
    ] {
        for (batch, what, train) in [
            (1, "forward", None),
            (16, "forward", None),
            (16, "step", Some(Statistics::Batch)),
            (16, "step, statistics frozen", Some(Statistics::Frozen)),
        ] {
            let name = format!("backbone: {name} 224 px, batch {batch}, {what}");
            rows.push(row(name, None, Work::Backbone { kind, batch, train }));
        }
    }
    rows
}

/// The name of a training step on SVHN.
pub fn svhn_name(model: &str) -> String {
    format!("step: {model} on SVHN 64 px, batch 16")
}

fn convolutions() -> Vec<Row> {
    let mut rows = vec![row("matmul 1024 x 1024 x 1024", None, Work::Matmul { n: 1024 })];
    let passes = [Pass::Forward, Pass::Weights, Pass::All];
    for (name, input, filters, kernel, padding, pool) in [
        ("conv 32->32 7x7 on (256,32,10,10)", [BATCH, 32, 10, 10], 32, 7, 0, false),
        ("conv 48->64 5x5 pad 2 on (256,48,32,32)", [BATCH, 48, 32, 32], 64, 5, 2, false),
        ("conv+bias+ReLU+max-pool 1->32 9x9 on (256,1,28,28)", [BATCH, 1, 28, 28], 32, 9, 0, true),
        ("conv+bias+ReLU+max-pool 32->32 7x7 on (256,32,10,10)", [BATCH, 32, 10, 10], 32, 7, 0, true),
        ("conv+bias+ReLU+max-pool 48->64 5x5 pad 2 on (256,48,32,32)", [BATCH, 48, 32, 32], 64, 5, 2, true),
    ] {
        for pass in passes {
            let target = (name.starts_with("conv 48") && pass != Pass::Forward).then_some(0.9);
            let work = Work::Conv { input, filters, kernel, padding, pool, pass };
            rows.push(row(format!("{name}, {}", pass.label()), target, work));
        }
    }
    rows
}

fn samplers() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, input, out, affine, target) in [
        ("sampler (256,1,28,28)", vec![256, 1, 28, 28], vec![28, 28], false, None),
        ("sampler (64,32,64,64)", vec![64, 32, 64, 64], vec![64, 64], false, Some(1.3)),
        ("sampler (8,3,448,448) to 224x224", vec![8, 3, 448, 448], vec![224, 224], false, None),
        ("sampler (1,3,2048,2048)", vec![1, 3, 2048, 2048], vec![2048, 2048], false, Some(1.8)),
        ("sampler (4,1,60,60,60)", vec![4, 1, 60, 60, 60], vec![60, 60, 60], false, None),
        ("affine grid + sampler (256,1,28,28)", vec![256, 1, 28, 28], vec![28, 28], true, Some(3.0)),
        ("affine grid + sampler (64,32,64,64)", vec![64, 32, 64, 64], vec![64, 64], true, None),
    ] {
        for (pass, backward) in [(Pass::Forward, false), (Pass::All, true)] {
            let work = Work::Sample { input: input.clone(), out: out.clone(), affine, backward };
            rows.push(row(format!("{name}, {}", pass.label()), target, work));
        }
    }
    for (pass, backward) in [(Pass::Forward, false), (Pass::All, true)] {
        let work = Work::TpsGrid { batch: BATCH, side: 28, backward };
        rows.push(row(format!("TPS grid (256,28,28), 16 points, {}", pass.label()), None, work));
    }
    rows
}
