//! Changes as they happen: JSON lines without end, taken up again where they
//! broke off.

use std::io::{BufRead as _, BufReader, Read};

use lepton_api::WatchEvent;
use lepton_types::resources::Kind;
use serde_json::Value;
use ureq::http::Method;

use crate::Client;
use crate::error::{ClientError, UnexpectedAnswer, name_failure};
use crate::retry::pause;

/// A resource with all its files listed stays below this.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The changes of some kinds of resources, without end.
pub struct Watch {
    client: Client,
    kinds: String,
    since: Option<u64>,
    stream: Option<BufReader<Box<dyn Read + Send>>>,
    failed: u32,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("kinds", &self.kinds)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// The newest version that was seen; a watch from there misses nothing.
    #[must_use]
    pub const fn version(&self) -> Option<u64> {
        self.since
    }

    /// Connects now, so that nothing that happens from here on is missed.
    ///
    /// # Errors
    /// If the server cannot be reached or says no.
    pub fn connect_now(&mut self) -> Result<(), ClientError> {
        if self.stream.is_none() {
            self.stream = Some(self.connect()?);
        }
        Ok(())
    }

    fn connect(&self) -> Result<BufReader<Box<dyn Read + Send>>, ClientError> {
        let target = self
            .client
            .in_this_project(&["watch"])?
            .query("kinds", &self.kinds)
            .maybe_query("since", self.since);
        let answer = self.client.send(Method::GET, &target, ())?;
        let body = answer.response.into_body();
        let reader: Box<dyn Read + Send> =
            Box::new(body.into_with_config().limit(u64::MAX).reader());
        Ok(BufReader::new(reader))
    }

    /// The next line; `None` where the stream ended.
    fn line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let mut line = Vec::new();
        stream
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .map_err(|error| name_failure(self.client.url(), error.into()))?;
        self.stream = Some(stream);
        Ok(line.ends_with(b"\n").then_some(line))
    }

    /// What a line says; `None` if it only tells how far the feed is.
    fn event(&mut self, line: &[u8]) -> Result<Option<WatchEvent>, ClientError> {
        let unknown = |cause: String| {
            ClientError::UnexpectedAnswer(Box::new(UnexpectedAnswer {
                url: self.client.url().to_owned(),
                status: 200,
                cause,
            }))
        };
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let value: Value =
            serde_json::from_slice(line).map_err(|error| unknown(error.to_string()))?;
        if let Some(version) = value.get("version").and_then(Value::as_u64) {
            self.since = Some(version);
        }
        if value.get("change").is_none() {
            return Ok(None);
        }
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| unknown(error.to_string()))
    }
}

impl Iterator for Watch {
    type Item = Result<WatchEvent, ClientError>;

    /// Waits for the next change. An error ends the watch only if trying again did not help.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.line() {
                Ok(Some(line)) => {
                    self.failed = 0;
                    match self.event(&line) {
                        Ok(None) => {}
                        Ok(Some(event)) => return Some(Ok(event)),
                        Err(error) => return Some(Err(error)),
                    }
                }
                Ok(None) => self.stream = None,
                Err(error) => {
                    self.stream = None;
                    self.failed += 1;
                    let policy = self.client.retry();
                    if !error.is_transient() || self.failed >= policy.tries {
                        return Some(Err(error));
                    }
                    pause(policy.pause_after(self.failed));
                }
            }
        }
    }
}

impl Client {
    /// Changes of `kinds`, all where empty, after `since`, from now on where absent. The first
    /// item tells whether the server can be reached.
    #[must_use]
    pub fn watch(&self, kinds: &[Kind], since: Option<u64>) -> Watch {
        let words: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
        Watch {
            client: self.clone(),
            kinds: words.join(","),
            since,
            stream: None,
            failed: 0,
        }
    }
}
