//! Endpoints, their replicas, and predictions.

use lepton_api::List;
use lepton_types::Name;
use lepton_types::resources::{Endpoint, EndpointSpec, Replica};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::http::Method;

use crate::Client;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;

/// What an endpoint answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// One a row: an object with `label` and `probabilities`, with `prediction`, or with the model's own outputs.
    pub predictions: Vec<Value>,
    /// The model that answered.
    #[serde(default)]
    pub model: Option<String>,
    /// Its version.
    #[serde(default)]
    pub version: Option<Value>,
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// The endpoints of the project.
    pub fn endpoints(&self, page: &Page) -> Result<List<Endpoint>, ClientError> {
        self.get(&page.onto(self.in_this_project(&["endpoints"])?))
    }

    /// One endpoint.
    pub fn endpoint(&self, name: &Name) -> Result<Endpoint, ClientError> {
        self.get(&self.in_this_project(&["endpoints", name.as_str()])?)
    }

    /// Makes an endpoint, or brings it to this spec.
    pub fn put_endpoint(&self, name: &Name, spec: &EndpointSpec) -> Result<Endpoint, ClientError> {
        let target = self.in_this_project(&["endpoints", name.as_str()])?;
        self.ask(&Method::PUT, &target, spec, Repeat::Harmless)
    }

    /// Deletes an endpoint; its replicas finish what they have.
    pub fn delete_endpoint(&self, name: &Name) -> Result<(), ClientError> {
        self.remove(&self.in_this_project(&["endpoints", name.as_str()])?)
    }

    /// The replicas behind an endpoint.
    pub fn replicas(&self, name: &Name) -> Result<List<Replica>, ClientError> {
        self.get(&self.in_this_project(&["endpoints", name.as_str(), "replicas"])?)
    }

    /// The newest decision about how many replicas it should have, as a record.
    pub fn scaling_decision(&self, name: &Name) -> Result<Value, ClientError> {
        self.get(&self.in_this_project(&["endpoints", name.as_str(), "scaling"])?)
    }

    /// Asks an endpoint. `rows` is `{"rows":[{…}]}` or `{"columns":[…],"data":[[…]]}`.
    pub fn predict(&self, name: &Name, rows: &impl Serialize) -> Result<Predictions, ClientError> {
        let target = self.in_this_project(&["endpoints", name.as_str(), "predict"])?;
        self.ask(&Method::POST, &target, rows, Repeat::Harmless)
    }
}
