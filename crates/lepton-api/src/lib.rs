//! What goes over the wire: requests, responses, error codes and their meaning.
//!
//! Owns: the shapes of `/api/v1`. Must not know: the store, the server, any logic.
//! `/api/v1` only grows: a field may be added, none renamed or removed.

mod errors;
mod logged_models;
mod objects;
mod requests;
mod responses;

pub use errors::{ErrorBody, ErrorCode, ErrorDetail, UnknownErrorCode};
pub use logged_models::{LoggedModelView, ModelMeasurement, PutLoggedModel, RunOfModel};
pub use objects::{
    DataKeyView, NewNamedKey, ObjectKeys, ProjectKeys, RenewedKey, RotatedKeys, ShredKeys,
    ShreddedKeys, StartUpkeep, StorageCost, StorageUsage, TierUsage, UpdateProject, UpdateQuota,
    Upkeep, UpkeepFinding, UpkeepPhase, UpkeepWork,
};
pub use requests::{
    Apply, CreateAccessKey, CreateExperiment, CreateJob, CreateProject, CreateReservation,
    CreateRun, CreateToken, LogToRun, Manifest, ManifestMetadata, PutDatasetVersion,
    PutModelVersion, SetAlias, SubmitInput, SubmitPrepare, SubmitProgram, SubmitTrain, UpdateModel,
    UpdateRun,
};
pub use responses::{
    AccessKeyView, AppliedItem, ApplyAction, ApplyReport, Bin, BlobInfo, CreatedAccessKey,
    CreatedToken, FieldChange, LineageGraph, List, RunView, S3Credentials, SeriesPage, ServerInfo,
    TokenView, WatchEvent, WatchKind, WhoAmI,
};
