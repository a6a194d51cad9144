//! The few calls that no safe wrapper offers. The only module with `unsafe`.
//!
//! Every function here is used by the shim, which has one thread.
#![expect(unsafe_code, reason = "each call stands beside why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Which side of a fork this is.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// Copies this process. The caller must have one thread: locks held by others would stay held.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the shim starts no thread, so the child's copy of memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(
            Pid::from_raw(pid).expect("invariant: fork returns a positive pid to the parent"),
        )),
    }
}

/// Blocks the signals that would end or disturb a shim, and returns a descriptor that becomes
/// readable when a child has ended. The worker must not inherit this: [`unblock_signals`].
pub(crate) fn block_signals() -> io::Result<OwnedFd> {
    // SAFETY: `sigset_t` is plain data that `sigemptyset` initialises; the pointers live for the
    // calls; `signalfd` returns a descriptor that nobody else owns.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let children = set;
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(
            -1,
            &raw const children,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        );
        owned(fd)
    }
}

/// Lets every signal through again.
pub(crate) fn unblock_signals() -> io::Result<()> {
    // SAFETY: as in `block_signals`.
    let failed = unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Closes every descriptor from 3 on. Only for the first lines of a process.
pub(crate) fn close_inherited() {
    // SAFETY: called before anything of this process owns a descriptor above 2.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if closed == 0 {
        return;
    }
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // SAFETY: as above; the directory's own descriptor is closed already, which does no harm.
        unsafe { libc::close(fd) };
    }
}

/// Makes `target` (0, 1 or 2) mean what `source` means.
pub(crate) fn replace_standard(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: only the three standard descriptors are replaced, which no value owns.
    match unsafe { libc::dup2(source.as_raw_fd(), target) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Processor milliseconds of all children that were waited for, and the largest resident KiB of one.
pub(crate) fn children_usage() -> (u64, u64) {
    // SAFETY: `rusage` is plain data, filled by the call.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let millis = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000
            + u64::try_from(time.tv_usec).unwrap_or(0) / 1_000
    };
    (
        millis(usage.ru_utime) + millis(usage.ru_stime),
        u64::try_from(usage.ru_maxrss).unwrap_or(0),
    )
}

/// Parts the calling process's view of mounts from everybody else's.
pub(crate) fn own_mount_namespace() -> io::Result<()> {
    // SAFETY: `unshare` is marked unsafe for parting threads that share descriptors; this process
    // has one thread, and descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    Ok(())
}

/// A counter to poll.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: returns a descriptor that nobody else owns.
    unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }
}

/// Gives back pages that are unchanged copies of a file: the next touch reads them again.
///
/// `start..end` must be a mapping of a file, private and without a changed page.
pub(crate) fn drop_clean_pages(start: usize, end: usize) {
    // SAFETY: the caller states that no page of the range differs from its file, so its content is
    // the same after the call; the mapping itself stays.
    unsafe {
        libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
    }
}

/// Gives freed memory of the allocator back to the machine.
pub(crate) fn trim_heap() {
    // SAFETY: has no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the callers pass a descriptor that was just created for them.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
