//! The bytes of everything: files of datasets, models, runs and code, and what S3 clients put.
//!
//! Owns: that acknowledged bytes are whole, on disk, sealed, verified at every read, and never
//! changed. Must not know: who is allowed, what bytes are for, names people give them, HTTP, SQL.
//!
//! - [`Contents`] keeps immutable sealed bytes by random id. An index elsewhere names them.
//! - [`BlobStore`] keeps blobs by SHA-256 over contents, cut into pieces that are stored once.

mod backend;
mod blob_reader;
mod blob_store;
mod blob_writer;
mod buffers;
mod config;
mod contents;
mod digests;
pub mod disk;
mod error;
mod index;
mod indexed;
mod key_changes;
mod key_ring;
mod keys;
mod md5_streams;
mod pending;
mod pins;
mod pipeline;
mod reader;
mod rescue;
pub mod s3;
mod scrub;
mod seal;
mod vault;
mod writer;

pub use blob_reader::{BlobReader, StoredBlob};
pub use blob_store::{BlobStore, BlobStoreError, BlobSummary, digest_of};
pub use blob_writer::BlobStoreWriter;
pub use config::{BackendConfig, ContentsConfig, INLINE_BYTES_MAX, RemoteConfig};
pub use contents::{Content, Contents};
pub use digests::{CrcKind, DigestKind, DigestSet, Digests, combine_crc};
pub use error::{BackendError, ContentError, OpenError};
pub use index::{BlobIndex, BlobRecord, ContentIndex, NewBlob, NewPiece, Piece, PieceKey};
pub use indexed::IndexedContents;
pub use key_ring::{KeptKey, Rewrap};
pub use keys::{
    ContentKey, CustomerKey, CustomerKeyError, KeyError, KeyWrapper, MasterWrapper, WrapError,
    WrapPurpose,
};
pub use reader::ContentReader;
pub use scrub::{
    Damage, Finding, Progress, ReplicationReport, ScrubReport, SweepReport, UpkeepError,
};
pub use vault::{VaultKey, VaultWrapper};
pub use writer::{ContentWriter, NewContent, StagedContent};
