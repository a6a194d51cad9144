//! The gateway before replicas that come, go, hang and die.
#![expect(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use lepton_serving::gateway::{
    EndpointKey, ForwardError, Gateway, Health, Limit, Replica, Route, RouteTable, probe,
};
use lepton_serving::token::ReplicaToken;
use lepton_types::{IdSource, Name, ReplicaId, SystemIds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn replica_at(address: SocketAddr) -> Replica {
    Replica {
        id: ReplicaId::from(SystemIds.next_id()),
        address,
        token: ReplicaToken::new(rig::TOKEN.to_owned()),
    }
}

fn table(number: u64, replicas: Vec<Replica>) -> RouteTable {
    let mut route = Route::new("m".to_owned(), "1".to_owned(), replicas);
    route.wait_max = Duration::from_secs(20);
    table_with(number, route)
}

fn table_with(number: u64, route: Route) -> RouteTable {
    let key = EndpointKey {
        project: Name::default_project(),
        endpoint: name("affine"),
    };
    RouteTable {
        number,
        routes: BTreeMap::from([(key, route)]),
    }
}

async fn ask(gateway: &Gateway, body: &str) -> Result<Response<Body>, ForwardError> {
    let request = Request::post("/ignored")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let path = "/v2/models/affine/infer";
    gateway
        .forward(&Name::default_project(), &name("affine"), request, path)
        .await
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A replica that answers with `reply` after a permit, if it needs any.
struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
}

async fn fake_on(
    listener: TcpListener,
    reply: &'static str,
    permits: Option<Arc<Semaphore>>,
) -> Fake {
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let handler = async move || {
        counter.fetch_add(1, Ordering::SeqCst);
        if let Some(permits) = permits {
            permits.acquire().await.unwrap().forget();
        }
        reply
    };
    let app = Router::new()
        .route("/v2/health/ready", any(StatusCode::OK))
        .fallback(any(handler));
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        axum::serve(listener, app)
            .with_graceful_shutdown(async {
                let _ = stopped.await;
            })
            .await
    });
    Fake {
        address,
        asked,
        stop,
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

async fn fake(reply: &'static str) -> Fake {
    fake_on(listener().await, reply, None).await
}

/// Speaks `script` on every connection after the request has come, then closes it.
async fn scripted(script: &'static [u8]) -> SocketAddr {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(script).await;
        }
    });
    address
}

/// Waits until `condition` holds; the test's own timeout ends it otherwise.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_spread_over_the_replicas() {
    let (first, second) = (fake("1").await, fake("2").await);
    let gateway = Gateway::default();
    assert!(gateway.publish(table(
        1,
        vec![replica_at(first.address), replica_at(second.address)]
    )));
    for _ in 0..200 {
        ask(&gateway, "").await.unwrap();
    }
    let counts = [&first, &second].map(|fake| fake.asked.load(Ordering::SeqCst));
    assert_eq!(counts.iter().sum::<usize>(), 200);
    assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
    let usage = gateway.usage();
    assert_eq!(
        (usage[0].ok, usage[0].retries, usage[0].requests()),
        (200, 0, 200)
    );
    assert_eq!(usage[0].latency.count(), 200);
}

#[tokio::test]
async fn the_busy_replica_is_left_alone() {
    let stuck = Arc::new(Semaphore::new(0));
    let busy = fake_on(listener().await, "busy", Some(Arc::clone(&stuck))).await;
    let idle = fake("idle").await;
    let gateway = Gateway::default();
    let busy_replica = replica_at(busy.address);
    gateway.publish(table(1, vec![busy_replica.clone()]));
    let waiting = tokio::spawn({
        let gateway = gateway.clone();
        async move { ask(&gateway, "").await }
    });
    until(|| gateway.in_flight(busy_replica.id) == 1).await;
    gateway.publish(table(2, vec![busy_replica, replica_at(idle.address)]));
    for _ in 0..40 {
        assert_eq!(text(ask(&gateway, "").await.unwrap()).await, "idle");
    }
    stuck.add_permits(100);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_and_the_replica_left_out() {
    let dead = listener().await;
    let dead_replica = replica_at(dead.local_addr().unwrap());
    drop(dead);
    let alive = fake("alive").await;
    let gateway = Gateway::default();
    gateway.publish(table(
        1,
        vec![dead_replica.clone(), replica_at(alive.address)],
    ));
    for _ in 0..50 {
        assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "alive");
    }
    assert!(gateway.ejected(dead_replica.id));
    let key = EndpointKey {
        project: Name::default_project(),
        endpoint: name("affine"),
    };
    let status = gateway.status(&key).unwrap();
    assert_eq!((status.replicas, status.replicas_up), (2, 1));
    assert!(gateway.usage()[0].retries <= 3);
}

#[tokio::test]
async fn a_replica_that_dies_before_or_within_its_answer_is_not_noticed_by_the_caller() {
    let alive = fake("alive").await;
    for script in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"garbage\r\n\r\n",
    ] {
        let dying = scripted(script).await;
        let gateway = Gateway::default();
        gateway.publish(table(1, vec![replica_at(dying), replica_at(alive.address)]));
        for _ in 0..20 {
            let answer = ask(&gateway, "x").await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(text(answer).await, "alive");
        }
    }
}

#[tokio::test]
async fn a_request_that_kills_every_replica_is_given_up() {
    let replicas = [
        scripted(b"").await,
        scripted(b"").await,
        scripted(b"").await,
        scripted(b"").await,
    ];
    let gateway = Gateway::default();
    gateway.publish(table(1, replicas.map(replica_at).to_vec()));
    let error = ask(&gateway, "poison").await.unwrap_err();
    assert!(
        matches!(error, ForwardError::Lost { times: 3, .. }),
        "{error}"
    );
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn requests_wait_for_the_first_replica() {
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![]));
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { text(ask(&gateway, "x").await.unwrap()).await })
        })
        .collect();
    until(|| gateway.usage()[0].waiting == 10).await;
    let replica = fake("at last").await;
    gateway.publish(table(2, vec![replica_at(replica.address)]));
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), "at last");
    }
    assert_eq!(gateway.usage()[0].waiting, 0);
}

#[tokio::test]
async fn requests_wait_for_a_replica_that_comes_back_on_its_port() {
    let first = listener().await;
    let address = first.local_addr().unwrap();
    drop(first);
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![replica_at(address)]));
    let waiting = tokio::spawn({
        let gateway = gateway.clone();
        async move { text(ask(&gateway, "x").await.unwrap()).await }
    });
    until(|| gateway.usage()[0].waiting == 1).await;
    let back = TcpListener::bind(address).await.unwrap();
    let _replica = fake_on(back, "back", None).await;
    assert_eq!(waiting.await.unwrap(), "back");
    gateway.close().await;
}

#[tokio::test]
async fn the_queue_and_the_wait_are_bounded() {
    let gateway = Gateway::default();
    let mut route = Route::new("m".to_owned(), "1".to_owned(), vec![]);
    route.queue_max = 1;
    route.wait_max = Duration::from_millis(100);
    gateway.publish(table_with(1, route));
    let first = tokio::spawn({
        let gateway = gateway.clone();
        async move { ask(&gateway, "x").await }
    });
    until(|| gateway.usage()[0].waiting == 1).await;
    let refused = ask(&gateway, "x").await.unwrap_err();
    assert!(matches!(
        refused,
        ForwardError::QueueFull { queue_max: 1, .. }
    ));
    let late = first.await.unwrap().unwrap_err();
    assert!(
        late.to_string().contains("it has no replica that is ready"),
        "{late}"
    );
    assert_eq!(late.retry_after_secs(), Some(1));
    assert_eq!(gateway.usage()[0].unavailable, 2);
    let nowhere = gateway
        .forward(
            &name("other"),
            &name("affine"),
            Request::new(Body::empty()),
            "/",
        )
        .await
        .unwrap_err();
    assert_eq!(
        nowhere.to_string(),
        "project `other` has no endpoint `affine`"
    );
}

#[tokio::test]
async fn a_full_replica_is_passed_by_and_its_word_is_the_last_resort() {
    let full = scripted(
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfull",
    )
    .await;
    let alive = fake("alive").await;
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![replica_at(full), replica_at(alive.address)]));
    for _ in 0..20 {
        assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "alive");
    }
    gateway.publish(table(2, vec![replica_at(full)]));
    let answer = ask(&gateway, "x").await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[tokio::test]
async fn a_replica_that_is_not_ready_is_waited_for() {
    let ready = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ready);
    let status = move || match seen.load(Ordering::SeqCst) {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let (for_health, for_rest) = (status.clone(), status);
    let app = Router::new()
        .route("/v2/health/ready", any(async move || for_health()))
        .fallback(any(async move || match for_rest() {
            StatusCode::OK => (StatusCode::OK, HeaderMap::new()),
            status => {
                let mut headers = HeaderMap::new();
                headers.insert("x-lepton-replica-not-ready", "1".parse().unwrap());
                (status, headers)
            }
        }));
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![replica_at(address)]));
    let waiting = tokio::spawn({
        let gateway = gateway.clone();
        async move { ask(&gateway, "x").await.unwrap().status() }
    });
    until(|| gateway.usage()[0].waiting == 1).await;
    ready.store(1, Ordering::SeqCst);
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn a_slow_replica_is_given_up_in_time() {
    let never = Arc::new(Semaphore::new(0));
    let slow = fake_on(listener().await, "never", Some(never)).await;
    let gateway = Gateway::default();
    let mut route = Route::new(
        "m".to_owned(),
        "1".to_owned(),
        vec![replica_at(slow.address)],
    );
    route.answer_max = Duration::from_millis(50);
    gateway.publish(table_with(1, route));
    let error = ask(&gateway, "x").await.unwrap_err();
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn draining_waits_for_what_is_in_flight_and_lets_nothing_new_in() {
    let permits = Arc::new(Semaphore::new(0));
    let old = fake_on(listener().await, "old", Some(Arc::clone(&permits))).await;
    let new = fake("new").await;
    let old_replica = replica_at(old.address);
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![old_replica.clone()]));
    let under_way = tokio::spawn({
        let gateway = gateway.clone();
        async move { text(ask(&gateway, "x").await.unwrap()).await }
    });
    until(|| gateway.in_flight(old_replica.id) == 1).await;
    assert!(!gateway.drained(old_replica.id));
    gateway.publish(table(2, vec![replica_at(new.address)]));
    assert!(!gateway.drained(old_replica.id));
    for _ in 0..10 {
        assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "new");
    }
    permits.add_permits(1);
    assert_eq!(under_way.await.unwrap(), "old");
    until(|| gateway.drained(old_replica.id)).await;
    assert_eq!(old.asked.load(Ordering::SeqCst), 1);
    assert!(
        !gateway.publish(table(1, vec![])),
        "an older table is refused"
    );
    assert_eq!(gateway.table_number(), 2);
}

#[tokio::test]
async fn no_request_is_dropped_while_replicas_are_swapped_under_load() {
    let gateway = Gateway::default();
    let mut current = fake("x").await;
    let mut replica = replica_at(current.address);
    gateway.publish(table(1, vec![replica.clone()]));
    let stop = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (gateway, stop) = (gateway.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answered = 0;
                while stop.load(Ordering::SeqCst) == 0 {
                    assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "x");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for number in 2..32 {
        let next = fake("x").await;
        let next_replica = replica_at(next.address);
        gateway.publish(table(number, vec![next_replica.clone()]));
        until(|| gateway.drained(replica.id)).await;
        let asked = current.asked.load(Ordering::SeqCst);
        current.stop.send(()).unwrap();
        assert_eq!(current.asked.load(Ordering::SeqCst), asked);
        (current, replica) = (next, next_replica);
        let served = Arc::clone(&current.asked);
        until(move || served.load(Ordering::SeqCst) > 20).await;
    }
    stop.store(1, Ordering::SeqCst);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    let usage = &gateway.usage()[0];
    assert_eq!((usage.ok, usage.requests()), (answered, answered));
}

#[tokio::test]
async fn the_callers_credentials_never_reach_a_replica() {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(any(async |headers: HeaderMap, body: Bytes| {
        format!("{headers:?} {body:?}")
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![replica_at(address)]));
    let request = Request::post("/")
        .header("authorization", "Bearer secret-of-the-caller")
        .header("x-lepton-replica-token", "forged")
        .header("connection", "x-hop")
        .header("x-hop", "hop")
        .header("x-request-id", "42")
        .body(Body::from("payload"))
        .unwrap();
    let answer = gateway
        .forward(&Name::default_project(), &name("affine"), request, "/v2")
        .await
        .unwrap();
    let seen = text(answer).await;
    for absent in ["secret-of-the-caller", "forged", "x-hop"] {
        assert!(!seen.contains(absent), "{seen}");
    }
    for present in [rig::TOKEN, "42", "payload"] {
        assert!(seen.contains(present), "{seen}");
    }
}

#[tokio::test]
async fn a_large_answer_is_passed_on_whole() {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(any(async || vec![b'z'; 30 << 20]));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let gateway = Gateway::default();
    let replica = replica_at(address);
    gateway.publish(table(1, vec![replica.clone()]));
    let answer = ask(&gateway, "").await.unwrap();
    assert_eq!(
        gateway.in_flight(replica.id),
        1,
        "in flight until it is read"
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 30 << 20);
    assert!(body.iter().all(|byte| *byte == b'z'));
    assert_eq!(gateway.in_flight(replica.id), 0);
    assert_eq!(gateway.usage()[0].response_bytes, 30 << 20);
}

#[tokio::test]
async fn events_are_passed_on_as_they_come() {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let more = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&more);
    let app = Router::new().fallback(any(async move || {
        let events = futures_util::stream::unfold(0, move |at| {
            let permits = Arc::clone(&permits);
            async move {
                if at > 0 {
                    permits.acquire().await.unwrap().forget();
                }
                (at < 2).then(|| (Ok::<_, std::io::Error>(Bytes::from("data: x\n\n")), at + 1))
            }
        });
        (
            [("content-type", "text/event-stream")],
            Body::from_stream(events),
        )
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![replica_at(address)]));
    let mut answer = ask(&gateway, "").await.unwrap();
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: x\n\n");
    more.add_permits(2);
    assert_eq!(text(answer).await, "data: x\n\n");
}

#[tokio::test]
async fn bodies_too_large_are_refused_at_the_gateway() {
    let replica = fake("x").await;
    let gateway = Gateway::new(1_000);
    gateway.publish(table(1, vec![replica_at(replica.address)]));
    let error = ask(&gateway, &"x".repeat(1_001)).await.unwrap_err();
    assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(replica.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn probing_tells_ready_from_not_ready_from_dead() {
    let replica = rig::Replica::start(rig::options("affine")).await;
    assert_eq!(probe(replica.address).await, Health::Ready);
    let loading = scripted(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(probe(loading).await, Health::NotReady);
    let nobody = listener().await;
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    assert_eq!(probe(address).await, Health::Dead);
    assert_eq!(probe(scripted(b"").await).await, Health::Dead);
}

#[tokio::test]
async fn a_real_replica_answers_through_the_gateway() {
    let replica = rig::Replica::start(rig::options("affine")).await;
    let gateway = Gateway::default();
    gateway.publish(table(1, vec![replica_at(replica.address)]));
    let body = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    let answer = ask(&gateway, body).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(text(answer).await.contains(r#""data":[4.5,6.5]"#));
    let wrong = ask(&gateway, "{").await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(gateway.usage()[0].client_errors, 1);
}

#[tokio::test]
async fn answers_are_told_once_also_of_a_replica_that_has_left() {
    let gateway = Gateway::default();
    let (old, new) = (fake("old").await, fake("new").await);
    let (old, new) = (replica_at(old.address), replica_at(new.address));
    gateway.publish(table(1, vec![old.clone()]));
    for _ in 0..3 {
        assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "old");
    }
    gateway.publish(table(2, vec![new.clone()]));
    assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "new");
    assert!(gateway.drained(old.id));
    assert_eq!(
        gateway.take_answered(),
        BTreeMap::from([(old.id, 3), (new.id, 1)])
    );
    assert!(gateway.take_answered().is_empty());
    assert_eq!(text(ask(&gateway, "x").await.unwrap()).await, "new");
    assert_eq!(gateway.take_answered(), BTreeMap::from([(new.id, 1)]));
}

/// A table whose replicas take so many requests at once.
fn limited(number: u64, replicas: Vec<Replica>, concurrency: u32) -> RouteTable {
    let mut route = Route::new("m".to_owned(), "1".to_owned(), replicas);
    route.wait_max = Duration::from_secs(20);
    route.limit = Some(Limit {
        concurrency,
        late_after: Duration::ZERO,
    });
    table_with(number, route)
}

fn affine() -> EndpointKey {
    EndpointKey {
        project: Name::default_project(),
        endpoint: name("affine"),
    }
}

#[tokio::test]
async fn a_replica_gets_no_more_at_once_than_its_limit_and_nobody_is_dropped() {
    let permits = Arc::new(Semaphore::new(0));
    let only = fake_on(listener().await, "done", Some(Arc::clone(&permits))).await;
    let gateway = Gateway::default();
    gateway.publish(limited(1, vec![replica_at(only.address)], 2));
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { ask(&gateway, "").await })
        })
        .collect();
    until(|| gateway.usage()[0].waiting == 8 && only.asked.load(Ordering::SeqCst) == 2).await;
    assert_eq!(gateway.load_now(&affine()), 10);
    for ended in 1..=10_usize {
        permits.add_permits(1);
        // Each end lets exactly one of those that wait in.
        until(|| only.asked.load(Ordering::SeqCst) == (2 + ended).min(10)).await;
    }
    for answer in asking {
        assert_eq!(text(answer.await.unwrap().unwrap()).await, "done");
    }
    let load = gateway.take_load(&affine()).unwrap();
    assert_eq!((load.arrivals, load.ended), (10, 10));
    assert!(load.late >= 8, "{load:?}");
    assert_eq!(load.services.len(), 10);
    assert!(load.in_flight_time >= load.service_time);
    assert_eq!(gateway.load_now(&affine()), 0);
}

#[tokio::test]
async fn a_request_to_an_endpoint_that_sleeps_rings_and_is_held_until_a_replica_comes() {
    let gateway = Gateway::default();
    gateway.publish(limited(1, Vec::new(), 2));
    let held = tokio::spawn({
        let gateway = gateway.clone();
        async move { ask(&gateway, "").await }
    });
    gateway.starved().await;
    assert_eq!(gateway.load_now(&affine()), 1);
    let woken = fake("awake").await;
    gateway.publish(limited(2, vec![replica_at(woken.address)], 2));
    assert_eq!(text(held.await.unwrap().unwrap()).await, "awake");
    assert_eq!(gateway.take_load(&affine()).unwrap().late, 1);
}
