//! Seeded crashes of bytes and index together: objects are put, overwritten, shared and deleted while the
//! simulated disk that has their bytes loses its power, fails and fills up. The index is a real database,
//! and goes on from what its files held in that moment. Afterwards both agree.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lepton_objects::disk::{DiskFaults, SimulatedDisk};
use lepton_objects::{
    BackendConfig, Content, ContentKey, Contents, ContentsConfig, Damage, IndexedContents,
    MasterWrapper, NewContent, OpenError, Progress,
};
use lepton_store::index::{
    Bucket, BucketId, Condition, IndexError, NewBody, NewBucket, NewVersion, ObjectIndex, Piece,
    ToDelete, Which,
};
use lepton_types::{Id, IdSource, Name, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// `LEPTON_CRASH_SEEDS` asks for more.
const SEEDS: u64 = 30;
const LIVES: usize = 3;
const STEPS: usize = 12;
const KEYS: u64 = 5;

/// Ids that depend on nothing but how many there were; they go on after a restart.
#[derive(Default)]
struct CountedIds(AtomicU64);

impl IdSource for CountedIds {
    fn next_id(&self) -> Id {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        random[8] = u8::try_from(number % 256).unwrap();
        random[9] %= 3;
        Id::from_parts(Timestamp::from_millis(1_000), random)
    }
}

/// What an object holds: its length and the byte that it repeats.
type Held = Option<(usize, u8)>;

struct World {
    disk: SimulatedDisk,
    ids: Arc<CountedIds>,
    random: ChaCha8Rng,
    folder: tempfile::TempDir,
    lives: usize,
    clock: i64,
    /// What each key may hold: one state after an answer, one more after none.
    may: BTreeMap<String, BTreeSet<Held>>,
    acknowledged: usize,
    unsure: usize,
}

/// What a life works with.
struct Life {
    index: ObjectIndex,
    contents: Contents,
    bucket: Bucket,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            ids: Arc::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            folder: tempfile::tempdir().unwrap(),
            lives: 0,
            clock: 1_000,
            may: BTreeMap::new(),
            acknowledged: 0,
            unsure: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join(format!("{}.db", self.lives))
    }

    async fn open(&self) -> Result<Contents, OpenError> {
        let wrapper = Arc::new(MasterWrapper::new([1; 32]));
        let mut config = ContentsConfig::local(PathBuf::new(), wrapper);
        config.backend = BackendConfig::Disk {
            disk: Arc::new(self.disk.clone()),
            root: PathBuf::from("/objects"),
        };
        config.ids = Arc::<CountedIds>::clone(&self.ids);
        Contents::open(config).await
    }

    fn index(&self) -> ObjectIndex {
        ObjectIndex::open(&self.database()).unwrap()
    }

    async fn begin(&self, index: ObjectIndex) -> Option<Life> {
        let project = Name::default_project();
        let bucket = match index.bucket(&project, "b").await.unwrap() {
            Some(bucket) => bucket,
            None => index.create_bucket(bucket_of(project)).await.unwrap(),
        };
        let contents = self.open().await.ok()?;
        Some(Life {
            index,
            contents,
            bucket,
        })
    }

    /// Does this and that until the power fails. The index is then as its files are, with a log that
    /// nobody brought in.
    async fn live(&mut self) {
        let faults = DiskFaults {
            power_fails_at: 1 + self.below(80),
            errors_per_mille: [0, 0, 20, 100][usize::try_from(self.below(4)).unwrap()],
            capacity_bytes: [0, 0, 400_000][usize::try_from(self.below(3)).unwrap()],
        };
        self.disk.set_faults(faults);
        let index = self.index();
        if let Some(life) = self.begin(index.clone()).await {
            for _ in 0..STEPS {
                self.step(&life).await;
            }
        }
        let (from, log) = (self.database(), with_log(&self.database()));
        self.lives += 1;
        // The log first, and both while the index is open: one that closes brings its log in.
        if log.exists() {
            std::fs::copy(log, with_log(&self.database())).unwrap();
        }
        std::fs::copy(from, self.database()).unwrap();
        drop(index);
        self.disk.lose_power();
    }

    async fn step(&mut self, life: &Life) {
        let key = format!("key {}", self.below(KEYS));
        self.clock += 1;
        match self.below(8) {
            0 => {
                let order = self.deletion(life.bucket.id, &key);
                self.try_to(&key, None, async { life.index.delete(order).await.is_ok() })
                    .await;
            }
            1 => {
                let from = format!("key {}", self.below(KEYS));
                self.share(life, &from, &key).await;
            }
            2 => {
                // What is left is tried again in another life.
                let _ = collect(life).await;
            }
            _ => {
                let size =
                    [10, 20_000, 150_000, 1_200_000][usize::try_from(self.below(4)).unwrap()];
                let fill = u8::try_from(self.below(256)).unwrap();
                let new = self.version(life.bucket.id, &key, size);
                self.try_to(&key, Some((size, fill)), put(life, new, size, fill))
                    .await;
            }
        }
    }

    async fn try_to(&mut self, key: &str, held: Held, done: impl Future<Output = bool>) {
        let may = self
            .may
            .entry(key.to_owned())
            .or_insert_with(|| BTreeSet::from([None]));
        if done.await {
            *may = BTreeSet::from([held]);
            self.acknowledged += 1;
        } else {
            may.insert(held);
            self.unsure += 1;
        }
    }

    /// A copy shares the bytes of its source.
    async fn share(&mut self, life: &Life, from: &str, to: &str) {
        let found = life.index.open_version(life.bucket.id, from, Which::Newest);
        let Some(source) = found.await.unwrap() else {
            return;
        };
        let source = source.version;
        let may = self.may[from].clone();
        let size = usize::try_from(source.size_bytes).unwrap();
        let Some(held) = may.into_iter().find(|held| {
            held.is_some_and(|(length, fill)| {
                (length, source.etag == fill.to_string()) == (size, true)
            })
        }) else {
            panic!("{from} holds what nobody put: {source:?}");
        };
        let mut new = self.version(life.bucket.id, to, size);
        new.etag.clone_from(&source.etag);
        let body = NewBody::Shared(source.body.unwrap());
        self.try_to(to, held, async { life.index.put(new, body).await.is_ok() })
            .await;
    }

    fn deletion(&self, bucket: BucketId, key: &str) -> ToDelete {
        ToDelete {
            bucket,
            key: key.to_owned(),
            version: None,
            at: Timestamp::from_millis(self.clock),
            salt: 1,
            bypass: false,
            condition: Condition::default(),
        }
    }

    fn version(&self, bucket: BucketId, key: &str, size: usize) -> NewVersion {
        NewVersion {
            bucket,
            key: key.to_owned(),
            size_bytes: size as u64,
            etag: String::new(),
            modified: Timestamp::from_millis(self.clock),
            salt: 1,
            class: String::new(),
            hold: false,
            retention: None,
            tags: String::new(),
            attributes: String::new(),
            parts: String::new(),
            condition: Condition::default(),
        }
    }

    /// Bytes and index agree, and hold what was promised.
    async fn check(&mut self, seed: u64) {
        self.disk.set_faults(DiskFaults::default());
        let life = self.begin(self.index()).await.unwrap();
        let project = life.bucket.project.clone();
        for (key, may) in &mut self.may {
            let held = read(&life, key).await;
            assert!(
                may.contains(&held),
                "seed {seed}: {key} holds {held:?}, not one of {may:?}"
            );
            *may = BTreeSet::from([held]);
        }
        collect(&life).await.unwrap();
        let named = IndexedContents::new(life.index.clone());
        life.contents.sweep(&project, &named).await.unwrap();
        let (damage, progress) = (Damage::Report, Progress::default());
        let scrubbed = life.contents.scrub(&project, &named, damage, &progress);
        let scrubbed = scrubbed.await.unwrap();
        assert_eq!(scrubbed.damaged, 0, "seed {seed}: {:?}", scrubbed.findings);
        let rows = life.index.contents_after(&project, None, 1_000).await;
        let in_files = rows.unwrap().into_iter().filter(|row| row.inline.is_none());
        let files = self.disk.paths();
        let files = files
            .iter()
            .filter(|path| !path.to_string_lossy().contains("/."));
        assert_eq!(files.count(), in_files.count(), "seed {seed}");
        life.index.close().await;
    }
}

fn bucket_of(project: Name) -> NewBucket {
    NewBucket {
        project,
        name: "b".to_owned(),
        owner: "test".to_owned(),
        at: Timestamp::from_millis(1),
        object_lock: false,
    }
}

fn with_log(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// As the face does it: bytes first, then one transaction.
async fn put(life: &Life, mut new: NewVersion, size: usize, fill: u8) -> bool {
    let project = &life.bucket.project;
    let Ok(mut writer) = life.contents.begin(project, NewContent::default()).await else {
        return false;
    };
    let written = match writer.write(Bytes::from(vec![fill; size])).await {
        Ok(()) => writer.finish().await,
        Err(error) => Err(error),
    };
    let Ok(staged) = written else { return false };
    // Tells which one it is.
    new.etag = fill.to_string();
    let content = staged.content();
    let piece = Piece {
        content: content.id,
        size_bytes: content.size_bytes,
        inline: content.inline.as_ref().map(|bytes| bytes.to_vec()),
    };
    match life.index.put(new, NewBody::Pieces(vec![piece])).await {
        Ok(_) => {
            staged.adopt();
            true
        }
        Err(_) => {
            staged.discard().await;
            false
        }
    }
}

/// As the face does it: what nothing names goes, then is forgotten.
async fn collect(life: &Life) -> Result<(), IndexError> {
    while let Some(garbage) = life.index.garbage(None, 10).await? {
        let deleted = life.contents.delete(&garbage.project, &garbage.contents);
        if deleted.await.is_err() {
            return Ok(());
        }
        life.index.forget(garbage).await?;
    }
    Ok(())
}

/// What an object holds; it must be whole if it is there.
async fn read(life: &Life, key: &str) -> Held {
    let found = life.index.open_version(life.bucket.id, key, Which::Newest);
    let found = found.await.unwrap()?;
    let version = found.version;
    let mut all = Vec::new();
    for piece in found.pieces {
        let content = Content {
            id: piece.content,
            size_bytes: piece.size_bytes,
            inline: piece.inline.map(Bytes::from),
        };
        let project = &life.bucket.project;
        let read = life
            .contents
            .read_all(project, &content, &ContentKey::Project, u64::MAX);
        all.extend_from_slice(&read.await.unwrap());
    }
    let fill = version.etag.parse().unwrap();
    assert_eq!(all.len() as u64, version.size_bytes, "{key}");
    assert!(all.iter().all(|byte| *byte == fill), "{key}");
    Some((all.len(), fill))
}

#[test]
fn bytes_and_index_agree_after_any_loss_of_power() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let seeds = std::env::var("LEPTON_CRASH_SEEDS");
    let seeds: u64 = seeds.map_or(SEEDS, |text| text.parse().unwrap());
    let (mut acknowledged, mut unsure) = (0, 0);
    for seed in 0..seeds {
        runtime.block_on(async {
            let mut world = World::new(seed);
            for _ in 0..LIVES {
                world.live().await;
                world.check(seed).await;
            }
            acknowledged += world.acknowledged;
            unsure += world.unsure;
        });
    }
    // The mishaps do happen, and so does the work.
    let least = usize::try_from(seeds).unwrap();
    assert!(
        acknowledged > least && unsure > least,
        "{acknowledged}, {unsure}"
    );
}
