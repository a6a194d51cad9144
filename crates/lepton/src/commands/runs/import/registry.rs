//! Registered models as a source has them, and where the files of their versions are.

use std::collections::BTreeMap;

use serde_json::Value;

/// A registered model with its versions, lowest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct SourceModel {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) aliases: BTreeMap<String, u32>,
    pub(super) versions: Vec<SourceVersion>,
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct SourceVersion {
    pub(super) number: u32,
    pub(super) description: String,
    /// As the source calls it; empty where it is of none.
    pub(super) run: String,
    /// MLflow's word.
    pub(super) stage: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) created: i64,
    /// Where its files are, as the source has it.
    pub(super) location: String,
}

/// Where files are, as far as a source can give them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the artifacts of a run, below a path that may be empty.
    InRun { run: String, path: String },
    /// With a logged model of an experiment, below a path that may be empty.
    InLoggedModel {
        experiment: String,
        model: String,
        path: String,
    },
    /// With a logged model, wherever that is.
    LoggedModel(String),
}

/// Reads a location: MLflow's own schemes, and how it lays folders out under any other:
/// `…/EXPERIMENT/RUN/artifacts/PATH` and `…/EXPERIMENT/models/MODEL/artifacts/PATH`.
pub(super) fn place_of(location: &str) -> Option<Place> {
    if let Some(rest) = location.strip_prefix("runs:/") {
        let (run, path) = rest.split_once('/').unwrap_or((rest, ""));
        return inside(path).then(|| Place::InRun {
            run: run.to_owned(),
            path: path.to_owned(),
        });
    }
    if let Some(model) = location.strip_prefix("models:/") {
        let is_id = model.starts_with("m-") && !model.contains('/');
        return is_id.then(|| Place::LoggedModel(model.to_owned()));
    }
    if !inside(location) {
        return None;
    }
    let segments: Vec<&str> = location.trim_end_matches('/').split('/').collect();
    let at = segments
        .iter()
        .position(|segment| *segment == "artifacts")
        .filter(|at| *at >= 2)?;
    let path = segments[at + 1..].join("/");
    let owner = segments[at - 1].to_owned();
    match (segments[at - 2], at.checked_sub(3)) {
        ("models", Some(experiment)) => Some(Place::InLoggedModel {
            experiment: segments[experiment].to_owned(),
            model: owner,
            path,
        }),
        _ => Some(Place::InRun { run: owner, path }),
    }
}

/// Whether a path stays where it begins.
fn inside(path: &str) -> bool {
    path.split(['/', '\\']).all(|part| part != "..")
}

/// Pairs of a list of `{"key": …, "value": …}`.
pub(super) fn pairs_of(list: &Value) -> BTreeMap<String, String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let pair = |pair: &Value| {
        let value = pair["value"].as_str().unwrap_or_default();
        Some((pair["key"].as_str()?.to_owned(), value.to_owned()))
    };
    list.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_as_mlflow_lays_them_out() {
        let in_run = |path: &str| {
            let (run, path) = ("abc".to_owned(), path.to_owned());
            Some(Place::InRun { run, path })
        };
        assert_eq!(
            place_of("mlflow-artifacts:/7/abc/artifacts/a/b"),
            in_run("a/b")
        );
        assert_eq!(place_of("file:///x/mlruns/7/abc/artifacts"), in_run(""));
        assert_eq!(
            place_of("s3://b/p/7/abc/artifacts/m/artifacts/x"),
            in_run("m/artifacts/x")
        );
        assert_eq!(place_of("runs:/abc/a"), in_run("a"));
        let logged = Place::InLoggedModel {
            experiment: "7".to_owned(),
            model: "m-1".to_owned(),
            path: String::new(),
        };
        assert_eq!(place_of("/x/mlruns/7/models/m-1/artifacts"), Some(logged));
        assert_eq!(
            place_of("models:/m-1"),
            Some(Place::LoggedModel("m-1".to_owned()))
        );
        for nowhere in [
            "models:/wine/1",
            "artifacts/x",
            "/7/abc/artifacts/../../x",
            "runs:/abc/../x",
            "",
        ] {
            assert_eq!(place_of(nowhere), None, "{nowhere}");
        }
    }
}
