//! What training code records: searched, linked, kept, merged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deleting;
mod recording;
mod searching;

use lepton_store::{
    BinCounts, BinQuery, CommitError, Comparison, Conflict, EventDraft, Lifecycle, NumberField,
    RunClause, RunField, RunOrder, RunSearch, Store, Test, TextField, TraceChange, Transaction,
};
use lepton_types::resources::{
    BlobDigest, EventSeverity, ExperimentSpec, Kind, LineageEdge, LineageNode, LineageRelation,
    MetricPoint, ProjectSpec, Resource, Run, RunSpec,
};
use lepton_types::trace::{Trace, TraceSpan};
use lepton_types::tracking::{
    KeptFile, LoggedModel, LoggedModelPhase, ModelLink, ModelMetric, ModelUse, RunDataset,
};
use lepton_types::{Id, Name, RunId, Timestamp};

pub(crate) fn id(number: u8) -> Id {
    Id::from_parts(Timestamp::from_millis(i64::from(number)), [number; 10])
}

pub(crate) fn home() -> Name {
    Name::default_project()
}

pub(crate) fn run(number: u8) -> Run {
    let at = Timestamp::from_millis(1_000 + i64::from(number));
    let spec = RunSpec::of(id(200).into());
    let mut run = Resource::draft(id(number), home(), format!("run {number}"), at, spec);
    run.status.started_at = Some(at);
    run
}

pub(crate) fn point(key: &str, value: f64) -> MetricPoint {
    MetricPoint {
        key: key.to_owned(),
        step: 0,
        timestamp: Some(Timestamp::from_millis(1)),
        value,
    }
}

/// Six runs: `m` is the number, `p` its parity, and the third has NaN in `odd`.
pub(crate) async fn filled(folder: &tempfile::TempDir) -> Store {
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    for number in 0..6 {
        let run = run(number);
        let key = RunId::from(run.metadata.id);
        let mut points = vec![point("m", f64::from(number))];
        if number == 3 {
            points.push(point("odd", f64::NAN));
        }
        if number == 4 {
            points.push(point("odd", 1.0));
        }
        let parity = if number % 2 == 0 { "even" } else { "odd" };
        let mut transaction = Transaction::new();
        transaction
            .create(&run)
            .set_params(key, vec![("p".to_owned(), parity.to_owned())])
            .set_tags(key, vec![("Name".to_owned(), format!("N{number}"))])
            .append_metrics(key, points);
        store.commit(transaction).await.unwrap();
    }
    store
}

pub(crate) fn everything() -> RunSearch {
    RunSearch {
        project: home(),
        experiments: vec![id(200)],
        lifecycle: Lifecycle::Active,
        clauses: Vec::new(),
        order: Vec::new(),
        offset: 0,
        limit: 100,
    }
}

pub(crate) async fn names(store: &Store, search: RunSearch) -> Vec<String> {
    let found = store.search_runs(search).await.unwrap();
    let name = |run: lepton_store::FoundRun| run.head.name;
    found.runs.into_iter().map(name).collect()
}

pub(crate) async fn with(store: &Store, field: RunField, test: Test) -> Vec<String> {
    let clauses = vec![RunClause { field, test }];
    let search = RunSearch {
        clauses,
        ..everything()
    };
    names(store, search).await
}

pub(crate) fn logged_model(number: u8, project: &Name) -> LoggedModel {
    let at = Timestamp::from_millis(1);
    LoggedModel {
        id: id(number),
        project: project.clone(),
        experiment: id(200).into(),
        name: "model".to_owned(),
        model_type: String::new(),
        source_run: String::new(),
        phase: LoggedModelPhase::Ready,
        artifact_uri: format!("mlflow-artifacts:/x/models/m-{}/artifacts", id(number)),
        created_at: at,
        updated_at: at,
        deleted_at: None,
    }
}

pub(crate) async fn refusal(store: &Store, write: impl FnOnce(&mut Transaction)) -> Conflict {
    let mut transaction = Transaction::new();
    write(&mut transaction);
    match store.commit(transaction).await.unwrap_err() {
        CommitError::Conflict(conflict) => conflict,
        CommitError::Store(error) => panic!("{error}"),
    }
}
