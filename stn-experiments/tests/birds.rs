//! Birds and ImageNet's weights from a hub: `cargo test --test birds -- --ignored`. The readers' own tests need none.

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};
use stn_core::conv_norm::Statistics;
use stn_core::init::SeededVarMap;
use stn_core::ops::linear;
use stn_experiments::data::birds::{Birds, Crop};
use stn_experiments::data::{DataSource, Hub};
use stn_experiments::models::backbone::{BackboneKind, backbone, backbone_weights, classifier_weights, put_weights};

const CROP: Crop = Crop { side: 224, short: 256 };

/// ImageNet's classes that are birds.
fn is_bird(class: u32) -> bool {
    matches!(class, 7..=24 | 80..=100 | 127..=146)
}

#[test]
#[ignore = "asks the hub that HF_ENDPOINT names for CUB-200-2011 and weights"]
fn photographs_of_birds_are_birds_to_imagenets_weights() -> Result<()> {
    let hub = Hub::from_env();
    let birds = Birds::from_hub(&hub, false, false)?;
    let DataSource::Hub { commit, .. } = &birds.source else { panic!("{}", birds.source) };
    assert_eq!(commit.len(), 40);
    assert!(birds.train.classes() >= 50 && birds.train.classes() == birds.test.classes());

    let kind = BackboneKind::EfficientNetLite0;
    let fetched = hub.file(&kind.repository().context("a repository")?, "model.safetensors", false)?;
    let vars = SeededVarMap::new(0);
    let net = backbone(kind, Statistics::Frozen, vars.var_builder(DType::F32, &Device::Cpu))?;
    put_weights(&vars, "", &backbone_weights(kind, &fetched.files[0])?)?;
    let (weight, bias) = classifier_weights(kind, &fetched.files[0])?;

    let (mut pixels, mut on_bird, count) = (Vec::new(), 0, 48);
    for i in 0..count {
        let view = birds.test.view(i * birds.test.len() / count, CROP)?;
        // The middle of the box lies in the square, nearly always.
        let [left, top, right, bottom] = view.truth.bird;
        on_bird += usize::from((left + right).abs() < 2.0 && (top + bottom).abs() < 2.0);
        pixels.extend(view.pixels);
    }
    let images = Tensor::from_vec(pixels, (count, 3, CROP.side, CROP.side), &Device::Cpu)?;
    let described = net.describe(&kind.normalise(&images)?, false)?;
    let classes = linear(&described, &weight, &bias)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let seen = classes.iter().filter(|&&class| is_bird(class)).count();
    println!("{seen} of {count} photographs are birds; {on_bird} boxes have their middle in the square");
    assert!(seen * 100 >= count * 90 && on_bird * 100 >= count * 90, "{seen} and {on_bird} of {count}");
    Ok(())
}
