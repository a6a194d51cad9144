//! Files of runs, and those that clients keep: listed, refused, brought along from an older store.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lepton_store::{CommitError, Conflict, Store, Transaction};
use lepton_types::resources::{BlobDigest, FileEntry, Resource, Run, RunSpec};
use lepton_types::tracking::KeptFile;
use lepton_types::{Id, Name, RunId, Timestamp};

fn id(number: u8) -> Id {
    Id::from_bytes([number; 16])
}

fn file(path: &str) -> FileEntry {
    FileEntry {
        path: path.to_owned(),
        digest: BlobDigest::from_bytes([7; 32]),
        size_bytes: 1,
    }
}

async fn with_run(folder: &tempfile::TempDir) -> (Store, Run) {
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let at = Timestamp::from_millis(1);
    let spec = RunSpec::of(id(200).into());
    let run = Resource::draft(id(1), Name::default_project(), "one", at, spec);
    let mut transaction = Transaction::new();
    transaction.create(&run);
    store.commit(transaction).await.unwrap();
    let run = store.get_by_id::<RunSpec>(id(1)).await.unwrap().unwrap();
    (store, run)
}

async fn keep(store: &Store, path: &str, most: usize) -> Result<(), Conflict> {
    let mut transaction = Transaction::new();
    transaction.keep_run_file(id(1).into(), file(path), most);
    match store.commit(transaction).await {
        Ok(_) => Ok(()),
        Err(CommitError::Conflict(conflict)) => Err(conflict),
        Err(CommitError::Store(error)) => panic!("{error}"),
    }
}

async fn paths(store: &Store, run: RunId, below: &str) -> Vec<String> {
    let files = store.run_files(run, below).await.unwrap();
    files.into_iter().map(|file| file.path).collect()
}

#[tokio::test]
async fn a_path_is_a_file_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = with_run(&folder).await;
    for path in ["a/b", "a-b", "a/c/d", "ab"] {
        keep(&store, path, 10).await.unwrap();
    }
    // Over itself it may be written.
    keep(&store, "a/b", 4).await.unwrap();
    for (path, in_the_way) in [
        ("a", "a"),
        ("a/c", "a/c"),
        ("a/b/c", "a/b"),
        ("ab/x/y", "ab"),
    ] {
        let path_of = |path: &str| Conflict::FileInTheWay {
            path: path.to_owned(),
        };
        assert_eq!(keep(&store, path, 10).await, Err(path_of(in_the_way)));
    }
    assert_eq!(
        keep(&store, "one-more", 4).await,
        Err(Conflict::TooManyFiles { most: 4 })
    );

    let run = RunId::from(id(1));
    assert_eq!(paths(&store, run, "").await, ["a-b", "a/b", "a/c/d", "ab"]);
    assert_eq!(paths(&store, run, "a").await, ["a/b", "a/c/d"]);
    assert_eq!(paths(&store, run, "a/b").await, ["a/b"]);
    let children = store.run_children(run, "", 10).await.unwrap();
    let child = |name: &str, size| (name.to_owned(), size);
    assert_eq!(
        children,
        [
            child("a", None),
            child("a-b", Some(1)),
            child("ab", Some(1))
        ]
    );

    let mut transaction = Transaction::new();
    transaction.drop_run_files(run, "a");
    store.commit(transaction).await.unwrap();
    assert_eq!(paths(&store, run, "").await, ["a-b", "ab"]);
    keep(&store, "a", 10).await.unwrap();
}

#[tokio::test]
async fn files_go_with_their_run_and_do_not_touch_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let (store, run) = with_run(&folder).await;
    keep(&store, "a", 10).await.unwrap();
    let after = store.get_by_id::<RunSpec>(id(1)).await.unwrap().unwrap();
    assert_eq!(after, run);
    assert_eq!(store.all_run_digests().await.unwrap().len(), 1);

    let mut transaction = Transaction::new();
    transaction.delete(&run);
    store.commit(transaction).await.unwrap();
    assert_eq!(store.all_run_digests().await.unwrap(), []);
    assert_eq!(paths(&store, id(1).into(), "").await, Vec::<String>::new());
}

#[tokio::test]
async fn kept_files_have_one_owner_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let kept = |path: &str| KeptFile {
        project: Name::default_project(),
        path: path.to_owned(),
        digest: BlobDigest::from_bytes([7; 32]),
        size_bytes: 1,
    };
    let mut transaction = Transaction::new();
    transaction
        .keep_file(kept("m/MLmodel"))
        .keep_file(kept("m"));
    let refused = store.commit(transaction).await.unwrap_err();
    assert!(matches!(
        refused,
        CommitError::Conflict(Conflict::FileInTheWay { .. })
    ));
}

#[tokio::test]
async fn an_older_store_brings_the_files_of_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let old = rusqlite::Connection::open(&file).unwrap();
    old.execute_batch(include_str!("schema-6.sql")).unwrap();
    let (one, two): (String, String) = old
        .query_row(
            "SELECT MIN(lower(hex(run))), MAX(lower(hex(run))) FROM run_index",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(old);

    let store = Store::open(&file).unwrap();
    assert!(folder.path().join("store.schema-6.backup").exists());
    let (one, two): (RunId, RunId) = (one.parse().unwrap(), two.parse().unwrap());
    assert_eq!(
        paths(&store, one, "").await,
        ["a.txt", "c d.txt", "plots/b.png"]
    );
    assert_eq!(paths(&store, two, "").await, Vec::<String>::new());
    let found = store.run_file(one, "plots/b.png").await.unwrap().unwrap();
    assert_eq!(found.size_bytes, 17);
    // What else was known of them is as it was.
    let run = store.get_by_id::<RunSpec>(one.id()).await.unwrap().unwrap();
    assert_eq!(
        (run.metadata.name.as_str(), run.metadata.resource_version),
        ("one", 8)
    );
    assert_eq!(store.params(one).await.unwrap().len(), 1);
    assert_eq!(store.latest_metrics(one).await.unwrap()[0].value, 1.5);
    store.close().await;
    let connection = rusqlite::Connection::open(&file).unwrap();
    let left: i64 = connection
        .query_row(
            "SELECT COUNT(*) FROM resources WHERE body LIKE '%artifacts%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}
