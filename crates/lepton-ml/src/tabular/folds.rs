//! Folds of cross-validation.
//!
//! Owns: which rows are held out together. Must not know: models.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::target::TargetValues;

/// One split: rows to learn from, rows to judge by, both in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Rows to learn from.
    pub training: Vec<usize>,
    /// Rows to judge by.
    pub validation: Vec<usize>,
}

/// Splits all rows into `count` folds, each validating once. Every fold gets its share
/// of each class, or of low and high numbers: rows are dealt out in the order of the
/// target, shuffled among equals.
#[must_use]
pub fn split(target: &TargetValues, count: usize, rng: &mut ChaCha8Rng) -> Vec<Fold> {
    let rows = target.len();
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(rng);
    match target {
        TargetValues::Classes { labels, .. } => order.sort_by_key(|&r| labels[r]),
        TargetValues::Numbers(values) => order.sort_by(|&a, &b| values[a].total_cmp(&values[b])),
    }
    let mut fold_of = vec![0; rows];
    let mut deal: Vec<usize> = (0..count).collect();
    for hand in order.chunks(count) {
        deal.shuffle(rng);
        for (&row, &fold) in hand.iter().zip(&deal) {
            fold_of[row] = fold;
        }
    }
    (0..count)
        .map(|fold| {
            let (validation, training) = (0..rows).partition(|&row| fold_of[row] == fold);
            Fold {
                training,
                validation,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #[test]
        fn each_row_validates_once_and_classes_are_shared_out(
            labels in proptest::collection::vec(0_u32..4, 10..80), seed: u64, count in 2_usize..6
        ) {
            let names = (0..4).map(|c| c.to_string()).collect();
            let target = TargetValues::Classes { labels: labels.clone(), names, integers: true };
            let folds = split(&target, count, &mut ChaCha8Rng::seed_from_u64(seed));
            let mut seen = vec![0; labels.len()];
            for fold in &folds {
                prop_assert_eq!(fold.training.len() + fold.validation.len(), labels.len());
                prop_assert!(fold.validation.len().abs_diff(labels.len() / count) <= 1);
                fold.validation.iter().for_each(|&row| seen[row] += 1);
                for class in 0..4 {
                    let of = |rows: &[usize]| rows.iter().filter(|&&r| labels[r] == class).count();
                    let whole = labels.iter().filter(|l| **l == class).count();
                    // Dealt in runs, a class may straddle two hands.
                    prop_assert!(of(&fold.validation) <= whole.div_ceil(count) + 1);
                }
            }
            prop_assert!(seen.iter().all(|s| *s == 1));
        }
    }
}
