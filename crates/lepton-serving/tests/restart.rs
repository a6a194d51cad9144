//! Replicas as processes of their own, killed and stopped under load.
#![expect(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use lepton_serving::gateway::{EndpointKey, Gateway, Health, Replica, Route, RouteTable, probe};
use lepton_serving::token::ReplicaToken;
use lepton_types::{IdSource, Name, ReplicaId, SystemIds};
use rustix::process::{Pid, Signal, kill_process};

const LISTEN: &str = "LEPTON_TEST_REPLICA_LISTEN";

/// Not a test by itself: the others start it as a process.
#[test]
#[ignore = "the process that the other tests start"]
fn replica_process() {
    let Ok(listen) = std::env::var(LISTEN) else {
        return;
    };
    let mut options = rig::options("affine");
    options.listen = listen.parse().unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(lepton_serving::worker::serve(options))
        .unwrap();
}

/// A replica's process, killed when dropped.
struct Process {
    child: Child,
    replica: Replica,
}

impl Process {
    async fn start() -> Self {
        // An address of this test's own, so that no other takes the port while it is between two
        // processes.
        static STARTED: AtomicU8 = AtomicU8::new(0);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let own = 64 | (STARTED.fetch_add(1, Ordering::Relaxed) & 63);
        let own = std::net::Ipv4Addr::new(127, own, high, low);
        let free = std::net::TcpListener::bind((own, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut process = Self {
            child: Self::spawn(address),
            replica: Replica {
                id: ReplicaId::from(SystemIds.next_id()),
                address,
                token: ReplicaToken::new(rig::TOKEN.to_owned()),
            },
        };
        process.until_ready().await;
        process
    }

    fn spawn(address: SocketAddr) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "replica_process", "--nocapture"])
            .env(LISTEN, address.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    async fn until_ready(&mut self) {
        while probe(self.replica.address).await != Health::Ready {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the replica ended: {ended:?}");
            tokio::task::yield_now().await;
        }
    }

    /// A line of the process's `/proc/…/status`.
    fn memory_kib(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .find_map(|found| found.strip_prefix(line))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// `kill -9`, then another process on the same address, as a supervisor does it.
    async fn kill_and_restart(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
        self.child = Self::spawn(self.replica.address);
        self.until_ready().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn table(number: u64, processes: &[&Process]) -> RouteTable {
    let replicas = processes.iter().map(|process| process.replica.clone());
    let key = EndpointKey {
        project: Name::default_project(),
        endpoint: "affine".parse().unwrap(),
    };
    let route = Route::new("m".to_owned(), "1".to_owned(), replicas.collect());
    RouteTable {
        number,
        routes: BTreeMap::from([(key, route)]),
    }
}

/// Eight clients that ask without pause and check every answer.
struct Load {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(gateway: &Gateway) -> Self {
        let answered = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..8_u16)
            .map(|client| {
                let (gateway, answered, stop) =
                    (gateway.clone(), Arc::clone(&answered), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        ask(&gateway, f32::from(client)).await;
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self {
            answered,
            stop,
            clients,
        }
    }

    /// Lets some more requests through.
    async fn progress(&self, count: u64) {
        let goal = self.answered.load(Ordering::SeqCst) + count;
        while self.answered.load(Ordering::SeqCst) < goal {
            assert!(
                !self
                    .clients
                    .iter()
                    .any(tokio::task::JoinHandle::is_finished),
                "a request failed"
            );
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        self.answered.load(Ordering::SeqCst)
    }
}

async fn ask(gateway: &Gateway, value: f32) {
    let body = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","data":[{value},0,0]}}]}}"#
    );
    let request = Request::post("/").body(Body::from(body)).unwrap();
    let endpoint: Name = "affine".parse().unwrap();
    let answer = gateway
        .forward(
            &Name::default_project(),
            &endpoint,
            request,
            "/v2/models/affine/infer",
        )
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["outputs"][0]["data"][0], f64::from(value) + 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_drops_no_request() {
    let (mut first, mut second) = (Process::start().await, Process::start().await);
    let gateway = Gateway::default();
    gateway.publish(table(1, &[&first, &second]));
    let load = Load::start(&gateway);
    for round in 0..6 {
        load.progress(50).await;
        let victim = if round % 2 == 0 {
            &mut first
        } else {
            &mut second
        };
        victim.kill_and_restart().await;
    }
    // And with nothing to fall back on.
    gateway.publish(table(2, &[&first]));
    for _ in 0..3 {
        load.progress(50).await;
        first.kill_and_restart().await;
    }
    load.progress(50).await;
    let answered = load.stop().await;
    let usage = &gateway.usage()[0];
    assert_eq!((usage.ok, usage.requests()), (answered, answered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redeploy_under_load_drops_no_request_and_the_old_replica_exits_with_0() {
    let mut current = Process::start().await;
    let gateway = Gateway::default();
    gateway.publish(table(1, &[&current]));
    let load = Load::start(&gateway);
    for number in 2..5 {
        load.progress(50).await;
        let next = Process::start().await;
        gateway.publish(table(number, &[&next]));
        while !gateway.drained(current.replica.id) {
            tokio::task::yield_now().await;
        }
        current.signal(Signal::TERM);
        let status = current.child.wait().unwrap();
        assert!(status.success(), "{status}");
        current = next;
    }
    // Stopped while it is still routed: the requests go on once another is there.
    current.signal(Signal::TERM);
    assert!(current.child.wait().unwrap().success());
    let next = Process::start().await;
    gateway.publish(table(9, &[&next]));
    load.progress(50).await;
    let answered = load.stop().await;
    let usage = &gateway.usage()[0];
    assert_eq!((usage.ok, usage.requests()), (answered, answered));
}

#[tokio::test]
async fn a_replica_is_ready_within_a_second_and_small() {
    let started = std::time::Instant::now();
    let process = Process::start().await;
    // Generous: the machine may be building. Alone it takes about 50 ms.
    assert!(started.elapsed() < Duration::from_secs(5));
    let resident = process.memory_kib("VmRSS:");
    println!(
        "resident: {resident} KiB, ready after {:?}",
        started.elapsed()
    );
    assert!(resident < 100 << 10, "{resident} KiB");
}

#[tokio::test]
async fn a_body_of_100_mb_is_refused_in_bounded_memory() {
    let process = Process::start().await;
    let caller = rig::Caller::new(process.replica.address);
    let usual = process.memory_kib("VmHWM:");
    // The length is told: nothing is kept.
    let body = Bytes::from(vec![b'['; 100 << 20]);
    let answer = caller.post("/v2/models/affine/infer", body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let peak = process.memory_kib("VmHWM:");
    println!("peak: {usual} KiB before, {peak} KiB after");
    assert!(
        peak < usual + (16 << 10),
        "{usual} KiB before, {peak} KiB after"
    );
    // Nothing but nesting: read once, not built up.
    let mut body = br#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":["#.to_vec();
    body.resize(24 << 20, b'[');
    let answer = caller.post("/v2/models/affine/infer", body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let peak = process.memory_kib("VmHWM:");
    println!("peak after 24 MiB of brackets: {peak} KiB");
    assert!(peak < usual + (96 << 10), "{peak} KiB");
}
