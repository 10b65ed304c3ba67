//! Candle's own MNIST reader as the oracle of ours.

use std::path::Path;

use candle_core::Tensor;
use stn_experiments::data::{Dataset, Mnist};

/// Writes original idx files, as Candle reads them.
fn write_idx(dir: &Path, prefix: &str, data: &Dataset) {
    let header = |dimensions: u8, sizes: &[usize]| -> Vec<u8> {
        let sizes = sizes.iter().flat_map(|&n| (n as u32).to_be_bytes());
        [0, 0, 8, dimensions].into_iter().chain(sizes).collect()
    };
    let images = [header(3, &[data.len(), 28, 28]), data.images.clone()].concat();
    let labels = [header(1, &[data.len()]), data.labels.clone()].concat();
    std::fs::write(dir.join(format!("{prefix}-images-idx3-ubyte")), images).unwrap();
    std::fs::write(dir.join(format!("{prefix}-labels-idx1-ubyte")), labels).unwrap();
}

#[test]
fn candle_reads_the_same_tensors() {
    let mut mnist = Mnist::embedded("asked for").unwrap();
    mnist.train = mnist.train.range(0..3000).unwrap(); // all 60,000 would take some 0.8 GB
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path(), "train", &mnist.train);
    write_idx(dir.path(), "t10k", &mnist.test);
    let theirs = candle_datasets::vision::mnist::load_dir(dir.path()).unwrap();
    let ours = mnist.to_candle().unwrap();
    assert_eq!(ours.labels, theirs.labels);
    let images = |t: &Tensor| t.to_vec2::<f32>().unwrap();
    let labels = |t: &Tensor| t.to_vec1::<u8>().unwrap();
    assert_eq!(images(&ours.train_images), images(&theirs.train_images));
    assert_eq!(labels(&ours.train_labels), labels(&theirs.train_labels));
    assert_eq!(images(&ours.test_images), images(&theirs.test_images));
    assert_eq!(labels(&ours.test_labels), labels(&theirs.test_labels));
}
