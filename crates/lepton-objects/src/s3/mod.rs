//! The S3 face: buckets and objects as S3's clients know them.
//!
//! Owns: what each operation of S3 means here, bucket policies, CORS, lifecycle. Must not know: who
//! holds a key and what a role allows (a [`Gate`] tells), SQL, how bytes are sealed.
//!
//! The library `s3s` parses requests, checks signatures and writes XML; what an operation does is
//! here, one file for what belongs together. What exists is decided by the index alone: bytes are
//! written first, and one transaction makes them an object.

mod access;
mod acl;
mod actions;
mod attributes;
mod buckets;
mod checksums;
mod chunks;
mod copy;
mod cors;
mod customer_keys;
mod delete;
mod demands;
mod encryption;
mod errors;
mod expiry;
mod forms;
mod front;
mod gate;
mod get;
mod housekeeping;
mod lifecycle;
mod list;
mod locks;
mod multipart;
mod object_attributes;
mod operations;
mod parts;
mod patterns;
mod policy;
mod put;
mod reading;
mod settings;
mod tags;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};

use lepton_store::index::{BucketId, ObjectIndex, Traffic};
use lepton_types::{Clock, DurationMs, IdSource, Name, Timestamp};
use s3s::S3Request;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::Semaphore;

use crate::Contents;
use reading::Pinned;

pub use front::Front;
pub use gate::{Gate, GateError, Holder, Rights};

/// Where the connection of a request comes from: who serves connections puts it among a request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);

/// The region that is told to clients that ask; there is but one.
pub const REGION: &str = "us-east-1";

/// The longest XML that a request may carry: 10,000 parts with checksums are below 3 MiB.
const XML_BYTES_MAX: usize = 4 << 20;

/// The longest file that a browser's form may post, as it is held in memory.
const FORM_BYTES_MAX: u64 = 32 << 20;

/// Forms that are held in memory at once.
const FORMS_AT_ONCE: usize = 4;

/// The longest that all fields of a form but the file may be.
const FORM_FIELDS_BYTES_MAX: usize = 64 << 10;

/// What the face works with.
#[derive(Clone)]
pub struct Parts {
    /// What exists.
    pub index: ObjectIndex,
    /// The bytes of it.
    pub contents: Contents,
    /// Who may come in.
    pub gate: Arc<dyn Gate>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdSource>,
    /// How long a day in the rules of lifecycles is.
    pub lifecycle_day: DurationMs,
}

/// The S3 face of one Lepton. Cheap to clone.
#[derive(Clone)]
pub struct Face(Arc<Shared>);

struct Shared {
    parts: Parts,
    /// What went over the wire and is not yet in the index.
    traffic: Mutex<BTreeMap<Name, Traffic>>,
    /// Held by every read that is being looked up; replaced when garbage is gathered.
    looking_up: Mutex<Arc<()>>,
    /// What is being read.
    read: Pinned,
    /// Room for the forms that are in memory.
    forms: Semaphore,
}

impl std::ops::Deref for Face {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl Face {
    /// A face over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        if parts.lifecycle_day < DurationMs::from_secs(86_400) {
            tracing::warn!(
                lifecycle_day = %parts.lifecycle_day,
                "days of lifecycles are short: rules of every bucket expire data so much sooner"
            );
        }
        Self(Arc::new(Shared {
            parts,
            traffic: Mutex::default(),
            looking_up: Mutex::default(),
            read: Pinned::default(),
            forms: Semaphore::new(FORMS_AT_ONCE),
        }))
    }

    /// What answers HTTP requests.
    #[must_use]
    pub fn front(&self) -> Front {
        Front::new(self.clone())
    }

    fn service(&self) -> S3Service {
        let mut builder = S3ServiceBuilder::new(self.clone());
        builder.set_auth(self.clone());
        builder.set_access(self.clone());
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BYTES_MAX;
        config.post_object_max_file_size = FORM_BYTES_MAX;
        config.form_max_fields_size = FORM_FIELDS_BYTES_MAX;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.build()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fresh random bits, for the tail of a version's id.
    fn salt(&self) -> u64 {
        let id = self.ids.next_id().to_bytes();
        let tail = id[8..].try_into().expect("invariant: the last 8 of 16");
        u64::from_be_bytes(tail)
    }
}

/// Which bucket a request turned out to be about, for what is answered around the operation.
type FoundBucket = Arc<OnceLock<BucketId>>;

/// Who asks.
#[derive(Clone)]
struct Caller {
    /// Nobody in particular if the request is not signed.
    holder: Option<Arc<Holder>>,
    /// Where the connection comes from.
    address: Option<IpAddr>,
}

/// What [`Face`] found out about a request before its operation runs.
#[derive(Clone)]
struct Entered {
    caller: Caller,
    /// The bucket that the path names, if it is there.
    bucket: Option<lepton_store::index::Bucket>,
    /// What its policy says, if it has one.
    policy: Option<Arc<policy::Policy>>,
}

/// What an operation is told about its request.
fn entered<T>(request: &S3Request<T>) -> &Entered {
    request
        .extensions
        .get()
        .expect("invariant: the access check ran and left what it found")
}
