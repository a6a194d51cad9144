//! What training code records: searched, linked, kept, merged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lepton_store::{
    CommitError, Comparison, Conflict, Lifecycle, NumberField, RunClause, RunField, RunOrder,
    RunSearch, Store, Test, TextField, Transaction,
};
use lepton_types::resources::{BlobDigest, MetricPoint, Resource, Run, RunSpec};
use lepton_types::trace::Trace;
use lepton_types::tracking::{KeptFile, ModelLink, ModelUse, RunDataset};
use lepton_types::{Id, Name, RunId, Timestamp};

fn id(number: u8) -> Id {
    Id::from_parts(Timestamp::from_millis(i64::from(number)), [number; 10])
}

fn home() -> Name {
    Name::default_project()
}

fn run(number: u8) -> Run {
    let at = Timestamp::from_millis(1_000 + i64::from(number));
    let spec = RunSpec::of(id(200).into());
    let mut run = Resource::draft(id(number), home(), format!("run {number}"), at, spec);
    run.status.started_at = Some(at);
    run
}

fn point(key: &str, value: f64) -> MetricPoint {
    MetricPoint {
        key: key.to_owned(),
        step: 0,
        timestamp: Some(Timestamp::from_millis(1)),
        value,
    }
}

/// Six runs: `m` is the number, `p` its parity, and the third has NaN in `odd`.
async fn filled(folder: &tempfile::TempDir) -> Store {
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

fn everything() -> RunSearch {
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

async fn names(store: &Store, search: RunSearch) -> Vec<String> {
    let found = store.search_runs(search).await.unwrap();
    let name = |run: lepton_store::FoundRun| run.record.run.metadata.name;
    found.runs.into_iter().map(name).collect()
}

async fn with(store: &Store, field: RunField, test: Test) -> Vec<String> {
    let clauses = vec![RunClause { field, test }];
    let search = RunSearch {
        clauses,
        ..everything()
    };
    names(store, search).await
}

#[tokio::test]
async fn runs_are_found_by_what_holds_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let metric = |key: &str| RunField::Metric(key.to_owned());
    let above = Test::Number(Comparison::Above, 3.0);
    assert_eq!(with(&store, metric("m"), above).await, ["run 5", "run 4"]);
    // NaN differs from everything, and compares with nothing else.
    let differs = Test::Number(Comparison::Differs, 1.0);
    assert_eq!(with(&store, metric("odd"), differs).await, ["run 3"]);
    let below = Test::Number(Comparison::Below, 9.0);
    assert_eq!(with(&store, metric("odd"), below).await, ["run 4"]);
    let param = || RunField::Param("p".to_owned());
    assert_eq!(
        with(&store, param(), Test::Is("even".to_owned()))
            .await
            .len(),
        3
    );
    assert_eq!(with(&store, param(), Test::Absent).await.len(), 0);
    let tag = || RunField::Tag("Name".to_owned());
    assert_eq!(
        with(&store, tag(), Test::Like("n%".to_owned())).await.len(),
        0
    );
    assert_eq!(
        with(&store, tag(), Test::LikeAnyCase("n_".to_owned()))
            .await
            .len(),
        6
    );
    assert_eq!(
        with(&store, tag(), Test::Like("N[2]".to_owned()))
            .await
            .len(),
        0
    );
    let ids = vec![id(1).to_string(), "x".to_owned()];
    let field = RunField::Text(TextField::Id);
    assert_eq!(with(&store, field, Test::Among(ids)).await, ["run 1"]);
    let started = RunField::Number(NumberField::Started);
    let early = Test::Number(Comparison::AtMost, 1_001.0);
    assert_eq!(with(&store, started, early).await, ["run 1", "run 0"]);
}

#[tokio::test]
async fn the_order_puts_what_is_missing_last_and_pages_follow() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let ordered = |descending| RunSearch {
        order: vec![RunOrder {
            field: RunField::Metric("odd".to_owned()),
            descending,
        }],
        ..everything()
    };
    for descending in [false, true] {
        let found = names(&store, ordered(descending)).await;
        assert_eq!(&found[..3], ["run 4", "run 3", "run 5"], "{descending}");
    }
    let page = RunSearch {
        offset: 4,
        limit: 1,
        ..everything()
    };
    let found = store.search_runs(page).await.unwrap();
    assert!(found.more);
    assert_eq!(found.runs[0].record.run.metadata.name, "run 1");
    assert_eq!(found.runs[0].record.metric("m").unwrap().value, 1.0);
}

#[tokio::test]
async fn the_index_follows_the_run_into_the_bin_and_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let key = id(2).to_string();
    let mut run = store.get::<RunSpec>(&home(), &key).await.unwrap().unwrap();
    run.status.deleted_at = Some(Timestamp::from_millis(9));
    run.metadata.name = "binned".to_owned();
    let mut transaction = Transaction::new();
    transaction.update(&run);
    run.metadata.resource_version = store.commit(transaction).await.unwrap();
    assert_eq!(names(&store, everything()).await.len(), 5);
    let binned = RunSearch {
        lifecycle: Lifecycle::Deleted,
        ..everything()
    };
    assert_eq!(names(&store, binned).await, ["binned"]);
    let mut transaction = Transaction::new();
    transaction.require_run(id(2).into(), &home());
    let refused = store.commit(transaction).await.unwrap_err();
    assert!(matches!(
        refused,
        CommitError::Conflict(Conflict::RunDeleted { .. })
    ));
    let mut transaction = Transaction::new();
    transaction.delete(&run);
    store.commit(transaction).await.unwrap();
    let any = RunSearch {
        lifecycle: Lifecycle::Any,
        ..everything()
    };
    assert_eq!(names(&store, any).await.len(), 5);
}

#[tokio::test]
async fn a_run_of_another_project_is_missing_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let other: Name = "other".parse().unwrap();
    let run = RunId::from(id(1));
    let mut transaction = Transaction::new();
    transaction
        .set_tags(run, vec![("t".to_owned(), "x".to_owned())])
        .require_run(run, &other);
    let refused = store.commit(transaction).await.unwrap_err();
    assert!(matches!(
        refused,
        CommitError::Conflict(Conflict::RunMissing { .. })
    ));
    let tags = store.tags(run).await.unwrap();
    assert!(tags.iter().all(|(key, _)| key != "t"));
}

#[tokio::test]
async fn what_went_in_and_came_out_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let data = RunDataset {
        name: "letters".to_owned(),
        digest: "d".to_owned(),
        source_type: "local".to_owned(),
        source: "/x".to_owned(),
        schema: None,
        profile: None,
        tags: vec![("mlflow.data.context".to_owned(), "training".to_owned())],
    };
    let link = ModelLink {
        r#use: ModelUse::Output,
        model: id(77),
        step: 1,
    };
    for _ in 0..2 {
        let mut transaction = Transaction::new();
        transaction
            .link_datasets(id(1).into(), id(200).into(), vec![data.clone()])
            .link_models(id(1).into(), vec![link]);
        store.commit(transaction).await.unwrap();
    }
    let found = store.found_runs(vec![id(1), id(99)]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].datasets, [data]);
    assert_eq!(found[0].models, [link]);
    let context = RunField::Dataset(lepton_store::DatasetField::Context);
    assert_eq!(
        with(&store, context, Test::Is("training".to_owned())).await,
        ["run 1"]
    );
}

#[tokio::test]
async fn files_are_listed_and_dropped_by_folder_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    for path in ["a/b", "a/c/d", "a0", "ab"] {
        transaction.keep_file(KeptFile {
            project: home(),
            path: path.to_owned(),
            digest: BlobDigest::from_bytes([1; 32]),
            size_bytes: 1,
        });
    }
    store.commit(transaction).await.unwrap();
    let paths = async |path: &str| {
        let files = store.kept_files(&home(), path).await.unwrap();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(paths("a").await, ["a/b", "a/c/d"]);
    let mut transaction = Transaction::new();
    transaction.drop_files(&home(), "a");
    store.commit(transaction).await.unwrap();
    assert_eq!(paths("").await, ["a0", "ab"]);
}

#[tokio::test]
async fn traces_come_newest_first_and_go_with_their_spans() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    for number in 0..3_u8 {
        let trace = Trace {
            id: format!("tr-{number}"),
            began_at: Timestamp::from_millis(i64::from(number)),
            ..Trace::empty()
        };
        transaction.merge_trace(&home(), id(200), trace);
    }
    store.commit(transaction).await.unwrap();
    let before = Some((Timestamp::from_millis(2), "tr-2".to_owned()));
    let found = store
        .traces(&home(), vec![id(200)], before, 9)
        .await
        .unwrap();
    let ids: Vec<&str> = found.iter().map(|(_, trace)| trace.id.as_str()).collect();
    assert_eq!(ids, ["tr-1", "tr-0"]);
    let mut transaction = Transaction::new();
    transaction.delete_trace(&home(), "tr-1");
    store.commit(transaction).await.unwrap();
    assert!(store.trace(&home(), "tr-1").await.unwrap().is_none());
}
