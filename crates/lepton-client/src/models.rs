//! Models, their versions and aliases.

use lepton_api::{List, PutModelVersion, SetAlias, UpdateModel};
use lepton_types::resources::{Model, ModelSelector, ModelVersion};
use lepton_types::{AliasName, FreeName};
use ureq::http::Method;

use crate::Client;
use crate::blobs::Download;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;

fn selector_word(selector: &ModelSelector) -> String {
    match selector {
        ModelSelector::Latest => "latest".to_owned(),
        ModelSelector::Version(version) => version.to_string(),
        ModelSelector::Alias(alias) => format!("@{alias}"),
    }
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// The models of the project.
    pub fn models(&self, page: &Page) -> Result<List<Model>, ClientError> {
        self.get(&page.onto(self.in_this_project(&["models"])?))
    }

    /// One model.
    pub fn model(&self, name: &FreeName) -> Result<Model, ClientError> {
        self.get(&self.in_this_project(&["models", name.as_str()])?)
    }

    /// Changes a model.
    pub fn update_model(
        &self,
        name: &FreeName,
        request: &UpdateModel,
    ) -> Result<Model, ClientError> {
        let target = self.in_this_project(&["models", name.as_str()])?;
        self.ask(&Method::PATCH, &target, request, Repeat::Harmless)
    }

    /// Deletes a model with all its versions.
    pub fn delete_model(&self, name: &FreeName) -> Result<(), ClientError> {
        self.remove(&self.in_this_project(&["models", name.as_str()])?)
    }

    /// The versions of a model.
    pub fn model_versions(
        &self,
        name: &FreeName,
        page: &Page,
    ) -> Result<List<ModelVersion>, ClientError> {
        let target = self.in_this_project(&["models", name.as_str(), "versions"])?;
        self.get(&page.onto(target))
    }

    /// Registers uploaded files as the next version; makes the model if it is new. With a run
    /// named, the same files give the same version, so it is tried again when the way fails.
    pub fn put_model_version(
        &self,
        name: &FreeName,
        request: &PutModelVersion,
    ) -> Result<ModelVersion, ClientError> {
        let target = self.in_this_project(&["models", name.as_str(), "versions"])?;
        let repeat = match request.run {
            Some(_) => Repeat::Harmless,
            None => Repeat::OnlyUnsent,
        };
        self.ask(&Method::POST, &target, request, repeat)
    }

    /// One version.
    pub fn model_version(
        &self,
        name: &FreeName,
        selector: &ModelSelector,
    ) -> Result<ModelVersion, ClientError> {
        let word = selector_word(selector);
        self.get(&self.in_this_project(&["models", name.as_str(), "versions", &word])?)
    }

    /// Deletes one version; its number is never used again.
    pub fn delete_model_version(&self, name: &FreeName, version: u32) -> Result<(), ClientError> {
        let version = version.to_string();
        self.remove(&self.in_this_project(&["models", name.as_str(), "versions", &version])?)
    }

    /// The bytes of one file of a version.
    pub fn model_file(
        &self,
        name: &FreeName,
        selector: &ModelSelector,
        path: &str,
    ) -> Result<Download, ClientError> {
        let word = selector_word(selector);
        let target = self
            .in_this_project(&["models", name.as_str(), "versions", &word, "files"])?
            .files(path);
        self.download(&target, path)
    }

    /// Points an alias at a version.
    pub fn set_alias(
        &self,
        name: &FreeName,
        alias: &AliasName,
        version: u32,
    ) -> Result<Model, ClientError> {
        let target = self.in_this_project(&["models", name.as_str(), "aliases", alias.as_str()])?;
        self.ask(
            &Method::PUT,
            &target,
            &SetAlias { version },
            Repeat::Harmless,
        )
    }

    /// Takes an alias away.
    pub fn delete_alias(&self, name: &FreeName, alias: &AliasName) -> Result<Model, ClientError> {
        self.delete(&self.in_this_project(&["models", name.as_str(), "aliases", alias.as_str()])?)
    }
}
