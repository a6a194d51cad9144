//! The sealed form of a content, version 1.
//!
//! Owns: the layout of sealed bytes and what each of them is bound to. Must not know: where they
//! are kept, or whose key it is.
//!
//! A header of 64 bytes, then segments of 64 KiB of plain bytes, each as AES-256-GCM ciphertext
//! and tag. All but the last segment are full; empty content has one empty segment. So the
//! position of every plain byte follows from the format, and any range can be read by itself.
//!
//! Each content has a key of its own, by HKDF-SHA-256 (RFC 5869) from the secret, the content's
//! salt and its project. A segment's nonce is its number; its additional data are the whole
//! header, its number, and whether it is the last. A segment therefore opens in no other place of
//! the content, in no other content and no other project, and a content that was cut has no last
//! segment (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015).

use lepton_types::{ContentId, DataKeyId, Id, Name};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// Plain bytes in a full segment. Larger ones seal no faster (AES-256-GCM of `ring` is within 2 %
/// of its best), and a range reads up to one segment more than it asks for.
pub(crate) const SEGMENT_BYTES: usize = 64 << 10;
/// The GCM tag of a segment.
pub(crate) const TAG_BYTES: usize = 16;
/// A full segment as it is kept.
pub(crate) const SEALED_SEGMENT_BYTES: usize = SEGMENT_BYTES + TAG_BYTES;
/// The header.
pub(crate) const HEADER_BYTES: usize = 64;

// stored: never change; a new form gets a new version.
const MAGIC: [u8; 8] = *b"lepton\x001";
const SUITE_AES_256_GCM: u8 = 1;
const KEY_PROJECT: u8 = 1;
const KEY_CUSTOMER: u8 = 2;
const SEGMENT_BITS: u8 = 16;
const SUBKEY_LABEL: &[u8] = b"lepton content v1";

/// Under whose key a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyName {
    /// A data key of the project.
    Project(DataKeyId),
    /// A customer's key, by a fingerprint that only its holder can make.
    Customer([u8; 16]),
}

/// What stands before the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: KeyName,
    pub(crate) content: ContentId,
    pub(crate) salt: [u8; 16],
}

/// Sealed bytes that cannot be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let (kind, key) = match self.key {
            KeyName::Project(id) => (KEY_PROJECT, id.id().to_bytes()),
            KeyName::Customer(fingerprint) => (KEY_CUSTOMER, fingerprint),
        };
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..11].copy_from_slice(&[SUITE_AES_256_GCM, kind, SEGMENT_BITS]);
        bytes[16..32].copy_from_slice(&self.content.id().to_bytes());
        bytes[32..48].copy_from_slice(&key);
        bytes[48..64].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads the header at the start of `sealed`, which must be that of `content`.
    pub(crate) fn read(sealed: &[u8], content: ContentId) -> Result<Self, Broken> {
        let bytes = sealed.get(..HEADER_BYTES).ok_or(Broken)?;
        let part = |at: usize| -> [u8; 16] {
            bytes[at..at + 16]
                .try_into()
                .expect("invariant: the slice has 16 bytes")
        };
        let key = match bytes[9] {
            KEY_PROJECT => KeyName::Project(Id::from_bytes(part(32)).into()),
            KEY_CUSTOMER => KeyName::Customer(part(32)),
            _ => return Err(Broken),
        };
        let header = Self {
            key,
            content: Id::from_bytes(part(16)).into(),
            salt: part(48),
        };
        // Writing it again checks every byte that was not looked at.
        if header.content == content && header.to_bytes() == bytes {
            Ok(header)
        } else {
            Err(Broken)
        }
    }
}

/// Seals and opens the segments of one content.
pub(crate) struct Sealer {
    key: LessSafeKey,
    header: [u8; HEADER_BYTES],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    pub(crate) fn new(secret: &[u8; 32], project: &Name, header: &Header) -> Self {
        let extracted = Salt::new(HKDF_SHA256, &header.salt).extract(secret);
        let info = [
            SUBKEY_LABEL,
            &header.content.id().to_bytes(),
            project.as_str().as_bytes(),
        ];
        let expanded = extracted
            .expand(&info, &AES_256_GCM)
            .expect("invariant: 32 bytes are far below HKDF's limit");
        Self {
            key: LessSafeKey::new(UnboundKey::from(expanded)),
            header: header.to_bytes(),
        }
    }

    /// Appends `plain` as segments from number `first` on, the last of them final if `is_end`.
    /// All but a final one must be full.
    pub(crate) fn seal(&self, first: u64, is_end: bool, plain: &[u8], sealed: &mut Vec<u8>) {
        debug_assert!(is_end || plain.len().is_multiple_of(SEGMENT_BYTES));
        sealed.reserve(plain.len() + (plain.len() / SEGMENT_BYTES + 1) * TAG_BYTES);
        if plain.is_empty() && is_end {
            self.seal_segment(first, true, plain, sealed);
        }
        let count = plain.len().div_ceil(SEGMENT_BYTES);
        for (offset, segment) in plain.chunks(SEGMENT_BYTES).enumerate() {
            let is_last = is_end && offset + 1 == count;
            self.seal_segment(first + offset as u64, is_last, segment, sealed);
        }
    }

    fn seal_segment(&self, number: u64, is_last: bool, plain: &[u8], sealed: &mut Vec<u8>) {
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                nonce(number),
                self.bound_to(number, is_last),
                &mut sealed[start..],
            )
            .expect("invariant: a segment is far below GCM's limit");
        sealed.extend_from_slice(tag.as_ref());
    }

    /// Opens segment `number` in place and gives its plain bytes.
    pub(crate) fn open<'a>(
        &self,
        number: u64,
        is_last: bool,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Broken> {
        self.key
            .open_in_place(nonce(number), self.bound_to(number, is_last), sealed)
            .map_err(|_| Broken)
    }

    fn bound_to(&self, number: u64, is_last: bool) -> Aad<[u8; HEADER_BYTES + 9]> {
        let mut data = [0; HEADER_BYTES + 9];
        data[..HEADER_BYTES].copy_from_slice(&self.header);
        data[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&number.to_be_bytes());
        data[HEADER_BYTES + 8] = u8::from(is_last);
        Aad::from(data)
    }
}

/// A key seals one content only, so its segments' numbers never repeat.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// How many segments `plain_bytes` take.
pub(crate) fn segments_of(plain_bytes: u64) -> u64 {
    plain_bytes.div_ceil(SEGMENT_BYTES as u64).max(1)
}

/// How long `plain_bytes` are when sealed.
pub(crate) fn sealed_bytes_of(plain_bytes: u64) -> u64 {
    let tags = segments_of(plain_bytes).saturating_mul(TAG_BYTES as u64);
    plain_bytes
        .saturating_add(tags)
        .saturating_add(HEADER_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;
    use proptest::prelude::*;

    /// How many plain bytes are in `sealed_bytes`; none if no content is so long.
    fn plain_bytes_of(sealed_bytes: u64) -> Option<u64> {
        let body = sealed_bytes.checked_sub(HEADER_BYTES as u64)?;
        let segments = body.div_ceil(SEALED_SEGMENT_BYTES as u64).max(1);
        let plain = body.checked_sub(segments * TAG_BYTES as u64)?;
        (sealed_bytes_of(plain) == sealed_bytes).then_some(plain)
    }

    const SECRET: [u8; 32] = [7; 32];

    fn id(number: u8) -> Id {
        Id::from_parts(Timestamp::from_millis(1_000), [number; 10])
    }

    fn header(number: u8) -> Header {
        Header {
            key: KeyName::Project(id(99).into()),
            content: id(number).into(),
            salt: [number; 16],
        }
    }

    fn seal(header: &Header, plain: &[u8]) -> Vec<u8> {
        let sealer = Sealer::new(&SECRET, &Name::default_project(), header);
        let mut sealed = header.to_bytes().to_vec();
        sealer.seal(0, true, plain, &mut sealed);
        sealed
    }

    fn open(
        secret: [u8; 32],
        project: &Name,
        content: u8,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Broken> {
        let header = Header::read(sealed, id(content).into())?;
        let sealer = Sealer::new(&secret, project, &header);
        let size = plain_bytes_of(sealed.len() as u64).ok_or(Broken)?;
        let mut plain = Vec::new();
        let body = sealed[HEADER_BYTES..].chunks(SEALED_SEGMENT_BYTES);
        for (number, segment) in body.enumerate() {
            let is_last = number as u64 + 1 == segments_of(size);
            plain.extend_from_slice(sealer.open(number as u64, is_last, &mut segment.to_vec())?);
        }
        Ok(plain)
    }

    fn reopened(sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        open(SECRET, &Name::default_project(), 1, sealed)
    }

    #[test]
    fn the_form_of_version_1_stays_as_it_is() {
        let digest = ring::digest::digest(&ring::digest::SHA256, &seal(&header(1), b"lepton"));
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        // Computed by other code: HKDF and AES-GCM of Python's `cryptography` package.
        let expected = "a1c62c8c6911f7eec99d8c08b24bb99e526f17eae8a0c2860900c0d7d7865a62";
        assert_eq!(hex, expected);
    }

    #[test]
    fn lengths_follow_from_each_other() {
        let segment = SEGMENT_BYTES as u64;
        for plain in [
            0,
            1,
            segment - 1,
            segment,
            segment + 1,
            3 * segment,
            5 << 40,
        ] {
            assert_eq!(plain_bytes_of(sealed_bytes_of(plain)), Some(plain));
        }
        for sealed in [0, 63, 79, sealed_bytes_of(segment) + 16] {
            assert_eq!(plain_bytes_of(sealed), None, "{sealed}");
        }
    }

    #[test]
    fn nothing_opens_in_another_place() {
        let plain: Vec<u8> = (0..3 * SEGMENT_BYTES).map(|i| (i / 7) as u8).collect();
        let sealed = seal(&header(1), &plain);
        assert_eq!(reopened(&sealed).unwrap(), plain);
        let other: Name = "other".parse().unwrap();
        assert_eq!(open(SECRET, &other, 1, &sealed), Err(Broken));
        assert_eq!(
            open([8; 32], &Name::default_project(), 1, &sealed),
            Err(Broken)
        );
        assert_eq!(
            open(SECRET, &Name::default_project(), 2, &sealed),
            Err(Broken)
        );
        let mut renamed = sealed.clone();
        renamed[16..32].copy_from_slice(&id(2).to_bytes());
        assert_eq!(
            open(SECRET, &Name::default_project(), 2, &renamed),
            Err(Broken)
        );
    }

    #[test]
    fn segments_swapped_repeated_cut_or_from_another_content_are_refused() {
        let plain = vec![5; 3 * SEGMENT_BYTES];
        let sealed = seal(&header(1), &plain);
        let part = |n: usize| {
            HEADER_BYTES + n * SEALED_SEGMENT_BYTES..HEADER_BYTES + (n + 1) * SEALED_SEGMENT_BYTES
        };
        let with = |at: usize, from: &[u8]| {
            let mut changed = sealed.clone();
            changed[part(at)].copy_from_slice(from);
            changed
        };
        for (at, from) in [(0, 1), (1, 0), (2, 1), (0, 2)] {
            assert_eq!(reopened(&with(at, &sealed[part(from)])), Err(Broken));
        }
        let mut elsewhere = header(1);
        elsewhere.salt = [9; 16];
        assert_eq!(
            reopened(&with(1, &seal(&elsewhere, &plain)[part(1)])),
            Err(Broken)
        );
        assert_eq!(reopened(&sealed[..part(1).end]), Err(Broken));
        let mut longer = sealed.clone();
        longer.extend_from_slice(&sealed[part(2)]);
        assert_eq!(reopened(&longer), Err(Broken));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_content_opens_and_any_flipped_bit_or_cut_is_refused(
            size in prop_oneof![0..200_usize, 0..4 * SEGMENT_BYTES],
            at: prop::sample::Index,
            bit in 0..8_u32,
        ) {
            let plain: Vec<u8> = (0..size).map(|i| ((i * 31) >> 3) as u8).collect();
            let sealed = seal(&header(1), &plain);
            prop_assert_eq!(sealed.len() as u64, sealed_bytes_of(size as u64));
            prop_assert_eq!(reopened(&sealed), Ok(plain));
            let mut flipped = sealed.clone();
            flipped[at.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(reopened(&flipped), Err(Broken));
            prop_assert_eq!(reopened(&sealed[..at.index(sealed.len())]), Err(Broken));
        }
    }
}
