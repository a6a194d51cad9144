//! Artifacts through the proxy: `mlflow-artifacts:/PATH` is `…/mlflow-artifacts/artifacts/PATH`.
//!
//! A path of the form `EXPERIMENT/RUN/artifacts/…` means a run's own artifacts, those that
//! `lepton artifacts` shows. What lies elsewhere, the files of logged models among it, is kept under
//! its path for the project.

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use lepton_access::Access;
use lepton_store::Transaction;
use lepton_types::RunId;
use lepton_types::resources::{FileEntry, Kind, ModelVersionSpec};
use lepton_types::tracking::KeptFile;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, given};
use super::error::{Answer, Code, MlflowError, shown};
use super::experiments::default_id;
use super::model_versions::VERSIONS;
use super::multipart;
use super::owners::enter_owner;
use super::runs::{ById, enter, find, parse};
use super::wire::{Done, RunInfo};
use crate::blobs::BlobSummary;
use crate::extract::parse_relative_path;
use crate::http::artifacts::ARTIFACTS_MAX;
use crate::http::blobs::{keep_body, send_blob};

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Into the artifacts of a run: below them, and empty for all.
    Run(RunId, String),
    /// Into the files of a model version that was uploaded: `MODEL/NUMBER`, and below it.
    Version(String, String),
    /// Elsewhere.
    Kept(String),
}

/// Parses a path of the proxy; it stays within the project whatever it says.
pub(super) fn place_of(path: &str) -> Result<Place, MlflowError> {
    check_path(path)?;
    if path.split('/').next() == Some(multipart::FOLDER) {
        return Err(MlflowError::invalid(format!(
            "Invalid path: '{}'",
            shown(path)
        )));
    }
    let mut parts = path.splitn(4, '/');
    if let Some((name, below)) = path
        .strip_prefix(VERSIONS)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split_once('/'))
    {
        let (number, below) = below.split_once('/').unwrap_or((below, ""));
        return Ok(Place::Version(format!("{name}/{number}"), below.to_owned()));
    }
    let (_experiment, run, folder) = (parts.next(), parts.next(), parts.next());
    if let (Some(run), Some("artifacts")) = (run, folder)
        && let Ok(run) = run.parse::<RunId>()
    {
        return Ok(Place::Run(run, parts.next().unwrap_or_default().to_owned()));
    }
    Ok(Place::Kept(path.to_owned()))
}

/// Refuses what would lead out of the folder, written plainly or escaped any number of times.
fn check_path(path: &str) -> Result<(), MlflowError> {
    let refuse = || MlflowError::invalid(format!("Invalid path: '{}'", shown(path)));
    let mut decoded = path.to_owned();
    // Each round makes it shorter, so this ends.
    while let Some(next) = unescaped(&decoded) {
        decoded = next;
    }
    for form in [path, &decoded] {
        parse_relative_path(form).map_err(|_| refuse())?;
    }
    Ok(())
}

/// The text with its `%XX` resolved, if it has any.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let code = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let decoded = String::from_utf8_lossy(&bytes).into_owned();
    (decoded.len() < text.len()).then_some(decoded)
}

pub(super) async fn upload(
    visitor: Visitor,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Done> {
    let place = place_of(&path)?;
    may_write(&visitor, &place).await?;
    let blob = keep_body(&visitor.app, &visitor.project, &headers, body).await?;
    put(&visitor, place, blob).await?;
    Ok(Json(Done {}))
}

pub(super) async fn may_write(visitor: &Visitor, place: &Place) -> Result<(), MlflowError> {
    match place {
        Place::Run(_, below) | Place::Kept(below) if below.is_empty() => {
            Err(MlflowError::invalid("Invalid path: a file has a name"))
        }
        Place::Version(..) => Err(frozen()),
        Place::Run(run, _) => {
            let run = enter(visitor, &run.to_string()).await?;
            find(visitor, run).await.map(drop)
        }
        Place::Kept(path) => {
            visitor.may(Access::Write, Kind::Run)?;
            enter_owner(visitor, path).await.map(drop)
        }
    }
}

fn frozen() -> MlflowError {
    MlflowError::invalid("Invalid path: the files of a model version never change")
}

/// Records bytes that are on disk as the file of this place.
pub(super) async fn put(
    visitor: &Visitor,
    place: Place,
    blob: BlobSummary,
) -> Result<(), MlflowError> {
    let mut transaction = Transaction::new();
    match place {
        Place::Version(..) => return Err(frozen()),
        Place::Kept(path) => {
            let is_own = enter_owner(visitor, &path).await?;
            let file = KeptFile {
                project: visitor.project.clone(),
                path,
                digest: blob.digest,
                size_bytes: blob.size_bytes,
            };
            if !is_own {
                // A workload adds to what is nobody's, and replaces nothing.
                transaction.require_free(file.clone());
            }
            transaction.keep_file(file);
        }
        Place::Run(run, path) => {
            let file = FileEntry {
                path,
                digest: blob.digest,
                size_bytes: blob.size_bytes,
            };
            transaction
                .require_run(run, &visitor.project)
                .keep_run_file(run, file, ARTIFACTS_MAX);
        }
    }
    visitor.app.store.commit(transaction).await?;
    Ok(())
}

pub(super) async fn download(
    visitor: Visitor,
    Path(path): Path<String>,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Run)?;
    let place = place_of(&path)?;
    let file = match &place {
        Place::Kept(path) => {
            let kept = visitor.app.store.kept_file(&visitor.project, path).await?;
            kept.map(entry_of)
        }
        Place::Run(run, path) => {
            find(&visitor, *run).await?;
            visitor.app.store.run_file(*run, path).await?
        }
        Place::Version(_, path) => {
            let found = files_at(&visitor, &place).await?;
            found.into_iter().find(|file| file.path == *path)
        }
    };
    let file =
        file.ok_or_else(|| MlflowError::missing(format!("No such artifact: '{}'", shown(&path))))?;
    Ok(send_blob(
        &visitor.app,
        &visitor.project,
        file.digest,
        Some(&file.path),
    )
    .await?)
}

/// The file of this place, and all below it.
pub(super) async fn files_at(
    visitor: &Visitor,
    place: &Place,
) -> Result<Vec<FileEntry>, MlflowError> {
    match place {
        Place::Run(run, path) => {
            find(visitor, *run).await?;
            Ok(visitor.app.store.run_files(*run, path).await?)
        }
        Place::Version(key, path) => {
            let (store, project) = (&visitor.app.store, &visitor.project);
            let found = store.get::<ModelVersionSpec>(project, key).await?;
            let mut files = found.map(|version| version.spec.files).unwrap_or_default();
            files.retain(|file| path.is_empty() || is_within(&file.path, path));
            Ok(files)
        }
        Place::Kept(path) => {
            let files = visitor.app.store.kept_files(&visitor.project, path).await?;
            Ok(files.into_iter().map(entry_of).collect())
        }
    }
}

fn entry_of(file: KeptFile) -> FileEntry {
    FileEntry {
        path: file.path,
        digest: file.digest,
        size_bytes: file.size_bytes,
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct List {
    path: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Listing {
    #[serde(skip_serializing_if = "Option::is_none")]
    root_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileInfo>,
}

impl Listing {
    pub(super) fn of(root_uri: String, files: Vec<FileInfo>) -> Self {
        Self {
            root_uri: Some(root_uri),
            files,
        }
    }
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct FileInfo {
    path: String,
    is_dir: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
}

/// What lies directly in a folder of the proxy, by its last name.
pub(super) async fn list(visitor: Visitor, Ask(ask): Ask<List>) -> Answer<Listing> {
    visitor.may(Access::Read, Kind::Run)?;
    let path = given(ask.path.as_ref())
        .unwrap_or_default()
        .trim_end_matches('/');
    let place = match path {
        "" => Place::Kept(String::new()),
        path => place_of(path)?,
    };
    let files = match &place {
        Place::Kept(folder) => kept_children(&visitor, folder, "").await?,
        Place::Run(run, folder) => match find(&visitor, *run).await {
            Err(error) if error.code == Code::ResourceDoesNotExist => Vec::new(),
            found => {
                found?;
                run_children(&visitor, *run, folder, "").await?
            }
        },
        Place::Version(_, folder) => {
            let files = files_at(&visitor, &place).await?;
            children(&files, folder, "")
        }
    };
    Ok(Json(Listing {
        root_uri: None,
        files,
    }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ListOfRun {
    run_id: Option<String>,
    run_uuid: Option<String>,
    path: Option<String>,
}

/// What lies directly in a folder of a run, by its path in the run.
pub(super) async fn list_of_run(visitor: Visitor, Ask(ask): Ask<ListOfRun>) -> Answer<Listing> {
    visitor.may(Access::Read, Kind::Run)?;
    let id = ById::of(ask.run_id, ask.run_uuid);
    let run = parse(id.id()?)?;
    let folder = given(ask.path.as_ref())
        .unwrap_or_default()
        .trim_end_matches('/');
    if !folder.is_empty() {
        check_path(folder)?;
    }
    let found = find(&visitor, run).await?;
    let info = RunInfo::of(&found, default_id(&visitor).await?);
    let prefix = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let files = run_children(&visitor, run, folder, &prefix).await?;
    Ok(Json(Listing::of(info.artifact_uri, files)))
}

/// Files and folders that one listing shows; a folder with more is listed as far.
const LISTED_MAX: usize = 10_000;

/// What lies directly in a folder of the files that clients keep, each with `prefix` before its name.
/// The parts of uploads under way are nobody's files yet.
pub(super) async fn kept_children(
    visitor: &Visitor,
    folder: &str,
    prefix: &str,
) -> Result<Vec<FileInfo>, MlflowError> {
    let (store, project) = (&visitor.app.store, &visitor.project);
    let mut found = store.kept_children(project, folder, LISTED_MAX).await?;
    found.retain(|(name, _)| !(folder.is_empty() && name == multipart::FOLDER));
    Ok(infos(found, prefix))
}

/// What lies directly in a folder of a run, each with `prefix` before its name.
async fn run_children(
    visitor: &Visitor,
    run: RunId,
    folder: &str,
    prefix: &str,
) -> Result<Vec<FileInfo>, MlflowError> {
    let store = &visitor.app.store;
    let found = store.run_children(run, folder, LISTED_MAX).await?;
    Ok(infos(found, prefix))
}

fn infos(children: Vec<(String, Option<u64>)>, prefix: &str) -> Vec<FileInfo> {
    let info = |(name, size): (String, Option<u64>)| FileInfo {
        path: format!("{prefix}{name}"),
        is_dir: size.is_none(),
        // As protobuf has it, zero is not said.
        file_size: size.filter(|size| *size > 0),
    };
    children.into_iter().map(info).collect()
}

/// The files and folders directly in `folder`, each with `prefix` before its name.
fn children(files: &[FileEntry], folder: &str, prefix: &str) -> Vec<FileInfo> {
    let mut children: Vec<FileInfo> = Vec::new();
    for file in files {
        let below = match folder {
            "" => Some(file.path.as_str()),
            folder => file
                .path
                .strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/')),
        };
        let Some(below) = below.filter(|below| !below.is_empty()) else {
            continue;
        };
        let (name, is_dir) = match below.split_once('/') {
            Some((name, _)) => (name, true),
            None => (below, false),
        };
        let path = format!("{prefix}{name}");
        if is_dir
            && children
                .iter()
                .rev()
                .any(|child| child.is_dir && child.path == path)
        {
            continue;
        }
        children.push(FileInfo {
            path,
            is_dir,
            // As protobuf has it, zero is not said.
            file_size: (!is_dir && file.size_bytes > 0).then_some(file.size_bytes),
        });
    }
    children
}

/// Deletes a file, or a folder with all that is in it.
pub(super) async fn delete(visitor: Visitor, Path(path): Path<String>) -> Answer<Done> {
    let place = place_of(path.trim_end_matches('/'))?;
    match &place {
        Place::Run(run, below) => {
            let run = enter(&visitor, &run.to_string()).await?;
            find(&visitor, run).await?;
            let mut transaction = Transaction::new();
            transaction.drop_run_files(run, below);
            visitor.app.store.commit(transaction).await?;
        }
        Place::Version(..) => return Err(frozen()),
        Place::Kept(path) => {
            visitor.may(Access::Write, Kind::Run)?;
            if !enter_owner(&visitor, path).await? {
                visitor.may(Access::Delete, Kind::Run)?;
            }
            let mut transaction = Transaction::new();
            transaction.drop_files(&visitor.project, path);
            visitor.app.store.commit(transaction).await?;
        }
    }
    Ok(Json(Done {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> FileEntry {
        FileEntry {
            path: path.to_owned(),
            digest: lepton_types::resources::BlobDigest::from_bytes([0; 32]),
            size_bytes: 1,
        }
    }

    #[test]
    fn no_path_leads_out_however_it_is_escaped() {
        for bad in [
            "../x",
            "a/../../b",
            "a/%2e%2e/b",
            "a/%252e%252e/b",
            "/etc",
            "a//b",
            "a\\b",
            "",
            ".",
            "a/%2F%2e%2e",
            "%2fetc",
        ] {
            assert!(place_of(bad).is_err(), "{bad}");
        }
        assert!(place_of("a/100%/b").is_ok());
    }

    #[test]
    fn paths_of_runs_are_told_from_others() {
        let run = "0".repeat(32);
        let place = place_of(&format!("0/{run}/artifacts/a/b")).unwrap();
        assert_eq!(place, Place::Run(run.parse().unwrap(), "a/b".to_owned()));
        let model = format!("0/models/m-{run}/artifacts/MLmodel");
        assert_eq!(place_of(&model).unwrap(), Place::Kept(model));
    }

    #[test]
    fn a_folder_is_listed_once() {
        let files = [
            file("m/MLmodel"),
            file("m/data/a"),
            file("m/data/b"),
            file("mm"),
        ];
        let names = |list: Vec<FileInfo>| -> Vec<(String, bool)> {
            list.into_iter()
                .map(|info| (info.path, info.is_dir))
                .collect()
        };
        assert_eq!(
            names(children(&files, "", "")),
            [("m".to_owned(), true), ("mm".to_owned(), false)]
        );
        assert_eq!(
            names(children(&files, "m", "m/")),
            [("m/MLmodel".to_owned(), false), ("m/data".to_owned(), true)]
        );
        assert_eq!(children(&files, "mm", ""), []);
    }
}
