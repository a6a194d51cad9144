//! Versions of datasets: frozen, and readable as `s3://datasets/NAME/VERSION/…`.
//!
//! Owns: that a frozen version's objects are what its manifest says, and how a draft written
//! through S3 becomes a version. Must not know: HTTP, how S3 is spoken.
//!
//! The record is what counts. Its objects are made from it, again at every start and every hour,
//! so that whatever was cut off half-way is completed or taken away.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use lepton_objects::{Content, ContentKey};
use lepton_store::index::{
    Bucket, Condition, IndexError, ListQuery, NewBody, NewBucket, NewVersion, ObjectVersion,
    Refusal, Start, ToDelete,
};
use lepton_store::{CommitError, Conflict, Query, StoreError, Transaction};
use lepton_types::resources::{
    DatasetSpec, DatasetVersion, DatasetVersionSpec, DatasetVersionStatus, FileEntry, Kind,
    Lineage, NamedVersion, ProjectSpec, Resource,
};
use lepton_types::{Name, Timestamp};

use crate::app::App;
use crate::blobs::BlobError;
use crate::error::{ApiError, Chain};
use crate::http::CHANGE_TRIES;
use crate::lineage;
use crate::tables;

/// The bucket of every project in which its datasets lie.
pub(crate) const BUCKET: &str = "datasets";

/// Below a dataset's name: what is not frozen yet.
const DRAFT: &str = "draft";

/// Objects that are made or deleted at once; they share a sync of the index.
const AT_ONCE: usize = 64;

/// Objects that are listed at once.
const PAGE: usize = 1_000;

/// Files that one draft may have.
pub(crate) const DRAFT_FILES_MAX: usize = 10_000;

/// The objects of a dataset could not be made, read or deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatasetError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was written to the draft.
    #[error(
        "the draft of dataset `{dataset}` has no files: put some under `s3://{BUCKET}/{dataset}/{DRAFT}/` first"
    )]
    EmptyDraft { dataset: Name },
    /// More than a version takes.
    #[error(
        "the draft of dataset `{dataset}` has more than {DRAFT_FILES_MAX} files: put many into archives or tables"
    )]
    TooManyFiles { dataset: Name },
    /// A file cannot be read without its writer's key.
    #[error(
        "`{path}` was written under a key of the customer's own, which datasets cannot have: write it without"
    )]
    CustomerKey { path: String },
}

/// What a version is to be.
pub(crate) struct Manifest {
    pub(crate) project: Name,
    pub(crate) dataset: Name,
    /// Whose bytes are there.
    pub(crate) files: Vec<FileEntry>,
    /// Of the dataset, if it is new.
    pub(crate) description: String,
    /// What it was prepared from, if it was.
    pub(crate) lineage: Option<Lineage>,
    pub(crate) created_by: String,
}

/// Freezes files as the next version, and tells whether it is one; makes the dataset if it is new.
/// The same files as in the newest version give that version again.
pub(crate) async fn freeze(
    app: &App,
    manifest: &Manifest,
) -> Result<(DatasetVersion, bool), ApiError> {
    let project = &manifest.project;
    let summary = match &manifest.lineage {
        Some(lineage) => tables::of_lineage(lineage)?,
        None => tables::summarise(app, project, &manifest.files).await?,
    };
    let mut tries = 0;
    loop {
        let (version, transaction) = draft(app, manifest, &summary).await?;
        let Some(transaction) = transaction else {
            mount(app, &version).await?;
            return Ok((version, false));
        };
        match app.store.commit(transaction).await {
            Ok(stored) => {
                let mut version = version;
                version.metadata.resource_version = stored;
                mount(app, &version).await?;
                return Ok((version, true));
            }
            Err(CommitError::Conflict(
                Conflict::Changed { .. } | Conflict::AlreadyExists { .. },
            )) if tries < CHANGE_TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The next version and what records it; no transaction if the newest one is the same.
async fn draft(
    app: &App,
    manifest: &Manifest,
    summary: &DatasetVersionStatus,
) -> Result<(DatasetVersion, Option<Transaction>), ApiError> {
    let (project, name) = (&manifest.project, &manifest.dataset);
    let (id, now) = (app.ids.next_id(), app.now());
    let found = app.store.get::<DatasetSpec>(project, name.as_str()).await?;
    let is_new = found.is_none();
    let mut dataset = found.unwrap_or_else(|| {
        let spec = DatasetSpec {
            description: manifest.description.clone(),
        };
        Resource::draft(app.ids.next_id(), project.clone(), name.as_str(), now, spec)
            .created_by(manifest.created_by.clone())
    });
    if is_new {
        dataset.status.latest_version = app.store.retired_number(project, name.as_str()).await?;
    } else {
        let newest = format!("{name}/{}", dataset.status.latest_version);
        if let Some(newest) = app
            .store
            .get::<DatasetVersionSpec>(project, &newest)
            .await?
            && newest.spec.files == manifest.files
            && newest.spec.lineage.as_ref().map(made) == manifest.lineage.as_ref().map(made)
        {
            return Ok((newest, None));
        }
    }
    dataset.status.latest_version += 1;
    let number = dataset.status.latest_version;
    let spec = DatasetVersionSpec {
        dataset: name.to_string(),
        version: number,
        files: manifest.files.clone(),
        lineage: manifest.lineage.clone(),
    };
    let mut version = Resource::draft(id, project.clone(), format!("{name}/{number}"), now, spec)
        .created_by(manifest.created_by.clone())
        .owned_by(Kind::Dataset, dataset.metadata.id);
    version.status = summary.clone();
    let mut transaction = Transaction::new();
    if is_new {
        transaction.create(&dataset);
    } else {
        transaction.update(&dataset);
    }
    transaction.create(&version);
    let run = manifest.lineage.as_ref().map(|lineage| lineage.run);
    let node = lineage::dataset_node(&version);
    lineage::made_by(app, &mut transaction, project, run, node).await?;
    Ok((version, Some(transaction)))
}

/// What tells one making from another; a job that is tried again makes the same.
fn made(lineage: &Lineage) -> (&[NamedVersion], &str) {
    (&lineage.inputs, &lineage.description_digest)
}

/// Whether an object of the datasets' bucket may be written or deleted by clients.
pub(crate) fn is_draft(key: &str) -> bool {
    let mut parts = key.splitn(3, '/');
    let name = parts
        .next()
        .is_some_and(|name| name.parse::<Name>().is_ok());
    name && parts.next() == Some(DRAFT) && parts.next().is_some_and(|path| !path.is_empty())
}

/// Makes the objects of a frozen version; those that are there already stay.
pub(crate) async fn mount(app: &App, version: &DatasetVersion) -> Result<(), DatasetError> {
    let project = &version.metadata.project;
    let bucket = bucket(app, project).await?;
    let folder = format!("{}/{}/", version.spec.dataset, version.spec.version);
    let mut there = BTreeSet::new();
    let mut start = None;
    loop {
        let (objects, next) = page(app, &bucket, &folder, start).await?;
        there.extend(objects.into_iter().map(|object| object.key));
        let Some(next) = next else {
            break;
        };
        start = Some(next);
    }
    let mut missing = Vec::new();
    for file in &version.spec.files {
        let key = format!("{folder}{}", file.path);
        if !there.contains(&key) {
            missing.push((key, file.clone()));
        }
    }
    let at = version.metadata.created_at;
    stream::iter(missing)
        .map(|(key, file)| put(app, &bucket, key, file, at))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn put(
    app: &App,
    bucket: &Bucket,
    key: String,
    file: FileEntry,
    at: Timestamp,
) -> Result<(), DatasetError> {
    let new = NewVersion {
        bucket: bucket.id,
        key,
        size_bytes: file.size_bytes,
        // Not the MD5 that clients would take 32 digits for.
        etag: format!("{:.32}-1", file.digest.to_string()),
        modified: at,
        salt: 0,
        class: "STANDARD".to_owned(),
        hold: false,
        retention: None,
        tags: String::new(),
        attributes: "{}".to_owned(),
        parts: String::new(),
        condition: Condition {
            matches_not: Some("*".to_owned()),
            ..Condition::default()
        },
    };
    match app.objects.index.put(new, NewBody::Blob(file.digest)).await {
        // Another pass was faster.
        Ok(_) | Err(IndexError::Refused(Refusal::Precondition)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes all objects of a dataset that is gone, its draft among them.
pub(crate) async fn unmount(app: &App, project: &Name, dataset: &str) -> Result<(), DatasetError> {
    let Some(bucket) = app.objects.index.bucket(project, BUCKET).await? else {
        return Ok(());
    };
    let mut start = None;
    loop {
        let (objects, next) = page(app, &bucket, &format!("{dataset}/"), start).await?;
        delete(app, &bucket, objects).await?;
        let Some(next) = next else {
            return Ok(());
        };
        start = Some(next);
    }
}

/// Makes what is missing of all versions, and deletes what belongs to none.
pub(crate) async fn mount_all(app: &App) -> Result<(), DatasetError> {
    let versions = app
        .store
        .list_all::<DatasetVersionSpec>(Query::default())
        .await?;
    for version in &versions {
        mount(app, version).await?;
    }
    for project in app.store.list_all::<ProjectSpec>(Query::default()).await? {
        let Ok(project) = project.metadata.name.parse::<Name>() else {
            continue;
        };
        remove_strays(app, &project).await?;
    }
    Ok(())
}

/// Deletes the objects of versions that are not there. A record is made before its objects, so one
/// that is asked for after an object was seen is there if it ever was and still is.
async fn remove_strays(app: &App, project: &Name) -> Result<(), DatasetError> {
    let bucket = bucket(app, project).await?;
    let mut start = None;
    let mut last: Option<(String, bool)> = None;
    loop {
        let (objects, next) = page(app, &bucket, "", start).await?;
        let mut strays = Vec::new();
        for object in objects.into_iter().filter(|object| !is_draft(&object.key)) {
            let mut parts = object.key.splitn(3, '/');
            let name = match (parts.next(), parts.next(), parts.next()) {
                (Some(dataset), Some(version), Some(_)) => format!("{dataset}/{version}"),
                _ => String::new(),
            };
            let known = last.as_ref().filter(|(of, _)| *of == name);
            let is_there = match known {
                Some((_, is_there)) => *is_there,
                None => {
                    let version = app.store.get::<DatasetVersionSpec>(project, &name).await?;
                    version.is_some()
                }
            };
            last = Some((name, is_there));
            if !is_there {
                strays.push(object);
            }
        }
        delete(app, &bucket, strays).await?;
        let Some(next) = next else {
            return Ok(());
        };
        start = Some(next);
    }
}

/// The bucket of the project's datasets, made if it is not there.
pub(crate) async fn bucket(app: &App, project: &Name) -> Result<Bucket, IndexError> {
    if let Some(bucket) = app.objects.index.bucket(project, BUCKET).await? {
        return Ok(bucket);
    }
    let new = NewBucket {
        project: project.clone(),
        name: BUCKET.to_owned(),
        owner: "lepton".to_owned(),
        at: app.now(),
        object_lock: false,
    };
    match app.objects.index.create_bucket(new).await {
        Err(IndexError::Refused(_)) => {
            let found = app.objects.index.bucket(project, BUCKET).await?;
            found.ok_or(IndexError::Refused(Refusal::NoSuchBucket))
        }
        made => made,
    }
}

/// A draft's files as blobs, and the objects that they were read from.
pub(crate) struct Draft {
    pub(crate) files: Vec<FileEntry>,
    bucket: Bucket,
    objects: Vec<ObjectVersion>,
}

/// Reads the draft of a dataset into blobs. What is written to it meanwhile is not in it.
pub(crate) async fn read_draft(
    app: &App,
    project: &Name,
    dataset: &Name,
) -> Result<Draft, DatasetError> {
    let bucket = bucket(app, project).await?;
    let folder = format!("{dataset}/{DRAFT}/");
    let mut objects = Vec::new();
    let (mut seen, mut start) = (0, None);
    loop {
        let (some, next) = page(app, &bucket, &folder, start).await?;
        seen += some.len();
        // Consoles and file managers make empty objects in place of folders.
        objects.extend(some.into_iter().filter(|object| !object.key.ends_with('/')));
        if objects.len() > DRAFT_FILES_MAX || seen > 2 * DRAFT_FILES_MAX {
            let dataset = dataset.clone();
            return Err(DatasetError::TooManyFiles { dataset });
        }
        let Some(next) = next else {
            break;
        };
        start = Some(next);
    }
    if objects.is_empty() {
        let dataset = dataset.clone();
        return Err(DatasetError::EmptyDraft { dataset });
    }
    let mut files = Vec::new();
    for object in &objects {
        let path = object.key[folder.len()..].to_owned();
        files.push(keep(app, project, object, path).await?);
    }
    Ok(Draft {
        files,
        bucket,
        objects,
    })
}

async fn keep(
    app: &App,
    project: &Name,
    object: &ObjectVersion,
    path: String,
) -> Result<FileEntry, DatasetError> {
    let attributes: serde_json::Value =
        serde_json::from_str(&object.attributes).unwrap_or_default();
    if !attributes["customer_key_md5"].is_null() {
        return Err(DatasetError::CustomerKey { path });
    }
    let mut upload = app.blobs.begin(project, u64::MAX).await?;
    let pieces = match object.body {
        Some(body) => app.objects.index.pieces(body).await?,
        None => Vec::new(),
    };
    for piece in pieces {
        let content = Content {
            id: piece.content,
            size_bytes: piece.size_bytes,
            inline: piece.inline.map(Into::into),
        };
        let all = 0..content.size_bytes;
        let read = app
            .objects
            .contents
            .read(project, &content, &ContentKey::Project, all);
        let mut bytes = read.await.map_err(BlobError::from)?;
        while let Some(bytes) = bytes.next().await {
            upload.write(&bytes.map_err(BlobError::from)?).await?;
        }
    }
    let blob = upload.finish().await?;
    Ok(FileEntry {
        path,
        digest: blob.digest,
        size_bytes: blob.size_bytes,
    })
}

/// Deletes what was read of a draft once it is frozen; what was written over it since stays.
pub(crate) async fn clear_draft(app: &App, draft: Draft) -> Result<(), DatasetError> {
    delete(app, &draft.bucket, draft.objects).await
}

/// Objects whose keys begin with `prefix`, and where the next of them are.
async fn page(
    app: &App,
    bucket: &Bucket,
    prefix: &str,
    start: Option<Start>,
) -> Result<(Vec<ObjectVersion>, Option<Start>), IndexError> {
    let query = ListQuery {
        bucket: bucket.id,
        prefix: prefix.to_owned(),
        delimiter: String::new(),
        start,
        limit: PAGE,
    };
    let page = app.objects.index.list(query).await?;
    let next = page.truncated.then_some(Start::After(page.last));
    Ok((page.entries, next))
}

/// Deletes objects that are still what they were when they were listed.
async fn delete(
    app: &App,
    bucket: &Bucket,
    objects: Vec<ObjectVersion>,
) -> Result<(), DatasetError> {
    let now = app.now();
    stream::iter(objects)
        .map(async |object| {
            let order = ToDelete {
                bucket: bucket.id,
                key: object.key,
                version: None,
                at: now,
                salt: 0,
                bypass: false,
                condition: Condition {
                    matches: Some(object.etag),
                    ..Condition::default()
                },
            };
            match app.objects.index.delete(order).await {
                Ok(_) | Err(IndexError::Refused(Refusal::Precondition | Refusal::NoSuchObject)) => {
                    Ok(())
                }
                Err(error) => Err(error.into()),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Tells what could not be done where a failure is no reason to fail what was done: the next pass repairs it.
pub(crate) fn warn_if_failed(done: Result<(), DatasetError>, what: &'static str) {
    if let Err(error) = done {
        tracing::warn!(error = %Chain(&error), "{what}; it is tried again within the hour");
    }
}

#[cfg(test)]
mod tests {
    use super::is_draft;

    #[test]
    fn only_drafts_may_be_written() {
        for key in ["wine/draft/a.csv", "wine/draft/x/1/b", "a-b/draft/ü"] {
            assert!(is_draft(key), "{key}");
        }
        for key in [
            "wine/1/a.csv",
            "wine/draft",
            "wine/draft/",
            "draft/a",
            "/draft/a",
            "W/draft/a",
            "",
        ] {
            assert!(!is_draft(key), "{key}");
        }
    }
}
