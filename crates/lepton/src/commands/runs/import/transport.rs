//! Asking a running MLflow server.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::source::SourceRun;
use crate::failure::{Failure, with_causes};

/// One answer; a page of runs is the largest.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

pub(super) struct TrackingServer {
    url: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The `Authorization` of `USER:PASSWORD` (RFC 7617).
pub(super) fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(user))
}

impl TrackingServer {
    pub(super) fn new(url: &str, authorization: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(120)))
            // What is asked for with somebody's password is not asked for elsewhere.
            .max_redirects(0)
            .build();
        Self {
            url: url.trim_end_matches('/').to_owned(),
            authorization,
            agent: config.into(),
        }
    }

    /// What the proxy of artifacts says lies below a path.
    pub(super) fn proxied(&self, path: &str) -> Result<Value, Failure> {
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts", self.url);
        let request = self.authorised(self.agent.get(&url));
        self.read(path, request.query_pairs([("path", path)]).call())
    }

    /// The file with the spans of a trace, if the server has one that it can read.
    pub(super) fn trace_file(&self, id: &str) -> Result<Option<tempfile::NamedTempFile>, Failure> {
        let url = format!("{}/ajax-api/2.0/mlflow/get-trace-artifact", self.url);
        let request = self.authorised(self.agent.get(&url));
        match self.save(id, request.query_pairs([("request_id", id)])) {
            Err(Failure::Part { .. }) => Ok(None),
            saved => saved.map(Some),
        }
    }

    /// A file out of the proxy of artifacts.
    pub(super) fn proxied_file(&self, path: &str) -> Result<tempfile::NamedTempFile, Failure> {
        let path: Vec<String> = path.split('/').map(encoded).collect();
        let path = path.join("/");
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.url);
        self.save(&path, self.authorised(self.agent.get(&url)))
    }

    /// Through the server's own page of artifacts, which knows every store that the server knows.
    pub(super) fn download(
        &self,
        run: &SourceRun,
        path: &str,
    ) -> Result<tempfile::NamedTempFile, Failure> {
        let url = format!("{}/get-artifact", self.url);
        let query = [("run_uuid", run.id.as_str()), ("path", path)];
        self.save(
            path,
            self.authorised(self.agent.get(&url)).query_pairs(query),
        )
    }

    fn save(
        &self,
        what: &str,
        request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    ) -> Result<tempfile::NamedTempFile, Failure> {
        let answer = request.call().map_err(|error| self.failed(what, &error))?;
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::copy(&mut answer.into_body().into_reader(), &mut file)?;
        file.flush()?;
        Ok(file)
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        let request = self.authorised(self.agent.get(&url));
        let answer = request.query_pairs(query.iter().copied()).call();
        self.read(path, answer)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        let answer = self.authorised(self.agent.post(&url)).send_json(body);
        self.read(path, answer)
    }

    /// What a path that only some servers know answers, below the server's root.
    pub(super) fn post_if_spoken(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Option<Value>, Failure> {
        let url = format!("{}/{path}", self.url);
        match self.authorised(self.agent.post(&url)).send_json(body) {
            Err(ureq::Error::StatusCode(404)) => Ok(None),
            answer => self.read(path, answer).map(Some),
        }
    }

    /// The same of a GET.
    pub(super) fn get_if_spoken(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<Value>, Failure> {
        let url = format!("{}/{path}", self.url);
        let request = self.authorised(self.agent.get(&url));
        match request.query_pairs(query.iter().copied()).call() {
            Err(ureq::Error::StatusCode(404)) => Ok(None),
            answer => self.read(path, answer).map(Some),
        }
    }

    fn authorised<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut answer = answer.map_err(|error| self.failed(path, &error))?;
        answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_json()
            .map_err(|error| self.failed(path, &error))
    }

    fn failed(&self, what: &str, error: &ureq::Error) -> Failure {
        let message = format!(
            "the MLflow server at {} does not give `{what}`: {}",
            self.url,
            with_causes(error)
        );
        match error {
            ureq::Error::StatusCode(_) => Failure::Part { message },
            _ => Failure::Unreachable { message },
        }
    }
}

/// A segment of a path, percent-encoded (RFC 3986 §2.3).
fn encoded(segment: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    segment.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_encoded_as_the_rfc_has_it() {
        assert_eq!(
            basic("Aladdin:open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }
}
