//! Seeded crashes: a store on a simulated disk that loses its power in the middle of its work,
//! fails at times and is full at times. Afterwards what was acknowledged is whole, and what was
//! not is whole or absent.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

mod index;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use index::MemoryIndex;
use lepton_objects::disk::{DiskFaults, SimulatedDisk};
use lepton_objects::{
    BackendConfig, Content, ContentError, ContentKey, Contents, ContentsConfig, MasterWrapper,
    NewContent, OpenError,
};
use lepton_types::{Id, IdSource, Name, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};

/// `LEPTON_CRASH_SEEDS` asks for more.
const SEEDS: u64 = 300;
const LIVES: usize = 4;
const PUTS: usize = 6;

/// Ids that depend on nothing but how many there were; they go on after a restart.
#[derive(Default)]
struct CountedIds(AtomicU64);

impl IdSource for CountedIds {
    fn next_id(&self) -> Id {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        // Few shards, so that folders are shared.
        random[9] %= 3;
        random[8] = u8::try_from(number % 256).unwrap();
        Id::from_parts(Timestamp::from_millis(1_000), random)
    }
}

struct World {
    disk: SimulatedDisk,
    ids: Arc<CountedIds>,
    random: ChaCha8Rng,
    index: MemoryIndex,
    /// What was acknowledged and not deleted since.
    kept: BTreeMap<lepton_types::ContentId, (Name, Content, u8)>,
    /// What was begun and not acknowledged.
    tried: Vec<(Name, Content, u8)>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            ids: Arc::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            index: MemoryIndex::default(),
            kept: BTreeMap::new(),
            tried: Vec::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
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

    fn faults(&mut self) -> DiskFaults {
        DiskFaults {
            power_fails_at: 1 + self.below(60),
            errors_per_mille: [0, 0, 20, 100][usize::try_from(self.below(4)).unwrap()],
            capacity_bytes: [0, 0, 300_000][usize::try_from(self.below(3)).unwrap()],
        }
    }

    /// Writes, and deletes at times, until the power fails.
    async fn live(&mut self) {
        let faults = self.faults();
        self.disk.set_faults(faults);
        let Ok(contents) = self.open().await else {
            return;
        };
        for _ in 0..PUTS {
            let project: Name = ["a", "b"][usize::try_from(self.below(2)).unwrap()]
                .parse()
                .unwrap();
            let size = [10, 20_000, 150_000, 1_200_000][usize::try_from(self.below(4)).unwrap()];
            let fill = u8::try_from(self.below(256)).unwrap();
            self.put(&contents, project, size, fill).await;
            if self.below(4) == 0
                && let Some((id, (project, _, _))) = self.kept.pop_first()
            {
                // The index goes first, and the bytes may stay if this fails.
                self.index.forget(&project, id);
                let _ = contents.delete(&project, &[id]).await;
            }
            if self.below(8) == 0 {
                let _ = contents.rotate(&"a".parse().unwrap()).await;
            }
        }
    }

    async fn put(&mut self, contents: &Contents, project: Name, size: usize, fill: u8) {
        let Ok(mut writer) = contents.begin(&project, NewContent::default()).await else {
            return;
        };
        let mut content = Content {
            id: writer.id(),
            size_bytes: size as u64,
            inline: None,
        };
        let written = match writer.write(Bytes::from(vec![fill; size])).await {
            Ok(()) => writer.finish().await,
            Err(error) => Err(error),
        };
        match written {
            Ok(staged) => {
                content = staged.adopt();
                self.index.record(&project, content.clone());
                self.kept.insert(content.id, (project, content, fill));
            }
            Err(_) => self.tried.push((project, content, fill)),
        }
    }

    /// The power fails; what is there afterwards is what was promised.
    async fn check(&mut self, seed: u64) {
        self.disk.lose_power();
        let contents = self.open().await.unwrap();
        for (project, content, fill) in self.kept.values() {
            let read = read(&contents, project, content).await;
            let bytes = read.unwrap_or_else(|error| panic!("seed {seed}: {error}: {content:?}"));
            assert!(bytes == vec![*fill; bytes.len()], "seed {seed}");
        }
        for (project, content, fill) in &self.tried {
            match read(&contents, project, content).await {
                Ok(bytes) => assert!(bytes == vec![*fill; bytes.len()], "seed {seed}"),
                Err(ContentError::NotFound { .. }) => {}
                Err(error) => panic!("seed {seed}: half a content: {error}"),
            }
        }
        for project in contents.projects().await.unwrap() {
            contents.sweep(&project, &self.index).await.unwrap();
            let scrubbed = contents
                .scrub(
                    &project,
                    &self.index,
                    lepton_objects::Damage::Repair,
                    &lepton_objects::Progress::default(),
                )
                .await
                .unwrap();
            assert_eq!(scrubbed.damaged, 0, "seed {seed}: {:?}", scrubbed.findings);
        }
        let files = self.disk.paths();
        let contents = files.iter().filter(|path| {
            let text = path.to_string_lossy();
            !text.contains("/.")
        });
        let in_files = self.kept.values().filter(|(_, it, _)| it.inline.is_none());
        assert_eq!(contents.count(), in_files.count(), "seed {seed}: {files:?}");
    }
}

async fn read(
    contents: &Contents,
    project: &Name,
    content: &Content,
) -> Result<Bytes, ContentError> {
    let key = ContentKey::Project;
    contents.read_all(project, content, &key, u64::MAX).await
}

#[test]
fn what_was_acknowledged_survives_any_loss_of_power_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (mut kept, mut tried) = (0, 0);
    let seeds = std::env::var("LEPTON_CRASH_SEEDS");
    let seeds = seeds.map_or(SEEDS, |text| text.parse().unwrap());
    for seed in 0..seeds {
        runtime.block_on(async {
            let mut world = World::new(seed);
            for _ in 0..LIVES {
                world.live().await;
                world.check(seed).await;
            }
            kept += world.kept.len();
            tried += world.tried.len();
        });
    }
    // The mishaps do happen, and so does the work.
    let least = usize::try_from(seeds).unwrap();
    assert!(kept > least && tried > least, "{kept} kept, {tried} tried");
}
