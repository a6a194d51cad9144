//! The working directory as a `tar.gz`: what is left out, how large it may be,
//! and the same bytes for the same folder.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use ignore::WalkBuilder;
use ignore::overrides::OverrideBuilder;

use crate::commands::data::unreadable;
use crate::failure::Failure;
use crate::output::bytes;

/// The file that says what stays behind, in `.gitignore`'s syntax.
pub(crate) const IGNORE_FILE: &str = ".leptonignore";

/// What no job wants, unless `.leptonignore` says `!NAME`: histories, caches, virtual environments.
const LEFT_OUT: [&str; 14] = [
    ".git",
    ".hg",
    ".svn",
    ".jj",
    ".lepton",
    ".venv",
    "venv",
    "__pycache__",
    "*.pyc",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules",
];

/// More files than this is a folder that was not meant.
const FILES_MAX: usize = 100_000;

/// A folder, packed.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The archive; gone when this is.
    pub(crate) file: tempfile::NamedTempFile,
    /// How many files are in it.
    pub(crate) files: usize,
    /// Their size together.
    pub(crate) bytes: u64,
}

/// Packs `folder`, whose files together may have at most `bytes_max`.
pub(crate) fn pack(folder: &Path, bytes_max: u64) -> Result<Packed, Failure> {
    if is_data_dir(folder) {
        return Err(Failure::invalid(format!(
            "`{}` is where a Lepton keeps its keys and everybody's data: start elsewhere, or with --no-code",
            folder.display()
        )));
    }
    let facts = std::fs::metadata(folder).map_err(unreadable(folder))?;
    if !facts.is_dir() {
        let folder = folder.display();
        return Err(Failure::invalid(format!("`{folder}` is not a folder")));
    }
    let found = list(folder)?;
    let total = found.iter().map(|entry| entry.bytes).sum();
    if total > bytes_max {
        return Err(too_large(&found, total, bytes_max));
    }
    let file = tempfile::NamedTempFile::new()?;
    // No name and no time in the header, so that the same folder gives the same bytes.
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(BufWriter::new(file.as_file()), Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    archive.follow_symlinks(false);
    for entry in &found {
        append(&mut archive, folder, entry).map_err(|source| Failure::File {
            action: "pack",
            path: entry.path.clone(),
            source,
        })?;
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(Packed {
        file,
        files: found.len(),
        bytes: total,
    })
}

/// One thing in the folder, by its relative path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    path: PathBuf,
    sort: Sort,
    bytes: u64,
    executable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    File,
    Folder,
    Link,
}

fn list(folder: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for entry in walk(folder)? {
        let entry = entry.map_err(|error| Failure::invalid(format!("cannot pack: {error}")))?;
        let Ok(path) = entry.path().strip_prefix(folder) else {
            continue;
        };
        if path.as_os_str().is_empty() {
            continue;
        }
        let facts = entry
            .metadata()
            .map_err(|error| Failure::invalid(format!("cannot pack: {error}")))?;
        let kind = facts.file_type();
        let sort = if kind.is_dir() {
            Sort::Folder
        } else if kind.is_symlink() {
            Sort::Link
        } else if kind.is_file() {
            Sort::File
        } else {
            // Sockets and pipes mean nothing elsewhere.
            continue;
        };
        found.push(Found {
            path: path.to_owned(),
            sort,
            bytes: if sort == Sort::File { facts.len() } else { 0 },
            executable: facts.permissions().mode() & 0o111 != 0,
        });
        if found.len() > FILES_MAX {
            return Err(Failure::invalid(format!(
                "more than {FILES_MAX} files are in `{}`: leave some out in {IGNORE_FILE}, or start elsewhere with --no-code",
                folder.display()
            )));
        }
    }
    found.sort();
    Ok(found)
}

fn walk(folder: &Path) -> Result<ignore::Walk, Failure> {
    let mut defaults = OverrideBuilder::new(folder);
    for pattern in LEFT_OUT {
        // In an override `!` leaves out.
        defaults
            .add(&format!("!{pattern}"))
            .map_err(|error| Failure::invalid(error.to_string()))?;
    }
    let defaults = defaults
        .build()
        .map_err(|error| Failure::invalid(error.to_string()))?;
    Ok(WalkBuilder::new(folder)
        .standard_filters(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .overrides(defaults)
        .follow_links(false)
        // Never, whatever an ignore file says: the master key would travel into the job.
        .filter_entry(|entry| !is_data_dir(entry.path()))
        .build())
}

/// Whether a Lepton keeps everything here.
fn is_data_dir(folder: &Path) -> bool {
    folder.join("master.key").exists() && folder.join("lepton.db").exists()
}

fn append<W: Write>(archive: &mut tar::Builder<W>, folder: &Path, entry: &Found) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(if entry.executable { 0o755 } else { 0o644 });
    let source = folder.join(&entry.path);
    match entry.sort {
        Sort::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, &entry.path, io::empty())
        }
        Sort::Link => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, &entry.path, std::fs::read_link(source)?)
        }
        Sort::File => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(entry.bytes);
            // A file that grows meanwhile must not spill over its header.
            let content = Exactly::new(File::open(source)?, entry.bytes);
            archive.append_data(&mut header, &entry.path, content)
        }
    }
}

/// Gives exactly so many bytes, or fails.
struct Exactly {
    file: io::Take<File>,
    left: u64,
}

impl Exactly {
    fn new(file: File, bytes: u64) -> Self {
        use io::Read as _;
        Self {
            file: file.take(bytes),
            left: bytes,
        }
    }
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left -= read as u64;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other(
                "the file became shorter while it was read",
            ));
        }
        Ok(read)
    }
}

/// Names the largest files, as one of them is what was not meant.
fn too_large(found: &[Found], total: u64, bytes_max: u64) -> Failure {
    let mut largest: Vec<_> = found.iter().collect();
    largest.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    let names: Vec<_> = largest
        .iter()
        .take(3)
        .map(|entry| format!("`{}` ({})", entry.path.display(), bytes(entry.bytes)))
        .collect();
    Failure::invalid(format!(
        "the working directory has {}, more than the {} that a job's code may have: leave files out in {IGNORE_FILE} \
         (the largest are {}), raise --code-max, or use --no-code",
        bytes(total),
        bytes(bytes_max),
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("fit.py", "print(1)");
        write("lib/a.py", "");
        write("lib/__pycache__/a.pyc", "x");
        write(".git/HEAD", "x");
        write("data/big.bin", "0123456789");
        write("data/keep.csv", "a,b");
        write(IGNORE_FILE, "data/*.bin\n");
        std::os::unix::fs::symlink("fit.py", dir.path().join("link.py")).unwrap();
        dir
    }

    fn paths(archive: &Path) -> Vec<String> {
        let gzip = flate2::read::GzDecoder::new(File::open(archive).unwrap());
        tar::Archive::new(gzip)
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn the_data_directory_of_a_server_never_travels() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fit.py"), "1").unwrap();
        std::fs::write(folder.path().join(IGNORE_FILE), "!state\n!master.key\n").unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        for file in ["master.key", "lepton.db"] {
            std::fs::write(state.join(file), "secret").unwrap();
        }
        let found = list(folder.path()).unwrap();
        let paths: Vec<&Path> = found.iter().map(|entry| entry.path.as_path()).collect();
        assert_eq!(paths, [Path::new(IGNORE_FILE), Path::new("fit.py")]);
        assert!(pack(&state, u64::MAX).is_err());
    }

    #[test]
    fn what_is_ignored_stays_behind() {
        let dir = folder();
        let packed = pack(dir.path(), 1_000).unwrap();
        assert_eq!(
            paths(packed.file.path()),
            [
                ".leptonignore",
                "data",
                "data/keep.csv",
                "fit.py",
                "lib",
                "lib/a.py",
                "link.py"
            ]
        );
    }

    #[test]
    fn the_same_folder_gives_the_same_bytes() {
        let (one, two) = (folder(), folder());
        std::fs::write(two.path().join("lib/__pycache__/b.pyc"), "y").unwrap();
        let read = |dir: &Path| std::fs::read(pack(dir, 1_000).unwrap().file.path()).unwrap();
        assert_eq!(read(one.path()), read(two.path()));
        std::fs::write(two.path().join("fit.py"), "print(2)").unwrap();
        assert_ne!(read(one.path()), read(two.path()));
    }

    #[test]
    fn a_folder_that_is_too_large_names_its_largest_file() {
        let message = pack(folder().path(), 10).unwrap_err().to_string();
        assert!(message.contains("`.leptonignore` (11 B)"), "{message}");
    }
}
