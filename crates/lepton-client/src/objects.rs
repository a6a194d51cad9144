//! What operators do with stored objects: quotas, usage, upkeep, keys.

use lepton_api::{
    List, NewNamedKey, ObjectKeys, RenewedKey, RotatedKeys, ShredKeys, ShreddedKeys, StartUpkeep,
    StorageUsage, UpdateProject, Upkeep,
};
use lepton_types::Name;
use lepton_types::resources::Project;
use ureq::http::Method;

use crate::Client;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;
use crate::target::Target;

fn objects(rest: &[&str]) -> Target {
    let mut path = vec!["api", "v1", "objects"];
    path.extend_from_slice(rest);
    Target::of(&path)
}

fn of_project(project: &Name, rest: &[&str]) -> Target {
    let mut path = vec!["api", "v1", "projects", project.as_str()];
    path.extend_from_slice(rest);
    Target::of(&path)
}

fn in_month(target: Target, month: Option<&str>) -> Target {
    match month {
        Some(month) => target.query("month", month),
        None => target,
    }
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// Changes a project; what is absent stays.
    pub fn update_project(
        &self,
        project: &Name,
        request: &UpdateProject,
    ) -> Result<Project, ClientError> {
        let target = of_project(project, &[]);
        self.ask(&Method::PATCH, &target, request, Repeat::Harmless)
    }

    /// What a project stores, uses and costs in a month, `2026-11`; the current one if none.
    pub fn storage_usage(
        &self,
        project: &Name,
        month: Option<&str>,
    ) -> Result<StorageUsage, ClientError> {
        self.get(&in_month(of_project(project, &["usage"]), month))
    }

    /// The same of all projects that the caller sees.
    pub fn all_storage_usage(
        &self,
        month: Option<&str>,
        page: &Page,
    ) -> Result<List<StorageUsage>, ClientError> {
        let target = Target::of(&["api", "v1", "usage"]);
        self.get(&page.onto(in_month(target, month)))
    }

    /// Starts a pass over all objects.
    pub fn start_upkeep(&self, request: &StartUpkeep) -> Result<Upkeep, ClientError> {
        let target = objects(&["upkeep"]);
        self.ask(&Method::POST, &target, request, Repeat::OnlyUnsent)
    }

    /// The newest pass over all objects.
    pub fn upkeep(&self) -> Result<Upkeep, ClientError> {
        self.get(&objects(&["upkeep"]))
    }

    /// Ends the pass under way.
    pub fn stop_upkeep(&self) -> Result<(), ClientError> {
        self.remove(&objects(&["upkeep"]))
    }

    /// The keys that seal objects, without their secrets.
    pub fn object_keys(&self) -> Result<ObjectKeys, ClientError> {
        self.get(&objects(&["keys"]))
    }

    /// Wraps all data keys with a new master key.
    pub fn rotate_object_keys(&self) -> Result<RotatedKeys, ClientError> {
        let target = objects(&["keys", "rotate"]);
        let nothing = serde_json::json!({});
        self.ask(&Method::POST, &target, &nothing, Repeat::OnlyUnsent)
    }

    /// Makes a new data key for what a project writes from now on.
    pub fn renew_object_key(&self, project: &Name) -> Result<RenewedKey, ClientError> {
        let target = of_project(project, &["object-keys", "renew"]);
        let nothing = serde_json::json!({});
        self.ask(&Method::POST, &target, &nothing, Repeat::OnlyUnsent)
    }

    /// Makes a data key that seals only what asks for it by its name.
    pub fn create_named_key(&self, project: &Name, key: &Name) -> Result<RenewedKey, ClientError> {
        let target = of_project(project, &["object-keys"]);
        let request = NewNamedKey { name: key.clone() };
        self.ask(&Method::POST, &target, &request, Repeat::OnlyUnsent)
    }

    /// Makes a new data key for what asks for this name from now on.
    pub fn renew_named_key(&self, project: &Name, key: &Name) -> Result<RenewedKey, ClientError> {
        let target = of_project(project, &["object-keys", key.as_str(), "renew"]);
        let nothing = serde_json::json!({});
        self.ask(&Method::POST, &target, &nothing, Repeat::OnlyUnsent)
    }

    /// Destroys the data keys of a name: what they sealed can never be read again.
    pub fn shred_named_key(&self, project: &Name, key: &Name) -> Result<ShreddedKeys, ClientError> {
        let target = of_project(project, &["object-keys", key.as_str(), "shred"]);
        let request = ShredKeys {
            confirm: key.to_string(),
        };
        self.ask(&Method::POST, &target, &request, Repeat::OnlyUnsent)
    }

    /// Destroys all data keys of a project: what it stores can never be read again.
    pub fn shred_object_keys(&self, project: &Name) -> Result<ShreddedKeys, ClientError> {
        let target = of_project(project, &["object-keys", "shred"]);
        let request = ShredKeys {
            confirm: project.to_string(),
        };
        self.ask(&Method::POST, &target, &request, Repeat::OnlyUnsent)
    }
}
