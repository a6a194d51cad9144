//! A process that writes and deletes contents is killed again and again (`kill -9`) at no
//! particular moment. What it said was kept is whole, and nothing else is left after a sweep.
//!
//! `LEPTON_KILLS=1000` kills it as often.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

mod index;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use index::MemoryIndex;
use lepton_objects::{Content, ContentKey, Contents, ContentsConfig, MasterWrapper, NewContent};
use lepton_types::{ContentId, Name};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Names the folder for a child; without it, `child` has nothing to do.
const FOLDER: &str = "LEPTON_KILL_FOLDER";
const SEED: &str = "LEPTON_KILL_SEED";

async fn open(root: &Path) -> Contents {
    let wrapper = Arc::new(MasterWrapper::new([1; 32]));
    let mut config = ContentsConfig::local(root.join("objects"), wrapper);
    // The parent is the index, and it is told ids only.
    config.inline_bytes_max = 0;
    Contents::open(config).await.unwrap()
}

/// The bytes of a content follow from its length.
fn plain(size: usize) -> Bytes {
    (0..size).map(|at| (at / 3 + size) as u8).collect()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let contents = open(&PathBuf::from(folder)).await;
        let project = Name::default_project();
        let mut kept: Vec<ContentId> = Vec::new();
        // Ends when nobody listens any more.
        loop {
            let size = [0, 100, 70_000, 2_500_000][(random.next_u32() % 4) as usize];
            let mut writer = contents
                .begin(&project, NewContent::default())
                .await
                .unwrap();
            writer.write(plain(size)).await.unwrap();
            let content = writer.finish().await.unwrap().adopt();
            say(&format!("kept {} {size}", content.id));
            kept.push(content.id);
            if random.next_u32().is_multiple_of(3) {
                let at = random.next_u32() as usize % kept.len();
                let id = kept.swap_remove(at);
                say(&format!("deleting {id}"));
                contents.delete(&project, &[id]).await.unwrap();
            }
            if random.next_u32().is_multiple_of(5) {
                contents.rotate(&project).await.unwrap();
            }
        }
    });
}

/// Lets a child live until it said a number of things, and kills it. What it still had said is
/// heard as well.
fn one_life(root: &Path, seed: u64, lines: u32, kept: &mut BTreeMap<ContentId, usize>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(FOLDER, root)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut heard = 0;
    for line in out.lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["kept", id, size] => {
                kept.insert(id.parse().unwrap(), size.parse().unwrap());
            }
            ["deleting", id] => {
                kept.remove(&id.parse().unwrap());
            }
            _ => continue,
        }
        heard += 1;
        if heard == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(heard >= lines, "the child ended by itself");
}

async fn check(root: &Path, kept: &BTreeMap<ContentId, usize>) {
    let contents = open(root).await;
    let project = Name::default_project();
    let index = MemoryIndex::default();
    for (id, size) in kept {
        let content = Content {
            id: *id,
            size_bytes: *size as u64,
            inline: None,
        };
        let read = contents.read_all(&project, &content, &ContentKey::Project, u64::MAX);
        let read = read.await.unwrap_or_else(|error| panic!("{error}"));
        assert!(read == plain(*size), "{id}");
        index.record(&project, content);
    }
    let swept = contents.sweep(&project, &index).await.unwrap();
    assert_eq!(swept.seen - swept.deleted, kept.len() as u64);
}

#[test]
fn what_was_kept_survives_any_kill() {
    let kills = std::env::var("LEPTON_KILLS").map_or(12, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut kept = BTreeMap::new();
    for seed in 0..kills {
        let lines = 1 + random.next_u32() % 12;
        one_life(folder.path(), seed, lines, &mut kept);
        runtime.block_on(check(folder.path(), &kept));
        // Some stay, so that old contents are looked at again; not all, so that it stays quick.
        while kept.len() > 40 {
            kept.pop_first();
        }
    }
}
