//! Blobs of earlier versions, which lay as plain files by their SHA-256.
//!
//! Owns: taking them over, once. Must not know: what they are for.

use std::fs;
use std::io;
use std::path::Path;

use lepton_types::Name;
use lepton_types::resources::BlobDigest;
use tokio::io::AsyncReadExt as _;

use crate::blobs::{BlobError, Blobs};

/// Read from a file at once.
const READ_BYTES: usize = 1 << 20;

/// Puts every plain file below `folder` into `blobs`, then deletes it. Cut off anywhere, it goes on
/// from there at the next start.
pub(crate) async fn take_over(folder: &Path, blobs: &Blobs) -> Result<(), BlobError> {
    let mut taken = 0_u64;
    for project in entries(folder)? {
        let Ok(name) = file_name(&project).parse::<Name>() else {
            // Uploads that were never finished.
            fs::remove_dir_all(&project)?;
            continue;
        };
        for shard in entries(&project)? {
            for file in entries(&shard)? {
                let digest = keep(&file, &name, blobs).await?.to_string();
                if digest != format!("{}{}", file_name(&shard), file_name(&file)) {
                    tracing::error!(file = %file.display(), "an object is damaged on disk and stays there");
                    continue;
                }
                fs::remove_file(&file)?;
                taken += 1;
            }
            remove_if_empty(&shard)?;
        }
        remove_if_empty(&project)?;
    }
    if taken > 0 {
        tracing::info!(taken, "objects of an earlier version were sealed");
    }
    Ok(())
}

fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn keep(file: &Path, project: &Name, blobs: &Blobs) -> Result<BlobDigest, BlobError> {
    let mut source = tokio::fs::File::open(file).await?;
    let mut upload = blobs.begin(project, u64::MAX).await?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match source.read(&mut buffer).await? {
            0 => break,
            count => upload.write(&buffer[..count]).await?,
        }
    }
    Ok(upload.finish().await?.digest)
}

fn entries(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[tokio::test]
    async fn plain_files_become_blobs_once_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = crate::blobs::testing::blobs(folder.path()).await;
        let old = folder.path().join("objects");
        let digest = BlobDigest::from_bytes(Sha256::digest(b"kept").into());
        let hex = digest.to_string();
        let shard = old.join("default").join(&hex[..2]);
        fs::create_dir_all(&shard).unwrap();
        fs::create_dir_all(old.join(".incoming")).unwrap();
        fs::write(shard.join(&hex[2..]), b"kept").unwrap();
        let damaged = shard.join("0".repeat(62));
        fs::write(&damaged, b"rot").unwrap();
        for _ in 0..2 {
            take_over(&old, &blobs).await.unwrap();
        }
        let home = Name::default_project();
        assert_eq!(
            &blobs.read_all(&home, digest, 9).await.unwrap()[..],
            b"kept"
        );
        let left: Vec<_> = entries(&shard).unwrap();
        assert_eq!(left, [damaged]);
    }
}
