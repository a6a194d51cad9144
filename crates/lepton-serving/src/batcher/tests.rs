use std::sync::mpsc as std_mpsc;

use lepton_types::signature::{Datatype, TensorSpec};

use super::*;
use crate::tensor::{Tensor, TensorData};

/// Doubles its one column, once a permit for the run has come.
struct Doubler {
    signature: Signature,
    permits: std_mpsc::Receiver<()>,
    batches: std_mpsc::Sender<usize>,
    /// Gives one row for all where set: rows are then not independent.
    pooled: bool,
}

fn spec(name: &str) -> TensorSpec {
    TensorSpec::new(name, Datatype::Int64, vec![-1])
}

impl Model for Doubler {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&mut self, inputs: Vec<NamedTensor>) -> Result<Vec<Output>, InferError> {
        self.permits
            .recv()
            .expect("the test keeps the permits open");
        let (_, data) = inputs[0].tensor.clone().into_parts();
        let TensorData::Int64(values) = data else {
            unreachable!()
        };
        self.batches.send(values.len()).unwrap();
        if values.contains(&13) {
            return Err(InferError::Refused {
                reason: "13".to_owned(),
            });
        }
        let doubled: Vec<i64> = if self.pooled {
            vec![values.iter().sum()]
        } else {
            values.iter().map(|value| value * 2).collect()
        };
        Ok(vec![Output {
            name: "y".to_owned(),
            tensor: Tensor::new(vec![doubled.len()], TensorData::Int64(doubled)).unwrap(),
            columns: None,
        }])
    }
}

struct Stage {
    batcher: Batcher,
    permits: std_mpsc::Sender<()>,
    batches: std_mpsc::Receiver<usize>,
}

fn stage(options: BatchOptions, pooled: bool) -> Stage {
    let (permits, permits_taken) = std_mpsc::channel();
    let (batches_told, batches) = std_mpsc::channel();
    let model = Doubler {
        signature: Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            task: None,
            classes: Vec::new(),
            target: None,
        },
        permits: permits_taken,
        batches: batches_told,
        pooled,
    };
    let (batcher, _) = Batcher::start(model, options).unwrap();
    Stage {
        batcher,
        permits,
        batches,
    }
}

fn input(values: &[i64]) -> Vec<NamedTensor> {
    vec![NamedTensor {
        name: "x".to_owned(),
        tensor: Tensor::new(vec![values.len()], TensorData::Int64(values.to_vec())).unwrap(),
    }]
}

fn values(outputs: &[Output]) -> Vec<i64> {
    match outputs[0].tensor.data() {
        TensorData::Int64(values) => values.clone(),
        other => panic!("{other:?}"),
    }
}

/// Submits without waiting for the answer; the request is queued when this returns.
fn submit(
    batcher: &Batcher,
    values: &[i64],
) -> tokio::task::JoinHandle<Result<Vec<Output>, SubmitError>> {
    let batcher = batcher.clone();
    let inputs = input(values);
    tokio::spawn(async move { batcher.infer(inputs).await })
}

/// Waits until so many requests wait or run.
async fn until_waiting(batcher: &Batcher, count: usize) {
    while batcher.counts().waiting() < count {
        tokio::task::yield_now().await;
    }
}

const STACKING: BatchOptions = BatchOptions {
    queue_max: 8,
    rows_max: 4,
};

#[tokio::test]
async fn what_piles_up_during_a_run_is_run_together_and_told_apart() {
    let Stage {
        batcher,
        permits,
        batches,
    } = stage(STACKING, false);
    let first = submit(&batcher, &[1]);
    until_waiting(&batcher, 1).await;
    permits.send(()).unwrap();
    assert_eq!(values(&first.await.unwrap().unwrap()), [2]);
    assert_eq!(batches.recv().unwrap(), 1);

    // The next run has begun and waits for its permit; these pile up behind it.
    let running = submit(&batcher, &[10]);
    until_waiting(&batcher, 1).await;
    while batcher.jobs.capacity() < batcher.jobs.max_capacity() {
        tokio::task::yield_now().await;
    }
    let mut piled = Vec::new();
    for (at, rows) in [vec![1], vec![2, 3], vec![4], vec![5]].iter().enumerate() {
        piled.push(submit(&batcher, rows));
        until_waiting(&batcher, at + 2).await;
    }
    for _ in 0..3 {
        permits.send(()).unwrap();
    }
    assert_eq!(values(&running.await.unwrap().unwrap()), [20]);
    let mut answers = Vec::new();
    for answer in piled {
        answers.push(values(&answer.await.unwrap().unwrap()));
    }
    assert_eq!(answers, [vec![2], vec![4, 6], vec![8], vec![10]]);
    // Four rows fill a batch, the fifth came after.
    assert_eq!(batches.try_iter().collect::<Vec<_>>(), [1, 4, 1]);
    assert_eq!(batcher.counts().stacked(), 3);
}

#[tokio::test]
async fn one_bad_request_fails_alone() {
    let stage = stage(STACKING, false);
    let running = submit(&stage.batcher, &[0]);
    until_waiting(&stage.batcher, 1).await;
    let good = submit(&stage.batcher, &[1]);
    until_waiting(&stage.batcher, 2).await;
    let bad = submit(&stage.batcher, &[13]);
    until_waiting(&stage.batcher, 3).await;
    for _ in 0..8 {
        stage.permits.send(()).unwrap();
    }
    running.await.unwrap().unwrap();
    assert_eq!(values(&good.await.unwrap().unwrap()), [2]);
    let error = bad.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the model refuses the inputs: 13");
}

#[tokio::test]
async fn a_model_whose_rows_are_not_independent_is_run_one_by_one() {
    let stage = stage(STACKING, true);
    let running = submit(&stage.batcher, &[0]);
    until_waiting(&stage.batcher, 1).await;
    let mut others = Vec::new();
    for (at, value) in [5, 6].into_iter().enumerate() {
        others.push(submit(&stage.batcher, &[value]));
        until_waiting(&stage.batcher, at + 2).await;
    }
    for _ in 0..8 {
        stage.permits.send(()).unwrap();
    }
    running.await.unwrap().unwrap();
    for (answer, expected) in others.into_iter().zip([5, 6]) {
        assert_eq!(values(&answer.await.unwrap().unwrap()), [expected]);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let options = BatchOptions {
        queue_max: 1,
        rows_max: 1,
    };
    let stage = stage(options, false);
    let running = submit(&stage.batcher, &[1]);
    until_waiting(&stage.batcher, 1).await;
    while stage.batcher.jobs.capacity() == 0 {
        tokio::task::yield_now().await;
    }
    let queued = submit(&stage.batcher, &[2]);
    until_waiting(&stage.batcher, 2).await;
    let refused = stage.batcher.infer(input(&[3])).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::Full { queue_max: 1 }),
        "{refused}"
    );
    for _ in 0..2 {
        stage.permits.send(()).unwrap();
    }
    running.await.unwrap().unwrap();
    queued.await.unwrap().unwrap();
    assert_eq!(stage.batcher.counts().waiting(), 0);
}
