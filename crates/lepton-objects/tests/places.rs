//! Places and master keys: whose a place is, and how one master key takes over from another.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lepton_objects::{
    BackendConfig, Content, ContentError, ContentKey, Contents, ContentsConfig, KeyError,
    MasterWrapper, NewContent, OpenError, Rewrap,
};
use lepton_types::{Id, Name, Timestamp};
use object_store::memory::InMemory;

fn home() -> Name {
    Name::default_project()
}

fn owner(number: u8) -> Id {
    Id::from_parts(Timestamp::from_millis(1), [number; 10])
}

fn backends(folder: &Path) -> [BackendConfig; 2] {
    [
        BackendConfig::Local {
            root: folder.join("objects"),
        },
        BackendConfig::Store {
            store: Arc::new(InMemory::new()),
            prefix: "some/where".to_owned(),
        },
    ]
}

fn config(backend: &BackendConfig, key: u8, owner: Option<Id>) -> ContentsConfig {
    let wrapper = Arc::new(MasterWrapper::new([key; 32]));
    ContentsConfig {
        backend: backend.clone(),
        owner,
        inline_bytes_max: 0,
        ..ContentsConfig::local("".into(), wrapper)
    }
}

async fn keep(contents: &Contents) -> Content {
    let mut writer = contents
        .begin(&home(), NewContent::default())
        .await
        .unwrap();
    writer.write(Bytes::from_static(b"secret")).await.unwrap();
    writer.finish().await.unwrap().adopt()
}

async fn read(contents: &Contents, content: &Content) -> Result<Bytes, ContentError> {
    let key = ContentKey::Project;
    contents.read_all(&home(), content, &key, 100).await
}

#[tokio::test]
async fn a_place_is_of_the_index_that_claimed_it() {
    let folder = tempfile::tempdir().unwrap();
    for backend in backends(folder.path()) {
        let open = |id| Contents::open(config(&backend, 1, Some(owner(id))));
        let first = open(1).await.unwrap();
        assert!(first.is_new_and_empty().await.unwrap());
        keep(&first).await;
        assert!(!first.is_new_and_empty().await.unwrap());
        drop(first);
        let Err(OpenError::Claimed { owner: has, .. }) = open(2).await else {
            panic!("another index took the place");
        };
        assert_eq!(has, owner(1).to_string());
        assert!(!open(1).await.unwrap().is_new_and_empty().await.unwrap());
    }
}

#[tokio::test]
async fn a_replica_is_claimed_too() {
    let folder = tempfile::tempdir().unwrap();
    let [place, copy] = backends(folder.path());
    let of_other = Contents::open(config(&copy, 1, Some(owner(2))))
        .await
        .unwrap();
    keep(&of_other).await;
    let mut both = config(&place, 1, Some(owner(1)));
    both.replica = Some(copy);
    let refused = Contents::open(both).await;
    assert!(matches!(refused, Err(OpenError::Claimed { .. })));
}

#[tokio::test]
async fn another_master_key_takes_over_while_contents_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for backend in backends(folder.path()) {
        let contents = Contents::open(config(&backend, 1, None)).await.unwrap();
        let content = keep(&contents).await;
        let old = contents.wrappers().remove(0);
        let new = Arc::new(MasterWrapper::new([2; 32]));
        contents.wrap_with(new).await;
        assert_eq!(contents.wrappers()[1], old);
        assert_eq!(&read(&contents, &content).await.unwrap()[..], b"secret");
        assert_eq!(contents.rewrap(Rewrap::Foreign).await.unwrap(), 1);
        assert_eq!(contents.rewrap(Rewrap::Foreign).await.unwrap(), 0);
        assert_eq!(contents.rewrap(Rewrap::All).await.unwrap(), 1);
        let current = contents.wrappers().remove(0);
        contents.forget_wrapper(&old);
        // The one that wraps is never forgotten.
        contents.forget_wrapper(&current);
        assert_eq!(contents.wrappers(), std::slice::from_ref(&current));
        let kept = contents.kept_keys(&home()).await.unwrap();
        assert_eq!(kept[0].wrapped_by, Some(current));
        drop(contents);
        let contents = Contents::open(config(&backend, 2, None)).await.unwrap();
        assert_eq!(&read(&contents, &content).await.unwrap()[..], b"secret");
        drop(contents);
        let contents = Contents::open(config(&backend, 1, None)).await.unwrap();
        let refused = read(&contents, &content).await;
        assert!(matches!(
            refused,
            Err(ContentError::Key(KeyError::Wrap { .. }))
        ));
    }
}

#[tokio::test]
async fn what_is_shredded_is_shredded_in_the_replica() {
    let folder = tempfile::tempdir().unwrap();
    let [place, copy] = backends(folder.path());
    let mut both = config(&place, 1, None);
    both.replica = Some(copy.clone());
    let contents = Contents::open(both).await.unwrap();
    let content = keep(&contents).await;
    contents.rewrap(Rewrap::All).await.unwrap();
    let replica = Contents::open(config(&copy, 1, None)).await.unwrap();
    let live = replica.kept_keys(&home()).await.unwrap();
    assert!(live[0].wrapped_by.is_some());
    contents.shred_project(&home()).await.unwrap();
    let shredded = replica.kept_keys(&home()).await.unwrap();
    assert_eq!((shredded.len(), &shredded[0].wrapped_by), (1, &None));
    assert!(read(&contents, &content).await.is_err());
}
