//! What section 4.2 says of Table 2.

use super::HouseNumbers;
use crate::cells::Cells;
use crate::claims::Claim;
use crate::models::svhn::SvhnModel::{self, Cnn, Multi, Single};

/// Points by which Multi may be worse than Single and still count as at least as good: the paper's figures have one decimal.
const EQUAL: f64 = 0.1;

/// The claims, each with the comparisons that decide it.
pub(super) fn claims(cells: &Cells) -> Vec<Claim> {
    let below = |claim: Claim, data: &str, a: SvhnModel, b: SvhnModel| {
        claim.below(cells, &HouseNumbers, (data, a.id()), (data, b.id()))
    };
    let mut claims = Vec::new();
    for data in ["64", "128"] {
        let claim = Claim::new(format!("at {data} px both ST-CNNs beat the CNN"));
        claims.push([Single, Multi].into_iter().fold(claim, |claim, model| below(claim, data, model, Cnn)));
    }
    let multi = Claim::new(format!("Multi does as well as Single (at most {EQUAL} points worse)"));
    claims.push(
        ["64", "128"].into_iter().fold(multi, |claim, data| {
            claim.within(EQUAL, cells, &HouseNumbers, (data, Multi.id()), (data, Single.id()))
        }),
    );
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Verdict;
    use crate::paper::svhn_error_percent;
    use crate::report::test_result;

    #[test]
    fn the_papers_own_figures_bear_out_its_claims() {
        let mut results = Vec::new();
        for side in [64, 128] {
            for model in SvhnModel::ALL {
                let error = svhn_error_percent(side, model).unwrap();
                results.push(test_result("svhn", &side.to_string(), model.id(), 0, error));
            }
        }
        let results: Vec<_> = results.iter().collect();
        for claim in claims(&Cells::by_training(&results)[0]) {
            assert_eq!(claim.verdict(), Verdict::Holds, "{claim:?}");
        }
    }
}
