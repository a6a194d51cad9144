//! A running MLflow server, read through its REST API.

use std::collections::BTreeMap;
use std::path::Path;

use lepton_types::Timestamp;
use lepton_types::resources::MetricPoint;
use lepton_types::tracking::ModelUse;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::phase_of;
use super::source::{Bin, Found, SourceExperiment, SourceLink, SourceRun};
use super::transport::TrackingServer;
use crate::failure::Failure;

const RUNS_A_PAGE: u32 = 200;
const POINTS_A_PAGE: u32 = 25_000;
const EXPERIMENTS_A_PAGE: u32 = 1_000;

/// Folders within folders of artifacts.
const DEPTH_MAX: usize = 64;

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

impl TrackingServer {
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
    fn numbers_come_as_numbers_or_words() {
        assert_eq!(integer(&json!("17")), Some(17));
        assert_eq!(integer(&json!(-3)), Some(-3));
        assert!(float(&json!("NaN")).unwrap().is_nan());
        assert_eq!(float(&json!("-Infinity")), Some(f64::NEG_INFINITY));
        assert_eq!(float(&json!("x")), None);
    }
}
