//! Traces in MLflow's file store.
//!
//! ```text
//! mlruns/EXPERIMENT/traces/TRACE/trace_info.yaml
//!                                request_metadata/KEY     the value
//!                                tags/KEY                 the value
//!                                assessments/ID.yaml      what was said of it
//!                                artifacts/traces.json    its spans
//! ```

use std::path::Path;

use serde_json::{Value, json};

use super::file_store::{FileStore, files_in, fingerprint, folders_in, read_yaml, values_in};
use super::source::{Each, SourceExperiment, SourceTrace, Spans};
use super::traces::info_of_second;
use crate::failure::Failure;

/// The file with the spans of a trace.
pub(super) const SPANS_FILE: &str = "traces.json";

impl FileStore {
    /// The traces of an experiment; in words those that cannot be read.
    pub(super) fn each_trace(
        &self,
        experiment: &SourceExperiment,
        each: Each<'_, SourceTrace>,
    ) -> Result<(), Failure> {
        let root = self.root().join(&experiment.id).join("traces");
        if !root.is_dir() {
            return Ok(());
        }
        for folder in folders_in(&root)? {
            if folder.join("trace_info.yaml").is_file() {
                each(trace_in(&folder)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn spans(&self, experiment: &SourceExperiment, trace: &SourceTrace) -> Spans {
        let folder = self.root().join(&experiment.id).join("traces");
        let file = folder.join(&trace.id).join("artifacts").join(SPANS_FILE);
        match file.is_file() {
            true => Spans::File(Box::new(file)),
            false => Spans::Nowhere,
        }
    }
}

fn trace_in(folder: &Path) -> Result<Result<SourceTrace, String>, Failure> {
    let mut info: Value = match read_yaml(&folder.join("trace_info.yaml"))? {
        Ok(info) => info,
        Err(why) => return Ok(Err(why)),
    };
    let metadata = values_in(folder, "request_metadata")?;
    let tags = values_in(folder, "tags")?;
    let (metadata, tags) = match (metadata, tags) {
        (Ok(metadata), Ok(tags)) => (metadata, tags),
        (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
    };
    let mut said: Vec<Value> = Vec::new();
    for (_, file) in files_in(&folder.join("assessments"))? {
        match read_yaml(&file)? {
            Ok(one) => said.push(one),
            Err(why) => return Ok(Err(why)),
        }
    }
    if info.get("request_id").is_some() {
        info = info_of_second(&info);
    }
    if let Some(ms) = info["execution_duration_ms"].as_f64() {
        info["execution_duration"] = format!("{}s", ms / 1_000.0).into();
    }
    info["trace_metadata"] = json!(metadata);
    info["tags"] = json!(tags);
    info["assessments"] = said.into();
    let name = folder.file_name().and_then(|name| name.to_str());
    Ok(match info["trace_id"].as_str() {
        Some(id) if Some(id) == name => Ok(SourceTrace {
            id: id.to_owned(),
            fingerprint: fingerprint(folder)?,
            info,
        }),
        _ => Err(format!(
            "`{}`: its `trace_info.yaml` is of another trace",
            folder.display()
        )),
    })
}
