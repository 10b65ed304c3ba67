//! What section 4.3 says of Table 3.

use super::FineGrainedBirds;
use crate::cells::Cells;
use crate::claims::Claim;
use crate::models::birds::BirdModel;

/// The claims, each with the comparisons that decide it.
pub(super) fn claims(cells: &Cells) -> Vec<Claim> {
    let below = |claim: Claim, a: (&str, BirdModel), b: (&str, BirdModel)| {
        claim.below(cells, &FineGrainedBirds, (a.0, &a.1.id()), (b.0, &b.1.id()))
    };
    let [cnn, two, four] = BirdModel::table();
    vec![
        below(Claim::new("at 224 px the 2xST-CNN beats the CNN"), ("224", two), ("224", cnn)),
        below(Claim::new("the 2xST-CNN is better at 448 px than at 224 px"), ("448", two), ("224", two)),
        below(Claim::new("at 448 px the 4xST-CNN beats the 2xST-CNN"), ("448", four), ("448", two)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Verdict;
    use crate::experiments::cub::Setting;
    use crate::paper::cub_error_percent;
    use crate::report::test_result;

    #[test]
    fn the_papers_own_figures_bear_out_its_claims() {
        let mut results = Vec::new();
        for setting in Setting::ALL {
            for model in BirdModel::all() {
                if let Some(error) = cub_error_percent(setting, model) {
                    results.push(test_result("cub", setting.id(), &model.id(), 0, error));
                }
            }
        }
        assert_eq!(results.len(), 4);
        let results: Vec<_> = results.iter().collect();
        let claims = claims(&Cells::by_training(&results)[0]);
        let verdicts: Vec<Verdict> = claims.iter().map(Claim::verdict).collect();
        assert_eq!(verdicts, [Verdict::Holds; 3], "{claims:?}");
    }
}
