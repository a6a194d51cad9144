//! The bin, what is deleted for good, and what goes along.

use super::*;

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

#[tokio::test]
async fn an_experiment_with_more_than_one_transaction_takes_goes_with_all_its_traces() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let at = Timestamp::from_millis(1);
    let mut gone = Resource::draft(id(201), home(), "gone", at, ExperimentSpec::default());
    gone.status.deleted_at = Some(at);
    let mut transaction = Transaction::new();
    transaction.create(&gone);
    for number in 0..1_100 {
        // One in a hundred is of an experiment that stays.
        let experiment = if number % 100 == 0 { id(200) } else { id(201) };
        let trace = Trace {
            id: format!("tr-{number:04}"),
            ..Trace::empty()
        };
        transaction.merge_trace(&home(), experiment, trace);
    }
    store.commit(transaction).await.unwrap();
    let query = BinQuery {
        project: home(),
        until: at,
    };
    let counts = BinCounts {
        experiments: 1,
        ..BinCounts::default()
    };
    assert_eq!(store.purge(&query).await.unwrap(), counts);
    let found = store.get_by_id::<ExperimentSpec>(id(201)).await.unwrap();
    assert!(found.is_none());
    let (home, both) = (home(), vec![id(200), id(201)]);
    let left = store.traces(&home, both, None, 2_000).await.unwrap();
    assert_eq!(left.len(), 11);
    assert!(left.iter().all(|(experiment, _)| *experiment == id(200)));
}

#[tokio::test]
async fn a_trace_takes_its_files_along_wherever_it_says_that_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let file = |path: &str| KeptFile {
        project: home(),
        path: path.to_owned(),
        digest: BlobDigest::from_bytes([1; 32]),
        size_bytes: 1,
    };
    let (own, other) = ("0/traces/tr-1/artifacts/traces.json", "0/models/x");
    let mut transaction = Transaction::new();
    transaction.keep_file(file(own)).keep_file(file(other));
    for (name, place) in [("tr-1", "0/traces/tr-1/artifacts"), ("tr-2", "0/models")] {
        let location = format!("mlflow-artifacts:/{place}");
        let trace = Trace {
            id: name.to_owned(),
            tags: [("mlflow.artifactLocation".to_owned(), location)].into(),
            ..Trace::empty()
        };
        transaction
            .merge_trace(&home(), id(200), trace)
            .delete_trace(&home(), name);
    }
    store.commit(transaction).await.unwrap();
    assert_eq!(store.kept_file(&home(), own).await.unwrap(), None);
    assert_eq!(
        store.kept_file(&home(), other).await.unwrap(),
        Some(file(other))
    );
}
