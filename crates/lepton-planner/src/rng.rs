//! The one source of randomness of a decision.
//!
//! Owns: seeds and streams. Must not know: what is drawn, or by whom.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// A seed from which every entity draws its own stream, so that what one gang or
/// one node draws does not move when another is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRng {
    seed: u64,
}

/// The random stream of one entity; it implements [`rand::RngCore`].
pub type Stream = ChaCha8Rng;

impl PlanRng {
    /// Randomness that repeats: equal seeds give equal streams.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed, to be recorded beside the view.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream of the entity `number` of one `kind`, from its beginning.
    #[must_use]
    pub fn stream(&self, kind: &str, number: u128) -> Stream {
        let bytes = kind.bytes().chain(number.to_be_bytes());
        let mut stream = ChaCha8Rng::seed_from_u64(self.seed);
        stream.set_stream(fnv1a(bytes));
        stream
    }
}

/// FNV-1a, 64 bits: the standard library's hasher may change between releases,
/// and a recorded decision must outlive them.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore as _;

    #[test]
    fn streams_repeat_and_differ_by_entity_kind_and_seed() {
        let rng = PlanRng::from_seed(7);
        let first = rng.stream("gang", 1).next_u64();
        assert_eq!(first, rng.stream("gang", 1).next_u64());
        assert_ne!(first, rng.stream("gang", 2).next_u64());
        assert_ne!(first, rng.stream("node", 1).next_u64());
        assert_ne!(first, PlanRng::from_seed(8).stream("gang", 1).next_u64());
    }

    #[test]
    fn a_recorded_stream_stays_what_it_was() {
        // A change here breaks the replay of every recorded decision.
        assert_eq!(fnv1a(b"gang".iter().copied()), 0x8ae4_9772_0439_61e2);
    }
}
