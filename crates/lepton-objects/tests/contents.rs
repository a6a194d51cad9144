//! One conformance suite for every place that contents may be kept in.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

mod index;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use index::MemoryIndex;
use lepton_objects::disk::SimulatedDisk;
use lepton_objects::{
    BackendConfig, Content, ContentError, ContentKey, Contents, ContentsConfig, CustomerKey,
    CustomerKeyError, Damage, DigestKind, DigestSet, KeyError, MasterWrapper, NewContent,
    OpenError, Progress, RemoteConfig, Rewrap,
};
use lepton_types::{IdSource, Name, SystemIds};
use object_store::memory::InMemory;
use proptest::prelude::*;

fn home() -> Name {
    Name::default_project()
}

fn config(backend: BackendConfig) -> ContentsConfig {
    ContentsConfig {
        backend,
        ..ContentsConfig::local(PathBuf::new(), Arc::new(MasterWrapper::new([1; 32])))
    }
}

/// Every backend, each empty; the folder lives as long as the test. `LEPTON_TEST_OBJECT_SERVICE`
/// adds a real service: `s3://BUCKET KEY=VALUE …`, with the options of `RemoteConfig`.
fn backends() -> (tempfile::TempDir, Vec<BackendConfig>) {
    let folder = tempfile::tempdir().unwrap();
    let mut backends = vec![
        BackendConfig::Local {
            root: folder.path().join("objects"),
        },
        BackendConfig::Disk {
            disk: Arc::new(SimulatedDisk::new(1)),
            root: PathBuf::from("/objects"),
        },
        BackendConfig::Store {
            store: Arc::new(InMemory::new()),
            prefix: "some/where".to_owned(),
        },
    ];
    if let Ok(service) = std::env::var("LEPTON_TEST_OBJECT_SERVICE") {
        let mut words = service.split_whitespace();
        let place = SystemIds.next_id();
        let url = format!("{}/{place}", words.next().unwrap());
        let options = words.map(|word| {
            let (key, value) = word.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        });
        let options = options.collect();
        backends.push(BackendConfig::Remote(RemoteConfig { url, options }));
    }
    (folder, backends)
}

async fn each(test: impl AsyncFn(Contents)) {
    let (_folder, backends) = backends();
    for backend in backends {
        test(Contents::open(config(backend)).await.unwrap()).await;
    }
}

fn plain(size: usize) -> Bytes {
    (0..size).map(|i| ((i * 31) >> 3) as u8).collect()
}

async fn keep(contents: &Contents, new: NewContent, bytes: &Bytes) -> Content {
    let body = stream::iter([Ok::<_, ContentError>(bytes.clone())]);
    let staged = contents.put(&home(), new, body).await.unwrap();
    staged.adopt()
}

async fn put(contents: &Contents, bytes: &Bytes) -> Content {
    keep(contents, NewContent::default(), bytes).await
}

async fn get(contents: &Contents, content: &Content) -> Result<Bytes, ContentError> {
    let key = ContentKey::Project;
    contents.read_all(&home(), content, &key, u64::MAX).await
}

const MIB: usize = 1 << 20;

#[tokio::test]
async fn what_was_put_reads_back_at_every_length_where_the_way_of_writing_changes() {
    each(async |contents| {
        for size in [
            0,
            1,
            16 << 10,
            (16 << 10) + 1,
            64 << 10,
            (64 << 10) + 1,
            MIB,
            MIB + 1,
            2 * MIB,
            5 * MIB + 7,
            18 * MIB,
        ] {
            let bytes = plain(size);
            let content = put(&contents, &bytes).await;
            assert_eq!(content.size_bytes, size as u64);
            assert_eq!(content.inline.is_some(), size <= 16 << 10, "{size}");
            assert!(get(&contents, &content).await.unwrap() == bytes, "{size}");
            contents.verify(&home(), &content).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn digests_are_those_of_the_plain_bytes_on_every_way() {
    let all = [
        DigestKind::Md5,
        DigestKind::Sha1,
        DigestKind::Sha256,
        DigestKind::Crc32,
        DigestKind::Crc32c,
        DigestKind::Crc64Nvme,
    ];
    let digests = all.into_iter().fold(DigestSet::NONE, DigestSet::with);
    let (_folder, mut backends) = backends();
    let contents = Contents::open(config(backends.remove(0))).await.unwrap();
    for size in [10, 100_000, 3 * MIB + 1] {
        let bytes = plain(size);
        let mut writer = contents
            .begin(
                &home(),
                NewContent {
                    digests,
                    ..NewContent::default()
                },
            )
            .await
            .unwrap();
        writer.write(bytes.clone()).await.unwrap();
        let staged = writer.finish().await.unwrap();
        let sha256 = lepton_objects::digest_of(&bytes).to_string();
        let found = staged.digests().sha256.unwrap();
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, sha256);
        assert!(staged.digests().md5.is_some() && staged.digests().crc64nvme.is_some());
        staged.discard().await;
    }
}

#[tokio::test]
async fn a_content_that_is_too_long_or_dropped_or_whose_body_fails_leaves_nothing() {
    each(async |contents| {
        for size in [10, 100_000, 4 * MIB] {
            let new = NewContent {
                size_bytes_max: size as u64 - 1,
                ..NewContent::default()
            };
            let mut writer = contents.begin(&home(), new).await.unwrap();
            let refused = writer.write(plain(size)).await;
            assert!(matches!(refused, Err(ContentError::TooLarge { .. })));
            let mut writer = contents
                .begin(&home(), NewContent::default())
                .await
                .unwrap();
            writer.write(plain(size)).await.unwrap();
            drop(writer);
            let body = stream::iter([Ok(plain(size)), Err(ContentError::StorageFull)]);
            let refused = contents.put(&home(), NewContent::default(), body).await;
            assert!(matches!(refused, Err(ContentError::StorageFull)));
        }
        let index = MemoryIndex::default();
        assert_eq!(contents.sweep(&home(), &index).await.unwrap().seen, 0);
    })
    .await;
}

#[tokio::test]
async fn a_customers_content_opens_with_its_key_only() {
    each(async |contents| {
        let key = |byte| ContentKey::Customer(CustomerKey::new([byte; 32]));
        for size in [5, 200_000] {
            let bytes = plain(size);
            let new = NewContent {
                key: key(1),
                ..NewContent::default()
            };
            let customers = keep(&contents, new, &bytes).await;
            let ours = put(&contents, &bytes).await;
            let read = contents
                .read_all(&home(), &customers, &key(1), u64::MAX)
                .await;
            assert_eq!(read.unwrap(), bytes);
            contents.verify(&home(), &customers).await.unwrap();
            for (content, key, expected) in [
                (&customers, key(2), CustomerKeyError::Wrong),
                (&customers, ContentKey::Project, CustomerKeyError::Missing),
                (&ours, key(1), CustomerKeyError::NotUsed),
            ] {
                let refused = contents.check_key(&home(), content, &key).await;
                assert!(matches!(refused, Err(ContentError::CustomerKey(e)) if e == expected));
                let read = contents.read_all(&home(), content, &key, u64::MAX).await;
                assert!(matches!(read, Err(ContentError::CustomerKey(e)) if e == expected));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_sweep_takes_what_nobody_names_and_nobody_still_holds() {
    each(async |contents| {
        let index = MemoryIndex::default();
        let named = put(&contents, &plain(100_000)).await;
        index.record(&home(), named.clone());
        let orphan = put(&contents, &plain(100_000)).await;
        let mut writer = contents
            .begin(&home(), NewContent::default())
            .await
            .unwrap();
        writer.write(plain(100_000)).await.unwrap();
        let held = writer.finish().await.unwrap();
        let swept = contents.sweep(&home(), &index).await.unwrap();
        assert_eq!((swept.seen, swept.deleted), (3, 1));
        assert!(matches!(
            get(&contents, &orphan).await,
            Err(ContentError::NotFound { .. })
        ));
        assert!(get(&contents, held.content()).await.is_ok());
        drop(held);
        assert_eq!(contents.sweep(&home(), &index).await.unwrap().deleted, 1);
        assert!(get(&contents, &named).await.is_ok());
        contents
            .delete(&home(), &[named.id, named.id])
            .await
            .unwrap();
        assert!(get(&contents, &named).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn keys_rotate_rewrap_and_are_shredded() {
    let (_folder, backends) = backends();
    for backend in backends {
        let first = Contents::open(config(backend.clone())).await.unwrap();
        let bytes = plain(100_000);
        let old = put(&first, &bytes).await;
        let small = put(&first, &plain(10)).await;
        let rotated = first.rotate(&home()).await.unwrap();
        let new = put(&first, &bytes).await;
        let keys = first.keys(&home()).await.unwrap();
        assert_eq!((keys.len(), keys[1]), (2, rotated));
        drop(first);

        // Another master key opens nothing by itself.
        let mut changed = config(backend);
        changed.wrapper = Arc::new(MasterWrapper::new([2; 32]));
        let without = Contents::open(changed.clone()).await.unwrap();
        let refused = get(&without, &old).await;
        assert!(matches!(
            refused,
            Err(ContentError::Key(KeyError::Wrap { .. }))
        ));
        drop(without);
        changed.retired_wrappers = vec![Arc::new(MasterWrapper::new([1; 32]))];
        let both = Contents::open(changed.clone()).await.unwrap();
        assert_eq!(both.rewrap(Rewrap::Foreign).await.unwrap(), 1);
        assert_eq!(both.rewrap(Rewrap::Foreign).await.unwrap(), 0);
        drop(both);
        changed.retired_wrappers.clear();
        let again = Contents::open(changed).await.unwrap();
        for content in [&old, &new] {
            assert_eq!(get(&again, content).await.unwrap(), bytes);
        }

        again.shred_key(&home(), keys[0]).await.unwrap();
        for content in [&old, &small] {
            let gone = get(&again, content).await;
            assert!(matches!(
                gone,
                Err(ContentError::Key(KeyError::Shredded { .. }))
            ));
        }
        assert_eq!(get(&again, &new).await.unwrap(), bytes);
        again.shred_project(&home()).await.unwrap();
        assert!(get(&again, &new).await.is_err());
        let fresh = put(&again, &bytes).await;
        assert_eq!(get(&again, &fresh).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn servers_that_share_a_place_share_its_keys() {
    let store = Arc::new(InMemory::new());
    let place = || BackendConfig::Store {
        store: Arc::<InMemory>::clone(&store),
        prefix: String::new(),
    };
    let one = Contents::open(config(place())).await.unwrap();
    let two = Contents::open(config(place())).await.unwrap();
    let bytes = plain(100_000);
    // Both make the project's first key at the same time; one of the two makes it.
    let (first, second) = tokio::join!(put(&one, &bytes), put(&two, &bytes));
    assert_eq!(one.keys(&home()).await.unwrap().len(), 1);
    one.rotate(&home()).await.unwrap();
    let third = put(&one, &bytes).await;
    for server in [&one, &two] {
        for content in [&first, &second, &third] {
            assert_eq!(get(server, content).await.unwrap(), bytes);
        }
    }
    two.rotate(&home()).await.unwrap();
    one.rotate(&home()).await.unwrap();
    assert_eq!(two.keys(&home()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn no_wrapped_key_and_no_plain_byte_is_on_the_disk_and_all_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("objects");
    let backend = BackendConfig::Local { root: root.clone() };
    let contents = Contents::open(config(backend)).await.unwrap();
    let secret = Bytes::from("a secret that nobody reads ".repeat(10_000));
    put(&contents, &secret).await;
    for file in files_of(&root) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a secret"));
    }
    let second = Contents::open(config(BackendConfig::Local { root })).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
}

fn files_of(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn file_of(root: &Path, content: &Content) -> PathBuf {
    let mut files = files_of(root).into_iter();
    files
        .find(|file| file.ends_with(content.id.to_string()))
        .unwrap()
}

#[tokio::test]
async fn what_is_rotten_or_missing_is_read_from_the_replica_and_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("objects");
    let mut config = config(BackendConfig::Local { root: root.clone() });
    let replica = folder.path().join("replica");
    config.replica = Some(BackendConfig::Local {
        root: replica.clone(),
    });
    let contents = Contents::open(config).await.unwrap();
    let index = MemoryIndex::default();
    let bytes = plain(3_000_000);
    let mut kept = Vec::new();
    for _ in 0..4 {
        let content = put(&contents, &bytes).await;
        index.record(&home(), content.clone());
        kept.push(content);
    }
    contents.replicate(&home(), &index).await.unwrap();
    let whole = std::fs::read(file_of(&root, &kept[0])).unwrap();
    // Missing, rotten in the header, rotten where the read has long begun, and cut off.
    std::fs::remove_file(file_of(&root, &kept[0])).unwrap();
    for (number, at) in [(1, 20), (2, 2_500_000)] {
        let mut rotten = std::fs::read(file_of(&root, &kept[number])).unwrap();
        rotten[at] ^= 1;
        std::fs::write(file_of(&root, &kept[number]), rotten).unwrap();
    }
    std::fs::write(file_of(&root, &kept[3]), &whole[..100]).unwrap();
    for content in &kept {
        assert_eq!(get(&contents, content).await.unwrap(), bytes);
    }
    assert_eq!(contents.rescued_reads(), 4);
    // All of them are whole again, soon.
    for content in &kept {
        while contents.verify(&home(), content).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(get(&contents, content).await.unwrap(), bytes);
    }
    assert_eq!(contents.rescued_reads(), 4);

    // What is rotten at both places is not given out.
    for place in [&root, &replica] {
        let mut rotten = std::fs::read(file_of(place, &kept[2])).unwrap();
        rotten[2_500_000] ^= 1;
        std::fs::write(file_of(place, &kept[2]), rotten).unwrap();
    }
    let refused = get(&contents, &kept[2]).await;
    assert!(matches!(refused, Err(ContentError::Damaged { .. })));
    // A destroyed key is no rot.
    contents.shred_project(&home()).await.unwrap();
    let gone = get(&contents, &kept[3]).await;
    assert!(matches!(
        gone,
        Err(ContentError::Key(KeyError::Shredded { .. }))
    ));
    assert_eq!(contents.rescued_reads(), 4);
}

#[tokio::test]
async fn files_exchanged_cut_or_flipped_are_found_by_a_scrub_and_repaired_from_the_replica() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("objects");
    let mut config = config(BackendConfig::Local { root: root.clone() });
    config.replica = Some(BackendConfig::Local {
        root: folder.path().join("replica"),
    });
    let contents = Contents::open(config).await.unwrap();
    let index = MemoryIndex::default();
    let mut kept = Vec::new();
    for _ in 0..6 {
        let content = put(&contents, &plain(300_000)).await;
        index.record(&home(), content.clone());
        kept.push(content);
    }
    let copied = contents.replicate(&home(), &index).await.unwrap();
    assert_eq!((copied.copied, copied.deleted), (6, 0));
    let path = |n: usize| file_of(&root, &kept[n]);

    let aside = folder.path().join("aside");
    std::fs::rename(path(0), &aside).unwrap();
    std::fs::rename(path(1), file_of(&root, &kept[1]).with_file_name("x")).unwrap();
    let moved = path(2);
    std::fs::rename(&aside, &moved).unwrap();
    let mut flipped = std::fs::read(path(3)).unwrap();
    flipped[200_000] ^= 4;
    std::fs::write(path(3), &flipped).unwrap();
    std::fs::write(path(4), &flipped[..65_536 + 80]).unwrap();

    let scrubbed = contents
        .scrub(&home(), &index, Damage::Repair, &Progress::default())
        .await
        .unwrap();
    let found: BTreeSet<_> = scrubbed.findings.iter().map(|it| it.content).collect();
    assert_eq!(found, kept[..5].iter().map(|content| content.id).collect());
    assert_eq!((scrubbed.damaged, scrubbed.repaired), (5, 5));
    assert_eq!(
        contents
            .scrub(&home(), &index, Damage::Repair, &Progress::default())
            .await
            .unwrap()
            .damaged,
        0
    );

    index.forget(&home(), kept[5].id);
    contents.sweep(&home(), &index).await.unwrap();
    let copied = contents.replicate(&home(), &index).await.unwrap();
    assert_eq!((copied.copied, copied.deleted), (0, 1));
}

#[tokio::test]
async fn a_copy_for_a_workload_is_whole_or_absent() {
    each(async |contents| {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("input");
        let content = put(&contents, &plain(3 * MIB)).await;
        let key = ContentKey::Project;
        contents
            .copy_to(&home(), &content, &key, &to)
            .await
            .unwrap();
        assert!(std::fs::read(&to).unwrap() == plain(3 * MIB));
        assert!(
            contents
                .copy_to(&home(), &content, &key, &to)
                .await
                .is_err()
        );
        assert!(to.exists());
        let gone = Content {
            id: lepton_types::Id::from_bytes([9; 16]).into(),
            ..content
        };
        let to = folder.path().join("other");
        assert!(contents.copy_to(&home(), &gone, &key, &to).await.is_err());
        assert!(!to.exists());
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cut_into_pieces_and_any_range_give_the_same_bytes(
        size in prop_oneof![0..20_000_usize, 0..400_000_usize, (2 * MIB..4 * MIB)],
        cut in prop_oneof![1..5_000_usize, 1..2 * MIB],
        ends: [prop::sample::Index; 2],
    ) {
        let bytes = plain(size);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let disk = Arc::new(SimulatedDisk::new(1));
            let backend = BackendConfig::Disk { disk, root: "/objects".into() };
            let contents = Contents::open(config(backend)).await.unwrap();
            let mut writer = contents.begin(&home(), NewContent::default()).await.unwrap();
            for piece in bytes.chunks(cut) {
                writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let content = writer.finish().await.unwrap().adopt();
            let mut range = ends.map(|end| end.index(size + 1));
            range.sort_unstable();
            let [start, end] = range;
            let asked = start as u64..end as u64;
            let key = ContentKey::Project;
            let mut reader = contents.read(&home(), &content, &key, asked).await.unwrap();
            prop_assert_eq!(reader.remaining_bytes(), (end - start) as u64);
            let mut read = Vec::new();
            while let Some(piece) = reader.next().await {
                read.extend_from_slice(&piece.unwrap());
            }
            prop_assert!(read == bytes[start..end]);
            let past = start as u64..size as u64 + 1;
            let refused = contents.read(&home(), &content, &key, past).await;
            prop_assert!(matches!(refused, Err(ContentError::OutOfRange { .. })), "a range past the end");
            Ok(())
        })?;
    }

    #[test]
    fn any_flipped_bit_or_cut_is_found(
        size in prop_oneof![0..16_000_usize, 17_000..400_000_usize],
        at: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("objects");
            let backend = BackendConfig::Local { root: root.clone() };
            let contents = Contents::open(config(backend)).await.unwrap();
            let mut content = put(&contents, &plain(size)).await;
            let sealed = match &content.inline {
                Some(sealed) => sealed.to_vec(),
                None => std::fs::read(file_of(&root, &content)).unwrap(),
            };
            let at = at.index(sealed.len());
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            for tampered in [flipped, sealed[..at].to_vec()] {
                match &mut content.inline {
                    Some(inline) => *inline = tampered.into(),
                    None => std::fs::write(file_of(&root, &content), tampered).unwrap(),
                }
                prop_assert!(get(&contents, &content).await.is_err());
            }
            Ok(())
        })?;
    }
}
