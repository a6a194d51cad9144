//! The spool: figures go to the server from a thread of their own, so that training never waits
//! for it; while it is away they are kept.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use lepton_api::LogToRun;
use lepton_client::{Client, ClientError};
use lepton_types::RunId;
use lepton_types::resources::MetricPoint;

/// Figures are sent at least this often while there are any.
const SEND_EVERY: Duration = Duration::from_millis(500);

/// Figures in one call.
const BATCH_POINTS: usize = 1_000;

/// Takes figures, and sends them in the order in which they came.
pub(crate) struct Spool {
    points: Sender<MetricPoint>,
    thread: JoinHandle<Result<(), ClientError>>,
}

impl Spool {
    /// Starts sending to `run`.
    pub(crate) fn start(client: Client, run: RunId) -> std::io::Result<Self> {
        // Unbounded, as the trainer makes a handful of points a trial and must not wait.
        let (points, taken) = mpsc::channel();
        let send = move || send_all(&client, run, &taken);
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(send)?;
        Ok(Self { points, thread })
    }

    /// Takes one figure. Never waits.
    pub(crate) fn put(&self, point: MetricPoint) {
        // Where the thread has given up, `finish` tells why.
        let _unsent = self.points.send(point);
    }

    /// Waits until all is sent.
    pub(crate) fn finish(self) -> Result<(), ClientError> {
        drop(self.points);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn send_all(
    client: &Client,
    run: RunId,
    points: &Receiver<MetricPoint>,
) -> Result<(), ClientError> {
    let mut batch: Vec<MetricPoint> = Vec::new();
    loop {
        let next = points.recv_timeout(SEND_EVERY);
        let over = matches!(next, Err(RecvTimeoutError::Disconnected));
        let due = match next {
            Ok(point) => {
                batch.push(point);
                batch.len() >= BATCH_POINTS
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => true,
        };
        if due && !batch.is_empty() {
            let metrics = std::mem::take(&mut batch);
            client.log_to_run(
                run,
                &LogToRun {
                    metrics,
                    ..LogToRun::default()
                },
            )?;
        }
        if over {
            return Ok(());
        }
    }
}
