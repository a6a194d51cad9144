//! MLflow's face of the server, for what only that face can say.

use lepton_types::Name;
use serde::Serialize;
use serde_json::Value;
use ureq::http::{HeaderValue, Method};

use crate::Client;
use crate::error::ClientError;
use crate::retry::Repeat;
use crate::target::Target;

/// The header that names the project.
const WORKSPACE: &str = "x-mlflow-workspace";

impl Client {
    /// Sends fields to a path below `/api/2.0/mlflow`, and gives the fields of the answer. It must be
    /// something that can be sent twice.
    ///
    /// # Errors
    /// If the server cannot be reached or says no.
    pub fn mlflow(
        &self,
        method: &Method,
        path: &str,
        fields: &impl Serialize,
    ) -> Result<Value, ClientError> {
        let target = Target::of(&["api", "2.0", "mlflow"]).files(path);
        let body = serde_json::to_vec(fields).expect("invariant: fields serialise as JSON");
        let project = header_of(self.project()?);
        self.repeated(Repeat::Harmless, || {
            let mut request = self.request(method.clone(), &target)?;
            request.headers_mut().insert(WORKSPACE, project.clone());
            self.run(request, body.as_slice())?.json()
        })
    }
}

fn header_of(project: &Name) -> HeaderValue {
    HeaderValue::from_str(project.as_str()).expect("invariant: a name is ASCII without control")
}
