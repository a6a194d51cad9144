//! Uploads in parts, for files that one request should not carry.
//!
//! MLflow's clients ask for a place for each part, send the parts there without their credential, and
//! say when all are there. The place is a URL of this server that names the upload by a secret: whoever
//! has it may add parts to that upload, and nothing else.
//!
//! Parts are blobs that are kept under the upload's id; who abandons an upload leaves them until
//! they are swept.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use lepton_access::{Credential, KeyPurpose, MasterKey, WorkloadKind};
use lepton_store::Transaction;
use lepton_types::resources::BlobDigest;
use lepton_types::tracking::KeptFile;
use lepton_types::{DurationMs, Id, Name, Timestamp};
use serde::{Deserialize, Serialize};

use super::artifacts::{Place, may_write, place_of, put};
use super::ask::{Ask, Visitor, int, list, need};
use super::error::{Answer, MlflowError};
use super::wire::Done;
use crate::app::App;
use crate::auth;
use crate::blobs::BlobSummary;
use crate::http::blobs::keep_body;

/// Parts of one upload, as S3 has it.
const PARTS_MAX: i64 = 10_000;

/// The folder in which parts are kept until the upload is complete; no client's path leads there.
pub(super) const FOLDER: &str = ".uploads";

/// How long an upload may take.
const UPLOAD_AGE: DurationMs = DurationMs::from_secs(86_400);

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    path: Option<String>,
    #[serde(deserialize_with = "int")]
    num_parts: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Created {
    upload_id: String,
    credentials: Vec<PartPlace>,
}

/// Where a part goes; MLflow calls it a credential.
#[derive(Serialize)]
struct PartPlace {
    url: String,
    part_number: i64,
}

/// The file that a request names: the folder is in the URL, the name in the body.
fn target(folder: &str, path: &Option<String>) -> Result<Place, MlflowError> {
    let name = need(path, "path")?;
    let name = name.rsplit('/').next().unwrap_or(name);
    place_of(&format!("{folder}/{name}"))
}

pub(super) async fn create(
    visitor: Visitor,
    Path(folder): Path<String>,
    headers: HeaderMap,
    Ask(ask): Ask<Create>,
) -> Answer<Created> {
    may_write(&visitor, &target(&folder, &ask.path)?).await?;
    let parts = ask.num_parts.unwrap_or(1);
    if !(1..=PARTS_MAX).contains(&parts) {
        return Err(MlflowError::invalid(format!(
            "an upload takes 1 to {PARTS_MAX} parts"
        )));
    }
    let upload = Upload {
        project: visitor.project.clone(),
        id: visitor.app.ids.next_id(),
        parts,
        holder: Holder::of(&auth::presented(&headers)?),
    };
    let upload_id = upload.secret(&visitor.app.key);
    let url = own_url(&visitor.app, &headers);
    let credential = |part_number| PartPlace {
        url: format!("{url}/api/2.0/mlflow-artifacts/mpu/parts/{upload_id}/{part_number}"),
        part_number,
    };
    let credentials = (1..=parts).map(credential).collect();
    Ok(Json(Created {
        upload_id,
        credentials,
    }))
}

/// Where the client of a request reaches this server.
fn own_url(app: &App, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::HOST.as_str()) {
        Some(host) => format!("{}://{host}", text("x-forwarded-proto").unwrap_or("http")),
        None => app.url(),
    }
}

/// An upload that this server has begun.
#[derive(Debug, PartialEq, Eq)]
struct Upload {
    id: Id,
    project: Name,
    parts: i64,
    holder: Holder,
}

/// Whose credential began an upload; its parts are taken while that one is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Token(Id),
    Workload(WorkloadKind, Id),
}

impl Holder {
    fn of(credential: &Credential) -> Self {
        match credential {
            Credential::Token { id, .. } => Self::Token(id.id()),
            Credential::Workload { kind, id, .. } => Self::Workload(*kind, *id),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let id = text.get(1..)?.parse().ok()?;
        Some(match text.as_bytes().first()? {
            b't' => Self::Token(id),
            b'a' => Self::Workload(WorkloadKind::Attempt, id),
            b'r' => Self::Workload(WorkloadKind::Replica, id),
            _ => return None,
        })
    }

    async fn is_good(self, app: &App) -> Result<bool, MlflowError> {
        Ok(match self {
            Self::Token(id) => auth::working_token(app, id).await?.is_some(),
            Self::Workload(kind, id) => auth::live_workload(app, kind, id).await?.is_some(),
        })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(id) => write!(f, "t{id}"),
            Self::Workload(WorkloadKind::Attempt, id) => write!(f, "a{id}"),
            Self::Workload(WorkloadKind::Replica, id) => write!(f, "r{id}"),
        }
    }
}

fn no_such_upload() -> MlflowError {
    MlflowError::missing("No such upload")
}

impl Upload {
    /// Believes an upload's secret, if it is genuine and not too old, and who began it may still.
    async fn of(app: &App, secret: &str) -> Result<Self, MlflowError> {
        let upload = Self::parse(secret).ok_or_else(no_such_upload)?;
        // Compared as digests, so that the time it takes tells nothing of the secret.
        let digest = |text: &str| lepton_objects::digest_of(text.as_bytes());
        let genuine = digest(&upload.secret(&app.key)) == digest(secret);
        let is_young = app.now().since(upload.id.created_at()) < UPLOAD_AGE;
        if !genuine || !is_young || !upload.holder.is_good(app).await? {
            return Err(no_such_upload());
        }
        crate::http::require_project(app, &upload.project).await?;
        Ok(upload)
    }

    fn parse(secret: &str) -> Option<Self> {
        let mut fields = secret.splitn(5, '.');
        let mut next = || fields.next();
        Some(Self {
            id: next()?.parse().ok()?,
            project: next()?.parse().ok()?,
            parts: next()?.parse().ok()?,
            holder: Holder::parse(next()?)?,
        })
    }

    /// What tells this upload, and that its holder may add to it.
    fn secret(&self, key: &MasterKey) -> String {
        let terms = format!("{}.{}.{}", self.project, self.parts, self.holder);
        let mac = key.derive_under(KeyPurpose::Upload, self.id, &terms);
        format!("{}.{terms}.{}", self.id, URL_SAFE_NO_PAD.encode(mac))
    }

    fn check_number(&self, number: i64) -> Result<(), MlflowError> {
        match (1..=self.parts).contains(&number) {
            true => Ok(()),
            false => Err(MlflowError::invalid(format!(
                "this upload has the parts 1 to {}",
                self.parts
            ))),
        }
    }

    fn folder(&self) -> String {
        format!("{FOLDER}/{}", self.id)
    }

    fn part(&self, number: i64) -> String {
        format!("{}/{number:05}", self.folder())
    }
}

/// Keeps one part. Needs no token: the upload's id is the secret.
pub(super) async fn put_part(
    State(app): State<App>,
    Path((upload, number)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, MlflowError> {
    let upload = Upload::of(&app, &upload).await?;
    upload.check_number(number)?;
    let blob = keep_body(&app, &upload.project, &headers, body).await?;
    let mut transaction = Transaction::new();
    transaction.keep_file(KeptFile {
        path: upload.part(number),
        project: upload.project,
        digest: blob.digest,
        size_bytes: blob.size_bytes,
    });
    app.store.commit(transaction).await?;
    let tag = [(header::ETAG, format!("\"{}\"", blob.digest))];
    Ok((StatusCode::OK, tag).into_response())
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Finish {
    path: Option<String>,
    upload_id: Option<String>,
    #[serde(deserialize_with = "list")]
    parts: Vec<Part>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part {
    #[serde(deserialize_with = "int")]
    part_number: Option<i64>,
    etag: Option<String>,
}

/// Joins the parts into the file that was meant.
pub(super) async fn complete(
    visitor: Visitor,
    Path(folder): Path<String>,
    Ask(ask): Ask<Finish>,
) -> Answer<Done> {
    let place = target(&folder, &ask.path)?;
    may_write(&visitor, &place).await?;
    let upload = upload_of(&visitor, &ask).await?;
    if ask.parts.is_empty() {
        return Err(MlflowError::required("parts"));
    }
    let kept = visitor
        .app
        .store
        .kept_files(&visitor.project, &upload.folder())
        .await?;
    let kept: HashMap<&str, BlobDigest> = kept
        .iter()
        .map(|file| (file.path.as_str(), file.digest))
        .collect();
    let mut parts = BTreeMap::new();
    for part in &ask.parts {
        let number = part.part_number.unwrap_or_default();
        upload.check_number(number)?;
        let digest = kept.get(upload.part(number).as_str()).filter(|digest| {
            let etag = part.etag.as_deref().map(|etag| etag.trim_matches('"'));
            etag.is_none_or(|etag| etag == digest.to_string())
        });
        let digest = digest.ok_or_else(|| {
            MlflowError::invalid(format!("part {number} did not arrive as it is named"))
        })?;
        if parts.insert(number, *digest).is_some() {
            return Err(MlflowError::invalid(format!(
                "part {number} is named twice"
            )));
        }
    }
    let blob = join(&visitor, parts.into_values()).await?;
    put(&visitor, place, blob).await?;
    forget(&visitor, &upload).await
}

/// Reads one part after the other into one blob.
async fn join(
    visitor: &Visitor,
    parts: impl Iterator<Item = BlobDigest>,
) -> Result<BlobSummary, MlflowError> {
    let app = &visitor.app;
    let limit = app.config.limits.upload_bytes_max.as_bytes();
    let mut whole = app.blobs.begin(&visitor.project, limit).await?;
    for part in parts {
        let (_, stream) = app.blobs.read(&visitor.project, part).await?;
        let mut stream = std::pin::pin!(stream);
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| crate::error::ApiError::internal(&error))?;
            whole.write(&piece).await?;
        }
    }
    Ok(whole.finish().await?)
}

async fn upload_of(visitor: &Visitor, ask: &Finish) -> Result<Upload, MlflowError> {
    let upload = Upload::of(&visitor.app, need(&ask.upload_id, "upload_id")?).await?;
    match upload.project == visitor.project {
        true => Ok(upload),
        false => Err(no_such_upload()),
    }
}

pub(super) async fn abort(
    visitor: Visitor,
    Path(folder): Path<String>,
    Ask(ask): Ask<Finish>,
) -> Answer<Done> {
    may_write(&visitor, &target(&folder, &ask.path)?).await?;
    let upload = upload_of(&visitor, &ask).await?;
    forget(&visitor, &upload).await
}

/// Whether a kept file is a part of an upload that nobody will complete any more.
pub(crate) fn is_abandoned(path: &str, now: Timestamp) -> bool {
    let id = path
        .strip_prefix(FOLDER)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split('/').next())
        .and_then(|id| id.parse::<Id>().ok());
    id.is_some_and(|id| now.since(id.created_at()) >= UPLOAD_AGE)
}

/// Drops the parts of an upload.
async fn forget(visitor: &Visitor, upload: &Upload) -> Answer<Done> {
    let mut transaction = Transaction::new();
    transaction.drop_files(&visitor.project, &upload.folder());
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_an_upload_is_bound_to_all_that_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::open_or_create(&folder.path().join("key")).unwrap();
        let id = |number| Id::from_parts(Timestamp::from_millis(1), [number; 10]);
        for holder in [
            Holder::Token(id(2)),
            Holder::Workload(WorkloadKind::Attempt, id(2)),
            Holder::Workload(WorkloadKind::Replica, id(2)),
        ] {
            let upload = Upload {
                id: id(1),
                project: "lab".parse().unwrap(),
                parts: 3,
                holder,
            };
            let secret = upload.secret(&key);
            assert_eq!(Upload::parse(&secret).as_ref(), Some(&upload));
            let more = secret.replacen(".3.", ".4.", 1);
            let forged = Upload::parse(&more).unwrap();
            assert_ne!(forged.secret(&key), more);
            assert!(upload.check_number(3).is_ok());
            assert!(upload.check_number(4).is_err() && upload.check_number(0).is_err());
        }
        assert_eq!(Upload::parse("x.y"), None);
    }
}
