//! Logged models in MLflow's file store.
//!
//! ```text
//! mlruns/EXPERIMENT/models/MODEL/meta.yaml
//!                                params/KEY      the value
//!                                tags/KEY        the value
//!                                metrics/KEY     lines of: milliseconds value step run [data digest]
//!                                artifacts/PATH
//! ```

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use lepton_types::Timestamp;
use lepton_types::resources::MetricPoint;
use lepton_types::tracking::LoggedModelPhase;
use serde::Deserialize;

use super::file_store::{
    FileStore, Values, files_in, fingerprint, folders_in, is_deleted, read_yaml, values_in,
};
use super::source::{Bin, Each, SourceExperiment, SourceLoggedModel, SourceMeasurement};
use crate::commands::data::unreadable;
use crate::failure::Failure;

#[derive(Debug, Deserialize)]
struct Meta {
    model_id: String,
    name: String,
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    source_run_id: Option<String>,
    #[serde(default)]
    status: yaml_serde::Value,
    #[serde(default)]
    creation_timestamp: Option<i64>,
    #[serde(default)]
    lifecycle_stage: Option<String>,
}

impl FileStore {
    /// The logged models of an experiment; in words those that cannot be read.
    pub(super) fn each_logged_model(
        &self,
        experiment: &SourceExperiment,
        bin: Bin,
        each: Each<'_, SourceLoggedModel>,
    ) -> Result<(), Failure> {
        let root = self.root().join(&experiment.id).join("models");
        if !root.is_dir() {
            return Ok(());
        }
        for folder in folders_in(&root)? {
            if !folder.join("meta.yaml").is_file() {
                continue;
            }
            match model_in(&folder)? {
                Ok(model) if model.is_deleted && bin == Bin::Left => {}
                model => each(model)?,
            }
        }
        Ok(())
    }
}

fn model_in(folder: &Path) -> Result<Result<SourceLoggedModel, String>, Failure> {
    let meta: Meta = match read_yaml(&folder.join("meta.yaml"))? {
        Ok(meta) => meta,
        Err(why) => return Ok(Err(why)),
    };
    let params: Values = values_in(folder, "params")?;
    let tags: Values = values_in(folder, "tags")?;
    let (params, tags) = match (params, tags) {
        (Ok(params), Ok(tags)) => (params, tags),
        (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
    };
    let mut metrics = Vec::new();
    for (key, file) in files_in(&folder.join("metrics"))? {
        let lines = BufReader::new(File::open(&file).map_err(unreadable(&file))?).lines();
        for line in lines {
            let line = line.map_err(unreadable(&file))?;
            match measurement_of(&key, &line) {
                Some(metric) => metrics.push(metric),
                None if line.trim().is_empty() => {}
                None => return Ok(Err(format!("`{}`: a line is no point", file.display()))),
            }
        }
    }
    Ok(Ok(SourceLoggedModel {
        id: meta.model_id,
        name: meta.name,
        model_type: meta.model_type.unwrap_or_default(),
        source_run: meta.source_run_id.unwrap_or_default(),
        phase: phase_of(&meta.status),
        created_at: meta.creation_timestamp.map(Timestamp::from_millis),
        is_deleted: is_deleted(meta.lifecycle_stage.as_deref()),
        params,
        tags,
        metrics,
        fingerprint: fingerprint(folder)?,
    }))
}

/// A phase from MLflow's word, or the number that its file store writes.
fn phase_of(status: &yaml_serde::Value) -> LoggedModelPhase {
    match (status.as_u64(), status.as_str()) {
        (Some(2), _) => LoggedModelPhase::Ready,
        (Some(3), _) => LoggedModelPhase::Failed,
        (_, Some(word)) => LoggedModelPhase::from_word(word).unwrap_or(LoggedModelPhase::Pending),
        _ => LoggedModelPhase::Pending,
    }
}

/// `milliseconds value step run`, and on which data if that was told.
fn measurement_of(key: &str, line: &str) -> Option<SourceMeasurement> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (point, data) = match words.as_slice() {
        [_, _, _, _] => (&words[..4], ["", ""]),
        [.., name, digest] if words.len() == 6 => (&words[..4], [*name, *digest]),
        _ => return None,
    };
    Some(SourceMeasurement {
        run: point[3].to_owned(),
        point: MetricPoint {
            key: key.to_owned(),
            step: point[2].parse().ok()?,
            timestamp: Some(Timestamp::from_millis(point[0].parse().ok()?)),
            value: point[1].parse().ok()?,
        },
        dataset_name: data[0].to_owned(),
        dataset_digest: data[1].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_measurements_of_runs() {
        let plain = measurement_of("acc", "5 0.5 2 abc").unwrap();
        assert_eq!((plain.run.as_str(), plain.point.step), ("abc", 2));
        assert_eq!(plain.dataset_name, "");
        let on_data = measurement_of("acc", "5 nan 2 abc iris 1f").unwrap();
        assert_eq!(
            (
                on_data.dataset_name.as_str(),
                on_data.dataset_digest.as_str()
            ),
            ("iris", "1f")
        );
        for bad in [
            "",
            "5 0.5 2",
            "5 0.5 2 abc iris",
            "x 0.5 2 abc",
            "5 0.5 2 a b c d",
        ] {
            assert_eq!(measurement_of("acc", bad), None, "{bad}");
        }
    }
}
