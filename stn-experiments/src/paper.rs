//! The paper's own figures (Jaderberg et al. 2015, arXiv 1506.02025), to stand beside ours.

use crate::data::Distortion;
use crate::models::{Model, TransformKind};

/// Table 1, left: error in percent. For TC the figures of section 4.1's text, which names no transform.
pub fn mnist_error_percent(data: Distortion, model: Model) -> f64 {
    use Distortion::{E, P, R, Rts, Tc};
    let column = match data {
        R => 0,
        Rts => 1,
        P => 2,
        E => 3,
        Tc => 4,
    };
    let row = match model {
        Model::Fcn => [2.1, 5.2, 3.1, 3.2, 13.2],
        Model::Cnn => [1.2, 0.8, 1.5, 1.4, 3.5],
        Model::StFcn(TransformKind::Affine) => [1.2, 0.8, 1.5, 2.7, 2.0],
        Model::StCnn(TransformKind::Affine) => [0.7, 0.5, 0.8, 1.2, 1.7],
    };
    row[column]
}
