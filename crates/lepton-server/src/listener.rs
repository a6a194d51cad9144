//! The main port: connections, bounded in number and in how long they may dawdle.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::app::App;

/// Connections at once; each costs some tens of KiB.
const CONNECTIONS_MAX: usize = 8_192;

/// How long a client may take to send the head of a request.
const HEAD_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// The pause after the machine refused a connection: for lack of file descriptors, usually.
const PAUSE_AFTER_REFUSAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Takes connections until the server stops, then waits for the requests under way.
pub(crate) async fn serve(app: App, listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX);
    builder.http2().timer(TokioTimer::new());
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
            continue;
        };
        // Small answers must not wait for the acknowledgement of the one before.
        let _best_effort = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let watched = graceful.watch(connection.into_owned());
        app.tasks.spawn(async move {
            // A client that breaks off is no news.
            let _ended = watched.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}
