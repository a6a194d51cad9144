//! MLflow's file store: a folder an experiment, in it a folder a run.
//!
//! ```text
//! mlruns/EXPERIMENT/meta.yaml
//! mlruns/EXPERIMENT/RUN/meta.yaml
//!                       params/KEY     the value
//!                       tags/KEY       the value
//!                       metrics/KEY    lines of: milliseconds value step
//!                       artifacts/PATH
//!                       inputs/INPUT/meta.yaml     of which data
//! mlruns/EXPERIMENT/RUN/outputs/MODEL/meta.yaml  which logged model, at which step
//! mlruns/EXPERIMENT/datasets/DATA/meta.yaml
//! mlruns/.trash/EXPERIMENT/…                     an experiment in the bin
//! ```
//! A `/` in a key is a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use lepton_types::Timestamp;
use lepton_types::resources::MetricPoint;
use lepton_types::tracking::ModelUse;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::phase_of;
use super::source::{Bin, Found, SourceExperiment, SourceLink, SourceRun};
use crate::commands::data::unreadable;
use crate::failure::Failure;

/// A parameter or tag that is longer is not one.
const VALUE_BYTES_MAX: u64 = 1 << 20;

pub(super) struct FileStore {
    root: PathBuf,
}

#[derive(Debug, Deserialize)]
struct ExperimentMeta {
    name: String,
    #[serde(default)]
    lifecycle_stage: Option<String>,
}

/// Where MLflow's file store puts experiments that were deleted.
const TRASH: &str = ".trash";

#[derive(Debug, Deserialize)]
struct RunMeta {
    #[serde(default)]
    run_id: Option<String>,
    /// As the oldest files have it; younger ones have both.
    #[serde(default)]
    run_uuid: Option<String>,
    #[serde(default)]
    run_name: Option<String>,
    #[serde(default)]
    status: Option<yaml_serde::Value>,
    #[serde(default)]
    start_time: Option<i64>,
    #[serde(default)]
    end_time: Option<i64>,
    #[serde(default)]
    lifecycle_stage: Option<String>,
}

#[derive(Debug, Deserialize)]
struct InputMeta {
    source_id: String,
    #[serde(default)]
    source_type: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct OutputMeta {
    destination_id: String,
    #[serde(default)]
    step: i64,
}

impl FileStore {
    pub(super) fn open(root: PathBuf) -> Result<Self, Failure> {
        let store = Self { root };
        if store.experiments()?.is_empty() {
            return Err(Failure::invalid(format!(
                "`{}` is no MLflow folder: no folder in it has a `meta.yaml`",
                store.root.display()
            )));
        }
        Ok(store)
    }

    /// The folders of experiments, those in the bin after the others.
    fn experiments(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut folders = folders_in(&self.root)?;
        let trash = self.root.join(TRASH);
        if trash.is_dir() {
            folders.extend(folders_in(&trash)?);
        }
        folders.retain(|folder| folder.join("meta.yaml").is_file());
        Ok(folders)
    }

    fn experiment_in(&self, folder: &Path) -> Result<Result<SourceExperiment, String>, Failure> {
        let meta: ExperimentMeta = match read_yaml(&folder.join("meta.yaml"))? {
            Ok(meta) => meta,
            Err(why) => return Ok(Err(why)),
        };
        let tags = match values_in(folder, "tags")? {
            Ok(tags) => tags,
            Err(why) => return Ok(Err(why)),
        };
        let is_in_trash = folder.parent() == Some(&self.root.join(TRASH));
        let inside = folder.strip_prefix(&self.root).unwrap_or(folder).to_str();
        let Some(id) = inside else {
            return Ok(Err(format!(
                "`{}`: its name is not UTF-8",
                folder.display()
            )));
        };
        Ok(Ok(SourceExperiment {
            id: id.to_owned(),
            name: meta.name,
            tags,
            is_deleted: is_in_trash || is_deleted(meta.lifecycle_stage.as_deref()),
        }))
    }

    pub(super) fn each_run(
        &self,
        is_wanted: &dyn Fn(&str) -> bool,
        bin: Bin,
        each: &mut dyn FnMut(Found) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut all = Vec::new();
        for folder in self.experiments()? {
            match self.experiment_in(&folder)? {
                Ok(experiment) if experiment.is_deleted && bin == Bin::Left => {}
                Ok(experiment) if is_wanted(&experiment.name) => {
                    let mut runs = folders_in(&folder)?;
                    runs.retain(|run| run.join("meta.yaml").is_file());
                    all.push((experiment, folder, runs));
                }
                Ok(_) => {}
                Err(why) => each(Found::Unreadable(why))?,
            }
        }
        each(Found::Total(
            all.iter().map(|(_, _, runs)| runs.len() as u64).sum(),
        ))?;
        for (experiment, folder, runs) in all {
            each(Found::Experiment(experiment.clone()))?;
            for run in runs {
                match read_run(&experiment, &folder, &run)? {
                    Ok(run) if run.is_deleted && bin == Bin::Left => {}
                    Ok(run) => each(Found::Run(Box::new(run)))?,
                    Err(why) => each(Found::Unreadable(why))?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self, run: &SourceRun) -> PathBuf {
        self.root.join(&run.experiment_id).join(&run.id)
    }

    pub(super) fn each_point(
        &self,
        run: &SourceRun,
        key: &str,
        each: &mut dyn FnMut(MetricPoint) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let file = self.folder(run).join("metrics").join(key);
        let lines = BufReader::new(File::open(&file).map_err(unreadable(&file))?).lines();
        for (number, line) in lines.enumerate() {
            let line = line.map_err(unreadable(&file))?;
            if line.trim().is_empty() {
                continue;
            }
            let point = point_of(key, &line).ok_or_else(|| {
                Failure::invalid(format!(
                    "line {} of `{}` is no point: `{}`",
                    number + 1,
                    file.display(),
                    line.chars().take(64).collect::<String>()
                ))
            })?;
            each(point)?;
        }
        Ok(())
    }

    pub(super) fn each_artifact(
        &self,
        run: &SourceRun,
        each: &mut dyn FnMut(&str, &Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let root = self.folder(run).join("artifacts");
        for (path, file) in files_in(&root)? {
            each(&path, &file)?;
        }
        Ok(())
    }
}

/// A run; in words what is wrong with it.
fn read_run(
    experiment: &SourceExperiment,
    experiment_folder: &Path,
    folder: &Path,
) -> Result<Result<SourceRun, String>, Failure> {
    let meta: RunMeta = match read_yaml(&folder.join("meta.yaml"))? {
        Ok(meta) => meta,
        Err(why) => return Ok(Err(why)),
    };
    let name_of = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
    };
    let Some(id) = name_of(folder) else {
        return Ok(Err(format!(
            "`{}`: its name is not UTF-8",
            folder.display()
        )));
    };
    if meta.run_id.or(meta.run_uuid).as_ref() != Some(&id) {
        let why = format!("`{}`: its `meta.yaml` is of another run", folder.display());
        return Ok(Err(why));
    }
    let (params, tags) = match (values_in(folder, "params")?, values_in(folder, "tags")?) {
        (Ok(params), Ok(tags)) => (params, tags),
        (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
    };
    let datasets = match datasets_of(experiment_folder, folder)? {
        Ok(datasets) => datasets,
        Err(why) => return Ok(Err(why)),
    };
    let models = match models_of(folder)? {
        Ok(models) => models,
        Err(why) => return Ok(Err(why)),
    };
    let metrics = files_in(&folder.join("metrics"))?;
    let status = match &meta.status {
        Some(yaml_serde::Value::String(word)) => word.clone(),
        Some(yaml_serde::Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    Ok(Ok(SourceRun {
        is_deleted: is_deleted(meta.lifecycle_stage.as_deref()),
        name: meta.run_name.filter(|name| !name.is_empty()),
        experiment: experiment.name.clone(),
        experiment_id: experiment.id.clone(),
        phase: phase_of(&status),
        started_at: meta.start_time.map(Timestamp::from_millis),
        finished_at: meta.end_time.map(Timestamp::from_millis),
        params,
        tags,
        datasets,
        models,
        metrics: metrics.into_iter().map(|(key, _)| key).collect(),
        fingerprint: fingerprint(folder)?,
        id,
    }))
}

/// The data that went into a run: what it is stands with the experiment, what it was for with the run.
fn datasets_of(experiment: &Path, run: &Path) -> Result<Result<Vec<Value>, String>, Failure> {
    let root = run.join("inputs");
    let mut datasets = Vec::new();
    if !root.is_dir() {
        return Ok(Ok(datasets));
    }
    for input in folders_in(&root)? {
        let meta: InputMeta = match read_yaml(&input.join("meta.yaml"))? {
            Ok(meta) => meta,
            Err(why) => return Ok(Err(why)),
        };
        let is_name = !meta.source_id.is_empty() && !meta.source_id.contains(['/', '.']);
        let data = experiment
            .join("datasets")
            .join(&meta.source_id)
            .join("meta.yaml");
        if !is_name || !data.is_file() {
            continue;
        }
        let data: Value = match read_yaml(&data)? {
            Ok(data) => data,
            Err(why) => return Ok(Err(why)),
        };
        let tag = |(key, value)| json!({"key": key, "value": value});
        let tags: Vec<Value> = meta.tags.into_iter().map(tag).collect();
        datasets.push(json!({"dataset": data, "tags": tags}));
    }
    Ok(Ok(datasets))
}

/// The logged models that a run used or made.
fn models_of(run: &Path) -> Result<Result<Vec<SourceLink>, String>, Failure> {
    let mut models = Vec::new();
    for (name, r#use) in [("inputs", ModelUse::Input), ("outputs", ModelUse::Output)] {
        let root = run.join(name);
        if !root.is_dir() {
            continue;
        }
        for folder in folders_in(&root)? {
            let meta = folder.join("meta.yaml");
            let (model, step) = match r#use {
                ModelUse::Input => match read_yaml::<InputMeta>(&meta)? {
                    Ok(meta) if meta.source_type != "MODEL" => continue,
                    Ok(meta) => (meta.source_id, 0),
                    Err(why) => return Ok(Err(why)),
                },
                ModelUse::Output => match read_yaml::<OutputMeta>(&meta)? {
                    Ok(meta) => (meta.destination_id, meta.step),
                    Err(why) => return Ok(Err(why)),
                },
            };
            models.push(SourceLink { model, r#use, step });
        }
    }
    Ok(Ok(models))
}

/// Of the names, sizes and times of all files of a run: what is written to it changes one of them.
pub(super) fn fingerprint(folder: &Path) -> Result<String, Failure> {
    let mut digest = Sha256::new();
    for (name, file) in files_in(folder)? {
        let facts = std::fs::metadata(&file).map_err(unreadable(&file))?;
        let changed = facts.modified().ok();
        let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let nanos = changed.unwrap_or_default().as_nanos();
        digest.update(format!("{name}\0{}\0{nanos}\0", facts.len()));
    }
    Ok(format!("{:x}", digest.finalize()))
}

pub(super) fn is_deleted(stage: Option<&str>) -> bool {
    stage == Some("deleted")
}

/// `milliseconds value step`; the oldest files have no step.
fn point_of(key: &str, line: &str) -> Option<MetricPoint> {
    let mut words = line.split_whitespace();
    let at = words.next()?.parse().ok()?;
    let value = words.next()?.parse().ok()?;
    let step = match words.next() {
        Some(step) => step.parse().ok()?,
        None => 0,
    };
    words.next().is_none().then(|| MetricPoint {
        key: key.to_owned(),
        step,
        timestamp: Some(Timestamp::from_millis(at)),
        value,
    })
}

pub(super) type Values = Result<BTreeMap<String, String>, String>;

/// The files of a folder as values by key; in words which of them is none.
pub(super) fn values_in(run: &Path, what: &str) -> Result<Values, Failure> {
    let mut values = BTreeMap::new();
    for (key, file) in files_in(&run.join(what))? {
        let facts = std::fs::metadata(&file).map_err(unreadable(&file))?;
        if facts.len() > VALUE_BYTES_MAX {
            return Ok(Err(format!("`{}`: it is too long", file.display())));
        }
        let bytes = std::fs::read(&file).map_err(unreadable(&file))?;
        let Ok(text) = String::from_utf8(bytes) else {
            return Ok(Err(format!("`{}`: it is not UTF-8", file.display())));
        };
        values.insert(key, text);
    }
    Ok(Ok(values))
}

pub(super) fn read_yaml<T: for<'a> Deserialize<'a>>(
    file: &Path,
) -> Result<Result<T, String>, Failure> {
    let text = std::fs::read_to_string(file).map_err(unreadable(file))?;
    Ok(yaml_serde::from_str(&text).map_err(|error| format!("`{}`: {error}", file.display())))
}

/// The folders in a folder, sorted, but hidden ones: MLflow's bin is one.
pub(super) fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let entry = entry.map_err(unreadable(folder))?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// All files below a folder with their relative paths, sorted; none if there is no such folder. Links
/// lead nowhere: a run has what is in its folder.
pub(super) fn files_in(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    let walk = ignore::WalkBuilder::new(folder)
        .standard_filters(false)
        .sort_by_file_path(Path::cmp)
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| Failure::invalid(error.to_string()))?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        let inside = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if is_file && let Some(name) = inside.to_str() {
            files.push((name.to_owned(), entry.path().to_owned()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_points() {
        let point = point_of("m", "1700000000000 nan 3").unwrap();
        assert!(point.value.is_nan() && point.step == 3);
        assert_eq!(point_of("m", "5 -inf").unwrap().value, f64::NEG_INFINITY);
        assert_eq!(point_of("m", "5 1e-05 -2").unwrap().step, -2);
        for bad in ["5", "5 x 1", "5 1 1 1", "a 1 1"] {
            assert_eq!(point_of("m", bad), None, "{bad}");
        }
    }

    #[test]
    fn a_run_is_read_and_its_fingerprint_moves_with_it() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let id = "0123456789abcdef0123456789abcdef";
        write("7/meta.yaml", "name: wine\nlifecycle_stage: active\n");
        write(".trash/9/meta.yaml", "name: gone\n");
        write(
            &format!("7/{id}/meta.yaml"),
            &format!("run_uuid: {id}\nrun_id: {id}\nstatus: 3\nend_time: 9\n"),
        );
        write(&format!("7/{id}/params/a/b"), "x\ny");
        write(&format!("7/{id}/metrics/val/loss"), "5 0.5 1\n");
        write(
            "7/fedcba/meta.yaml",
            "run_uuid: fedcba\nlifecycle_stage: deleted\n",
        );
        write("7/other/meta.yaml", "run_id: [\n");
        let read = || {
            let store = FileStore::open(root.path().to_owned()).unwrap();
            let (mut runs, mut broken) = (Vec::new(), 0);
            store
                .each_run(&|_| true, Bin::Left, &mut |found| {
                    match found {
                        Found::Run(run) => runs.push(*run),
                        Found::Unreadable(_) => broken += 1,
                        Found::Total(total) => assert_eq!(total, 3),
                        Found::Experiment(experiment) => assert_eq!(experiment.name, "wine"),
                    }
                    Ok(())
                })
                .unwrap();
            (runs, broken)
        };
        let (runs, broken) = read();
        assert_eq!((runs.len(), broken), (1, 1));
        assert_eq!(runs[0].params["a/b"], "x\ny");
        assert_eq!(runs[0].metrics, ["val/loss"]);
        assert_eq!(runs[0].finished_at, Some(Timestamp::from_millis(9)));
        assert_eq!(read().0, runs);
        write(&format!("7/{id}/metrics/val/loss"), "5 0.5 1\n6 0.4 2\n");
        assert_ne!(read().0[0].fingerprint, runs[0].fingerprint);
    }
}
