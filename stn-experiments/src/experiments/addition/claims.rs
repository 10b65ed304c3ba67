//! What Table 4 says: the order of its models.

use super::Addition;
use crate::cells::Cells;
use crate::claims::Claim;
use crate::data::addition::DISTORTION;
use crate::models::TransformKind::{Affine, Projective, ThinPlateSpline};
use crate::models::addition::AdditionModel::{self, Cnn, Fcn, StFcn, TwoStFcn};

/// The claims, each with the comparisons that decide it.
pub(super) fn claims(cells: &Cells) -> Vec<Claim> {
    let below = |claim: Claim, a: AdditionModel, b: AdditionModel| {
        claim.below(cells, &Addition, (DISTORTION.id(), &a.id()), (DISTORTION.id(), &b.id()))
    };
    let kinds = [Affine, Projective, ThinPlateSpline];
    let all = |statement: &str, pairs: [(AdditionModel, AdditionModel); 3]| {
        pairs.into_iter().fold(Claim::new(statement), |claim, (a, b)| below(claim, a, b))
    };
    vec![
        all("every ST-FCN beats the FCN", kinds.map(|kind| (StFcn(kind), Fcn))),
        all("one transformer is not enough: the CNN beats every ST-FCN", kinds.map(|kind| (Cnn, StFcn(kind)))),
        all("two are: every 2xST-FCN beats the CNN", kinds.map(|kind| (TwoStFcn(kind), Cnn))),
        all("every 2xST-FCN beats the ST-FCN of the same transform", kinds.map(|kind| (TwoStFcn(kind), StFcn(kind)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Verdict;
    use crate::paper::addition_error_percent;
    use crate::report::test_result;

    #[test]
    fn the_papers_own_figures_bear_out_its_claims() {
        let result = |model: AdditionModel| {
            test_result("addition", DISTORTION.id(), &model.id(), 0, addition_error_percent(model))
        };
        let results = AdditionModel::ALL.map(result);
        let results: Vec<_> = results.iter().collect();
        for claim in claims(&Cells::by_training(&results)[0]) {
            assert_eq!(claim.verdict(), Verdict::Holds, "{claim:?}");
        }
    }
}
