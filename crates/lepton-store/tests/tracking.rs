//! What training code records: searched, linked, kept, merged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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
    let name = |run: lepton_store::FoundRun| run.head.name;
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
    assert_eq!(found.runs[0].head.name, "run 1");
    assert_eq!(found.runs[0].metrics[0].value, 1.0);
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
    let mut transaction = Transaction::new();
    transaction.create_logged_model(logged_model(77, &home()), Vec::new(), Vec::new());
    store.commit(transaction).await.unwrap();
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

fn logged_model(number: u8, project: &Name) -> LoggedModel {
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

async fn refusal(store: &Store, write: impl FnOnce(&mut Transaction)) -> Conflict {
    let mut transaction = Transaction::new();
    write(&mut transaction);
    match store.commit(transaction).await.unwrap_err() {
        CommitError::Conflict(conflict) => conflict,
        CommitError::Store(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn nothing_hangs_on_a_record_that_is_not_there_or_of_another_project() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let lab: Name = "lab".parse().unwrap();
    let project = Resource::draft(
        id(150),
        home(),
        "lab",
        Timestamp::from_millis(1),
        ProjectSpec::default(),
    );
    let mut transaction = Transaction::new();
    transaction.create(&project).create_logged_model(
        logged_model(78, &lab),
        Vec::new(),
        Vec::new(),
    );
    store.commit(transaction).await.unwrap();
    let pair = || vec![("k".to_owned(), "v".to_owned())];
    let (nobody, mine) = (RunId::from(id(99)), RunId::from(id(1)));
    let missing = [
        refusal(&store, |t| _ = t.set_tags(nobody, pair())).await,
        refusal(&store, |t| _ = t.set_params(nobody, pair())).await,
        refusal(&store, |t| {
            t.append_metrics(nobody, vec![point("m", 1.0)]);
        })
        .await,
        refusal(&store, |t| {
            t.add_to_tag(nobody, "k", &1.into(), 9);
        })
        .await,
    ];
    for conflict in missing {
        assert!(
            matches!(conflict, Conflict::RunMissing { .. }),
            "{conflict}"
        );
    }
    let measured = ModelMetric {
        model: id(78),
        run: mine,
        key: "acc".to_owned(),
        step: 0,
        at: Timestamp::from_millis(1),
        value: 1.0,
        dataset_name: String::new(),
        dataset_digest: String::new(),
    };
    let link = ModelLink {
        r#use: ModelUse::Input,
        model: id(78),
        step: 0,
    };
    let foreign = [
        refusal(&store, |t| {
            t.append_model_metrics(vec![measured]);
        })
        .await,
        refusal(&store, |t| {
            t.link_models(mine, vec![link]);
        })
        .await,
        refusal(&store, |t| {
            t.require_logged_model(id(78), &home());
        })
        .await,
        // A run is no logged model.
        refusal(&store, |t| {
            t.require_logged_model(id(1), &home());
        })
        .await,
    ];
    for conflict in foreign {
        assert!(
            matches!(conflict, Conflict::LoggedModelMissing { .. }),
            "{conflict}"
        );
    }
}

#[tokio::test]
async fn changes_that_come_at_once_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    let trace = Trace {
        id: "tr-1".to_owned(),
        ..Trace::empty()
    };
    transaction.merge_trace(&home(), id(200), trace);
    store.commit(transaction).await.unwrap();
    let writers = (0..40).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut transaction = Transaction::new();
            let tag = (format!("t{number}"), String::new());
            transaction
                .alter::<RunSpec>(id(1), move |run| {
                    run.metadata.name.push('x');
                    Ok(())
                })
                .add_to_tag(id(1).into(), "list", &number.into(), 10_000)
                .change_trace(
                    &home(),
                    "tr-1",
                    TraceChange {
                        tags: [tag].into(),
                        ..TraceChange::default()
                    },
                );
            store.commit(transaction).await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let run = store.get_by_id::<RunSpec>(id(1)).await.unwrap().unwrap();
    assert_eq!(run.metadata.name, format!("run 1{}", "x".repeat(40)));
    let tags = store.tags(id(1).into()).await.unwrap();
    let list = &tags.iter().find(|(key, _)| key == "list").unwrap().1;
    let list: Vec<u32> = serde_json::from_str(list).unwrap();
    assert_eq!(list.len(), 40);
    let (_, trace) = store.trace(&home(), "tr-1").await.unwrap().unwrap();
    assert_eq!(trace.tags.len(), 40);
}

#[tokio::test]
async fn a_list_in_a_tag_lets_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    for number in 0..5 {
        let mut transaction = Transaction::new();
        transaction.add_to_tag(id(1).into(), "list", &number.into(), 7);
        store.commit(transaction).await.unwrap();
    }
    let tags = store.tags(id(1).into()).await.unwrap();
    assert!(
        tags.contains(&("list".to_owned(), "[2,3,4]".to_owned())),
        "{tags:?}"
    );
}

#[tokio::test]
async fn an_experiment_goes_to_the_bin_with_its_runs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let at = Timestamp::from_millis(5);
    let experiment = Resource::draft(id(200), home(), "e", at, ExperimentSpec::default());
    let mut transaction = Transaction::new();
    transaction.create(&experiment);
    store.commit(transaction).await.unwrap();
    let mut transaction = Transaction::new();
    transaction
        .alter_group::<RunSpec>(id(200), move |run| {
            run.status.deleted_at = Some(at);
            Ok(())
        })
        .alter::<ExperimentSpec>(id(200), move |experiment| {
            experiment.status.deleted_at = Some(at);
            Ok(())
        });
    store.commit(transaction).await.unwrap();
    assert!(names(&store, everything()).await.is_empty());
    let refused = refusal(&store, |t| {
        t.require_experiment(id(200).into()).create(&run(7));
    })
    .await;
    assert!(matches!(refused, Conflict::InBin { .. }), "{refused}");
    assert!(store.get_by_id::<RunSpec>(id(7)).await.unwrap().is_none());
}

/// Whatever is found by the name of a project is gone with it: the next one of that name is empty.
#[tokio::test]
async fn a_deleted_project_leaves_no_row_in_any_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let (lab, at): (Name, _) = ("lab".parse().unwrap(), Timestamp::from_millis(1));
    let project = Resource::draft(id(150), home(), "lab", at, ProjectSpec::default());
    let experiment = Resource::draft(id(201), lab.clone(), "e", at, ExperimentSpec::default());
    let model = LoggedModel {
        experiment: id(201).into(),
        ..logged_model(79, &lab)
    };
    let pair = |key: &str| vec![(key.to_owned(), "v".to_owned())];
    let trace = Trace {
        id: "tr-1".to_owned(),
        ..Trace::empty()
    };
    let span = TraceSpan {
        trace: "tr-1".to_owned(),
        span: "1".to_owned(),
        began_nanos: 1,
        body: "{}".to_owned(),
    };
    let kept = KeptFile {
        project: lab.clone(),
        path: "x".to_owned(),
        digest: BlobDigest::from_bytes([1; 32]),
        size_bytes: 1,
    };
    let event = EventDraft {
        at,
        project: lab.clone(),
        kind: Kind::Experiment,
        id: id(201),
        name: "e".to_owned(),
        severity: EventSeverity::Normal,
        reason: "Made".to_owned(),
        message: "made".to_owned(),
    };
    let node = |kind, number| LineageNode {
        id: id(number),
        kind,
        name: "x".to_owned(),
    };
    let edge = LineageEdge {
        from: node(Kind::Dataset, 1),
        relation: LineageRelation::ReadBy,
        to: node(Kind::Run, 2),
        first_at: at,
        last_at: at,
        requests: 0,
    };
    let mut transaction = Transaction::new();
    transaction
        .create(&project)
        .create(&experiment)
        .create_logged_model(model, pair("p"), pair("t"))
        .merge_trace(&lab, id(201), trace)
        .put_spans(&lab, vec![span])
        .keep_file(kept.clone())
        .event(event)
        .link(&lab, edge);
    store.commit(transaction).await.unwrap();
    let found: Resource<ProjectSpec, _> = store.get(&home(), "lab").await.unwrap().unwrap();
    let inhabited = refusal(&store, |t| _ = t.delete(&found)).await;
    assert!(matches!(inhabited, Conflict::ProjectInUse { .. }));
    let child: Resource<ExperimentSpec, _> = store.get(&lab, "e").await.unwrap().unwrap();
    let mut transaction = Transaction::new();
    transaction.delete(&child).delete(&found);
    store.commit(transaction).await.unwrap();
    let late = refusal(&store, |t| _ = t.keep_file(kept)).await;
    assert!(matches!(late, Conflict::ProjectMissing { .. }), "{late}");
    store.close().await;
    let database = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
    let mut tables = database
        .prepare(
            "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.name = 'project' AND m.name <> 'tombstones'",
        )
        .unwrap();
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(tables.len() >= 8, "{tables:?}");
    for table in tables {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE project = 'lab'");
        let left: u32 = database.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
    for table in ["run_tags", "run_params"] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE run = ?1");
        let id = id(79).to_bytes();
        let left: u32 = database.query_row(&sql, [id], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

#[tokio::test]
async fn a_page_of_runs_ends_before_the_data_that_all_of_them_describe_is_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let data = RunDataset {
        name: "long".to_owned(),
        digest: "d".to_owned(),
        source_type: "local".to_owned(),
        source: String::new(),
        schema: None,
        profile: Some("x".repeat(15 << 20)),
        tags: Vec::new(),
    };
    for number in 0..6 {
        let mut transaction = Transaction::new();
        transaction.link_datasets(id(number).into(), id(200).into(), vec![data.clone()]);
        store.commit(transaction).await.unwrap();
    }
    let first = store.search_runs(everything()).await.unwrap();
    assert_eq!((first.count, first.more), (5, true));
    let rest = RunSearch {
        offset: 5,
        ..everything()
    };
    let rest = store.search_runs(rest).await.unwrap();
    assert_eq!((rest.count, rest.more), (1, false));
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
    let children = async |folder: &str| {
        let children = store.kept_children(&home(), folder, 9).await.unwrap();
        let name = |(name, size): (String, Option<u64>)| match size {
            Some(_) => name,
            None => name + "/",
        };
        children.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(children("").await, ["a/", "a0", "ab"]);
    assert_eq!(children("a").await, ["b", "c/"]);
    assert!(children("none").await.is_empty());
    assert!(store.kept_file(&home(), "a/b").await.unwrap().is_some());
    assert!(store.kept_file(&home(), "a").await.unwrap().is_none());
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
    let span = |body: &str| TraceSpan {
        trace: "tr-2".to_owned(),
        span: body.to_owned(),
        began_nanos: 1,
        body: body.to_owned(),
    };
    let mut transaction = Transaction::new();
    transaction.put_spans(&home(), vec![span("{}"), span("{ }")]);
    store.commit(transaction).await.unwrap();
    let read = async |bytes| store.spans(&home(), "tr-2", bytes).await.unwrap();
    assert_eq!(read(7).await.unwrap().len(), 2);
    assert!(read(6).await.is_none());
}

#[tokio::test]
async fn the_bin_is_emptied_of_what_is_old_and_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let experiment = |number: u8, deleted: i64| {
        let at = Timestamp::from_millis(1);
        let spec = ExperimentSpec::default();
        let mut made = Resource::draft(id(number), home(), format!("e{number}"), at, spec);
        made.status.deleted_at = Some(Timestamp::from_millis(deleted));
        made
    };
    let mut transaction = Transaction::new();
    // The first has runs, the second has none.
    transaction
        .create(&experiment(200, 10))
        .create(&experiment(201, 10))
        .create_logged_model(logged_model(70, &home()), Vec::new(), Vec::new())
        .create_logged_model(logged_model(71, &home()), Vec::new(), Vec::new())
        .delete_logged_model(id(70), Timestamp::from_millis(10));
    let of_job = Resource::draft(
        id(90),
        home(),
        "of a job".to_owned(),
        Timestamp::from_millis(1),
        RunSpec::of(id(202).into()),
    );
    let mut of_job = of_job.owned_by(Kind::Job, id(91));
    of_job.status.deleted_at = Some(Timestamp::from_millis(10));
    transaction.create(&of_job);
    for (number, deleted) in [(0, 10), (1, 11), (2, 12)] {
        transaction.alter::<RunSpec>(id(number), move |run| {
            run.status.deleted_at = Some(Timestamp::from_millis(deleted));
            Ok(())
        });
    }
    store.commit(transaction).await.unwrap();
    let query = BinQuery {
        project: home(),
        until: Timestamp::from_millis(11),
    };
    let wanted = BinCounts {
        runs: 2,
        experiments: 1,
        logged_models: 1,
    };
    assert_eq!(store.bin(&query).await.unwrap(), wanted);
    assert_eq!(store.purge(&query).await.unwrap(), wanted);
    assert_eq!(store.bin(&query).await.unwrap(), BinCounts::default());

    for (number, is_there) in [(0, false), (1, false), (2, true), (3, true), (90, true)] {
        let found = store.get_by_id::<RunSpec>(id(number)).await.unwrap();
        assert_eq!(found.is_some(), is_there, "run {number}");
    }
    assert!(store.params(id(0).into()).await.unwrap().is_empty());
    let standings = store.metric_standings(id(1).into()).await.unwrap();
    assert!(standings.is_empty());
    for (number, is_there) in [(200, true), (201, false)] {
        let found = store.get_by_id::<ExperimentSpec>(id(number)).await.unwrap();
        assert_eq!(found.is_some(), is_there, "experiment {number}");
    }
    assert!(store.logged_model(id(70)).await.unwrap().is_none());
    assert!(store.logged_model(id(71)).await.unwrap().is_some());
}
