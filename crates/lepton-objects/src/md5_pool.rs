//! The MD5s of all uploads under way.
//!
//! Owns: that what several uploads bring is hashed side by side, as many in one pass as a core has
//! lanes. Whoever comes while all threads are busy waits, and is taken together with others: so one upload alone
//! is hashed at once, and many cost a third of what they would by themselves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::md5_lanes::{BLOCK_BYTES, LANES, Md5State, compress};

/// All uploads' hashing. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Md5Pool {
    queue: Arc<Mutex<Queue>>,
    threads_max: usize,
}

#[derive(Default)]
struct Queue {
    /// At most one of each upload under way.
    waiting: VecDeque<Job>,
    threads: usize,
}

/// Whole blocks that are to be added to one upload's digest.
struct Job {
    state: Md5State,
    batches: VecDeque<Bytes>,
    answer: oneshot::Sender<Md5State>,
}

impl Default for Md5Pool {
    fn default() -> Self {
        Self {
            queue: Arc::default(),
            threads_max: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Md5Pool {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds whole blocks to a digest.
    pub(crate) async fn update(&self, state: Md5State, batches: VecDeque<Bytes>) -> Md5State {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            state,
            batches,
            answer,
        };
        let has_thread = self.enqueue(job);
        if has_thread {
            let pool = self.clone();
            tokio::task::spawn_blocking(move || pool.work());
        }
        answered
            .await
            .expect("invariant: what waits is hashed, whoever waits for it")
    }

    /// Lets a job wait; whether a thread more is to work.
    fn enqueue(&self, job: Job) -> bool {
        let mut queue = self.queue();
        queue.waiting.push_back(job);
        let has_thread = queue.threads < self.threads_max;
        queue.threads += usize::from(has_thread);
        has_thread
    }

    /// Hashes until nothing waits.
    fn work(&self) {
        loop {
            let mut queue = self.queue();
            let taken = queue.waiting.len().min(LANES);
            if taken == 0 {
                queue.threads -= 1;
                return;
            }
            let mut jobs: Vec<Job> = queue.waiting.drain(..taken).collect();
            drop(queue);
            hash(&mut jobs);
            for job in jobs {
                // Who has gone needs no answer.
                let _ = job.answer.send(job.state);
            }
        }
    }
}

/// Hashes at most as many jobs as there are lanes, all at once as far as they go.
fn hash(jobs: &mut [Job]) {
    loop {
        let mut active: Vec<&mut Job> = jobs
            .iter_mut()
            .filter_map(|job| {
                while job.batches.front().is_some_and(Bytes::is_empty) {
                    job.batches.pop_front();
                }
                (!job.batches.is_empty()).then_some(job)
            })
            .collect();
        let lengths = active.iter().map(|job| job.batches[0].len());
        let Some(length) = lengths.min() else {
            return;
        };
        debug_assert!(length.is_multiple_of(BLOCK_BYTES));
        let inputs: Vec<Bytes> = active
            .iter_mut()
            .map(|job| job.batches[0].split_to(length))
            .collect();
        if let [job] = &mut active[..] {
            job.state.update(&inputs[0]);
            continue;
        }
        // Lanes without a job repeat the first, for nothing.
        let mut states: [Md5State; LANES] =
            std::array::from_fn(|lane| active.get(lane).map_or(active[0].state, |job| job.state));
        let slices = std::array::from_fn(|lane| &inputs.get(lane).unwrap_or(&inputs[0])[..]);
        compress(states.each_mut(), slices);
        for (job, state) in active.into_iter().zip(states) {
            job.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn uploads_side_by_side_have_their_own_digests(
            uploads in prop::collection::vec(prop::collection::vec(0_usize..40, 0..6), 1..12),
            threads_max in 1_usize..4,
        ) {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let pool = Md5Pool { queue: Arc::default(), threads_max };
                let hashing = uploads.iter().enumerate().map(|(upload, batches)| {
                    let pool = pool.clone();
                    async move {
                        let (mut state, mut whole) = (Md5State::default(), Vec::new());
                        for (at, blocks) in batches.iter().enumerate() {
                            let batch = vec![(upload * 7 + at) as u8; blocks * BLOCK_BYTES];
                            whole.extend_from_slice(&batch);
                            state = pool.update(state, VecDeque::from([batch.into()])).await;
                        }
                        (state.finish(b"rest"), [whole, b"rest".to_vec()].concat())
                    }
                });
                for (digest, bytes) in futures_util::future::join_all(hashing).await {
                    assert_eq!(digest, <[u8; 16]>::from(Md5::digest(&bytes)));
                }
            });
        }
    }
}
