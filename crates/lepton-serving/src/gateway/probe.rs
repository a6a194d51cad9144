//! Asking a replica whether it is ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a replica may take to say how it is. It answers this without the model, so
/// only a process that hangs takes longer.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// Enough of the answer to know its status.
const HEAD_BYTES: usize = 12;

/// How a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers requests.
    Ready,
    /// It lives, and loads its model or drains.
    NotReady,
    /// Nothing answers there.
    Dead,
}

/// Asks the replica at `address` how it is.
pub async fn probe(address: SocketAddr) -> Health {
    match tokio::time::timeout(PROBE_MAX, ask(address)).await {
        Ok(Ok(head)) if head.ends_with(b" 200") => Health::Ready,
        Ok(Ok(_)) => Health::NotReady,
        Ok(Err(_)) | Err(_) => Health::Dead,
    }
}

/// One short connection of its own: a pooled one says nothing about new ones.
async fn ask(address: SocketAddr) -> std::io::Result<[u8; HEAD_BYTES]> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET /v2/health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    Ok(head)
}
