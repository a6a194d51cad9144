//! Bytes up and down, as streams, their digests checked on this side.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use lepton_api::BlobInfo;
use lepton_types::resources::{BlobDigest, FileEntry};
use sha2::{Digest as _, Sha256};
use ureq::SendBody;
use ureq::http::{HeaderValue, Method, Request, header};

use crate::Client;
use crate::error::{ClientError, name_failure};
use crate::retry::Repeat;
use crate::target::Target;
use crate::transport::Answer;

/// Beyond this the server is asked first whether it takes the body at all.
const EXPECT_ABOVE_BYTES: u64 = 1 << 20;
/// One read of a file or socket.
const COPY_BYTES: usize = 128 << 10;

/// What arrived is not what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} arrived damaged: expected the digest {expected}, got {found}")]
pub struct FileMismatch {
    /// What was moved.
    pub what: String,
    /// Its digest before.
    pub expected: BlobDigest,
    /// Its digest after.
    pub found: BlobDigest,
}

/// A body on its way here.
pub struct Download {
    reader: Box<dyn Read + Send>,
    size: Option<u64>,
    server: String,
    name: String,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Download {
    pub(crate) fn of(answer: Answer, server: &str, name: &str) -> Self {
        let size = answer
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let body = answer.response.into_body();
        let reader = body.into_with_config().limit(u64::MAX).reader();
        Self {
            reader: Box::new(reader),
            size,
            server: server.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its length in bytes, where the server said so.
    #[must_use]
    pub const fn size(&self) -> Option<u64> {
        self.size
    }

    /// Writes all of it to `into`, telling `progress` how many bytes came with each step.
    ///
    /// # Errors
    /// If either side fails on the way, or `expected` is named and another digest arrived.
    pub fn copy_to(
        mut self,
        into: &mut dyn Write,
        expected: Option<BlobDigest>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, ClientError> {
        let mut hash = Sha256::new();
        let mut total = 0;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = self
                .reader
                .read(&mut buffer)
                .map_err(|error| name_failure(&self.server, error.into()))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            into.write_all(&buffer[..read])
                .map_err(|source| ClientError::File {
                    action: "write",
                    path: self.name.clone().into(),
                    source,
                })?;
            total += read as u64;
            progress(read as u64);
        }
        check(
            &self.name,
            expected,
            BlobDigest::from_bytes(hash.finalize().into()),
        )?;
        Ok(total)
    }

    /// Saves all of it as `path`, which comes into being only when it is whole.
    ///
    /// # Errors
    /// If either side fails on the way, or `expected` is named and another digest arrived.
    pub fn save_as(
        self,
        path: &Path,
        expected: Option<BlobDigest>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, ClientError> {
        let failed = |source| ClientError::File {
            action: "write",
            path: path.to_owned(),
            source,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::Builder::new()
            .prefix(".lepton-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(failed)?;
        let total = self.copy_to(file.as_file_mut(), expected, progress)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(total)
    }
}

fn check(what: &str, expected: Option<BlobDigest>, found: BlobDigest) -> Result<(), FileMismatch> {
    match expected {
        Some(expected) if expected != found => Err(FileMismatch {
            what: format!("`{what}`"),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

/// Hashes and counts what is read through it.
struct Metered<'a> {
    source: &'a mut dyn Read,
    hash: Sha256,
    progress: &'a mut dyn FnMut(u64),
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hash.update(&buffer[..read]);
        (self.progress)(read as u64);
        Ok(read)
    }
}

impl Client {
    /// Uploads what `source` gives; `size` is its length, where that is known. Tried once, as
    /// a source gives its bytes once.
    ///
    /// # Errors
    /// If the source, the connection or the server fails.
    pub fn upload(
        &self,
        source: &mut dyn Read,
        size: Option<u64>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BlobInfo, ClientError> {
        let target = self.in_this_project(&["blobs"])?;
        let request = upload_request(self.request(Method::POST, &target)?, size);
        let mut metered = Metered {
            source,
            hash: Sha256::new(),
            progress,
        };
        let answer = self.run(request, SendBody::from_reader(&mut metered))?;
        let sent = BlobDigest::from_bytes(metered.hash.finalize().into());
        let info: BlobInfo = answer.json()?;
        check("upload", Some(sent), info.digest)?;
        Ok(info)
    }

    /// Uploads a file; the same bytes twice are one blob, so it is tried again when the way fails.
    ///
    /// # Errors
    /// If the file, the connection or the server fails.
    pub fn upload_file(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BlobInfo, ClientError> {
        let failed = |source| ClientError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        self.repeated(Repeat::Harmless, || {
            let mut file = File::open(path).map_err(failed)?;
            let facts = file.metadata().map_err(failed)?;
            let size = facts.is_file().then_some(facts.len());
            self.upload(&mut file, size, progress)
        })
    }

    /// Uploads a file, to be recorded under `name`.
    ///
    /// # Errors
    /// As [`Client::upload_file`].
    pub fn upload_entry(
        &self,
        path: &Path,
        name: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileEntry, ClientError> {
        let info = self.upload_file(path, progress)?;
        Ok(FileEntry {
            path: name.to_owned(),
            digest: info.digest,
            size_bytes: info.size_bytes,
        })
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    /// If there is none of that digest, or the way fails.
    pub fn blob(&self, digest: BlobDigest) -> Result<Download, ClientError> {
        let name = digest.to_string();
        let target = self.in_this_project(&["blobs", &name])?;
        self.download(&target, &name)
    }

    pub(crate) fn download(&self, target: &Target, name: &str) -> Result<Download, ClientError> {
        let answer = self.repeated(Repeat::Harmless, || self.send(Method::GET, target, ()))?;
        Ok(Download::of(answer, self.url(), name))
    }

    /// Sends a file's bytes as the body of a PUT.
    pub(crate) fn put_file<T: serde::de::DeserializeOwned>(
        &self,
        target: &Target,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<T, ClientError> {
        self.put_file_by(&|| self.request(Method::PUT, target), path, progress)
    }

    /// Sends a file by the request that `make` makes, as often as it takes.
    pub(crate) fn put_file_by<T: serde::de::DeserializeOwned>(
        &self,
        make: &dyn Fn() -> Result<Request<()>, ClientError>,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<T, ClientError> {
        let failed = |source| ClientError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        self.repeated(Repeat::Harmless, || {
            let mut file = File::open(path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            let request = upload_request(make()?, Some(size));
            let mut metered = Metered {
                source: &mut file,
                hash: Sha256::new(),
                progress,
            };
            self.run(request, SendBody::from_reader(&mut metered))?
                .json()
        })
    }
}

fn upload_request(mut request: Request<()>, size: Option<u64>) -> Request<()> {
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if let Some(size) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    if size.is_none_or(|size| size > EXPECT_ABOVE_BYTES) {
        headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    request
}
