//! An upload is bounded in memory, whatever its length and however slow the disk.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lepton_objects::disk::{Disk, DiskFile, SimulatedDisk};
use lepton_objects::{
    BackendConfig, Contents, ContentsConfig, DigestKind, DigestSet, MasterWrapper, NewContent,
};
use lepton_types::Name;

const MIB: u64 = 1 << 20;

/// How many bytes the writer has taken, how many the disk has, and the most between the two.
#[derive(Debug, Default)]
struct UnderWay {
    taken: AtomicU64,
    written: AtomicU64,
    most: AtomicU64,
}

/// A disk that is slower than any source, and looks at what is under way at every write.
#[derive(Debug)]
struct SlowDisk(SimulatedDisk, Arc<UnderWay>);

struct SlowFile(Arc<dyn DiskFile>, Arc<UnderWay>);

impl Disk for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.create(path)?;
        Ok(Arc::new(SlowFile(file, Arc::clone(&self.1))))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn replace_and_erase(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.replace_and_erase(from, to)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.create_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0.sync_folder(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock(path)
    }
}

impl DiskFile for SlowFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Work instead of sleep: some ten times what sealing costs.
        for _ in 0..4 {
            std::hint::black_box(lepton_objects::digest_of(bytes));
        }
        let taken = self.1.taken.load(Ordering::SeqCst);
        let under_way = taken.saturating_sub(self.1.written.load(Ordering::SeqCst));
        self.1.most.fetch_max(under_way, Ordering::SeqCst);
        self.0.write_at(offset, bytes)?;
        self.1
            .written
            .fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, bytes)
    }
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.size_bytes()
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_faster_than_the_disk_waits() {
    let under_way = Arc::new(UnderWay::default());
    let wrapper = Arc::new(MasterWrapper::new([1; 32]));
    let mut config = ContentsConfig::local(PathBuf::new(), wrapper);
    config.backend = BackendConfig::Disk {
        disk: Arc::new(SlowDisk(SimulatedDisk::new(1), Arc::clone(&under_way))),
        root: PathBuf::from("/objects"),
    };
    let contents = Contents::open(config).await.unwrap();
    let new = NewContent {
        digests: DigestSet::NONE.with(DigestKind::Md5),
        ..NewContent::default()
    };
    let project = Name::default_project();
    let mut writer = contents.begin(&project, new).await.unwrap();
    under_way.written.store(0, Ordering::SeqCst);
    let piece = Bytes::from(vec![7; 100_000]);
    for _ in 0..600 {
        writer.write(piece.clone()).await.unwrap();
        under_way
            .taken
            .fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
    let content = writer.finish().await.unwrap().adopt();
    assert_eq!(content.size_bytes, 60_000_000);
    let most = under_way.most.load(Ordering::SeqCst);
    assert!(
        (2 * MIB..10 * MIB).contains(&most),
        "{most} bytes were under way"
    );
}
