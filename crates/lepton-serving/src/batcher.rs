//! Requests wait here for the model, and run one after another or stacked.
//!
//! Owns: the bounded queue before the model, and the one thread that runs it (ONNX
//! Runtime spreads a run over threads by itself). While a run lasts requests pile up;
//! where stacking is on, those that fit are then run together, so batches form exactly
//! when there is load and an idle model adds no delay. Must not know: JSON, HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use lepton_types::signature::Signature;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Engine, InferError, Output};
use crate::tensor::NamedTensor;

/// What runs: ONNX Runtime, or a fake in tests.
pub trait Model: Send + 'static {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// Runs once.
    ///
    /// # Errors
    /// The inputs do not fit, or the model fails.
    fn infer(&mut self, inputs: Vec<NamedTensor>) -> Result<Vec<Output>, InferError>;
}

impl Model for Engine {
    fn signature(&self) -> &Signature {
        Self::signature(self)
    }

    fn infer(&mut self, inputs: Vec<NamedTensor>) -> Result<Vec<Output>, InferError> {
        Self::infer(self, inputs)
    }
}

/// How requests wait and are stacked.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// The most requests that wait.
    pub queue_max: usize,
    /// The most rows of one stacked run; 1 turns stacking off. Stacking is right only
    /// for models that treat every row by itself.
    pub rows_max: usize,
}

/// The queue's end that requests enter.
#[derive(Debug, Clone)]
pub struct Batcher {
    jobs: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

/// What the queue did so far.
#[derive(Debug, Default)]
pub struct Counts {
    waiting: AtomicUsize,
    runs: AtomicU64,
    stacked: AtomicU64,
}

/// Why a request was not run.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("{queue_max} requests are already waiting for the model; try again")]
    Full {
        /// The most that wait.
        queue_max: usize,
    },
    /// The model's thread is gone.
    #[error("the model is not running")]
    Stopped,
    /// It was run, and failed.
    #[error(transparent)]
    Infer(#[from] InferError),
}

#[derive(Debug)]
struct Job {
    inputs: Vec<NamedTensor>,
    reply: oneshot::Sender<Result<Vec<Output>, InferError>>,
}

impl Counts {
    /// Requests that wait or run.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Runs of the model.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Requests that ran stacked with others.
    #[must_use]
    pub fn stacked(&self) -> u64 {
        self.stacked.load(Ordering::Relaxed)
    }
}

/// Counts a request out again, however it ends.
struct Waiting<'a>(&'a Counts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Batcher {
    /// Starts the model's thread; it ends when every clone of the batcher is gone.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        model: impl Model,
        options: BatchOptions,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(options.queue_max.max(1));
        let counts = Arc::new(Counts::default());
        let runner = Runner {
            model,
            queue,
            rows_max: options.rows_max,
            counts: Arc::clone(&counts),
            held_back: None,
        };
        let thread = std::thread::Builder::new()
            .name("inference".to_owned())
            .spawn(move || runner.run())?;
        Ok((Self { jobs, counts }, thread))
    }

    /// Runs the model on these inputs, after those that wait already.
    ///
    /// # Errors
    /// The queue is full, the model is gone, or it fails on these inputs.
    pub async fn infer(&self, inputs: Vec<NamedTensor>) -> Result<Vec<Output>, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .try_send(Job { inputs, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SubmitError::Full {
                    queue_max: self.jobs.max_capacity(),
                },
                mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
            })?;
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.counts);
        Ok(answer.await.map_err(|_| SubmitError::Stopped)??)
    }

    /// Whether the model's thread lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// What the queue did so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

struct Runner<M> {
    model: M,
    queue: mpsc::Receiver<Job>,
    rows_max: usize,
    counts: Arc<Counts>,
    /// Taken from the queue, but not to be stacked with what ran before it.
    held_back: Option<Job>,
}

impl<M: Model> Runner<M> {
    fn run(mut self) {
        let stacking = self.rows_max > 1 && self.model.signature().has_free_rows();
        while let Some(first) = self.held_back.take().or_else(|| self.queue.blocking_recv()) {
            // Whoever asked may have gone; the work would be for nobody.
            if first.reply.is_closed() {
                continue;
            }
            let batch = if stacking {
                self.gather(first)
            } else {
                vec![first]
            };
            self.run_batch(batch);
        }
    }

    /// The jobs that wait already and stack with `first`, in order.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let Some(mut rows) = rows_of(&first) else {
            return vec![first];
        };
        let mut batch = vec![first];
        while rows < self.rows_max {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            let fits = rows_of(&next).filter(|more| rows + more <= self.rows_max);
            match fits {
                Some(more) if stack_together(&batch[0], &next) => {
                    rows += more;
                    batch.push(next);
                }
                _ => {
                    self.held_back = Some(next);
                    break;
                }
            }
        }
        batch
    }

    fn run_batch(&mut self, mut batch: Vec<Job>) {
        if batch.len() > 1 {
            if let Some(outputs) = self.run_stacked(&batch) {
                let stacked = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                self.counts.stacked.fetch_add(stacked, Ordering::Relaxed);
                for (job, outputs) in batch.into_iter().zip(outputs) {
                    let _ = job.reply.send(Ok(outputs));
                }
                return;
            }
            batch.retain(|job| !job.reply.is_closed());
        }
        // One by one where stacking failed, so that one bad request fails alone.
        for job in batch {
            self.counts.runs.fetch_add(1, Ordering::Relaxed);
            let _ = job.reply.send(self.model.infer(job.inputs));
        }
    }

    /// Each job's part of a run over all of them; `None` where the model fails, or gives
    /// outputs that are not one entry a row.
    fn run_stacked(&mut self, batch: &[Job]) -> Option<Vec<Vec<Output>>> {
        let lengths: Vec<usize> = batch.iter().map(rows_of).collect::<Option<_>>()?;
        let mut inputs = batch[0].inputs.clone();
        for job in &batch[1..] {
            for into in &mut inputs {
                let from = job.inputs.iter().find(|input| input.name == into.name)?;
                if !into.tensor.stack(&from.tensor) {
                    return None;
                }
            }
        }
        self.counts.runs.fetch_add(1, Ordering::Relaxed);
        let outputs = self.model.infer(inputs).ok()?;
        let mut parts: Vec<Vec<Output>> = lengths.iter().map(|_| Vec::new()).collect();
        for output in outputs {
            let pieces = output.tensor.split(&lengths)?;
            for (part, tensor) in parts.iter_mut().zip(pieces) {
                part.push(Output {
                    name: output.name.clone(),
                    tensor,
                    columns: output.columns.clone(),
                });
            }
        }
        Some(parts)
    }
}

/// The length of axis 0, where all inputs agree on it.
fn rows_of(job: &Job) -> Option<usize> {
    let mut rows = job.inputs.iter().map(|input| input.tensor.rows());
    let first = rows.next()??;
    rows.all(|other| other == Some(first)).then_some(first)
}

fn stack_together(left: &Job, right: &Job) -> bool {
    left.inputs.len() == right.inputs.len()
        && left.inputs.iter().all(|input| {
            right
                .inputs
                .iter()
                .any(|other| other.name == input.name && other.tensor.stacks_with(&input.tensor))
        })
}

#[cfg(test)]
mod tests;
