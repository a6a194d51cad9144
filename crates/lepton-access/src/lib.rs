//! Identities, credentials and decisions: who somebody is, and what they may do.
//!
//! Owns: the master key, the shapes of tokens, the decision. Must not know: HTTP, SQL.
//!
//! Two sorts of credential exist. A *token* is made for a person or a program; only the
//! SHA-256 of its secret is kept (the secret has 256 random bits, so a slow hash would add
//! nothing). A *workload token* is given to what Lepton itself starts; its secret is derived
//! from the master key and the workload's id, so nothing is kept, and it is good only while
//! the workload is not over.

mod credential;
mod decision;
mod master_key;
mod s3_key;

pub use credential::{Credential, ParseCredentialError, SecretToken, WorkloadKind};
pub use decision::{Access, Denied, Principal, Target, decide, decide_objects};
pub use master_key::{KeyPurpose, MasterKey, MasterKeyError};
pub use s3_key::{ParseS3KeyIdError, S3KeyId, S3Secret};
