//! Training from end to end, on data made here.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::sync::atomic::{AtomicI64, Ordering};

use lepton_ml::onnx::signature_of;
use lepton_ml::tabular::{
    Budget, Column, Entry, Frame, JudgedOn, Metric, Observer, Outcome, Phase, Progress, TrainError,
    TrainOptions, Trained, train,
};
use lepton_types::signature::{Datatype, Role, Task};
use lepton_types::{Clock, DurationMs, ManualClock, Timestamp};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Flats: size, district with gaps, an identifier, a constant; price and whether it is dear.
fn flats(rows: usize) -> Frame {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut size, mut district, mut id, mut price, mut dear) =
        (vec![], vec![], vec![], vec![], vec![]);
    for row in 0..rows {
        let metres = rng.random_range(20.0_f64..150.0);
        let place = rng.random_range(0..4_usize);
        let paid = metres * [8.0, 10.0, 12.0, 16.0][place] + rng.random_range(-40.0..40.0);
        size.push(if rng.random_range(0..10) == 0 {
            f64::NAN
        } else {
            metres
        });
        district.push(
            (rng.random_range(0..12) > 0).then_some(["north", "east", "south", "west"][place]),
        );
        id.push(format!("flat-{row}"));
        price.push(paid);
        dear.push(Some(if paid > 900.0 { "yes" } else { "no" }));
    }
    Frame::new(vec![
        ("size".into(), Column::Number(size)),
        (
            "district".into(),
            Column::Text(district.into_iter().collect()),
        ),
        (
            "id".into(),
            Column::Text(id.iter().map(|i| Some(i.as_str())).collect()),
        ),
        (
            "city".into(),
            Column::Text((0..rows).map(|_| Some("Zürich")).collect()),
        ),
        ("price".into(), Column::Number(price)),
        ("dear".into(), Column::Text(dear.into_iter().collect())),
    ])
    .unwrap()
}

fn without(frame: &Frame, name: &str) -> Frame {
    let kept = frame
        .iter()
        .filter(|(n, _)| *n != name)
        .map(|(n, c)| (n.to_owned(), c.clone()));
    Frame::new(kept.collect()).unwrap()
}

fn options(target: &str, trials: u32) -> TrainOptions {
    TrainOptions {
        target: target.into(),
        task: None,
        metric: None,
        budget: Budget::Trials(trials),
        seed: 3,
        threads: 1,
    }
}

fn clock() -> ManualClock {
    ManualClock::starting_at(Timestamp::from_millis(0))
}

fn trained(target: &str, trials: u32) -> Trained {
    let data = without(
        &flats(240),
        if target == "price" { "dear" } else { "price" },
    );
    train(&data, &options(target, trials), &clock(), &mut ()).unwrap()
}

#[test]
fn classification_gives_all_that_is_promised() {
    let model = trained("dear", 4);
    assert!(
        model.metrics[&Metric::Accuracy] > 0.8,
        "{:?}",
        model.metrics
    );
    assert_eq!(model.judged_on, JudgedOn::FreshFolds);
    assert_eq!(model.metrics.len(), 6);
    assert_eq!(model.signature.classes, ["no", "yes"]);
    assert_eq!(model.signature.task, Some(Task::Classification));
    let inputs: Vec<_> = model
        .signature
        .inputs
        .iter()
        .map(|i| (i.name.as_str(), i.datatype, i.role))
        .collect();
    let expected = [
        ("size", Datatype::Fp32, Role::Feature),
        ("district", Datatype::Bytes, Role::Feature),
        ("id", Datatype::Bytes, Role::Ignored),
        ("city", Datatype::Bytes, Role::Ignored),
    ];
    assert_eq!(inputs, expected);
    assert_eq!(model.leaderboard.len(), 4);
    let weight: f32 = model.leaderboard.iter().map(|e| e.weight).sum();
    assert!((weight - 1.0).abs() < 1e-6);
    assert_eq!(model.importances.len(), 2);
    assert!(model.importances[0].value > model.importances[1].value);
    let plots: Vec<_> = model.plots.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        plots,
        [
            "roc",
            "calibration",
            "confusion_matrix",
            "search",
            "learning_curve",
            "importances"
        ]
    );
    let rows: Vec<usize> = model.learning.iter().map(|point| point.rows).collect();
    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
    // Five folds of 240 rows learn from 192 of them.
    assert_eq!(rows.last(), Some(&192));
    let ends = [&model.learning[0], &model.learning[rows.len() - 1]];
    let gap = ends.map(|end| end.validation - end.training);
    assert!(
        gap[0] > gap[1],
        "fewer rows are easier to memorise: {gap:?}"
    );
    assert!(ends[0].validation > ends[1].validation, "log loss falls");
    let told = |key: &str| model.series.iter().filter(|p| p.key == key).count();
    assert_eq!(told("learning.validation.log_loss"), rows.len());
    let counted: u64 = model.confusion.unwrap().counts.iter().flatten().sum();
    assert_eq!(counted, 240);
    // The file itself says the same as the signature beside it.
    let read = signature_of(&model.onnx).unwrap();
    for (own, read) in model.signature.inputs.iter().zip(&read.inputs) {
        assert_eq!(
            (&own.name, own.datatype, &own.shape),
            (&read.name, read.datatype, &read.shape)
        );
    }
    assert_eq!(read.outputs.len(), 2);
}

#[test]
fn regression_gives_all_that_is_promised() {
    let model = trained("price", 4);
    assert!(model.metrics[&Metric::R2] > 0.6, "{:?}", model.metrics);
    assert_eq!(model.signature.outputs[0].name, "prediction");
    let plots: Vec<_> = model.plots.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        plots,
        [
            "predicted_actual",
            "residuals",
            "search",
            "learning_curve",
            "importances"
        ]
    );
    let row = flats(240).take(&[5]);
    let prediction = model.predict(&row).unwrap();
    assert!((100.0..3_000.0).contains(&prediction[0]), "{prediction:?}");
}

#[test]
fn a_number_of_trials_repeats_exactly_on_any_number_of_threads() {
    let data = without(&flats(160), "price");
    let once = |threads, seed| {
        let options = TrainOptions {
            threads,
            seed,
            ..options("dear", 6)
        };
        train(&data, &options, &clock(), &mut ()).unwrap()
    };
    let first = once(1, 3);
    for threads in [2, 5] {
        let again = once(threads, 3);
        assert_eq!(first.onnx, again.onnx);
        assert_eq!(first.leaderboard, again.leaderboard);
        assert_eq!(first.plots, again.plots);
        assert_eq!(first.series, again.series);
    }
    assert_ne!(first.onnx, once(1, 4).onnx);
}

/// A clock that moves on by a second whenever it is read.
struct Hasty(AtomicI64);

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.fetch_add(1_000, Ordering::SeqCst))
    }
}

#[test]
fn a_model_comes_out_of_however_short_a_time() {
    let data = without(&flats(60), "price");
    for millis in [0, 1, 30_000] {
        let budget = Budget::Time(DurationMs::from_millis(millis));
        let options = TrainOptions {
            budget,
            ..options("dear", 0)
        };
        let model = train(&data, &options, &Hasty(AtomicI64::new(0)), &mut ()).unwrap();
        assert_eq!(model.leaderboard[0].outcome, Outcome::Complete);
        assert_eq!(model.judged_on, JudgedOn::SearchFolds);
        assert!(signature_of(&model.onnx).is_ok());
    }
}

#[derive(Default)]
struct Watcher {
    progress: Vec<Progress>,
    points: usize,
    stop_after: Option<usize>,
}

impl Observer for Watcher {
    fn progress(&mut self, progress: &Progress) {
        self.progress.push(progress.clone());
    }

    fn point(&mut self, _: &lepton_ml::tabular::Point) {
        self.points += 1;
    }

    fn should_stop(&mut self) -> bool {
        self.stop_after
            .is_some_and(|after| self.progress.len() >= after)
    }
}

#[test]
fn the_observer_is_told_and_obeyed() {
    let data = without(&flats(100), "price");
    let mut watcher = Watcher::default();
    let model = train(&data, &options("dear", 5), &clock(), &mut watcher).unwrap();
    assert_eq!(watcher.points, model.series.len());
    let phases: Vec<Phase> = watcher.progress.iter().map(|p| p.phase).collect();
    assert_eq!(phases[..5], [Phase::Search; 5]);
    assert_eq!(phases[5..], [Phase::Evaluation, Phase::Refit]);
    assert!(
        watcher
            .progress
            .windows(2)
            .all(|w| w[0].fraction <= w[1].fraction)
    );
    for after in [0, 4, 5, 6] {
        let mut watcher = Watcher {
            stop_after: Some(after),
            ..Watcher::default()
        };
        let stopped = train(&data, &options("dear", 5), &clock(), &mut watcher);
        assert_eq!(stopped, Err(TrainError::Cancelled), "after {after}");
    }
}

#[test]
fn hopeless_data_are_refused_in_words() {
    let data = flats(60);
    let refusal = |frame: &Frame, options: &TrainOptions| {
        train(frame, options, &clock(), &mut ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(&data, &options("pric", 1)),
        "the target is not in the data: there is no column `pric`: did you mean `price`?"
    );
    let wrong = TrainOptions {
        metric: Some(Metric::R2),
        ..options("dear", 1)
    };
    assert!(refusal(&data, &wrong).starts_with("the metric `r2` does not suit this target"));
    let only = Frame::new(vec![
        ("id".into(), data.column("id").unwrap().clone()),
        ("dear".into(), data.column("dear").unwrap().clone()),
    ]);
    assert!(refusal(&only.unwrap(), &options("dear", 1)).starts_with("no column but the target"));
    let mut size: Vec<f64> = (0..60).map(f64::from).collect();
    size[7] = f64::NEG_INFINITY;
    let infinite = Frame::new(vec![
        ("size".into(), Column::Number(size)),
        ("dear".into(), data.column("dear").unwrap().clone()),
    ]);
    assert!(refusal(&infinite.unwrap(), &options("dear", 1)).contains("`size` is infinite"));
}

/// The members of the ensemble really are among the best of the leaderboard.
#[test]
fn pruned_and_abandoned_trials_have_no_part() {
    let model = trained("dear", 12);
    let idle = |e: &Entry| e.outcome == Outcome::Complete || e.weight == 0.0;
    assert!(model.leaderboard.iter().all(idle));
    assert_eq!(model.leaderboard.len(), 12);
}
