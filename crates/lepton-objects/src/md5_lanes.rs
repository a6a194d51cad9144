//! MD5 (RFC 1321) of up to four inputs at once.
//!
//! Owns: the algorithm over whole blocks, on one input or on four side by side. One MD5 is a single chain of
//! dependent steps that leaves most of a core idle; four independent chains fit into the same registers, a
//! lane each, and take about as long as one. Written over arrays, which compilers make into vector
//! instructions. Must not know: where the bytes come from.

/// Inputs that are hashed at once: as many as the narrowest vectors of x86-64 and of ARM have lanes.
pub(crate) const LANES: usize = 4;

/// The bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 64;

/// ⌊2³² · |sin(i + 1)|⌋ (RFC 1321 §3.4).
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// By how much each of four steps rotates, by round.
const ROTATIONS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// The MD5 of what came so far, which is whole blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Md5State {
    words: [u32; 4],
    bytes: u64,
}

impl Default for Md5State {
    fn default() -> Self {
        Self {
            words: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476],
            bytes: 0,
        }
    }
}

impl Md5State {
    /// Adds whole blocks.
    pub(crate) fn update(&mut self, blocks: &[u8]) {
        compress([self], [blocks]);
    }

    /// The digest, after the rest of the bytes.
    pub(crate) fn finish(mut self, rest: &[u8]) -> [u8; 16] {
        let whole = rest.len() - rest.len() % BLOCK_BYTES;
        self.update(&rest[..whole]);
        let rest = &rest[whole..];
        let bits = (self.bytes + rest.len() as u64).wrapping_mul(8);
        let mut last = [0; 2 * BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        last[rest.len()] = 0x80;
        // The mark and the length need nine bytes.
        let end = (rest.len() + 9).next_multiple_of(BLOCK_BYTES);
        last[end - 8..end].copy_from_slice(&bits.to_le_bytes());
        self.update(&last[..end]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

/// Adds whole blocks to each state, as many to each as to the others.
pub(crate) fn compress<const N: usize>(mut states: [&mut Md5State; N], inputs: [&[u8]; N]) {
    let length = inputs.first().map_or(0, |input| input.len());
    debug_assert!(length.is_multiple_of(BLOCK_BYTES));
    let mut words = [Lanes([0; N]); 4];
    for (lane, state) in states.iter().enumerate() {
        for (word, value) in words.iter_mut().zip(state.words) {
            word.0[lane] = value;
        }
    }
    for at in (0..length).step_by(BLOCK_BYTES) {
        let mut block = [Lanes([0; N]); 16];
        for (lane, input) in inputs.iter().enumerate() {
            let bytes = input[at..at + BLOCK_BYTES].chunks_exact(4);
            for (word, bytes) in block.iter_mut().zip(bytes) {
                word.0[lane] = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        let before = words;
        round::<N, 0>(&mut words, &block);
        round::<N, 1>(&mut words, &block);
        round::<N, 2>(&mut words, &block);
        round::<N, 3>(&mut words, &block);
        for (word, before) in words.iter_mut().zip(before) {
            *word = word.plus(before);
        }
    }
    for (lane, state) in states.iter_mut().enumerate() {
        state.words = words.map(|word| word.0[lane]);
        state.bytes += length as u64;
    }
}

/// One word of each input.
#[derive(Clone, Copy)]
struct Lanes<const N: usize>([u32; N]);

impl<const N: usize> Lanes<N> {
    #[inline(always)]
    fn with(self, other: Self, operation: impl Fn(u32, u32) -> u32) -> Self {
        let mut result = self;
        for (one, other) in result.0.iter_mut().zip(other.0) {
            *one = operation(*one, other);
        }
        result
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.with(other, u32::wrapping_add)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.with(other, |one, other| one ^ other)
    }

    #[inline(always)]
    fn rotated(mut self, by: u32) -> Self {
        for one in &mut self.0 {
            *one = one.rotate_left(by);
        }
        self
    }
}

#[inline(always)]
fn step<const N: usize, const ROUND: usize>(
    [a, b, c, d]: [Lanes<N>; 4],
    word: Lanes<N>,
    (sine, rotation): (u32, u32),
) -> Lanes<N> {
    let early = a.plus(word).plus(Lanes([sine; N]));
    let mixed = match ROUND {
        0 => early.plus(d.xor(b.with(c.xor(d), |b, cd| b & cd))),
        // The two halves have no bit in common, so adding them one after the other is as good as `or`, and
        // the first need not wait for `b`.
        1 => early
            .plus(c.with(d, |c, d| c & !d))
            .plus(b.with(d, |b, d| b & d)),
        2 => early.plus(b.xor(c.xor(d))),
        _ => early.plus(c.xor(b.with(d, |b, d| b | !d))),
    };
    mixed.rotated(rotation).plus(b)
}

#[inline(always)]
fn round<const N: usize, const ROUND: usize>(words: &mut [Lanes<N>; 4], block: &[Lanes<N>; 16]) {
    let word = |step: usize| match ROUND {
        0 => block[step],
        1 => block[(5 * step + 1) % 16],
        2 => block[(3 * step + 5) % 16],
        _ => block[(7 * step) % 16],
    };
    let constants = |step: usize| (SINES[16 * ROUND + step], ROTATIONS[ROUND][step % 4]);
    let [mut a, mut b, mut c, mut d] = *words;
    // Spelled out, as constants in place: a loop over the sixteen steps keeps the rotations variable.
    macro_rules! four {
        ($first:expr) => {
            a = step::<N, ROUND>([a, b, c, d], word($first), constants($first));
            d = step::<N, ROUND>([d, a, b, c], word($first + 1), constants($first + 1));
            c = step::<N, ROUND>([c, d, a, b], word($first + 2), constants($first + 2));
            b = step::<N, ROUND>([b, c, d, a], word($first + 3), constants($first + 3));
        };
    }
    four!(0);
    four!(4);
    four!(8);
    four!(12);
    *words = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    fn reference(bytes: &[u8]) -> [u8; 16] {
        Md5::digest(bytes).into()
    }

    #[test]
    fn every_length_of_a_tail_is_padded_as_it_must_be() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..=bytes.len() {
            let digest = Md5State::default().finish(&bytes[..length]);
            assert_eq!(digest, reference(&bytes[..length]), "{length}");
        }
    }

    proptest! {
        #[test]
        fn four_at_once_are_the_four_by_themselves(
            blocks in 0_usize..20,
            seeds: [u8; LANES],
            rests in prop::array::uniform4(prop::collection::vec(any::<u8>(), 0..200)),
        ) {
            let bodies = seeds.map(|seed| {
                let bytes = (0..blocks * BLOCK_BYTES).map(|at| (at as u8).wrapping_mul(31) ^ seed);
                bytes.collect::<Vec<u8>>()
            });
            let mut states = [Md5State::default(); LANES];
            let inputs = bodies.each_ref().map(|body| &body[..]);
            compress(states.each_mut(), inputs);
            for ((state, body), rest) in states.into_iter().zip(bodies).zip(rests) {
                prop_assert_eq!(state.finish(&rest), reference(&[body, rest].concat()));
            }
        }
    }
}
