//! Fates: randomness by name, ids, and what each worker will do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lepton_executors::{ExitOutcome, FakeScript, Program, WorkloadId, WorkloadSpec};
use lepton_types::{Clock, DurationMs, Id, IdSource, ManualClock};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// A random stream that only its seed and its name give.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        for (at, byte) in name.bytes().enumerate() {
            let slot = &mut key[8 + at % 24];
            *slot = slot.rotate_left(3) ^ byte;
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    pub(crate) fn chance(&mut self, per_thousand: u64) -> bool {
        self.below(1_000) < per_thousand
    }

    pub(crate) fn millis(&mut self, most: u64) -> DurationMs {
        DurationMs::from_millis(self.below(most + 1))
    }

    /// One of several; there must be one.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Ids that repeat: the simulated time and a counter.
pub(crate) struct SeededIds {
    seed: u64,
    clock: Arc<ManualClock>,
    given: AtomicU64,
}

impl SeededIds {
    pub(crate) fn new(seed: u64, clock: Arc<ManualClock>) -> Self {
        let given = AtomicU64::new(0);
        Self { seed, clock, given }
    }
}

impl IdSource for SeededIds {
    fn next_id(&self) -> Id {
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        let mut stream = Stream::new(self.seed, &format!("id {number}"));
        let mut random = [0_u8; 10];
        // Ids of one millisecond sort by their number, as the system's sort by chance.
        random[..4].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
        random[4..].copy_from_slice(&stream.0.next_u64().to_be_bytes()[..6]);
        Id::from_parts(self.clock.now(), random)
    }
}

/// What workers do, from the seed and their ids.
#[derive(Clone)]
pub(crate) struct Fates {
    seed: u64,
    /// From then on nothing that starts is broken.
    calm: Arc<AtomicBool>,
}

impl Fates {
    pub(crate) fn new(seed: u64) -> Self {
        let calm = Arc::new(AtomicBool::new(false));
        Self { seed, calm }
    }

    pub(crate) fn end_faults(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    pub(crate) fn of(&self, spec: &WorkloadSpec) -> FakeScript {
        let mut stream = Stream::new(self.seed, &format!("fate {}", spec.id));
        let calm = self.calm.load(Ordering::SeqCst);
        let mut script = FakeScript {
            starts_after: stream.millis(500),
            runs_for: None,
            outcome: ExitOutcome::Code(0),
            lost_after: None,
            stubborn: stream.chance(250),
            stdout: b"hello\n".to_vec(),
            files: [].into(),
        };
        match spec.program {
            Program::Command(_) => run_a_while(&mut script, &mut stream),
            Program::Builtin(_) if calm => {}
            Program::Builtin(_) => serve_a_while(&mut script, &mut stream),
        }
        script
    }

    /// Whether a replica that has run for so long answers its probes.
    pub(crate) fn answers(&self, id: WorkloadId, after: DurationMs) -> bool {
        let mut stream = Stream::new(self.seed, &format!("deaf {id}"));
        let deaf_after = match stream.below(100) {
            0..6 => DurationMs::ZERO,
            6..12 => stream.millis(120_000),
            _ => return true,
        };
        self.calm.load(Ordering::SeqCst) || after < deaf_after
    }
}

fn run_a_while(script: &mut FakeScript, stream: &mut Stream) {
    script.runs_for = Some(stream.millis(60_000));
    script.outcome = match stream.below(100) {
        0..20 => ExitOutcome::Code(1),
        20..25 => ExitOutcome::Signal(9),
        25..28 => ExitOutcome::CouldNotStart("no such command".to_owned()),
        _ => ExitOutcome::Code(0),
    };
    script.lost_after = stream.chance(50).then(|| stream.millis(60_000));
}

fn serve_a_while(script: &mut FakeScript, stream: &mut Stream) {
    match stream.below(100) {
        0..10 => {
            script.runs_for = Some(stream.millis(120_000));
            script.outcome = ExitOutcome::Signal(11);
        }
        10..15 => script.outcome = ExitOutcome::CouldNotStart("a broken model".to_owned()),
        15..20 => script.lost_after = Some(stream.millis(120_000)),
        _ => {}
    }
}
