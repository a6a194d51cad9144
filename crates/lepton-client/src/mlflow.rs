//! MLflow's face of the server, for what only that face can say, and logged models, which come from there.

use std::path::Path;

use lepton_api::{LoggedModelView, PutLoggedModel};
use lepton_types::Name;
use serde::Serialize;
use serde_json::Value;
use ureq::http::{HeaderName, HeaderValue, Method};

use crate::Client;
use crate::error::ClientError;
use crate::retry::Repeat;
use crate::target::Target;

/// The header that names the project.
const WORKSPACE: HeaderName = HeaderName::from_static("x-mlflow-workspace");

/// The header that names the experiment that spans are of.
const EXPERIMENT: HeaderName = HeaderName::from_static("x-mlflow-experiment-id");

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no. What they send can be
/// sent twice.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// Sends fields to a path below `/api/2.0/mlflow`, and gives the fields of the answer. It must be
    /// something that can be sent twice.
    pub fn mlflow(
        &self,
        method: &Method,
        path: &str,
        fields: &impl Serialize,
    ) -> Result<Value, ClientError> {
        let target = Target::of(&["api", "2.0", "mlflow"]).files(path);
        self.faced(method, &target, Some(fields), &[])
    }

    /// What is known of a trace, without its spans.
    pub fn trace(&self, id: &str) -> Result<Value, ClientError> {
        let target = Target::of(&["api", "3.0", "mlflow", "traces", id]);
        self.faced(&Method::GET, &target, None::<&Value>, &[])
    }

    /// Tells of a trace, without its spans; what is known of it then.
    pub fn put_trace(&self, trace: &impl Serialize) -> Result<Value, ClientError> {
        let target = Target::of(&["api", "3.0", "mlflow", "traces"]);
        self.faced(&Method::POST, &target, Some(trace), &[])
    }

    /// Adds spans to traces of an experiment, as OTLP's JSON has them.
    pub fn put_spans(&self, experiment: &str, spans: &impl Serialize) -> Result<(), ClientError> {
        let target = Target::of(&["v1", "traces"]);
        let experiment = HeaderValue::from_str(experiment)
            .expect("invariant: an experiment's id is letters and digits");
        let sent = self.faced(
            &Method::POST,
            &target,
            Some(spans),
            &[(EXPERIMENT, experiment)],
        );
        sent.map(drop)
    }

    /// Puts a file under a path of the proxy of artifacts.
    pub fn put_mlflow_file(&self, path: &str, file: &Path) -> Result<(), ClientError> {
        let target = Target::of(&["api", "2.0", "mlflow-artifacts", "artifacts"]).files(path);
        let project = header_of(self.project()?);
        let request = || {
            let mut request = self.request(Method::PUT, &target)?;
            request.headers_mut().insert(WORKSPACE, project.clone());
            Ok(request)
        };
        let _empty: Value = self.put_file_by(&request, file, &mut |_| {})?;
        Ok(())
    }

    /// A logged model, in the bin or not.
    pub fn logged_model(&self, id: &str) -> Result<LoggedModelView, ClientError> {
        self.get(&self.in_this_project(&["logged-models", id])?)
    }

    /// Brings a logged model from elsewhere, or adds to it.
    pub fn put_logged_model(
        &self,
        id: &str,
        request: &PutLoggedModel,
    ) -> Result<LoggedModelView, ClientError> {
        let target = self.in_this_project(&["logged-models", id])?;
        self.ask(&Method::PUT, &target, request, Repeat::Harmless)
    }

    fn faced(
        &self,
        method: &Method,
        target: &Target,
        fields: Option<&impl Serialize>,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Value, ClientError> {
        let body = fields
            .map(|fields| serde_json::to_vec(fields).expect("invariant: fields serialise as JSON"));
        let project = header_of(self.project()?);
        self.repeated(Repeat::Harmless, || {
            let mut request = self.request(method.clone(), target)?;
            request.headers_mut().insert(WORKSPACE, project.clone());
            request.headers_mut().extend(headers.iter().cloned());
            match &body {
                Some(body) => self.run(request, body.as_slice())?.json(),
                None => self.run(request, ())?.json(),
            }
        })
    }
}

fn header_of(project: &Name) -> HeaderValue {
    HeaderValue::from_str(project.as_str()).expect("invariant: a name is ASCII without control")
}
