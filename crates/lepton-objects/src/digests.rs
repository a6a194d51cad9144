//! Digests of plain bytes, computed while they stream by.
//!
//! Owns: which digests there are, and computing any set of them. Must not know: what they are
//! compared with.

use crc_fast::CrcAlgorithm;
use md5_many::Md5State;
use ring::digest::{Context, SHA256};
use sha1::{Digest as _, Sha1};

/// A digest that a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestKind {
    /// MD5 (RFC 1321), S3's `ETag`.
    Md5,
    /// SHA-1 (FIPS 180-4).
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// CRC-32 of ISO-HDLC, as in zip.
    Crc32,
    /// CRC-32C, Castagnoli's.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
}

/// Which CRC; only these combine without the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcKind {
    /// CRC-32 of ISO-HDLC.
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
}

/// Which digests are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DigestSet(u8);

impl DigestSet {
    /// No digest.
    pub const NONE: Self = Self(0);

    /// These and `kind`.
    #[must_use]
    pub const fn with(self, kind: DigestKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// All of these but `kind`.
    pub(crate) const fn without(self, kind: DigestKind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }

    /// Whether `kind` is wanted.
    #[must_use]
    pub const fn wants(self, kind: DigestKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// The digests that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// The MD5, if it was asked for.
    pub md5: Option<[u8; 16]>,
    /// The SHA-1, if it was asked for.
    pub sha1: Option<[u8; 20]>,
    /// The SHA-256, if it was asked for.
    pub sha256: Option<[u8; 32]>,
    /// The CRC-32, if it was asked for.
    pub crc32: Option<u32>,
    /// The CRC-32C, if it was asked for.
    pub crc32c: Option<u32>,
    /// The CRC-64/NVME, if it was asked for.
    pub crc64nvme: Option<u64>,
}

/// Digests of bytes that are still coming.
pub(crate) struct Digesting {
    md5: Option<Md5State>,
    sha1: Option<Sha1>,
    sha256: Option<Context>,
    crc32: Option<crc_fast::Digest>,
    crc32c: Option<crc_fast::Digest>,
    crc64nvme: Option<crc_fast::Digest>,
}

impl Digesting {
    pub(crate) fn new(wanted: DigestSet) -> Self {
        let crc = |kind, algorithm| {
            let is_wanted = wanted.wants(kind);
            is_wanted.then(|| crc_fast::Digest::new(algorithm))
        };
        Self {
            md5: wanted.wants(DigestKind::Md5).then(Md5State::new),
            sha1: wanted.wants(DigestKind::Sha1).then(Sha1::new),
            sha256: wanted
                .wants(DigestKind::Sha256)
                .then(|| Context::new(&SHA256)),
            crc32: crc(DigestKind::Crc32, CrcAlgorithm::Crc32IsoHdlc),
            crc32c: crc(DigestKind::Crc32c, CrcAlgorithm::Crc32Iscsi),
            crc64nvme: crc(DigestKind::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        let crcs = [&mut self.crc32, &mut self.crc32c, &mut self.crc64nvme];
        for crc in crcs.into_iter().flatten() {
            crc.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Digests {
        let narrow = |crc: crc_fast::Digest| {
            u32::try_from(crc.finalize()).expect("invariant: a CRC-32 has 32 bits")
        };
        Digests {
            md5: self.md5.map(|it| it.finalize()),
            sha1: self.sha1.map(|it| it.finalize().into()),
            sha256: self.sha256.map(|it| {
                let digest = it.finish();
                let bytes = digest.as_ref().try_into();
                bytes.expect("invariant: SHA-256 gives 32 bytes")
            }),
            crc32: self.crc32.map(narrow),
            crc32c: self.crc32c.map(narrow),
            crc64nvme: self.crc64nvme.map(|it| it.finalize()),
        }
    }

    /// All at once.
    pub(crate) fn of(wanted: DigestSet, bytes: &[u8]) -> Digests {
        let mut digesting = Self::new(wanted);
        digesting.update(bytes);
        digesting.finish()
    }
}

/// The CRC of two runs of bytes in a row, from the CRC of each and the length of the second.
#[must_use]
pub fn combine_crc(kind: CrcKind, first: u64, second: u64, second_bytes: u64) -> u64 {
    let algorithm = match kind {
        CrcKind::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        CrcKind::Crc32c => CrcAlgorithm::Crc32Iscsi,
        CrcKind::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
    };
    crc_fast::checksum_combine(algorithm, first, second, second_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: DigestSet = DigestSet::NONE
        .with(DigestKind::Md5)
        .with(DigestKind::Sha1)
        .with(DigestKind::Sha256)
        .with(DigestKind::Crc32)
        .with(DigestKind::Crc32c)
        .with(DigestKind::Crc64Nvme);

    #[test]
    fn the_check_values_of_the_catalogues_come_out() {
        let digests = Digesting::of(ALL, b"123456789");
        // CRC RevEng catalogue, "check"; RFC 1321 and FIPS 180-4 for the rest.
        assert_eq!(digests.crc32, Some(0xcbf4_3926));
        assert_eq!(digests.crc32c, Some(0xe306_9283));
        assert_eq!(digests.crc64nvme, Some(0xae8b_1486_0a79_9888));
        let abc = Digesting::of(ALL, b"abc");
        assert_eq!(abc.md5.unwrap()[..4], [0x90, 0x01, 0x50, 0x98]);
        assert_eq!(abc.sha1.unwrap()[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(abc.sha256.unwrap()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn only_what_is_wanted_is_computed() {
        let wanted = DigestSet::NONE.with(DigestKind::Crc32);
        let digests = Digesting::of(wanted, b"x");
        assert!(digests.crc32.is_some() && digests.md5.is_none() && digests.sha256.is_none());
        let without = Digesting::of(ALL.without(DigestKind::Md5), b"x");
        let md5 = Digesting::of(DigestSet::NONE.with(DigestKind::Md5), b"x");
        assert_eq!(without.md5, None);
        let both = Digests {
            md5: md5.md5,
            ..without
        };
        assert_eq!(both, Digesting::of(ALL, b"x"));
    }

    proptest! {
        #[test]
        fn crcs_combine(first: Vec<u8>, second: Vec<u8>) {
            let of = |bytes: &[u8]| Digesting::of(ALL, bytes);
            let both = of(&[first.clone(), second.clone()].concat());
            let (one, two) = (of(&first), of(&second));
            let combined = |kind, a, b| combine_crc(kind, a, b, second.len() as u64);
            prop_assert_eq!(
                Some(combined(CrcKind::Crc32, one.crc32.unwrap().into(), two.crc32.unwrap().into())),
                both.crc32.map(u64::from)
            );
            prop_assert_eq!(
                Some(combined(CrcKind::Crc32c, one.crc32c.unwrap().into(), two.crc32c.unwrap().into())),
                both.crc32c.map(u64::from)
            );
            prop_assert_eq!(
                Some(combined(CrcKind::Crc64Nvme, one.crc64nvme.unwrap(), two.crc64nvme.unwrap())),
                both.crc64nvme
            );
        }
    }
}
