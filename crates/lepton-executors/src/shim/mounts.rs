//! A private view of the file system for a worker of another user.
//!
//! Tools often lie below a home that only its owner may enter (`/root/.pyenv`, a virtual environment
//! in `/root/work`), and so may the workers' own folder. Every folder on the way that the worker's
//! user cannot enter is covered, for this worker only, by an empty one, into which just the
//! needed entry is brought back: tools read-only, the worker's folder writable. The rest of the
//! covered folder does not exist for the worker.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount,
};
use rustix::process::umask;

use crate::sys;

/// As many as the kernel follows.
const SYMLINKS_MAX: usize = 40;
/// A script of a script of a script is enough.
const INTERPRETERS_MAX: usize = 4;
/// Places that hold credentials: never brought back, whatever `PATH` says.
const NEVER: [&str; 7] = [
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config",
];

/// What the worker must reach.
pub(super) struct Needs<'a> {
    pub(super) uid: u32,
    /// The worker's own folder, without symbolic links.
    pub(super) own: &'a Path,
    /// Folders, programs and files that it reads; named by the server's configuration alone.
    pub(super) tools: Vec<PathBuf>,
}

/// One entry to bring back.
struct Exposure {
    writable: bool,
    /// A symbolic link is made anew; anything else is bound.
    link: Option<PathBuf>,
}

#[derive(Default)]
struct View {
    /// The outermost folders that cannot be entered.
    covered: Vec<PathBuf>,
    /// Shallow before deep.
    exposed: BTreeMap<PathBuf, Exposure>,
}

/// Gives the calling process a view in which the worker's user reaches what it needs; does nothing
/// where it reaches all of it already.
///
/// # Errors
/// A sentence for the person who started the worker.
pub(super) fn arrange(needs: &Needs<'_>) -> Result<(), String> {
    let view = View::of(needs);
    let Some(blocked) = view.covered.first() else {
        return Ok(());
    };
    view.enter().map_err(|error| {
        format!(
            "its user {} cannot enter `{}`, and a private view of it is not permitted: {error}",
            needs.uid,
            blocked.display()
        )
    })
}

/// The outermost folder on the way to `path` that the user cannot enter.
pub(super) fn outermost_blocked(path: &Path, uid: u32) -> Option<PathBuf> {
    let blocking = |step: &PathBuf| blocked(step, uid).map(|(outermost, _)| outermost);
    steps(path).iter().find_map(blocking)
}

/// The interpreters that a script names in its first line, the script's own included.
pub(super) fn interpreters(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut at = program.to_owned();
    while found.len() < INTERPRETERS_MAX {
        let Some(next) = interpreter(&at) else { break };
        found.push(next.clone());
        at = next;
    }
    found
}

fn interpreter(program: &Path) -> Option<PathBuf> {
    use std::io::Read;
    let mut head = [0_u8; 256];
    let length = fs::File::open(program).ok()?.read(&mut head).ok()?;
    let line = head[..length]
        .strip_prefix(b"#!")?
        .split(|b| *b == b'\n')
        .next()?;
    let path = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    Some(PathBuf::from(path))
}

impl View {
    fn of(needs: &Needs<'_>) -> Self {
        let mut view = Self::default();
        for tool in &needs.tools {
            for step in steps(tool) {
                view.expose(&step, needs.uid);
            }
        }
        if let Some((outermost, _)) = blocked(needs.own, needs.uid) {
            view.cover(outermost);
            let own = Exposure {
                writable: true,
                link: None,
            };
            view.exposed.insert(needs.own.to_owned(), own);
        }
        view
    }

    fn cover(&mut self, folder: PathBuf) {
        if !self.covered.contains(&folder) {
            self.covered.push(folder);
        }
    }

    fn expose(&mut self, step: &Path, uid: u32) {
        let Some((outermost, entry)) = blocked(step, uid) else {
            return;
        };
        if entry
            .file_name()
            .is_some_and(|name| NEVER.iter().any(|never| name == *never))
        {
            return;
        }
        let link = fs::read_link(&entry).ok();
        self.cover(outermost);
        self.exposed.entry(entry).or_insert(Exposure {
            writable: false,
            link,
        });
    }

    fn enter(&self) -> io::Result<()> {
        new_mount_namespace()?;
        // Held from before they are covered; from this namespace, or they could not be bound in it.
        let mut held = BTreeMap::<&PathBuf, OwnedFd>::new();
        for entry in self.exposed.keys() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            held.insert(entry, rustix::fs::open(entry, flags, Mode::empty())?);
        }
        // What is made here may be entered by the worker, and listed by nobody.
        let before = umask(Mode::from_raw_mode(0o066));
        for folder in &self.covered {
            cover(folder)?;
        }
        let mut bound: Vec<&Path> = Vec::new();
        for (entry, exposure) in &self.exposed {
            let inside = bound.iter().any(|outer| entry.starts_with(outer));
            if inside && !exposure.writable {
                continue;
            }
            if let Some(parent) = entry.parent()
                && !inside
            {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o711)
                    .create(parent)?;
            }
            match &exposure.link {
                Some(target) => symlink(target, entry)?,
                None => {
                    bind(&held[entry], entry, inside, exposure.writable)?;
                    bound.push(entry);
                }
            }
        }
        umask(before);
        Ok(())
    }
}

fn new_mount_namespace() -> io::Result<()> {
    sys::own_mount_namespace()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    Ok(())
}

fn cover(folder: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        "tmpfs",
        folder,
        "tmpfs",
        flags,
        c"mode=0711,size=256k,nr_inodes=256",
    )?;
    Ok(())
}

fn bind(source: &OwnedFd, entry: &Path, exists: bool, writable: bool) -> io::Result<()> {
    let is_folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode)
        == rustix::fs::FileType::Directory;
    if !exists {
        if is_folder {
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(entry)?;
        } else {
            fs::File::create(entry)?;
        }
    }
    mount_bind_recursive(format!("/proc/self/fd/{}", source.as_raw_fd()), entry)?;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
    if !writable {
        flags |= MountFlags::RDONLY;
    }
    mount_remount(entry, flags, c"")?;
    Ok(())
}

/// The outermost folder above `path` that the user cannot enter, and the entry below the innermost
/// one, which is what must come back.
fn blocked(path: &Path, uid: u32) -> Option<(PathBuf, PathBuf)> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let outermost = above.iter().find(|folder| !enters(folder, uid))?;
    let innermost = above.iter().rfind(|folder| !enters(folder, uid))?;
    let entry = path.strip_prefix(innermost).ok()?.components().next()?;
    Some((outermost.to_path_buf(), innermost.join(entry)))
}

fn enters(folder: &Path, uid: u32) -> bool {
    let Ok(metadata) = fs::metadata(folder) else {
        return true;
    };
    let bit = if metadata.uid() == uid {
        0o100
    } else if metadata.gid() == uid {
        0o010
    } else {
        0o001
    };
    metadata.mode() & bit != 0
}

/// Every symbolic link on the way to `path`, and where it ends; nothing if it does not exist. Each is
/// given without links above it.
fn steps(path: &Path) -> Vec<PathBuf> {
    let mut visited = Vec::new();
    let mut at = PathBuf::from("/");
    let mut ahead: Vec<OsString> = reversed(path);
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > SYMLINKS_MAX {
                    return visited;
                }
                visited.push(next);
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(reversed(&target));
            }
            Err(_) => at = next,
        }
    }
    if at.exists() {
        visited.push(at);
    }
    visited
}

/// The names of a path, last first; `.` and the root left out.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}
