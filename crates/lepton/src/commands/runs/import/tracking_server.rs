//! A running MLflow server, read through its REST API.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lepton_types::Timestamp;
use lepton_types::resources::MetricPoint;
use lepton_types::tracking::ModelUse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::phase_of;
use super::source::{Bin, Found, SourceExperiment, SourceLink, SourceRun};
use crate::failure::{Failure, with_causes};

/// One answer; a page of runs is the largest.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

const RUNS_A_PAGE: u32 = 200;
const POINTS_A_PAGE: u32 = 25_000;
const EXPERIMENTS_A_PAGE: u32 = 1_000;

/// Folders within folders of artifacts.
const DEPTH_MAX: usize = 64;

pub(super) struct TrackingServer {
    url: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

#[derive(Debug, Deserialize)]
struct Experiments {
    #[serde(default)]
    experiments: Vec<Experiment>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Experiment {
    experiment_id: String,
    name: String,
    #[serde(default)]
    tags: Vec<Pair>,
    #[serde(default)]
    lifecycle_stage: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Runs {
    #[serde(default)]
    runs: Vec<Value>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Run {
    info: Info,
    #[serde(default)]
    data: Data,
    #[serde(default)]
    inputs: Inputs,
    #[serde(default)]
    outputs: Outputs,
}

#[derive(Debug, Default, Deserialize)]
struct Inputs {
    #[serde(default)]
    dataset_inputs: Vec<Value>,
    #[serde(default)]
    model_inputs: Vec<ModelOfRun>,
}

#[derive(Debug, Default, Deserialize)]
struct Outputs {
    #[serde(default)]
    model_outputs: Vec<ModelOfRun>,
}

#[derive(Debug, Deserialize)]
struct ModelOfRun {
    model_id: String,
    #[serde(default)]
    step: Value,
}

#[derive(Debug, Deserialize)]
struct Info {
    run_id: String,
    #[serde(default)]
    run_name: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    start_time: Value,
    #[serde(default)]
    end_time: Value,
    #[serde(default)]
    lifecycle_stage: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    params: Vec<Pair>,
    #[serde(default)]
    tags: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct Metric {
    key: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    step: Value,
}

#[derive(Debug, Deserialize)]
struct History {
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Files {
    #[serde(default)]
    files: Vec<FileInfo>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct FileInfo {
    path: String,
    #[serde(default)]
    is_dir: bool,
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

    pub(super) fn each_run(
        &self,
        is_wanted: &dyn Fn(&str) -> bool,
        bin: Bin,
        each: &mut dyn FnMut(Found) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut total = 0;
        for experiment in self.experiments(bin)? {
            if !is_wanted(&experiment.name) {
                continue;
            }
            each(Found::Experiment(experiment.clone()))?;
            let mut token = None;
            loop {
                let page: Runs = self.post(
                    "runs/search",
                    &json!({
                        "experiment_ids": [experiment.id],
                        "max_results": RUNS_A_PAGE,
                        "run_view_type": match bin {
                            Bin::Left => "ACTIVE_ONLY",
                            Bin::Brought => "ALL",
                        },
                        // New runs come last: none moves to a page that was read.
                        "order_by": ["attributes.start_time ASC"],
                        "page_token": token,
                    }),
                )?;
                total += page.runs.len() as u64;
                each(Found::Total(total))?;
                for run in page.runs {
                    each(run_of(&experiment, &run))?;
                }
                token = page.next_page_token.filter(|token| !token.is_empty());
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn experiments(&self, bin: Bin) -> Result<Vec<SourceExperiment>, Failure> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let page: Experiments = self.post(
                "experiments/search",
                &json!({
                    "max_results": EXPERIMENTS_A_PAGE,
                    "view_type": match bin {
                        Bin::Left => "ACTIVE_ONLY",
                        Bin::Brought => "ALL",
                    },
                    "page_token": token,
                }),
            )?;
            all.extend(
                page.experiments
                    .into_iter()
                    .map(|experiment| SourceExperiment {
                        id: experiment.experiment_id,
                        name: experiment.name,
                        tags: pairs(experiment.tags),
                        is_deleted: experiment.lifecycle_stage.as_deref() == Some("deleted"),
                    }),
            );
            token = page.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    pub(super) fn each_point(
        &self,
        run: &SourceRun,
        key: &str,
        each: &mut dyn FnMut(MetricPoint) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let most = POINTS_A_PAGE.to_string();
        let mut token = String::new();
        loop {
            let mut query = vec![
                ("run_id", run.id.as_str()),
                ("metric_key", key),
                ("max_results", most.as_str()),
            ];
            if !token.is_empty() {
                query.push(("page_token", token.as_str()));
            }
            let page: History = self.get("metrics/get-history", &query)?;
            for metric in &page.metrics {
                let point = point_of(metric).ok_or_else(|| {
                    Failure::invalid(format!("a point of `{key}` of run `{}` is none", run.id))
                })?;
                each(point)?;
            }
            match page.next_page_token {
                Some(next) if !next.is_empty() => token = next,
                _ => return Ok(()),
            }
        }
    }

    pub(super) fn each_artifact(
        &self,
        run: &SourceRun,
        each: &mut dyn FnMut(&str, &Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for file in self.artifacts_in(run, &folder)? {
                if file.is_dir && depth < DEPTH_MAX {
                    folders.push((file.path, depth + 1));
                } else if !file.is_dir {
                    let bytes = self.download(run, &file.path)?;
                    each(&file.path, bytes.path())?;
                }
            }
        }
        Ok(())
    }

    fn artifacts_in(&self, run: &SourceRun, folder: &str) -> Result<Vec<FileInfo>, Failure> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("run_id", run.id.as_str())];
            if !folder.is_empty() {
                query.push(("path", folder));
            }
            if !token.is_empty() {
                query.push(("page_token", token.as_str()));
            }
            let page: Files = self.get("artifacts/list", &query)?;
            all.extend(page.files);
            match page.next_page_token {
                Some(next) if !next.is_empty() => token = next,
                _ => return Ok(all),
            }
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
    fn download(&self, run: &SourceRun, path: &str) -> Result<tempfile::NamedTempFile, Failure> {
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

    fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
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

fn pairs(pairs: Vec<Pair>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|pair| (pair.key, pair.value))
        .collect()
}

/// The logged models that a run used and made.
fn links_of(inputs: &[ModelOfRun], outputs: &[ModelOfRun]) -> Vec<SourceLink> {
    let link = |r#use| {
        move |model: &ModelOfRun| SourceLink {
            model: model.model_id.clone(),
            r#use,
            step: integer(&model.step).unwrap_or(0),
        }
    };
    let inputs = inputs.iter().map(link(ModelUse::Input));
    inputs
        .chain(outputs.iter().map(link(ModelUse::Output)))
        .collect()
}

fn run_of(experiment: &SourceExperiment, value: &Value) -> Found {
    let run = match Run::deserialize(value) {
        Ok(run) => run,
        Err(error) => {
            let name = &experiment.name;
            return Found::Unreadable(format!("a run of experiment `{name}`: {error}"));
        }
    };
    Found::Run(Box::new(SourceRun {
        id: run.info.run_id,
        name: run.info.run_name.filter(|name| !name.is_empty()),
        experiment: experiment.name.clone(),
        experiment_id: experiment.id.clone(),
        phase: phase_of(&run.info.status),
        is_deleted: run.info.lifecycle_stage.as_deref() == Some("deleted"),
        started_at: integer(&run.info.start_time).map(Timestamp::from_millis),
        finished_at: integer(&run.info.end_time).map(Timestamp::from_millis),
        params: pairs(run.data.params),
        tags: pairs(run.data.tags),
        models: links_of(&run.inputs.model_inputs, &run.outputs.model_outputs),
        datasets: run.inputs.dataset_inputs,
        metrics: run
            .data
            .metrics
            .into_iter()
            .map(|metric| metric.key)
            .collect(),
        // Keys of objects are sorted: the same run is the same text.
        fingerprint: format!("{:x}", Sha256::digest(value.to_string())),
    }))
}

fn point_of(metric: &Metric) -> Option<MetricPoint> {
    Some(MetricPoint {
        key: metric.key.clone(),
        step: integer(&metric.step).unwrap_or(0),
        timestamp: Some(Timestamp::from_millis(integer(&metric.timestamp)?)),
        value: float(&metric.value)?,
    })
}

/// A segment of a path, percent-encoded (RFC 3986 §2.3).
fn encoded(segment: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    segment.bytes().map(byte).collect()
}

/// Protobuf's JSON writes 64-bit integers as text; MLflow mostly does not.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

/// Protobuf's JSON has words for what JSON has no number for. Zero may be left out.
pub(super) fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(0.0),
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    }
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

    #[test]
    fn numbers_come_as_numbers_or_words() {
        assert_eq!(integer(&json!("17")), Some(17));
        assert_eq!(integer(&json!(-3)), Some(-3));
        assert!(float(&json!("NaN")).unwrap().is_nan());
        assert_eq!(float(&json!("-Infinity")), Some(f64::NEG_INFINITY));
        assert_eq!(float(&json!("x")), None);
    }
}
