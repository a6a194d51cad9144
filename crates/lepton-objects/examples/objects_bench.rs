//! How fast contents are sealed, written and read, beside what they are made of: the bare cipher,
//! the digests and the disk. Prints JSON.
//!
//!     cargo run --release -p lepton-objects --example objects_bench -- FOLDER [MIB]
//!
//! `FOLDER` is made, and removed at the end. Each figure is the best of five.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends at the first error"
)]

#[path = "../tests/index/mod.rs"]
mod index;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use index::MemoryIndex;
use lepton_objects::{
    BlobStore, Content, ContentKey, Contents, ContentsConfig, DigestKind, DigestSet,
    INLINE_BYTES_MAX, MasterWrapper, NewContent,
};
use lepton_types::{Name, Timestamp};
use md5::{Digest, Md5};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const ROUNDS: usize = 5;
const SEGMENT: usize = 64 << 10;
/// What a client's request body comes in.
const PIECE: usize = 256 << 10;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let mib: usize = arguments.next().map_or(512, |text| text.parse().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    let bytes = Bytes::from(noise(mib << 20));
    let mut rates = BTreeMap::new();
    bare(&bytes, &mut rates);
    rates.insert("disk: write and sync a file", disk_write(&bytes, &folder));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(whole(&bytes, &folder, &mut rates));
    runtime.block_on(sealing(&bytes, &folder, &mut rates));
    runtime.block_on(blobs(&bytes, &folder, &mut rates));
    let small = runtime.block_on(small(&folder));
    std::fs::remove_dir_all(&folder).unwrap();
    let report = serde_json::json!({
        "mib": mib,
        "mb_per_second": rates,
        "puts_per_second": small,
    });
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}

/// Bytes that nothing can shorten (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// MB a second, the best round.
fn best(length: usize, mut work: impl FnMut()) -> u64 {
    let seconds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    (length as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e6) as u64
}

/// One core, in memory.
fn bare(bytes: &Bytes, rates: &mut BTreeMap<&'static str, u64>) {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    let mut copy = bytes.to_vec();
    let gcm = best(bytes.len(), || {
        for (number, segment) in copy.chunks_mut(SEGMENT).enumerate() {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let sealed = key.seal_in_place_separate_tag(nonce, Aad::empty(), segment);
            let _ = std::hint::black_box(sealed.unwrap());
        }
    });
    rates.insert("one core: bare AES-256-GCM, 64 KiB, in place", gcm);
    let sha256 = best(bytes.len(), || {
        std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, bytes));
    });
    rates.insert("one core: SHA-256", sha256);
}

fn disk_write(bytes: &Bytes, folder: &Path) -> u64 {
    let path = folder.join("plain");
    let rate = best(bytes.len(), || {
        let mut file = std::fs::File::create(&path).unwrap();
        for part in bytes.chunks(1 << 20) {
            file.write_all(part).unwrap();
        }
        file.sync_all().unwrap();
    });
    std::fs::remove_file(&path).unwrap();
    rate
}

fn md5_once(bytes: &Bytes) -> u64 {
    let start = Instant::now();
    std::hint::black_box(Md5::digest(bytes));
    (bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e6) as u64
}

async fn put(contents: &Contents, bytes: &Bytes, digests: DigestSet) -> Content {
    let project = Name::default_project();
    let new = NewContent {
        digests,
        ..NewContent::default()
    };
    let mut writer = contents.begin(&project, new).await.unwrap();
    for start in (0..bytes.len()).step_by(PIECE) {
        let piece = bytes.slice(start..bytes.len().min(start + PIECE));
        writer.write(piece).await.unwrap();
    }
    writer.finish().await.unwrap().adopt()
}

async fn open(folder: &Path) -> Contents {
    open_inline(folder, INLINE_BYTES_MAX).await
}

async fn open_inline(folder: &Path, inline_bytes_max: usize) -> Contents {
    let wrapper = Arc::new(MasterWrapper::new([1; 32]));
    let mut config = ContentsConfig::local(folder.join("objects"), wrapper);
    config.inline_bytes_max = inline_bytes_max;
    Contents::open(config).await.unwrap()
}

/// Contents that stay in memory, one after the other: what sealing costs besides the cipher.
async fn sealing(bytes: &Bytes, folder: &Path, rates: &mut BTreeMap<&'static str, u64>) {
    let contents = open_inline(folder, 1 << 20).await;
    let mut fastest = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for at in (0..bytes.len()).step_by(1 << 20) {
            let part = bytes.slice(at..bytes.len().min(at + (1 << 20)));
            std::hint::black_box(put(&contents, &part, DigestSet::NONE).await);
        }
        let rate = bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
        fastest = fastest.max(rate as u64);
    }
    rates.insert("contents: seal 1 MiB in memory, one at a time", fastest);
}

/// Blobs over contents, with an index in memory.
async fn blobs(bytes: &Bytes, folder: &Path, rates: &mut BTreeMap<&'static str, u64>) {
    let store = BlobStore::new(open(folder).await, MemoryIndex::default());
    let project = Name::default_project();
    let now = Timestamp::from_millis(1);
    for name in ["blobs: put", "blobs: put the same again"] {
        let start = Instant::now();
        let mut writer = store.begin(&project, u64::MAX).await.unwrap();
        for at in (0..bytes.len()).step_by(PIECE) {
            let piece = bytes.slice(at..bytes.len().min(at + PIECE));
            writer.write(piece).await.unwrap();
        }
        writer.finish(now).await.unwrap();
        let rate = bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
        rates.insert(name, rate as u64);
    }
    let digest = lepton_objects::digest_of(bytes);
    let start = Instant::now();
    let to = folder.join("copy");
    store.copy_to(&project, digest, &to).await.unwrap();
    let rate = bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
    rates.insert("blobs: copy to a worker's file", rate as u64);
}

async fn whole(bytes: &Bytes, folder: &Path, rates: &mut BTreeMap<&'static str, u64>) {
    let contents = open(folder).await;
    let project = Name::default_project();
    let md5 = DigestSet::NONE.with(DigestKind::Md5);
    let all = md5.with(DigestKind::Sha256).with(DigestKind::Crc32);
    for (name, digests) in [
        ("contents: put", DigestSet::NONE),
        ("contents: put with MD5", md5),
        ("contents: put with MD5, SHA-256 and CRC-32", all),
    ] {
        let (mut fastest, mut alone) = (0, 0);
        for _ in 0..ROUNDS {
            // In turns: other work on the machine should slow both alike.
            alone = alone.max(md5_once(bytes));
            let start = Instant::now();
            let content = put(&contents, bytes, digests).await;
            let rate = bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
            fastest = fastest.max(rate as u64);
            contents.delete(&project, &[content.id]).await.unwrap();
        }
        rates.insert(name, fastest);
        let known = rates.entry("one core: MD5").or_default();
        *known = alone.max(*known);
    }
    let content = put(&contents, bytes, DigestSet::NONE).await;
    let mut fastest = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let all = 0..content.size_bytes;
        let read = contents.read(&project, &content, &ContentKey::Project, all);
        let mut reader = read.await.unwrap();
        while let Some(piece) = reader.next().await {
            std::hint::black_box(piece.unwrap());
        }
        let rate = bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
        fastest = fastest.max(rate as u64);
    }
    rates.insert("contents: read, from the page cache", fastest);
    contents.delete(&project, &[content.id]).await.unwrap();
}

/// Contents of 4 KiB (inline: sealed, not yet synced by an index), 64 KiB and 1 MiB, by 1 and by
/// 32 writers; and a bare file of 64 KiB, synced with its folder.
async fn small(folder: &Path) -> BTreeMap<String, u64> {
    let contents = open(folder).await;
    let mut rates = BTreeMap::new();
    for (kib, writers, count) in [
        (4, 1, 20_000),
        (16, 1, 20_000),
        (17, 1, 1_000),
        (17, 32, 4_000),
        (32, 32, 4_000),
        (64, 1, 1_000),
        (64, 32, 4_000),
        (1_024, 1, 200),
        (1_024, 32, 800),
    ] {
        let bytes = Bytes::from(noise(kib << 10));
        let start = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let (contents, bytes) = (contents.clone(), bytes.clone());
                tokio::spawn(async move {
                    for _ in 0..count / writers {
                        let md5 = DigestSet::NONE.with(DigestKind::Md5);
                        put(&contents, &bytes, md5).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        rates.insert(
            format!("{kib} KiB with MD5, {writers} at once"),
            rate as u64,
        );
    }
    let bytes = noise(64 << 10);
    let start = Instant::now();
    for number in 0..500 {
        let file = std::fs::File::create(folder.join(number.to_string())).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.sync_all().unwrap();
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
    }
    let rate = 500.0 / start.elapsed().as_secs_f64();
    rates.insert(
        "64 KiB, a bare file and its folder synced".to_owned(),
        rate as u64,
    );
    rates
}
