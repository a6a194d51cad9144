//! Who calls, in which projects, and with which tokens; what answers.

use lepton_api::{
    AccessKeyView, CreateAccessKey, CreateProject, CreateReservation, CreateToken,
    CreatedAccessKey, CreatedToken, LineageGraph, List, S3Credentials, ServerInfo, TokenView,
    WhoAmI,
};
use lepton_types::Name;
use lepton_types::resources::{Kind, Pool, Project, Reservation};
use ureq::http::Method;

use crate::Client;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;
use crate::target::Target;

fn root(segments: &[&str]) -> Target {
    let mut path = vec!["api", "v1"];
    path.extend_from_slice(segments);
    Target::of(&path)
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// What answers, and its version; needs no token.
    pub fn server_info(&self) -> Result<ServerInfo, ClientError> {
        self.get(&Target::of(&["version"]))
    }

    /// Whether the server is ready to serve.
    pub fn ready(&self) -> Result<bool, ClientError> {
        match self.send(Method::GET, &Target::of(&["readyz"]), ()) {
            Ok(_) => Ok(true),
            Err(ClientError::Api(error)) if error.status == 503 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Who the caller is.
    pub fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get(&root(&["whoami"]))
    }

    /// The newest decision about who runs where, as `lepton plan explain` takes it.
    pub fn latest_decision(&self) -> Result<serde_json::Value, ClientError> {
        self.get(&root(&["decisions", "latest"]))
    }

    /// What a dataset, job, run, model or endpoint came from, and what came of it.
    pub fn lineage(&self, kind: Kind, name: &str) -> Result<LineageGraph, ClientError> {
        let target = self.in_this_project(&["lineage"])?;
        self.get(&target.query("kind", kind.as_str()).query("name", name))
    }

    /// The projects that the caller sees.
    pub fn projects(&self, page: &Page) -> Result<List<Project>, ClientError> {
        self.get(&page.onto(root(&["projects"])))
    }

    /// One project.
    pub fn get_project(&self, name: &str) -> Result<Project, ClientError> {
        self.get(&root(&["projects", name]))
    }

    /// Makes a project.
    pub fn create_project(&self, request: &CreateProject) -> Result<Project, ClientError> {
        self.ask(
            &Method::POST,
            &root(&["projects"]),
            request,
            Repeat::OnlyUnsent,
        )
    }

    /// Deletes a project with all that is in it.
    pub fn delete_project(&self, name: &str) -> Result<(), ClientError> {
        self.remove(&root(&["projects", name]))
    }

    /// The pools of machines.
    pub fn pools(&self, page: &Page) -> Result<List<Pool>, ClientError> {
        self.get(&page.onto(root(&["pools"])))
    }

    /// One pool.
    pub fn pool(&self, name: &str) -> Result<Pool, ClientError> {
        self.get(&root(&["pools", name]))
    }

    /// The reservations that the caller sees.
    pub fn reservations(&self, page: &Page) -> Result<List<Reservation>, ClientError> {
        self.get(&page.onto(root(&["reservations"])))
    }

    /// One reservation.
    pub fn reservation(&self, name: &str) -> Result<Reservation, ClientError> {
        self.get(&root(&["reservations", name]))
    }

    /// Asks for room; whether it is promised shows in the status.
    pub fn create_reservation(
        &self,
        request: &CreateReservation,
    ) -> Result<Reservation, ClientError> {
        self.ask(
            &Method::POST,
            &root(&["reservations"]),
            request,
            Repeat::OnlyUnsent,
        )
    }

    /// Gives the room back.
    pub fn delete_reservation(&self, name: &str) -> Result<(), ClientError> {
        self.remove(&root(&["reservations", name]))
    }

    /// The tokens that the caller sees, without their secrets.
    pub fn tokens(&self, page: &Page) -> Result<List<TokenView>, ClientError> {
        self.get(&page.onto(root(&["tokens"])))
    }

    /// Makes a token; its secret is in the answer, this once.
    pub fn create_token(&self, request: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.ask(
            &Method::POST,
            &root(&["tokens"]),
            request,
            Repeat::OnlyUnsent,
        )
    }

    /// Ends a token.
    pub fn revoke_token(&self, name: &Name) -> Result<TokenView, ClientError> {
        self.delete(&root(&["tokens", name.as_str()]))
    }

    /// The key pairs for S3 that the caller sees, without their secrets.
    pub fn access_keys(&self, page: &Page) -> Result<List<AccessKeyView>, ClientError> {
        self.get(&page.onto(root(&["access-keys"])))
    }

    /// Makes a key pair for S3; its secret half is in the answer, this once.
    pub fn create_access_key(
        &self,
        request: &CreateAccessKey,
    ) -> Result<CreatedAccessKey, ClientError> {
        self.ask(
            &Method::POST,
            &root(&["access-keys"]),
            request,
            Repeat::OnlyUnsent,
        )
    }

    /// Ends a key pair for S3.
    pub fn revoke_access_key(&self, name: &Name) -> Result<AccessKeyView, ClientError> {
        self.delete(&root(&["access-keys", name.as_str()]))
    }

    /// With what the caller's own token reaches S3.
    pub fn s3_credentials(&self) -> Result<S3Credentials, ClientError> {
        self.get(&root(&["s3-credentials"]))
    }
}
