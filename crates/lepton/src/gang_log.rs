//! What all workers of a gang write, as one text: whole lines, each with the
//! rank of who wrote it.

use std::io::Write as _;
use std::sync::mpsc::{SyncSender, sync_channel};

use lepton_client::{Client, ClientError, LogQuery};

use crate::context::Context;
use crate::failure::Failure;

/// Each worker that is followed holds a connection; nobody reads more at once.
const FOLLOWED_MAX: u32 = 32;
/// Lines that wait to be written, of all workers together.
const WAITING_MAX: usize = 256;
/// A line that is longer is written in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Follows the output of every worker to its end.
pub(crate) fn follow(
    ctx: &Context,
    client: &Client,
    job: &str,
    workers: u32,
    query: &LogQuery,
) -> Result<(), Failure> {
    if workers > FOLLOWED_MAX {
        ctx.note(&format!(
            "following the first {FOLLOWED_MAX} of {workers} workers"
        ));
    }
    let (send, lines) = sync_channel(WAITING_MAX);
    std::thread::scope(|scope| {
        for rank in 0..workers.min(FOLLOWED_MAX) {
            let send = send.clone();
            let query = LogQuery {
                worker: Some(rank),
                ..query.clone()
            };
            scope.spawn(move || {
                if let Err(error) = follow_one(client, job, rank, query, &send) {
                    // Nobody to tell means that writing failed, which is told instead.
                    let _ = send.send(Err(error));
                }
            });
        }
        drop(send);
        for line in lines {
            let mut out = ctx.out();
            out.write_all(&line?)?;
            out.flush()?;
        }
        Ok(())
    })
}

fn follow_one(
    client: &Client,
    job: &str,
    rank: u32,
    query: LogQuery,
    send: &SyncSender<Result<Vec<u8>, ClientError>>,
) -> Result<(), ClientError> {
    let mut lines = Lines::of(rank);
    for chunk in client.follow_job_log(job, query)? {
        let text = lines.take(&chunk?.bytes);
        if !text.is_empty() && send.send(Ok(text)).is_err() {
            return Ok(());
        }
    }
    let rest = lines.finish();
    if !rest.is_empty() {
        let _ = send.send(Ok(rest));
    }
    Ok(())
}

/// Makes whole lines out of pieces, with a rank before each.
struct Lines {
    prefix: String,
    begun: Vec<u8>,
}

impl Lines {
    fn of(rank: u32) -> Self {
        Self {
            prefix: format!("[{rank}] "),
            begun: Vec::new(),
        }
    }

    /// The lines that `bytes` complete.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() > LINE_BYTES_MAX {
                text.extend(self.finish());
            }
        }
        text
    }

    /// The line that was begun, ended.
    fn finish(&mut self) -> Vec<u8> {
        if self.begun.is_empty() {
            return Vec::new();
        }
        let mut line = self.prefix.clone().into_bytes();
        line.append(&mut self.begun);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_whole_lines_of_one_rank() {
        let mut lines = Lines::of(3);
        assert_eq!(lines.take(b"on"), b"");
        assert_eq!(lines.take(b"e\ntwo\nth"), b"[3] one\n[3] two\n");
        assert_eq!(lines.finish(), b"[3] th\n");
        assert_eq!(lines.finish(), b"");
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(lines.take(&long).ends_with(b"x\n"));
    }
}
