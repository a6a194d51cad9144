//! Blobs over contents.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

mod index;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use index::MemoryIndex;
use lepton_objects::disk::SimulatedDisk;
use lepton_objects::{
    BackendConfig, BlobStore, BlobStoreError, ContentError, Contents, ContentsConfig,
    MasterWrapper, digest_of,
};
use lepton_types::{Name, Timestamp};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

const MIB: usize = 1 << 20;

fn home() -> Name {
    Name::default_project()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

async fn contents() -> Contents {
    contents_on(SimulatedDisk::new(1)).await
}

async fn contents_on(disk: SimulatedDisk) -> Contents {
    let wrapper = Arc::new(MasterWrapper::new([1; 32]));
    let mut config = ContentsConfig::local(PathBuf::new(), wrapper);
    config.backend = BackendConfig::Disk {
        disk: Arc::new(disk),
        root: PathBuf::from("/objects"),
    };
    Contents::open(config).await.unwrap()
}

async fn store() -> (BlobStore<MemoryIndex>, MemoryIndex) {
    let index = MemoryIndex::default();
    (BlobStore::new(contents().await, index.clone()), index)
}

fn random(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

#[tokio::test]
async fn what_was_put_reads_back_and_only_in_its_project() {
    let (blobs, _) = store().await;
    for size in [0, 1, 20_000, 512 << 10, 3 * MIB, 9 * MIB + 5] {
        let bytes = Bytes::from(random(1, size));
        let put = blobs.put(&home(), bytes.clone(), at(1)).await.unwrap();
        assert_eq!(put.digest, digest_of(&bytes));
        assert_eq!(put.size_bytes, size as u64);
        let read = blobs.read_all(&home(), put.digest, size as u64).await;
        assert!(read.unwrap() == bytes, "{size}");
        let other: Name = "other".parse().unwrap();
        let refused = blobs.read(&other, put.digest, None).await;
        assert!(matches!(refused, Err(BlobStoreError::NotFound { .. })));
        if size > 0 {
            let refused = blobs.read_all(&home(), put.digest, size as u64 - 1).await;
            assert!(matches!(
                refused,
                Err(BlobStoreError::Content(ContentError::TooLarge { .. }))
            ));
        }
    }
    let mut writer = blobs.begin(&home(), 3).await.unwrap();
    assert!(writer.write(Bytes::from_static(b"four")).await.is_err());
}

#[tokio::test]
async fn a_small_change_and_a_second_upload_cost_little() {
    let (blobs, index) = store().await;
    let first = random(2, 20 * MIB);
    blobs
        .put(&home(), first.clone().into(), at(1))
        .await
        .unwrap();
    let before = index.pieces_total();
    assert!((5..=40).contains(&before), "{before} pieces of 20 MiB");
    blobs
        .put(&home(), first.clone().into(), at(1))
        .await
        .unwrap();
    assert_eq!(index.pieces_total(), before);
    let mut changed = first.clone();
    changed.splice(7 * MIB..7 * MIB, *b"inserted");
    let put = blobs
        .put(&home(), changed.clone().into(), at(1))
        .await
        .unwrap();
    let new = index.pieces_total() - before;
    assert!((1..=3).contains(&new), "{new} new pieces");
    let read = blobs.read_all(&home(), put.digest, u64::MAX).await.unwrap();
    assert!(read == changed);
    // Nothing else is on the disk than what the index names.
    let swept = blobs_contents(&blobs).sweep(&home(), &index).await.unwrap();
    assert_eq!(swept.deleted, 0);
    let other: Name = "other".parse().unwrap();
    blobs.put(&other, first.into(), at(1)).await.unwrap();
    assert_eq!(
        index.pieces_total(),
        2 * before + new,
        "projects share nothing"
    );
}

#[tokio::test]
async fn an_upload_that_fails_or_is_dropped_leaves_nothing_for_a_sweep() {
    let disk = SimulatedDisk::new(1);
    let index = MemoryIndex::default();
    let blobs = BlobStore::new(contents_on(disk.clone()).await, index.clone());
    blobs
        .put(&home(), random(9, MIB).into(), at(1))
        .await
        .unwrap();
    let before = disk.paths();
    let mut writer = blobs.begin(&home(), 12 * MIB as u64).await.unwrap();
    writer.write(random(3, 11 * MIB).into()).await.unwrap();
    let refused = writer.write(random(4, 2 * MIB).into()).await;
    assert!(matches!(
        refused,
        Err(BlobStoreError::Content(ContentError::TooLarge { .. }))
    ));
    assert_eq!(disk.paths(), before);

    let mut writer = blobs.begin(&home(), u64::MAX).await.unwrap();
    writer.write(random(3, 11 * MIB).into()).await.unwrap();
    assert_ne!(disk.paths(), before);
    drop(writer);
    while disk.paths() != before {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn blobs_contents(blobs: &BlobStore<MemoryIndex>) -> Contents {
    blobs.contents().clone()
}

#[tokio::test]
async fn a_sweep_takes_what_is_old_and_not_cited_and_no_shared_piece() {
    let (blobs, index) = store().await;
    let shared = random(3, 6 * MIB);
    let mut longer = shared.clone();
    longer.extend(random(4, 2 * MIB));
    let old = blobs.put(&home(), shared.into(), at(10)).await.unwrap();
    let cited = blobs
        .put(&home(), longer.clone().into(), at(10))
        .await
        .unwrap();
    let touched = blobs
        .put(&home(), Bytes::from_static(b"x"), at(10))
        .await
        .unwrap();
    let keep = BTreeSet::from([cited.digest]);
    assert_eq!(blobs.sweep(&home(), &keep, at(10)).await.unwrap(), 0);
    let asked = [touched.digest, digest_of(b"y")];
    let found = blobs.touch(&home(), &asked, at(20)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(blobs.sweep(&home(), &keep, at(20)).await.unwrap(), 1);
    assert!(blobs.read(&home(), old.digest, None).await.is_err());
    let read = blobs.read_all(&home(), cited.digest, u64::MAX).await;
    assert!(read.unwrap() == longer);
    assert_eq!(
        blobs
            .sweep(&home(), &BTreeSet::new(), at(30))
            .await
            .unwrap(),
        2
    );
    assert_eq!(index.pieces_total(), 0);
    let swept = blobs_contents(&blobs).sweep(&home(), &index).await.unwrap();
    assert_eq!(swept.seen, swept.deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_reuse_pieces_never_lose_them_to_a_sweep() {
    let (blobs, index) = store().await;
    let bytes = random(5, 5 * MIB);
    for round in 0..20 {
        blobs
            .put(&home(), bytes.clone().into(), at(round))
            .await
            .unwrap();
        // Both use the same pieces, which nothing cites: one drops them, one relies on them.
        let mut again = bytes.clone();
        again.extend(round.to_be_bytes());
        let uploading = {
            let (blobs, again) = (blobs.clone(), again.clone());
            tokio::spawn(async move { blobs.put(&home(), again.into(), at(i64::MAX)).await })
        };
        let sweeping = {
            let (blobs, contents, index) = (blobs.clone(), blobs_contents(&blobs), index.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    blobs
                        .sweep(&home(), &BTreeSet::new(), at(i64::MAX))
                        .await
                        .unwrap();
                    contents.sweep(&home(), &index).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        };
        let put = uploading.await.unwrap().unwrap();
        sweeping.await.unwrap();
        let read = blobs.read_all(&home(), put.digest, u64::MAX).await.unwrap();
        assert!(read == again, "round {round}");
        blobs
            .sweep(&home(), &BTreeSet::new(), at(i64::MAX))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn pieces_that_an_upload_found_outlive_a_sweep_before_its_end() {
    let (blobs, index) = store().await;
    let bytes = random(9, 14 * MIB);
    let old = blobs
        .put(&home(), bytes.clone().into(), at(1))
        .await
        .unwrap();
    let mut writer = blobs.begin(&home(), u64::MAX).await.unwrap();
    // So many pieces that the first must have been found before this returns.
    writer.write(bytes.clone().into()).await.unwrap();
    let none = BTreeSet::new();
    assert_eq!(blobs.sweep(&home(), &none, at(2)).await.unwrap(), 1);
    assert!(blobs.read(&home(), old.digest, None).await.is_err());
    let contents = blobs_contents(&blobs);
    contents.sweep(&home(), &index).await.unwrap();
    writer.write(Bytes::from_static(b"more")).await.unwrap();
    let put = writer.finish(at(3)).await.unwrap();
    let read = blobs.read_all(&home(), put.digest, u64::MAX).await;
    assert!(read.unwrap() == [&bytes[..], b"more"].concat());
}

#[tokio::test]
async fn after_a_key_was_destroyed_the_same_bytes_are_kept_anew() {
    let (blobs, _) = store().await;
    let bytes = Bytes::from(random(6, 3 * MIB));
    let put = blobs.put(&home(), bytes.clone(), at(1)).await.unwrap();
    let contents = blobs_contents(&blobs);
    for key in contents.keys(&home()).await.unwrap() {
        contents.shred_key(&home(), key).await.unwrap();
    }
    let gone = blobs.read(&home(), put.digest, None).await;
    assert!(matches!(
        gone,
        Err(BlobStoreError::Content(ContentError::Key(_)))
    ));
    blobs.put(&home(), bytes.clone(), at(1)).await.unwrap();
    let read = blobs.read_all(&home(), put.digest, u64::MAX).await;
    assert!(read.unwrap() == bytes);
}

#[tokio::test]
async fn a_job_gets_its_input_as_a_verified_file() {
    let (blobs, _) = store().await;
    let bytes = Bytes::from(random(7, 5 * MIB));
    let put = blobs.put(&home(), bytes.clone(), at(1)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("train.csv");
    blobs.copy_to(&home(), put.digest, &to).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == bytes);
    assert!(blobs.copy_to(&home(), put.digest, &to).await.is_err());
    assert!(to.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_cut_and_any_range_give_the_same_bytes(
        size in prop_oneof![0..3_000_usize, 0..8 * MIB],
        cut in 10_000..3 * MIB,
        ends: [prop::sample::Index; 2],
    ) {
        let bytes = random(size as u64, size);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (blobs, _) = store().await;
            let mut writer = blobs.begin(&home(), u64::MAX).await.unwrap();
            for piece in bytes.chunks(cut) {
                writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let put = writer.finish(at(1)).await.unwrap();
            prop_assert_eq!(put.digest, digest_of(&bytes));
            let mut range = ends.map(|end| end.index(size + 1));
            range.sort_unstable();
            let [start, end] = range;
            let asked = Some(start as u64..end as u64);
            let reader = blobs.read(&home(), put.digest, asked).await.unwrap();
            prop_assert_eq!(reader.size_bytes(), size as u64);
            let mut read = Vec::new();
            let mut pieces = std::pin::pin!(reader.into_stream());
            while let Some(piece) = pieces.next().await {
                read.extend_from_slice(&piece.unwrap());
            }
            prop_assert!(read == bytes[start..end]);
            let past = Some(start as u64..size as u64 + 1);
            prop_assert!(blobs.read(&home(), put.digest, past).await.is_err());
            Ok(())
        })?;
    }
}
