//! Checksums that clients send, are told, and that are computed on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use s3s::dto;
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};
use serde::{Deserialize, Serialize};

use crate::{CrcKind, DigestKind, DigestSet, Digests, combine_crc};

/// An algorithm of S3's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    // stored: never rename
    #[serde(rename = "CRC32")]
    Crc32,
    #[serde(rename = "CRC32C")]
    Crc32c,
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
}

/// A checksum of an object, in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) algorithm: Algorithm,
    pub(super) value: String,
    /// Whether it is one of the checksums of parts, and not of all the bytes.
    #[serde(default)]
    pub(super) composite: bool,
}

/// What a body must be, and what is to be computed of it.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) md5: Option<[u8; 16]>,
    pub(super) algorithm: Option<Algorithm>,
    /// The checksum that was told beforehand.
    pub(super) value: Option<String>,
    /// Where one that comes after the body will be.
    pub(super) trailing: Option<TrailingHeaders>,
    pub(super) size_bytes: Option<u64>,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(super) fn parse(word: &str) -> S3Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|known| known.word().eq_ignore_ascii_case(word));
        found.ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "Checksum algorithm provided is unsupported."
            )
        })
    }

    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    const fn digest(self) -> DigestKind {
        match self {
            Self::Crc32 => DigestKind::Crc32,
            Self::Crc32c => DigestKind::Crc32c,
            Self::Crc64Nvme => DigestKind::Crc64Nvme,
            Self::Sha1 => DigestKind::Sha1,
            Self::Sha256 => DigestKind::Sha256,
        }
    }

    pub(super) const fn crc(self) -> Option<CrcKind> {
        match self {
            Self::Crc32 => Some(CrcKind::Crc32),
            Self::Crc32c => Some(CrcKind::Crc32c),
            Self::Crc64Nvme => Some(CrcKind::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Its value in base64, if it was computed.
    pub(super) fn of(self, digests: &Digests) -> Option<String> {
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        match self {
            Self::Crc32 => digests.crc32.map(|crc| encode(&crc.to_be_bytes())),
            Self::Crc32c => digests.crc32c.map(|crc| encode(&crc.to_be_bytes())),
            Self::Crc64Nvme => digests.crc64nvme.map(|crc| encode(&crc.to_be_bytes())),
            Self::Sha1 => digests.sha1.as_ref().map(|sum| encode(sum)),
            Self::Sha256 => digests.sha256.as_ref().map(|sum| encode(sum)),
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// An MD5 that a client sent in base64.
pub(super) fn md5_of(text: Option<&str>) -> S3Result<Option<[u8; 16]>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(text).ok();
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(md5) => Ok(Some(md5)),
        None => Err(s3_error!(
            InvalidDigest,
            "The Content-MD5 you specified is not valid."
        )),
    }
}

impl Expected {
    /// What a request says of its body.
    pub(super) fn of(
        headers: &HeaderMap,
        trailing: Option<TrailingHeaders>,
        content_length: Option<i64>,
    ) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut expected = Self {
            md5: md5_of(text("content-md5"))?,
            size_bytes: content_length.and_then(|length| u64::try_from(length).ok()),
            trailing,
            ..Self::default()
        };
        for algorithm in Algorithm::ALL {
            if let Some(value) = text(algorithm.header()) {
                if expected.algorithm.is_some() {
                    return Err(s3_error!(
                        InvalidRequest,
                        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                    ));
                }
                expected.algorithm = Some(algorithm);
                expected.value = Some(well_formed(algorithm, value)?);
            }
        }
        let announced = text("x-amz-trailer").unwrap_or_default();
        for name in announced.split(',').map(str::trim) {
            let known = Algorithm::ALL.into_iter();
            let algorithm = known
                .clone()
                .find(|one| one.header().eq_ignore_ascii_case(name));
            if algorithm.is_some() {
                expected.algorithm = expected.algorithm.or(algorithm);
            }
        }
        if let Some(word) = text("x-amz-sdk-checksum-algorithm") {
            let wanted = Algorithm::parse(word)?;
            if *expected.algorithm.get_or_insert(wanted) != wanted {
                return Err(s3_error!(
                    InvalidRequest,
                    "Value for x-amz-sdk-checksum-algorithm header is invalid."
                ));
            }
        }
        Ok(expected)
    }

    /// What is to be computed: what was told, and what the ETag is made of.
    pub(super) fn digests(&self, tells_md5: bool) -> DigestSet {
        let of_etag = match tells_md5 {
            true => DigestKind::Md5,
            false => DigestKind::Sha256,
        };
        let mut digests = DigestSet::NONE.with(of_etag);
        if self.md5.is_some() {
            digests = digests.with(DigestKind::Md5);
        }
        match self.algorithm {
            Some(algorithm) => digests.with(algorithm.digest()),
            None => digests,
        }
    }

    /// The checksum of a body that is whole, if it is what was said of it.
    pub(super) fn verify(&self, digests: &Digests, size_bytes: u64) -> S3Result<Option<Sum>> {
        if self.size_bytes.is_some_and(|told| told != size_bytes) {
            return Err(s3_error!(
                IncompleteBody,
                "You did not provide the number of bytes specified by the Content-Length HTTP header"
            ));
        }
        if self.md5.is_some() && self.md5 != digests.md5 {
            return Err(bad_digest("Content-MD5"));
        }
        let Some(algorithm) = self.algorithm else {
            return Ok(None);
        };
        let Some(value) = algorithm.of(digests) else {
            return Ok(None);
        };
        let trailing = self.trailing.as_ref().and_then(|trailing| {
            trailing.read(|headers| {
                let value = headers.get(algorithm.header())?;
                Some(value.to_str().unwrap_or_default().to_owned())
            })
        });
        let trailing = trailing.flatten();
        if let Some(told) = &trailing {
            well_formed(algorithm, told)?;
        }
        for told in [&self.value, &trailing].into_iter().flatten() {
            if *told != value {
                return Err(bad_digest(algorithm.word()));
            }
        }
        Ok(Some(Sum {
            algorithm,
            value,
            composite: false,
        }))
    }
}

fn well_formed(algorithm: Algorithm, value: &str) -> S3Result<String> {
    let decoded = STANDARD.decode(value).map(|bytes| bytes.len());
    match decoded == Ok(algorithm.bytes()) {
        true => Ok(value.to_owned()),
        false => Err(s3_error!(
            InvalidRequest,
            "Value for {} header is invalid.",
            algorithm.header()
        )),
    }
}

pub(super) fn bad_digest(what: &str) -> S3Error {
    s3_error!(
        BadDigest,
        "The {what} you specified did not match what we received."
    )
}

/// The checksum of a whole from those of its parts: of all bytes where the algorithm can (CRCs),
/// else of the checksums.
pub(super) fn combined(
    algorithm: Algorithm,
    composite: bool,
    parts: &[(String, u64)],
) -> Option<String> {
    let decoded = parts
        .iter()
        .map(|(value, _)| STANDARD.decode(value).ok())
        .collect::<Option<Vec<_>>>()?;
    if composite {
        let value = hash_all(algorithm, &decoded)?;
        return Some(format!("{}-{}", STANDARD.encode(value), parts.len()));
    }
    let kind = algorithm.crc()?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |n, byte| n << 8 | u64::from(*byte))
    };
    let mut sums = decoded
        .iter()
        .zip(parts)
        .map(|(sum, (_, size))| (number(sum), *size));
    let (first, _) = sums.next()?;
    let whole = sums.fold(first, |sum, (next, size)| {
        combine_crc(kind, sum, next, size)
    });
    let bytes = whole.to_be_bytes();
    Some(STANDARD.encode(&bytes[8 - algorithm.bytes()..]))
}

/// The checksum of the checksums of parts.
fn hash_all(algorithm: Algorithm, sums: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut wanted = s3s::checksum::ChecksumHasher::default();
    match algorithm {
        Algorithm::Crc32 => wanted.crc32 = Some(Default::default()),
        Algorithm::Crc32c => wanted.crc32c = Some(Default::default()),
        Algorithm::Crc64Nvme => wanted.crc64nvme = Some(Default::default()),
        Algorithm::Sha1 => wanted.sha1 = Some(Default::default()),
        Algorithm::Sha256 => wanted.sha256 = Some(Default::default()),
    }
    for sum in sums {
        wanted.update(sum);
    }
    let whole = wanted.finalize();
    let value = whole
        .checksum_crc32
        .or(whole.checksum_crc32c)
        .or(whole.checksum_crc64nvme)
        .or(whole.checksum_sha1)
        .or(whole.checksum_sha256)?;
    STANDARD.decode(value).ok()
}

/// Writes a checksum into the field of a record that is for it.
macro_rules! tell_sum {
    ($record:expr, $sum:expr) => {
        if let Some((algorithm, value)) = $sum {
            match algorithm {
                $crate::s3::checksums::Algorithm::Crc32 => $record.checksum_crc32 = Some(value),
                $crate::s3::checksums::Algorithm::Crc32c => $record.checksum_crc32c = Some(value),
                $crate::s3::checksums::Algorithm::Crc64Nvme => {
                    $record.checksum_crc64nvme = Some(value);
                }
                $crate::s3::checksums::Algorithm::Sha1 => $record.checksum_sha1 = Some(value),
                $crate::s3::checksums::Algorithm::Sha256 => $record.checksum_sha256 = Some(value),
            }
        }
    };
}
pub(super) use tell_sum;

/// A checksum as [`tell_sum`] takes it.
pub(super) fn told(sum: Option<&Sum>) -> Option<(Algorithm, String)> {
    sum.map(|sum| (sum.algorithm, sum.value.clone()))
}

/// Whether a checksum is of all bytes or of the parts', in S3's words.
pub(super) fn told_type(sum: Option<&Sum>) -> Option<dto::ChecksumType> {
    let word = match sum?.composite {
        true => dto::ChecksumType::COMPOSITE,
        false => dto::ChecksumType::FULL_OBJECT,
    };
    Some(dto::ChecksumType::from_static(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_of_a_whole_is_that_of_its_parts_combined() {
        // Check values of the catalogue of CRCs for "123456789".
        for (algorithm, kind, check) in [
            (
                Algorithm::Crc32,
                crc_fast::CrcAlgorithm::Crc32IsoHdlc,
                "y/Q5Jg==",
            ),
            (
                Algorithm::Crc32c,
                crc_fast::CrcAlgorithm::Crc32Iscsi,
                "4waSgw==",
            ),
            (
                Algorithm::Crc64Nvme,
                crc_fast::CrcAlgorithm::Crc64Nvme,
                "rosUhgp5mIg=",
            ),
        ] {
            let part = |bytes: &[u8]| {
                let sum = crc_fast::checksum(kind, bytes).to_be_bytes();
                let value = STANDARD.encode(&sum[8 - algorithm.bytes()..]);
                (value, bytes.len() as u64)
            };
            let parts = [part(b"1234"), part(b""), part(b"56789")];
            assert_eq!(combined(algorithm, false, &parts).as_deref(), Some(check));
        }
    }

    #[test]
    fn the_composite_of_parts_is_the_digest_of_their_digests() {
        let sum = |bytes: &[u8]| {
            let mut hasher = s3s::checksum::ChecksumHasher {
                sha256: Some(Default::default()),
                ..Default::default()
            };
            hasher.update(bytes);
            hasher.finalize().checksum_sha256.unwrap()
        };
        let parts = [(sum(b"a"), 1), (sum(b"b"), 1)];
        let both: Vec<u8> = parts
            .iter()
            .flat_map(|(sum, _)| STANDARD.decode(sum).unwrap())
            .collect();
        let expected = format!("{}-2", sum(&both));
        assert_eq!(
            combined(Algorithm::Sha256, true, &parts).as_deref(),
            Some(expected.as_str())
        );
        assert_eq!(combined(Algorithm::Sha256, false, &parts), None);
    }
}
