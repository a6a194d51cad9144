//! What every backend of the store must do. Each check takes a fresh store.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lepton_store::{
    CommitError, Comparison, Conflict, EventDraft, EventQuery, LineageQuery, MetricFilter, Query,
    SeriesQuery, Store, Transaction,
};
use lepton_types::resources::{
    EventSeverity, Kind, LineageEdge, LineageNode, LineageRelation, MetricPoint, Project,
    ProjectSpec, Resource, Run, RunPhase, RunSpec,
};
use lepton_types::{Id, Name, RunId, Timestamp};

fn id(number: u8) -> Id {
    Id::from_parts(Timestamp::from_millis(i64::from(number)), [number; 10])
}

fn project(number: u8, name: &str) -> Project {
    let home = Name::default_project();
    Resource::draft(
        id(number),
        home,
        name,
        Timestamp::from_millis(1),
        ProjectSpec::default(),
    )
}

fn run(number: u8, experiment: u8) -> Run {
    let spec = RunSpec::of(id(experiment).into());
    let at = Timestamp::from_millis(i64::from(number));
    Resource::draft(
        id(number),
        Name::default_project(),
        format!("run-{number}"),
        at,
        spec,
    )
}

fn point(key: &str, step: i64, value: f64) -> MetricPoint {
    MetricPoint {
        key: key.to_owned(),
        step,
        timestamp: Some(Timestamp::from_millis(step)),
        value,
    }
}

async fn create_all(store: &Store, runs: &[Run]) {
    let mut transaction = Transaction::new();
    for run in runs {
        transaction.create(run);
    }
    store.commit(transaction).await.unwrap();
}

#[tokio::test]
async fn a_name_is_taken_once_and_a_stale_update_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let mut create = Transaction::new();
    create.create(&project(1, "a"));
    store.commit(create).await.unwrap();

    let mut again = Transaction::new();
    again.create(&project(2, "b")).create(&project(3, "a"));
    let refused = store.commit(again).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CommitError::Conflict(Conflict::AlreadyExists { .. })
        ),
        "{refused:?}"
    );
    let home = Name::default_project();
    assert!(
        store
            .get::<ProjectSpec>(&home, "b")
            .await
            .unwrap()
            .is_none(),
        "half a transaction"
    );

    let seen = store.get::<ProjectSpec>(&home, "a").await.unwrap().unwrap();
    let mut first = seen.clone();
    first.spec.description = "first".to_owned();
    let mut update = Transaction::new();
    update.update(&first);
    store.commit(update).await.unwrap();
    let mut second = seen;
    second.spec.description = "second".to_owned();
    let mut stale = Transaction::new();
    stale.update(&second);
    let refused = store.commit(stale).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::Conflict(Conflict::Changed { .. })),
        "{refused:?}"
    );
    let stored = store
        .get_by_id::<ProjectSpec>(id(1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.spec.description, "first");
}

#[tokio::test]
async fn lists_filter_order_and_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let mut runs: Vec<Run> = (1..=9)
        .map(|number| run(number, 100 + number % 2))
        .collect();
    runs[4].status.phase = RunPhase::Failed;
    create_all(&store, &runs).await;

    let names = |page: &[Run]| {
        page.iter()
            .map(|run| run.metadata.name.clone())
            .collect::<Vec<_>>()
    };
    let odd = Query {
        group: Some(id(101)),
        limit: 3,
        ..Query::default()
    };
    let first = store.list::<RunSpec>(odd.clone()).await.unwrap();
    assert_eq!(names(&first.items), ["run-1", "run-3", "run-5"]);
    let rest = store
        .list::<RunSpec>(Query {
            after: first.next,
            ..odd
        })
        .await
        .unwrap();
    assert_eq!(names(&rest.items), ["run-7", "run-9"]);
    assert_eq!(rest.next, None);

    let failed = Query {
        phases: vec!["FAILED"],
        ..Query::project(&Name::default_project())
    };
    assert_eq!(
        names(&store.list_all::<RunSpec>(failed).await.unwrap()),
        ["run-5"]
    );
    let newest = Query {
        newest_first: true,
        limit: 1,
        ..Query::default()
    };
    assert_eq!(
        names(&store.list::<RunSpec>(newest).await.unwrap().items),
        ["run-9"]
    );
}

#[tokio::test]
async fn deleting_an_owner_takes_along_what_it_owns_and_the_feed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let child = run(2, 9).owned_by(Kind::Run, id(1));
    let grandchild = run(3, 9).owned_by(Kind::Run, id(2));
    create_all(&store, &[run(1, 9), child, grandchild, run(4, 9)]).await;
    let before = *store.subscribe().borrow();

    let owner = store.get_by_id::<RunSpec>(id(1)).await.unwrap().unwrap();
    let mut delete = Transaction::new();
    delete.delete(&owner);
    store.commit(delete).await.unwrap();

    let left = store.list_all::<RunSpec>(Query::default()).await.unwrap();
    assert_eq!(
        left.iter().map(|run| run.metadata.id).collect::<Vec<_>>(),
        [id(4)]
    );
    let changes = store.changes(before, 100).await.unwrap();
    let mut gone: Vec<Id> = changes.iter().map(|change| change.id).collect();
    gone.sort();
    assert_eq!(gone, [id(1), id(2), id(3)]);
    assert!(changes.iter().all(|change| change.resource.is_none()));
}

#[tokio::test]
async fn series_keep_every_value_and_a_retry_adds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    create_all(&store, &[run(1, 9)]).await;
    let run = RunId::from(id(1));
    let points = vec![
        point("loss", 1, f64::NAN),
        point("loss", 0, f64::INFINITY),
        point("acc", 5, -0.0),
    ];
    for _ in 0..2 {
        let mut append = Transaction::new();
        append.append_metrics(run, points.clone());
        store.commit(append).await.unwrap();
    }
    let query = SeriesQuery::new(run, "loss", 10);
    let series = store.series(query).await.unwrap().points;
    assert_eq!(
        series.iter().map(|point| point.step()).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(series[0].value().is_infinite() && series[1].value().is_nan());
    for (bound, found) in [(0.0, 1), (0.1, 0)] {
        let filter = MetricFilter {
            key: "acc".to_owned(),
            comparison: Comparison::AtLeast,
            value: bound,
        };
        let runs = store
            .list_run_records(Query::default(), Some(filter))
            .await
            .unwrap();
        assert_eq!(runs.items.len(), found, "acc >= {bound}");
    }
    let latest = store.latest_metrics(run).await.unwrap();
    assert_eq!(
        latest
            .iter()
            .map(|point| (point.key.as_str(), point.step))
            .collect::<Vec<_>>(),
        [("acc", 5), ("loss", 1)]
    );
}

#[tokio::test]
async fn parameters_are_written_once_and_tags_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    create_all(&store, &[run(1, 9)]).await;
    let run = RunId::from(id(1));
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    for _ in 0..2 {
        let mut set = Transaction::new();
        set.set_params(run, pair("lr", "0.1"))
            .set_tags(run, pair("stage", "one"));
        store.commit(set).await.unwrap();
    }
    let mut other = Transaction::new();
    other
        .set_tags(run, pair("stage", "two"))
        .set_params(run, pair("lr", "0.2"));
    let refused = store.commit(other).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CommitError::Conflict(Conflict::ParamChanged { .. })
        ),
        "{refused:?}"
    );
    assert_eq!(
        store.tags(run).await.unwrap(),
        pair("stage", "one"),
        "half a transaction"
    );
    assert_eq!(store.params(run).await.unwrap(), pair("lr", "0.1"));
}

#[tokio::test]
async fn concurrent_writers_all_land_and_versions_never_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let store = Store::open(&file).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut create = Transaction::new();
            create.create(&run(number, 9));
            store.commit(create).await.unwrap()
        });
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 200);
    store.close().await;

    let reopened = Store::open(&file).unwrap();
    assert_eq!(
        reopened
            .list_all::<RunSpec>(Query::default())
            .await
            .unwrap()
            .len(),
        200
    );
    assert_eq!(*reopened.subscribe().borrow(), *versions.last().unwrap());
}

#[tokio::test]
async fn events_are_numbered_and_filtered() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    for number in 1..=3 {
        let mut record = Transaction::new();
        record.event(EventDraft {
            at: Timestamp::from_millis(i64::from(number)),
            project: Name::default_project(),
            kind: Kind::Job,
            id: id(number),
            name: format!("job-{number}"),
            severity: EventSeverity::Warning,
            reason: "Failed".to_owned(),
            message: "exited with status 1".to_owned(),
        });
        store.commit(record).await.unwrap();
    }
    let all = store
        .events(EventQuery {
            limit: 10,
            ..EventQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(
        all.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let newest = EventQuery {
        newest: true,
        limit: 1,
        ..EventQuery::default()
    };
    assert_eq!(store.events(newest).await.unwrap()[0].name, "job-3");
    let about = EventQuery {
        about: Some(id(2)),
        limit: 10,
        ..EventQuery::default()
    };
    assert_eq!(store.events(about).await.unwrap().len(), 1);
}

#[tokio::test]
async fn numbers_beyond_the_end_find_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    create_all(&store, &[run(1, 9)]).await;
    assert!(store.changes(u64::MAX, 10).await.unwrap().is_empty());
    let beyond = SeriesQuery {
        offset: u64::MAX,
        ..SeriesQuery::new(RunId::from(id(1)), "loss", 10)
    };
    assert!(store.series(beyond).await.unwrap().points.is_empty());
}

#[tokio::test]
async fn only_its_owner_reads_the_files_of_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(&file).unwrap();
    create_all(&store, &[run(1, 9)]).await;
    let mut modes = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        modes.push((
            entry.file_name(),
            entry.metadata().unwrap().permissions().mode() & 0o777,
        ));
    }
    assert!(
        modes.len() >= 2 && modes.iter().all(|(_, mode)| *mode == 0o600),
        "{modes:?}"
    );
}

#[tokio::test]
async fn a_store_of_a_newer_lepton_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    Store::open(&file).unwrap().close().await;
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = Store::open(&file).err().unwrap().to_string();
    assert!(refused.contains("schema 99"), "{refused}");
}

fn node(kind: Kind, number: u8) -> LineageNode {
    LineageNode {
        kind,
        id: id(number),
        name: format!("{kind}-{number}"),
    }
}

fn edge(from: LineageNode, relation: LineageRelation, to: LineageNode, at: i64) -> LineageEdge {
    LineageEdge {
        from,
        relation,
        to,
        first_at: Timestamp::from_millis(at),
        last_at: Timestamp::from_millis(at),
        requests: 2,
    }
}

#[tokio::test]
async fn lineage_is_walked_both_ways_and_counts_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let home = Name::default_project();
    let data = node(Kind::DatasetVersion, 1);
    let (fit, other) = (node(Kind::Run, 2), node(Kind::Run, 3));
    let model = node(Kind::ModelVersion, 4);
    let endpoint = node(Kind::Endpoint, 5);
    let served = |at| {
        edge(
            model.clone(),
            LineageRelation::ServedBy,
            endpoint.clone(),
            at,
        )
    };
    let mut transaction = Transaction::new();
    transaction
        .link(
            &home,
            edge(data.clone(), LineageRelation::ReadBy, fit.clone(), 1),
        )
        .link(
            &home,
            edge(data.clone(), LineageRelation::ReadBy, other.clone(), 1),
        )
        .link(
            &home,
            edge(fit.clone(), LineageRelation::Made, model.clone(), 2),
        )
        // A circle, which no honest history has, ends the walk all the same.
        .link(
            &home,
            edge(model.clone(), LineageRelation::ReadBy, fit.clone(), 3),
        )
        .link(&home, served(5))
        .link(&home, served(9))
        // Ready to answer again, and not asked.
        .link(
            &home,
            LineageEdge {
                requests: 0,
                ..served(99)
            },
        );
    store.commit(transaction).await.unwrap();

    let ask = async |of: &LineageNode, backward| {
        let (project, of) = (home.clone(), of.id);
        let query = LineageQuery {
            project,
            of,
            backward,
            forward: !backward,
        };
        store.lineage(query).await.unwrap()
    };
    let past = ask(&endpoint, true).await;
    assert_eq!(past.len(), 4, "{past:?}");
    assert_eq!((past[0].requests, past[0].first_at, past[0].last_at), {
        (4, Timestamp::from_millis(5), Timestamp::from_millis(9))
    });
    assert!(
        past.iter().all(|edge| edge.to != other),
        "nothing beside the line"
    );
    let future = ask(&data, false).await;
    assert_eq!(future.len(), 5, "{future:?}");
    let elsewhere = LineageQuery {
        project: "other".parse().unwrap(),
        of: data.id,
        backward: true,
        forward: true,
    };
    assert!(store.lineage(elsewhere).await.unwrap().is_empty());
}
