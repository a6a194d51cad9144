//! Which of the judged candidates make up the model.
//!
//! Owns: telling candidates apart. Must not know: how they were fitted, or what the metric is.
//!
//! Taking the one best follows the noise of the folds, and so do weights that are fitted to
//! them. Instead, all that cannot be told from the best are averaged alike: the one-standard-
//! error rule (Breiman et al. 1984, section 3.4.3), with the error of the difference on the same
//! rows and equal weights in place of the simplest model (Clemen 1989).

use super::target::TargetValues;

/// A candidate that was judged on every row.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Its place on the leaderboard.
    pub(super) at: usize,
    /// Predictions for every row, from folds that did not see it.
    pub(super) predictions: Vec<f32>,
    /// What it will cost to judge it again and fit it at last, in seconds of wall time.
    pub(super) seconds: f64,
}

/// Members beyond which a model grows and its figures hardly.
pub(super) const MEMBERS_MAX: usize = 6;
/// Candidates that are compared with the best.
const COMPARED_MAX: usize = 12;
/// Parts of the jackknife; more would cost more and change little.
const GROUPS: usize = 20;
/// Standard errors within which two are equals: eleven comparisons share an error of 5 %
/// (Bonferroni), and a difference has 19 degrees of freedom.
const ERRORS: f64 = 3.0;

/// The members, best first: the best, and all that `merit` cannot tell from it, as far as they
/// can be fitted in `seconds`. None only if there are no candidates.
pub(super) fn choose(
    candidates: &[Candidate],
    target: &TargetValues,
    merit: impl Fn(&TargetValues, &[f32]) -> f64,
    seconds: f64,
) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = candidates
        .iter()
        .map(|one| merit(target, &one.predictions))
        .enumerate()
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(COMPARED_MAX);
    let Some((&(best, best_merit), others)) = ranked.split_first() else {
        return Vec::new();
    };
    let parts = Parts::new(target);
    let of_best = parts.merits(&candidates[best].predictions, &merit);
    let mut spent = candidates[best].seconds;
    let mut members = vec![best];
    for &(other, own_merit) in others {
        let candidate = &candidates[other];
        if members.len() == MEMBERS_MAX || spent + candidate.seconds > seconds {
            continue;
        }
        let of_other = parts.merits(&candidate.predictions, &merit);
        // A metric that a part cannot tell has an error of NaN, and equals nothing.
        if best_merit - own_merit <= ERRORS * error_of_difference(&of_best, &of_other) {
            members.push(other);
            spent += candidate.seconds;
        }
    }
    members
}

/// The rows without each of some groups in turn.
struct Parts {
    width: usize,
    kept: Vec<(Vec<usize>, TargetValues)>,
}

impl Parts {
    fn new(target: &TargetValues) -> Self {
        let groups = GROUPS.min(target.len());
        let without = |group| {
            let kept: Vec<usize> = (0..target.len())
                .filter(|row| row % groups != group)
                .collect();
            let truth = target.take(&kept);
            (kept, truth)
        };
        Self {
            width: target.width(),
            kept: (0..groups).map(without).collect(),
        }
    }

    fn merits(
        &self,
        predictions: &[f32],
        merit: &impl Fn(&TargetValues, &[f32]) -> f64,
    ) -> Vec<f64> {
        let without = |(kept, truth): &(Vec<usize>, TargetValues)| {
            let rows = kept.iter();
            let own: Vec<f32> = rows
                .flat_map(|row| &predictions[row * self.width..(row + 1) * self.width])
                .copied()
                .collect();
            merit(truth, &own)
        };
        self.kept.iter().map(without).collect()
    }
}

/// By the jackknife that leaves out a group at a time (Efron and Tibshirani 1993, chapter 11):
/// it needs nothing of the metric but its value.
#[expect(clippy::cast_precision_loss, reason = "at most twenty groups")]
fn error_of_difference(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len() as f64;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / count;
    let squares = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
    ((count - 1.0) / count * squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metric;
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn mse(truth: &TargetValues, predictions: &[f32]) -> f64 {
        -Metric::Mse.value(truth, predictions)
    }

    /// Targets of 0, and a candidate of each of these mean absolute errors.
    fn made(rows: usize, sizes: &[f32]) -> (TargetValues, Vec<Candidate>) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let candidate = |(at, size): (usize, &f32)| Candidate {
            at,
            predictions: (0..rows)
                .map(|_| size * rng.random_range(-2.0..2.0))
                .collect(),
            seconds: 1.0,
        };
        let candidates = sizes.iter().enumerate().map(candidate).collect();
        (TargetValues::Numbers(vec![0.0; rows]), candidates)
    }

    #[test]
    fn equals_are_averaged_and_the_clearly_worse_left_out() {
        let (target, candidates) = made(400, &[1.0, 2.0, 1.01, 0.99, 1.5]);
        let mut members = choose(&candidates, &target, mse, f64::INFINITY);
        members.sort_unstable();
        assert_eq!(members, [0, 2, 3]);
    }

    #[test]
    fn few_rows_tell_less() {
        let (target, candidates) = made(16, &[1.0, 1.2, 1.3]);
        assert_eq!(choose(&candidates, &target, mse, f64::INFINITY).len(), 3);
    }

    #[test]
    fn members_are_as_many_as_time_allows_and_at_least_one() {
        let (target, candidates) = made(100, &[1.0; 20]);
        let count = |seconds| choose(&candidates, &target, mse, seconds).len();
        let counts = [f64::INFINITY, 4.5, 1.0, 0.0].map(count);
        assert_eq!(counts, [MEMBERS_MAX, 4, 1, 1]);
    }

    #[test]
    fn what_a_metric_cannot_tell_is_no_equal() {
        let (target, candidates) = made(50, &[1.0, 1.0]);
        let members = choose(&candidates, &target, |_, _| f64::NAN, f64::INFINITY);
        assert_eq!(members.len(), 1);
        assert!(choose(&[], &target, mse, 1.0).is_empty());
    }

    /// For a mean, the jackknife of single rows is the textbook's error of the mean.
    #[test]
    fn the_error_of_a_mean_is_that_of_the_textbook() {
        let (target, candidates) = made(20, &[1.0, 0.0]);
        let parts = Parts::new(&target);
        let [a, b] = [0, 1].map(|at: usize| parts.merits(&candidates[at].predictions, &mse));
        let squares = candidates[0].predictions.iter();
        let squares: Vec<f64> = squares.map(|p| f64::from(*p).powi(2)).collect();
        let mean = squares.iter().sum::<f64>() / 20.0;
        let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 19.0;
        assert!((error_of_difference(&a, &b) - (variance / 20.0).sqrt()).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_best_is_first_and_nobody_twice(sizes in proptest::collection::vec(0.1_f32..3.0, 1..15)) {
            let (target, candidates) = made(60, &sizes);
            let members = choose(&candidates, &target, mse, f64::INFINITY);
            let merits: Vec<f64> = candidates.iter().map(|c| mse(&target, &c.predictions)).collect();
            prop_assert!(merits.iter().all(|m| *m <= merits[members[0]]));
            prop_assert!(members.windows(2).all(|w| merits[w[0]] >= merits[w[1]] && w[0] != w[1]));
            prop_assert!(members.len() <= MEMBERS_MAX);
        }
    }
}
