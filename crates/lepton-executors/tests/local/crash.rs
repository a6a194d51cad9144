//! A server that is killed at any instant, a hundred times: no worker runs twice, every end is true.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lepton_executors::{
    Executor, ExitOutcome, LocalExecutor, Observation, StopReason, WorkloadId, WorkloadSpec,
};
use lepton_types::{Id, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::ground::{Local, config, sh};
use crate::suite::{self, Ground};

pub(crate) const ALL: &[(&str, fn())] = &[(
    "killed_servers_run_nothing_twice",
    killed_servers_run_nothing_twice,
)];

/// A failing seed goes here.
const SEED: u64 = 20_261_121;
const LIVES: u64 = 100;
const STARTS_PER_LIFE: u32 = 8;

fn id(life: u64, rank: u32) -> WorkloadId {
    let attempt = Id::from_parts(Timestamp::from_millis(life.cast_signed()), [1; 10]);
    WorkloadId { attempt, rank }
}

/// Leaves its id once per run, and ends with a code that its id tells.
fn spec(id: WorkloadId, ran: &Path) -> WorkloadSpec {
    let script = format!("echo x >> {}/{id}; exit {}", ran.display(), 10 + id.rank);
    WorkloadSpec {
        id,
        ..suite::spec(sh(&script))
    }
}

/// One life of a server: it starts this life's workers and again some of the last one's, stops one,
/// removes nothing, and lives until it is killed. It says what was acknowledged.
pub(crate) fn drive(root: &Path, life: &str) -> ExitCode {
    let life: u64 = life.parse().unwrap();
    // The lock of the last life is let go when its process is reaped, which the test waits for.
    let executor = LocalExecutor::open(config(&root.join("workers"))).unwrap();
    print!("o");
    std::io::stdout().flush().unwrap();
    let ran = root.join("ran");
    for rank in 0..STARTS_PER_LIFE {
        for life in [life, life.saturating_sub(1)] {
            let id = id(life, rank);
            executor.start(&spec(id, &ran)).unwrap();
            fs::write(root.join("acknowledged").join(id.to_string()), "").unwrap();
        }
        if rank == 3 {
            executor.stop(id(life, 2), StopReason::Cancelled).unwrap();
        }
    }
    loop {
        std::thread::park();
    }
}

fn killed_servers_run_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ran", "acknowledged"] {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        fs::set_permissions(&path, open).unwrap();
    }
    fs::set_permissions(
        folder.path(),
        <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o711),
    )
    .unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for life in 1..=LIVES {
        let mut server = server(folder.path(), life);
        // Half of them die while they adopt what they find, half while they start and stop.
        if life % 2 == 0 {
            let mut opened = [0_u8; 1];
            let _ = server.stdout.as_mut().unwrap().read(&mut opened);
        }
        wait_us(u64::from(rng.next_u32() % 60_000));
        server.kill().unwrap();
        server.wait().unwrap();
    }
    check(folder);
}

fn server(root: &Path, life: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg("driver")
        .arg(root)
        .arg(life.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The instant of the kill is what the seed decides; this is no wait for something to happen.
fn wait_us(us: u64) {
    let until = Instant::now() + Duration::from_micros(us);
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

fn check(folder: tempfile::TempDir) {
    let root = folder.path().to_owned();
    let ran = |id: WorkloadId| {
        let lines = fs::read_to_string(root.join("ran").join(id.to_string()));
        lines.map_or(0, |text| text.lines().count())
    };
    let local = Local::at(folder, |_| {});
    let known: Vec<WorkloadId> = local.executor.observe().unwrap().into_keys().collect();
    let ends: BTreeMap<WorkloadId, Observation> = known
        .iter()
        .map(|id| (*id, local.until(*id, &Observation::is_final)))
        .collect();
    let mut codes = 0;
    for (id, end) in &ends {
        match end {
            Observation::Exited {
                outcome: ExitOutcome::Code(code),
                ..
            } => {
                assert_eq!(*code, 10 + id.rank.cast_signed(), "{id}");
                assert_eq!(ran(*id), 1, "{id}");
                codes += 1;
            }
            Observation::Exited {
                outcome: ExitOutcome::Stopped(_),
                ..
            } => assert!(ran(*id) <= 1, "{id}"),
            other => panic!("{id}: {other:?}"),
        }
    }
    for acknowledged in fs::read_dir(root.join("acknowledged")).unwrap() {
        let id: WorkloadId = acknowledged
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            ends.contains_key(&id),
            "{id} was acknowledged and is unknown"
        );
    }
    assert!(
        codes > 50,
        "only {codes} workers ran: the test shows nothing"
    );
    println!("{} workers known, {codes} ran to their ends", ends.len());
    assert_eq!(
        fs::read_dir(root.join("workers/staging")).unwrap().count(),
        0
    );
}
