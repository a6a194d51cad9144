//! Series as callers of the store see them: whatever was merged, retried, cut off or migrated, they read
//! back as a plain set of points.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lepton_store::{Axis, CurveQuery, Point, PointRange, Query, SeriesQuery, Store, Transaction};
use lepton_types::resources::{MetricPoint, Resource, Run, RunSpec};
use lepton_types::{Id, Name, RunId, Timestamp};
use proptest::prelude::*;

fn run_id(number: u8) -> RunId {
    Id::from_bytes([number; 16]).into()
}

fn run(number: u8) -> Run {
    let spec = RunSpec::of(Id::from_bytes([99; 16]).into());
    let project = Name::default_project();
    let at = Timestamp::from_millis(1);
    Resource::draft(
        run_id(number).id(),
        project,
        format!("run-{number}"),
        at,
        spec,
    )
}

fn point(key: &str, step: i64, at: i64, value: f64) -> MetricPoint {
    MetricPoint {
        key: key.to_owned(),
        step,
        timestamp: Some(Timestamp::from_millis(at)),
        value,
    }
}

fn wave(key: &str, steps: std::ops::Range<i64>) -> Vec<MetricPoint> {
    steps
        .map(|step| point(key, step, step * 10, (step as f64 / 50.0).sin()))
        .collect()
}

/// Adds points to a run, which is made if it is not there.
async fn append(store: &Store, run: RunId, points: &[MetricPoint]) {
    let known = store.get_by_id::<RunSpec>(run.id()).await.unwrap();
    let mut transaction = Transaction::new();
    if known.is_none() {
        transaction.create(&self::run(run.id().to_bytes()[0]));
    }
    transaction.append_metrics(run, points.to_vec());
    store.commit(transaction).await.unwrap();
}

async fn read(store: &Store, run: RunId, key: &str) -> Vec<Point> {
    let query = SeriesQuery::new(run, key, usize::MAX);
    store.series(query).await.unwrap().points
}

fn steps(points: &[Point]) -> Vec<i64> {
    points.iter().map(|point| point.step()).collect()
}

fn count(file: &Path, table: &str) -> u64 {
    let connection = rusqlite::Connection::open(file).unwrap();
    let sql = format!("SELECT COUNT(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn what_is_merged_reads_as_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let store = Store::open(&file).unwrap();
    let run = run_id(1);
    append(&store, run, &wave("loss", 0..40_000)).await;
    append(&store, run, &wave("acc", 0..7)).await;
    let before = read(&store, run, "loss").await;
    store.merge_series(run).await.unwrap();
    assert_eq!(count(&file, "metric_batches"), 0);
    assert_eq!(read(&store, run, "loss").await, before);
    assert_eq!(
        steps(&read(&store, run, "acc").await),
        [0, 1, 2, 3, 4, 5, 6]
    );

    // A retry of all of it, and one new point between.
    append(&store, run, &wave("loss", 0..40_000)).await;
    append(&store, run, &[point("loss", 20_000, 3, 0.5)]).await;
    assert_eq!(read(&store, run, "loss").await.len(), 40_001);
    store.merge_series(run).await.unwrap();
    assert_eq!(read(&store, run, "loss").await.len(), 40_001);

    store.close().await;
    let reopened = Store::open(&file).unwrap();
    assert_eq!(read(&reopened, run, "loss").await.len(), 40_001);
}

#[tokio::test]
async fn ranges_and_tokens_cut_a_series() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let run = run_id(1);
    append(&store, run, &wave("loss", 0..50_000)).await;
    store.merge_series(run).await.unwrap();
    append(&store, run, &wave("loss", 50_000..50_100)).await;

    let late = SeriesQuery {
        range: PointRange {
            from_step: Some(30_000),
            to_time: Some(Timestamp::from_millis(300_040)),
            ..PointRange::default()
        },
        ..SeriesQuery::new(run, "loss", 100)
    };
    let page = store.series(late).await.unwrap();
    assert_eq!(
        steps(&page.points),
        [30_000, 30_001, 30_002, 30_003, 30_004]
    );
    assert_eq!(page.next, None);

    let mut query = SeriesQuery::new(run, "loss", 9_999);
    let mut all = Vec::new();
    loop {
        let page = store.series(query.clone()).await.unwrap();
        all.extend(steps(&page.points));
        match page.next {
            Some(next) => query.after = Point::from_token(&next.to_token()),
            None => break,
        }
    }
    assert!(all.into_iter().eq(0..50_100));
    let skipped = SeriesQuery {
        offset: 50_098,
        ..SeriesQuery::new(run, "loss", 10)
    };
    let page = store.series(skipped).await.unwrap();
    assert_eq!(steps(&page.points), [50_098, 50_099]);
}

#[tokio::test]
async fn a_curve_has_the_one_peak_of_many_points() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let run = run_id(1);
    append(&store, run, &wave("loss", 0..100_000)).await;
    append(
        &store,
        run,
        &[
            point("loss", 61_234, 1, 77.0),
            point("loss", 9, 1, f64::NAN),
        ],
    )
    .await;
    for merged in [false, true] {
        if merged {
            store.merge_series(run).await.unwrap();
        }
        for axis in [Axis::Step, Axis::Time] {
            let query = CurveQuery {
                run,
                key: "loss".to_owned(),
                range: PointRange::default(),
                axis,
                points_max: 400,
            };
            let curve = store.curve(query).await.unwrap();
            assert!(curve.len() > 200 && curve.len() <= 400, "{}", curve.len());
            assert!(curve.iter().any(|point| point.value() == 77.0));
            assert_eq!(
                (curve[0].step(), curve[curve.len() - 1].step()),
                (0, 99_999)
            );
        }
    }
    let short = CurveQuery {
        run,
        key: "loss".to_owned(),
        range: PointRange {
            to_step: Some(9),
            ..PointRange::default()
        },
        axis: Axis::Step,
        points_max: 400,
    };
    assert_eq!(
        store.curve(short).await.unwrap().len(),
        11,
        "few points come whole"
    );
    let none = CurveQuery {
        run,
        key: "no such".to_owned(),
        range: PointRange::default(),
        axis: Axis::Step,
        points_max: 400,
    };
    assert!(store.curve(none).await.unwrap().is_empty());
}

/// However much is stored: an append, retried or not, looks at none of it.
#[tokio::test]
async fn an_append_reads_no_history() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let store = Store::open(&file).unwrap();
    let run = run_id(1);
    append(&store, run, &wave("loss", 0..20_000)).await;
    store.merge_series(run).await.unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    let broken = connection.execute("UPDATE metric_blocks SET summary = x'ff', body = x'ff'", []);
    assert_eq!(broken.unwrap(), 2);
    append(&store, run, &wave("loss", 0..1_000)).await;
    append(&store, run, &wave("loss", 20_000..20_010)).await;
    assert_eq!(store.latest_metrics(run).await.unwrap()[0].step, 20_009);
    let query = SeriesQuery::new(run, "loss", 10);
    let refused = store.series(query).await.unwrap_err().to_string();
    assert_eq!(refused, "stored points of a metric cannot be read back");
    assert!(store.merge_series(run).await.is_err());
    assert_eq!(
        count(&file, "metric_batches"),
        2,
        "what cannot be merged is kept"
    );
}

#[tokio::test]
async fn the_latest_is_of_the_greatest_step_then_time_then_value() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let run = run_id(1);
    append(
        &store,
        run,
        &[point("m", 5, 10, 1.0), point("m", 5, 10, 3.0)],
    )
    .await;
    append(
        &store,
        run,
        &[point("m", 5, 9, 9.0), point("m", 4, 99, -4.0)],
    )
    .await;
    append(
        &store,
        run,
        &[point("m", 5, 10, 2.0), point("nan", 0, 0, f64::NAN)],
    )
    .await;
    let standings = store.metric_standings(run).await.unwrap();
    let m = &standings[0];
    assert_eq!((m.key.as_str(), m.latest.value()), ("m", 3.0));
    assert_eq!((m.lowest, m.highest), (Some(-4.0), Some(9.0)));
    assert_eq!(standings[1].lowest, None);
    assert!(standings[1].latest.value().is_nan());
    assert_eq!(store.latest_metrics(run).await.unwrap()[0].value, 3.0);
}

#[tokio::test]
async fn a_deleted_run_leaves_nothing_and_its_id_can_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let store = Store::open(&file).unwrap();
    let id = run_id(1);
    for merged in [false, true] {
        let mut create = Transaction::new();
        create.create(&run(1));
        store.commit(create).await.unwrap();
        append(&store, id, &wave("loss", 0..1_000)).await;
        if merged {
            store.merge_series(id).await.unwrap();
        }
        let page = store.list::<RunSpec>(Query::default()).await.unwrap();
        let mut delete = Transaction::new();
        delete.delete(&page.items[0]);
        store.commit(delete).await.unwrap();
        assert!(read(&store, id, "loss").await.is_empty());
        assert!(store.latest_metrics(id).await.unwrap().is_empty());
    }
    append(&store, id, &wave("loss", 5..8)).await;
    assert_eq!(steps(&read(&store, id, "loss").await), [5, 6, 7]);
    store.merge_series(id).await.unwrap();
    assert_eq!(steps(&read(&store, id, "loss").await), [5, 6, 7]);
    assert_eq!(count(&file, "metric_series"), 1);
    assert_eq!(count(&file, "metric_blocks"), 1);
    assert_eq!(count(&file, "metric_batches"), 0);
}

#[tokio::test]
async fn many_writers_and_a_merge_beside_them_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    append(&store, run_id(1), &[]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            for batch in 0..40 {
                let first = (batch * 8 + writer) * 50;
                let points = wave("loss", first..first + 50);
                append(&store, run_id(1), &points).await;
                // As a client does that did not hear the answer.
                append(&store, run_id(1), &points).await;
                if batch % 7 == writer % 7 {
                    store.merge_series(run_id(1)).await.unwrap();
                }
                let so_far = read(&store, run_id(1), "loss").await;
                assert!(so_far.iter().any(|point| point.step() == first));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(
        steps(&read(&store, run_id(1), "loss").await)
            .into_iter()
            .eq(0..16_000)
    );
}

/// As schema 3 had it.
const OLD: &str = "
    DROP TABLE metric_latest; DROP TABLE metric_series; DROP TABLE metric_batches;
    DROP TABLE metric_blocks; DROP TABLE traces; DROP TABLE trace_spans;
    DROP TABLE run_files; DROP TRIGGER run_files_gone; DROP INDEX run_index_name; DROP INDEX run_params_value; DROP INDEX run_tags_value;
    DROP INDEX run_models_model; DROP INDEX run_datasets_experiment; DROP INDEX logged_models_binned;
    CREATE TABLE metric_points (
        run BLOB NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
        value INTEGER NOT NULL, PRIMARY KEY (run, key, step, at, value)
    ) WITHOUT ROWID;
    CREATE TABLE metric_latest (
        run BLOB NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
        value INTEGER NOT NULL, number REAL, PRIMARY KEY (run, key)
    ) WITHOUT ROWID;
    PRAGMA user_version = 3;";

#[tokio::test]
async fn rows_of_an_older_store_become_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    Store::open(&file).unwrap().close().await;
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch(OLD).unwrap();
    let mut expected: BTreeMap<(u8, &str), BTreeSet<Point>> = BTreeMap::new();
    let transaction = connection.unchecked_transaction().unwrap();
    for run in [1, 2] {
        for (key, count) in [("a", 70_000_i64), ("b", 3)] {
            for step in 0..count {
                for value in [step as f64, f64::NAN, -1.0] {
                    let bits = value.to_bits().cast_signed();
                    let run_id = [run; 16];
                    connection
                        .prepare_cached("INSERT INTO metric_points VALUES (?1, ?2, ?3, 7, ?4)")
                        .unwrap()
                        .execute(rusqlite::params![run_id, key, step / 2, bits])
                        .ok();
                    let point = Point::new(step / 2, Timestamp::from_millis(7), value);
                    expected.entry((run, key)).or_default().insert(point);
                }
            }
        }
    }
    transaction.commit().unwrap();
    drop(connection);

    // What an upgrade that was cut off left.
    let backup = folder.path().join("store.schema-3.backup");
    std::fs::write(folder.path().join("store.schema-3.backup.partial"), "half").unwrap();
    let store = Store::open(&file).unwrap();
    let mode = std::fs::metadata(&backup).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let old = rusqlite::Connection::open(&backup).unwrap();
    let rows: i64 = old
        .query_row("SELECT count(*) FROM metric_points", [], |row| row.get(0))
        .unwrap();
    assert!(rows > 200_000, "{rows}");
    for ((run, key), points) in expected {
        let found = read(&store, run_id(run), key).await;
        assert!(found.iter().eq(&points), "{run} {key}");
    }
    let standing = &store.metric_standings(run_id(1)).await.unwrap()[0];
    assert_eq!(
        (standing.lowest, standing.highest),
        (Some(-1.0), Some(69_999.0))
    );
    assert_eq!(standing.latest.value(), 69_999.0);
}

#[derive(Debug, Clone)]
enum Act {
    Append(Vec<(u8, i64, i64, i8)>),
    Retry,
    Merge,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let point = (0..3_u8, 0..40_i64, 0..3_i64, -2..3_i8);
    prop_oneof![
        4 => prop::collection::vec(point, 1..20).prop_map(Act::Append),
        2 => Just(Act::Retry),
        2 => Just(Act::Merge),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_is_a_set_of_points(acts in prop::collection::vec(act(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("store.db");
            let mut store = Store::open(&file).unwrap();
            let mut expected: BTreeMap<u8, BTreeSet<Point>> = BTreeMap::new();
            let mut last = Vec::new();
            for act in acts {
                match act {
                    Act::Append(points) => {
                        last.clear();
                        for (key, step, at, value) in points {
                            let value = if value == 2 { f64::NAN } else { f64::from(value) };
                            last.push(point(&key.to_string(), step, at, value));
                            let at = Timestamp::from_millis(at);
                            let point = Point::new(step, at, value);
                            expected.entry(key).or_default().insert(point);
                        }
                        append(&store, run_id(1), &last).await;
                    }
                    Act::Retry => append(&store, run_id(1), &last).await,
                    Act::Merge => store.merge_series(run_id(1)).await.unwrap(),
                    Act::Reopen => {
                        store.close().await;
                        store = Store::open(&file).unwrap();
                    }
                }
            }
            for (key, points) in expected {
                let found = read(&store, run_id(1), &key.to_string()).await;
                prop_assert!(found.iter().eq(&points), "{found:?} {points:?}");
            }
            Ok(())
        })?;
    }
}
