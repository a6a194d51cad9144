//! The loop over one worker: its output, its end, its limits in time and memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use lepton_types::{Clock, DurationMs, MemoryBytes, SystemClock, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};

use super::cgroup::Cgroup;
use super::footprint::Footprint;
use super::logs::Log;
use super::{launch, nudge, tree};
use crate::record::{self, ExitRecord, Plan, RunningRecord};
use crate::sys::{self, Fork};
use crate::{Enforcement, ExitOutcome, LogStream, MemoryEnforcement, StopReason, Usage};

/// How often memory is added up where no control group does it.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// How long nothing must happen before the shim makes itself small.
const SETTLE_AFTER: Duration = Duration::from_millis(50);
/// How often a killed tree is looked at again, for those that forked meanwhile.
const KILL_AGAIN_EVERY: Duration = Duration::from_millis(20);
/// A process in an uninterruptible wait does not die; the record of the main process must not wait
/// for it for ever.
const REAP_AT_MOST: Duration = Duration::from_secs(10);

/// What the loop asks of `poll`, in this order.
struct Sources {
    children: OwnedFd,
    control: File,
    status: Option<OwnedFd>,
}

/// One worker, from its fork to its end.
struct Supervisor {
    plan: Plan,
    cgroup: Cgroup,
    sources: Sources,
    stdout: Log,
    stderr: Log,
    main: Pid,
    enforcement: Enforcement,
    started: Option<(Timestamp, Instant)>,
    /// What the child said before it could become the program.
    failure: Vec<u8>,
    /// Why the worker is being ended, and since when.
    ending: Option<(ExitOutcome, Instant)>,
    killed: bool,
    exit: Option<(WaitStatus, Timestamp)>,
    memory_peak: u64,
    sample_at: Instant,
    footprint: Footprint,
    /// Nothing happened for a while, and the pages are given back.
    settled: bool,
}

/// Runs the plan to its end.
///
/// # Errors
/// Nothing was run.
pub(super) fn supervise(plan: Plan) -> io::Result<ExitRecord> {
    let mut supervisor = Supervisor::start(plan)?;
    supervisor.run()?;
    Ok(supervisor.finish())
}

impl Supervisor {
    fn start(mut plan: Plan) -> io::Result<Self> {
        let children = sys::block_signals()?;
        let control = open_control()?;
        let cgroup = Cgroup::create(&plan);
        let enforcement = cgroup.enforcement(&plan);
        let (stdout_read, stdout_write) = launch::pipe()?;
        let (stderr_read, stderr_write) = launch::pipe()?;
        let (status_read, status_write) = launch::pipe()?;
        let main = match sys::fork()? {
            Fork::Child => launch::become_program(
                &plan,
                &cgroup,
                enforcement,
                &[stdout_write, stderr_write],
                status_write,
            ),
            Fork::Parent(pid) => pid,
        };
        drop((stdout_write, stderr_write, status_write));
        // Only the child needed them, and they may be large.
        plan.env = std::collections::BTreeMap::new();
        plan.inputs = Vec::new();
        plan.readable = Vec::new();
        let mut supervisor = Self {
            stdout: Log::new(LogStream::Stdout, stdout_read, plan.log_bytes_max),
            stderr: Log::new(LogStream::Stderr, stderr_read, plan.log_bytes_max),
            sources: Sources {
                children,
                control,
                status: Some(status_read),
            },
            plan,
            cgroup,
            main,
            enforcement,
            started: None,
            failure: Vec::new(),
            ending: None,
            killed: false,
            exit: None,
            memory_peak: 0,
            sample_at: Instant::now(),
            footprint: Footprint::default(),
            settled: false,
        };
        // After the pipe is open: a request is seen here, or arrives there.
        if let Ok(Some(reason)) = record::read::<StopReason>(Path::new("."), record::STOP) {
            supervisor.end(ExitOutcome::Stopped(reason));
        }
        Ok(supervisor)
    }

    /// Until the main process has ended.
    fn run(&mut self) -> io::Result<()> {
        while self.exit.is_none() {
            let quiet = self.wait_for_news()?;
            if quiet && !self.settled {
                self.settled = true;
                self.footprint.release();
                continue;
            }
            self.settled &= quiet;
            if self.sources.status.is_some() {
                self.read_status();
            }
            self.stdout.pump();
            self.stderr.pump();
            self.reap();
            if self.exit.is_some() {
                break;
            }
            self.read_control();
            self.enforce();
        }
        Ok(())
    }

    /// True if nothing but time passed.
    fn wait_for_news(&self) -> io::Result<bool> {
        let mut fds = vec![
            PollFd::new(&self.sources.children, PollFlags::IN),
            PollFd::new(&self.sources.control, PollFlags::IN),
        ];
        fds.extend(
            self.sources
                .status
                .as_ref()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        fds.extend([&self.stdout, &self.stderr].into_iter().filter_map(|log| {
            log.source()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        }));
        fds.extend(
            self.cgroup
                .alarm()
                .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)),
        );
        let timeout = self.next_deadline().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready == 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// When to look even if nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let sample =
            (self.enforcement.memory == MemoryEnforcement::Sampled).then_some(self.sample_at);
        let settle = if self.settled {
            None
        } else {
            now.checked_add(SETTLE_AFTER)
        };
        let end = match (&self.ending, self.killed) {
            (Some(_), true) => now.checked_add(KILL_AGAIN_EVERY),
            (Some((_, since)), false) => since.checked_add(self.plan.grace.to_std()),
            (None, _) => self.timeout_at(),
        };
        [sample, settle, end].into_iter().flatten().min()
    }

    fn timeout_at(&self) -> Option<Instant> {
        let (_, since) = self.started?;
        since.checked_add(self.plan.timeout?.to_std())
    }

    /// The child says why it failed, or its end of the pipe closes as it becomes the program.
    fn read_status(&mut self) {
        let Some(fd) = &self.sources.status else {
            return;
        };
        let mut buffer = [0_u8; 512];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => {
                self.sources.status = None;
                if self.failure.is_empty() {
                    self.program_runs();
                }
            }
            Ok(count) => self.failure.extend_from_slice(&buffer[..count]),
            Err(_) => {}
        }
    }

    fn program_runs(&mut self) {
        let since = SystemClock.now();
        self.started = Some((since, Instant::now()));
        let running = RunningRecord {
            pid: self.main.as_raw_nonzero().get().unsigned_abs(),
            since,
            enforcement: self.enforcement,
        };
        // On a full disk the worker is reported as starting while it runs; its end has room.
        let _ = record::replace(Path::new("."), record::RUNNING, &running);
        nudge(self.plan.id);
        self.footprint = Footprint::learn();
    }

    fn read_control(&mut self) {
        let mut text = String::new();
        // The pipe is open for writing here too, so it never ends; what is there comes in one read.
        let mut buffer = [0_u8; 256];
        if let Ok(count) = self.sources.control.read(&mut buffer) {
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let asked = text
            .lines()
            .find_map(|line| serde_json::from_str(line).ok());
        if let Some(reason) = asked {
            self.end(ExitOutcome::Stopped(reason));
        }
    }

    /// Memory, time, and the end of a grace.
    fn enforce(&mut self) {
        let limit = self.plan.resources.memory;
        if self.cgroup.out_of_memory() || self.sampled_over(limit) {
            self.ending = Some((ExitOutcome::OutOfMemory { limit }, Instant::now()));
            self.kill();
        }
        if let (None, Some(at)) = (&self.ending, self.timeout_at())
            && at <= Instant::now()
        {
            let after = self.plan.timeout.unwrap_or(DurationMs::ZERO);
            self.end(ExitOutcome::TimedOut { after });
        }
        let grace = self.plan.grace.to_std();
        if self
            .ending
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() >= grace)
        {
            self.kill();
        }
    }

    fn sampled_over(&mut self, limit: MemoryBytes) -> bool {
        let now = Instant::now();
        if self.enforcement.memory != MemoryEnforcement::Sampled || now < self.sample_at {
            return false;
        }
        self.sample_at = now.checked_add(SAMPLE_EVERY).unwrap_or(now);
        let held = tree::memory_held(limit.as_bytes());
        self.memory_peak = self.memory_peak.max(held);
        held > limit.as_bytes()
    }

    /// Asks the worker to end; the first reason counts.
    fn end(&mut self, outcome: ExitOutcome) {
        if self.ending.is_none() {
            self.ending = Some((outcome, Instant::now()));
            tree::signal_all(self.main, Signal::TERM);
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        self.cgroup.kill();
        tree::signal_all(self.main, Signal::KILL);
    }

    /// Takes the ends of all children: the main process, and those whose own parents ended.
    fn reap(&mut self) {
        let mut buffer = [0_u8; 256];
        while rustix::io::read(&self.sources.children, &mut buffer).is_ok_and(|count| count > 0) {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.main {
                self.exit = Some((status, SystemClock.now()));
            }
        }
    }

    /// The main process has ended: so does everything it started. Then the record.
    fn finish(mut self) -> ExitRecord {
        while self.sources.status.is_some() {
            self.read_status();
        }
        let out_of_memory = self.cgroup.out_of_memory();
        self.end_descendants();
        self.stdout.pump();
        self.stderr.pump();
        let (cpu_millis, largest_kib) = sys::children_usage();
        let peak = self
            .cgroup
            .memory_peak()
            .unwrap_or_else(|| self.memory_peak.max(largest_kib * 1024));
        let usage = Usage {
            memory_peak: MemoryBytes::from_bytes(peak),
            cpu_time: DurationMs::from_millis(cpu_millis),
            log_bytes_lost: self.stdout.lost() + self.stderr.lost(),
        };
        self.cgroup.remove();
        let (status, finished_at) = self
            .exit
            .expect("invariant: the loop ends when the main process has ended");
        ExitRecord {
            outcome: outcome(&self, status, out_of_memory),
            started_at: self.started.map(|(at, _)| at),
            finished_at,
            usage,
        }
    }

    fn end_descendants(&mut self) {
        let began = Instant::now();
        while began.elapsed() < REAP_AT_MOST {
            self.reap();
            if tree::is_empty() {
                return;
            }
            self.cgroup.kill();
            tree::kill_children();
            self.stdout.pump();
            self.stderr.pump();
            let mut fds = [PollFd::new(&self.sources.children, PollFlags::IN)];
            let soon = Timespec {
                tv_sec: 0,
                tv_nsec: KILL_AGAIN_EVERY.subsec_nanos().into(),
            };
            let _ = poll(&mut fds, Some(&soon));
        }
    }
}

/// How the worker ended, from all that is known.
fn outcome(supervisor: &Supervisor, status: WaitStatus, out_of_memory: bool) -> ExitOutcome {
    if !supervisor.failure.is_empty() {
        let text = String::from_utf8_lossy(&supervisor.failure);
        return match &supervisor.ending {
            Some((outcome, _)) => outcome.clone(),
            None => ExitOutcome::CouldNotStart(record::bounded_message(&text)),
        };
    }
    if let Some((outcome, _)) = &supervisor.ending {
        return outcome.clone();
    }
    let succeeded = status.exit_status() == Some(0);
    if out_of_memory && !succeeded {
        return ExitOutcome::OutOfMemory {
            limit: supervisor.plan.resources.memory,
        };
    }
    if let Some(signal) = status.terminating_signal() {
        return if supervisor.started.is_some() {
            ExitOutcome::Signal(signal)
        } else {
            ExitOutcome::CouldNotStart(format!("ended by signal {signal} before the program ran"))
        };
    }
    ExitOutcome::Code(status.exit_status().unwrap_or(0))
}

/// The pipe through which a server reaches this shim, whoever started it. Open for writing as well,
/// so that it does not end when a server closes it.
fn open_control() -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(record::CONTROL)
}

/// A descriptor to poll, and for what.
pub(super) type Alarm<'a> = (std::os::fd::BorrowedFd<'a>, PollFlags);
