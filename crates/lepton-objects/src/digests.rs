//! Digests of plain bytes, computed while they stream by.
//!
//! Owns: which digests there are, and computing any set of them. Must not know: what they are
//! compared with.

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

/// The CRC of two runs of bytes in a row, from the CRC of each and the length of the second.
#[must_use]
pub fn combine_crc(kind: CrcKind, first: u64, second: u64, second_bytes: u64) -> u64 {
    let algorithm = match kind {
        CrcKind::Crc32 => crc_fast::CrcAlgorithm::Crc32IsoHdlc,
        CrcKind::Crc32c => crc_fast::CrcAlgorithm::Crc32Iscsi,
        CrcKind::Crc64Nvme => crc_fast::CrcAlgorithm::Crc64Nvme,
    };
    crc_fast::checksum_combine(algorithm, first, second, second_bytes)
}
