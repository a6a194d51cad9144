//! On a runtime of many threads a lone writer commits where it stands, and the others go through the
//! queue: whichever way a transaction takes, it is done once and whole.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lepton_store::{CommitError, Store, StoreError, Transaction};
use lepton_types::resources::{MetricPoint, Resource, RunSpec};
use lepton_types::{Id, Name, RunId, Timestamp};

const RUN: [u8; 16] = [1; 16];

async fn with_run(folder: &tempfile::TempDir) -> Store {
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let at = Timestamp::from_millis(1);
    let spec = RunSpec::of(Id::from_bytes([2; 16]).into());
    let run = Resource::draft(
        Id::from_bytes(RUN),
        Name::default_project(),
        "run",
        at,
        spec,
    );
    let mut transaction = Transaction::new();
    transaction.create(&run);
    store.commit(transaction).await.unwrap();
    store
}

fn run() -> RunId {
    Id::from_bytes(RUN).into()
}

fn logs(writer: u32, number: u32) -> Transaction {
    let point = MetricPoint {
        key: format!("m{writer}"),
        step: i64::from(number),
        timestamp: Some(Timestamp::from_millis(1)),
        value: f64::from(number),
    };
    let mut transaction = Transaction::new();
    transaction
        .set_params(run(), vec![(format!("{writer}/{number}"), "x".to_owned())])
        .append_metrics(run(), vec![point]);
    transaction
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_once_and_alone_lose_nothing_and_see_what_they_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_run(&folder).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for number in 0..20 {
                store.commit(logs(writer, number)).await.unwrap();
                let seen = store.latest_metrics(run()).await.unwrap();
                let key = format!("m{writer}");
                let own = seen.iter().find(|point| point.key == key).unwrap();
                assert_eq!(own.step, i64::from(number));
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    for number in 20..40 {
        store.commit(logs(0, number)).await.unwrap();
    }
    assert_eq!(store.params(run()).await.unwrap().len(), 8 * 20 + 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_leave_are_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_run(&folder).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        writers.spawn(async move { store.commit(logs(writer, 0)).await });
    }
    writers.abort_all();
    while writers.join_next().await.is_some() {}
    store.commit(logs(99, 0)).await.unwrap();
    let params = store.params(run()).await.unwrap();
    assert!(params.iter().any(|(key, _)| key == "99/0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_takes_nothing_and_a_new_one_has_it_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_run(&folder).await;
    store.commit(logs(1, 1)).await.unwrap();
    store.close().await;
    let refused = store.commit(logs(1, 2)).await.unwrap_err();
    assert!(matches!(refused, CommitError::Store(StoreError::Closed)));
    // Nothing is left to be written from its log.
    let log = folder.path().join("store.db-wal");
    assert!(std::fs::metadata(log).map_or(0, |log| log.len()) == 0);
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    assert_eq!(store.params(run()).await.unwrap().len(), 1);
}
