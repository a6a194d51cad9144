//! What serving costs: the engine alone, a replica over HTTP, and the gateway before it.
//!
//!     scripts/fetch-onnxruntime && cargo bench -p lepton-serving
//!
//! The replica is a process of its own on one thread of inference; clients and gateway
//! share this one. Prints requests a second and latencies; nothing is asserted.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lepton_serving::batcher::BatchOptions;
use lepton_serving::engine::{Engine, ModelSource};
use lepton_serving::gateway::{EndpointKey, Gateway, Health, Replica, Route, RouteTable, probe};
use lepton_serving::tensor::{NamedTensor, Tensor, TensorData};
use lepton_serving::token::{REPLICA_TOKEN_HEADER, ReplicaToken};
use lepton_serving::worker::{ServeOptions, serve};
use lepton_types::{IdSource, Name, ReplicaId, SystemIds};

const LISTEN: &str = "LEPTON_BENCH_LISTEN";
const ROWS_MAX: &str = "LEPTON_BENCH_ROWS_MAX";
const TOKEN: &str = "token";
const MEASURED: Duration = Duration::from_secs(3);

fn library() -> PathBuf {
    let usual =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deps/onnxruntime/libonnxruntime.so");
    std::env::var_os("ORT_DYLIB_PATH").map_or(usual, PathBuf::from)
}

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.onnx"))
}

fn main() {
    if let Ok(listen) = std::env::var(LISTEN) {
        return replica(listen.parse().unwrap());
    }
    engine();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for rows_max in [1, 64] {
        runtime.block_on(requests(rows_max));
    }
}

/// The process that `requests` measures.
fn replica(listen: SocketAddr) {
    let token = ReplicaToken::new(TOKEN.to_owned());
    let rows_max = std::env::var(ROWS_MAX).unwrap().parse().unwrap();
    let options = ServeOptions {
        name: "m".to_owned(),
        batching: BatchOptions {
            queue_max: 256,
            rows_max,
        },
        ..ServeOptions::new(model("tabular"), library(), listen, token)
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(serve(options))
        .unwrap();
}

fn engine() {
    let started = Instant::now();
    let mut engine = Engine::load(&library(), ModelSource::File(&model("tabular")), 1).unwrap();
    println!(
        "engine: library and model loaded in {:?}",
        started.elapsed()
    );
    for rows in [1_usize, 100] {
        let inputs = || {
            vec![
                NamedTensor {
                    name: "age".to_owned(),
                    tensor: Tensor::new(vec![rows, 1], TensorData::Fp32(vec![31.0; rows])).unwrap(),
                },
                NamedTensor {
                    name: "colour".to_owned(),
                    tensor: Tensor::new(
                        vec![rows, 1],
                        TensorData::Bytes(vec!["red".to_owned(); rows]),
                    )
                    .unwrap(),
                },
            ]
        };
        let mut latencies = Vec::new();
        let began = Instant::now();
        while began.elapsed() < MEASURED {
            let inputs = inputs();
            let started = Instant::now();
            engine.infer(inputs).unwrap();
            latencies.push(started.elapsed());
        }
        report(
            &format!("engine, {rows} rows a run"),
            latencies,
            began.elapsed(),
        );
    }
}

struct Stop(Child);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn requests(rows_max: usize) {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let child = Command::new(std::env::current_exe().unwrap())
        .env(LISTEN, address.to_string())
        .env(ROWS_MAX, rows_max.to_string())
        .spawn()
        .unwrap();
    let _stop = Stop(child);
    while probe(address).await != Health::Ready {
        tokio::task::yield_now().await;
    }
    let bodies = [
        (
            "infer",
            r#"{"inputs":[{"name":"age","shape":[1,1],"datatype":"FP32","data":[31]},{"name":"colour","shape":[1,1],"datatype":"BYTES","data":["red"]}]}"#,
        ),
        ("rows", r#"{"rows":[{"age":31,"colour":"red"}]}"#),
    ];
    for (verb, body) in bodies {
        for clients in [1, 16] {
            let what = format!("{verb}, {clients:2} clients, stacking up to {rows_max:2}");
            measure(
                &format!("direct:  {what}"),
                clients,
                direct(address, verb, body),
            )
            .await;
            measure(
                &format!("gateway: {what}"),
                clients,
                gateway(address, verb, body),
            )
            .await;
        }
    }
}

type Ask = Arc<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

fn direct(address: SocketAddr, verb: &'static str, body: &'static str) -> Ask {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    Arc::new(move || {
        let client = client.clone();
        Box::pin(async move {
            let request = Request::post(format!("http://{address}/v2/models/m/{verb}"))
                .header(REPLICA_TOKEN_HEADER, TOKEN)
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .unwrap();
            let response = client.request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.unwrap();
        })
    })
}

fn gateway(address: SocketAddr, verb: &'static str, body: &'static str) -> Ask {
    let gateway = Gateway::default();
    let endpoint: Name = "m".parse().unwrap();
    let key = EndpointKey {
        project: Name::default_project(),
        endpoint: endpoint.clone(),
    };
    let replica = Replica {
        id: ReplicaId::from(SystemIds.next_id()),
        address,
        token: ReplicaToken::new(TOKEN.to_owned()),
    };
    let route = Route::new("m".to_owned(), "1".to_owned(), vec![replica]);
    gateway.publish(RouteTable {
        number: 1,
        routes: BTreeMap::from([(key, route)]),
    });
    Arc::new(move || {
        let (gateway, endpoint) = (gateway.clone(), endpoint.clone());
        Box::pin(async move {
            let request = Request::post("/").body(Body::from(body)).unwrap();
            let path = format!("/v2/models/m/{verb}");
            let project = Name::default_project();
            let response = gateway
                .forward(&project, &endpoint, request, &path)
                .await
                .unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.unwrap();
        })
    })
}

async fn measure(what: &str, clients: usize, ask: Ask) {
    for _ in 0..200 {
        ask().await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (ask, stop) = (Arc::clone(&ask), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    ask().await;
                    latencies.push(started.elapsed());
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(MEASURED).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    report(what, latencies, began.elapsed());
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn report(what: &str, mut latencies: Vec<Duration>, took: Duration) {
    latencies.sort_unstable();
    let quantile = |permille: usize| latencies[(latencies.len() - 1) * permille / 1000];
    println!(
        "{what:50} {:8.0}/s  p50 {:>9.1?}  p99 {:>9.1?}",
        latencies.len() as f64 / took.as_secs_f64(),
        quantile(500),
        quantile(990),
    );
}
