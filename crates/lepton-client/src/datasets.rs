//! Datasets and their frozen versions.

use lepton_api::{List, PutDatasetVersion};
use lepton_types::Name;
use lepton_types::resources::{Dataset, DatasetVersion};
use ureq::http::Method;

use crate::Client;
use crate::blobs::Download;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;

fn version_word(version: Option<u32>) -> String {
    version.map_or_else(|| "latest".to_owned(), |number| number.to_string())
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// The datasets of the project.
    pub fn datasets(&self, page: &Page) -> Result<List<Dataset>, ClientError> {
        self.get(&page.onto(self.in_this_project(&["datasets"])?))
    }

    /// One dataset.
    pub fn dataset(&self, name: &Name) -> Result<Dataset, ClientError> {
        self.get(&self.in_this_project(&["datasets", name.as_str()])?)
    }

    /// Deletes a dataset with all its versions.
    pub fn delete_dataset(&self, name: &Name) -> Result<(), ClientError> {
        self.remove(&self.in_this_project(&["datasets", name.as_str()])?)
    }

    /// The versions of a dataset.
    pub fn dataset_versions(
        &self,
        name: &Name,
        page: &Page,
    ) -> Result<List<DatasetVersion>, ClientError> {
        let target = self.in_this_project(&["datasets", name.as_str(), "versions"])?;
        self.get(&page.onto(target))
    }

    /// Freezes uploaded files as the next version.
    pub fn put_dataset_version(
        &self,
        name: &Name,
        request: &PutDatasetVersion,
    ) -> Result<DatasetVersion, ClientError> {
        let target = self.in_this_project(&["datasets", name.as_str(), "versions"])?;
        self.ask(&Method::POST, &target, request, Repeat::OnlyUnsent)
    }

    /// Freezes what was written to `s3://datasets/NAME/draft/…` as the next version.
    pub fn commit_dataset(&self, name: &Name) -> Result<DatasetVersion, ClientError> {
        let target = self.in_this_project(&["datasets", name.as_str(), "commit"])?;
        self.ask(
            &Method::POST,
            &target,
            &serde_json::json!({}),
            Repeat::OnlyUnsent,
        )
    }

    /// One version; the newest where `version` is absent.
    pub fn dataset_version(
        &self,
        name: &Name,
        version: Option<u32>,
    ) -> Result<DatasetVersion, ClientError> {
        let version = version_word(version);
        self.get(&self.in_this_project(&["datasets", name.as_str(), "versions", &version])?)
    }

    /// The bytes of one file of a version.
    pub fn dataset_file(
        &self,
        name: &Name,
        version: Option<u32>,
        path: &str,
    ) -> Result<Download, ClientError> {
        let version = version_word(version);
        let target = self
            .in_this_project(&["datasets", name.as_str(), "versions", &version, "files"])?
            .files(path);
        self.download(&target, path)
    }
}
