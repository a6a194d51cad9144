//! The main port: connections, bounded in number and in how long they may dawdle.

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use lepton_objects::s3::PeerAddress;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::app::App;

/// Connections at once; each costs some tens of KiB.
const CONNECTIONS_MAX: usize = 8_192;

/// Files that the server may have open: its connections, and some for the store, the objects and the
/// workers. Most shells allow 1,024, which idle clients alone use up.
const OPEN_FILES: u64 = 2 * CONNECTIONS_MAX as u64;

/// How long a client may take to send the head of a request.
const HEAD_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// After so long without a word a client of HTTP/2 is asked whether it is still there, and must say so
/// in time.
const ASK_AFTER: std::time::Duration = std::time::Duration::from_secs(60);
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// The pause after the machine refused a connection: for lack of file descriptors, usually.
const PAUSE_AFTER_REFUSAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Allows itself as many open files as connections need, as far as the machine lets it.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if limit.current.is_none_or(|current| current >= most) {
        return;
    }
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files stays as it was");
    }
}

/// Takes connections until the server stops, then waits for the requests under way.
pub(crate) async fn serve(app: App, listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ASK_AFTER)
        .keep_alive_timeout(ANSWER_WITHIN);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
            continue;
        };
        // Small answers must not wait for the acknowledgement of the one before.
        let _best_effort = stream.set_nodelay(true);
        let peer = PeerAddress(peer.ip());
        let service = router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                request
            });
        let service = TowerToHyperService::new(service);
        let (builder, watcher) = (builder.clone(), graceful.watcher());
        let stopping = app.stopping.clone();
        app.tasks.spawn(async move {
            let spoke = tokio::select! {
                () = stopping.cancelled() => false,
                spoke = tokio::time::timeout(HEAD_MAX, has_spoken(&stream)) => spoke.unwrap_or(false),
            };
            if spoke {
                let connection =
                    builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                // A client that breaks off is no news.
                let _ended = watcher.watch(connection.into_owned()).await;
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How soon the rest of a preface that came in pieces is looked for.
const PREFACE_POLL: std::time::Duration = std::time::Duration::from_millis(10);

/// Waits until a client has said enough to tell which HTTP it speaks. Hyper looks for that without
/// a limit of time, so who says nothing would keep a place for ever. False if it left.
async fn has_spoken(stream: &TcpStream) -> bool {
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return false,
            Ok(count) if count < PREFACE.len() && PREFACE.starts_with(&first[..count]) => {
                tokio::time::sleep(PREFACE_POLL).await;
            }
            Ok(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    async fn spoke(said: &[u8]) -> Result<bool, tokio::time::error::Elapsed> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(said).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let wait = std::time::Duration::from_millis(200);
        tokio::time::timeout(wait, has_spoken(&stream)).await
    }

    #[tokio::test]
    async fn who_says_nothing_or_half_a_preface_is_waited_for() {
        assert!(spoke(b"").await.is_err());
        assert!(spoke(&PREFACE[..10]).await.is_err());
        assert_eq!(spoke(PREFACE).await, Ok(true));
        assert_eq!(spoke(b"POST").await, Ok(true));
        assert_eq!(spoke(b"G").await, Ok(true));
    }
}
