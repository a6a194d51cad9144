//! Puts or gets objects of one length through any S3 server and says how fast.
//!
//!     s3_load HOST:PORT BUCKET put|get BYTES CONNECTIONS OBJECTS SECONDS
//!
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_REGION` are read. `put` goes round `OBJECTS` keys, `get`
//! reads them. A connection sends its next request once the answer to the last is whole. Requests are signed
//! (SigV4) without hashing the body, so that the client costs little; answers are not verified but for
//! status and length. One line of JSON comes out.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::{digest, hmac};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What every request is made of.
struct Load {
    address: String,
    bucket: String,
    is_put: bool,
    bytes: usize,
    objects: u64,
    access_key: String,
    secret: String,
    region: String,
    body: Vec<u8>,
    next: AtomicU64,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// `20261121T083000Z` of a moment (days to dates as in H. Hinnant's `civil_from_days`).
fn stamp(since_epoch: Duration) -> String {
    let (day, second) = (
        since_epoch.as_secs() / 86_400,
        since_epoch.as_secs() % 86_400,
    );
    let shifted = day + 719_468;
    let era_day = shifted % 146_097;
    let year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * year + year / 4 - year / 100);
    let month = (5 * year_day + 2) / 153;
    let (date, month) = (year_day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = year + shifted / 146_097 * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{date:02}T{hour:02}{minute:02}{second:02}Z")
}

impl Load {
    fn head(&self, number: u64) -> String {
        let (method, length) = match self.is_put {
            true => ("PUT", self.bytes),
            false => ("GET", 0),
        };
        let path = format!(
            "/{}/{}/{:08}",
            self.bucket,
            self.bytes,
            number % self.objects
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = stamp(now.unwrap_or_default());
        let scope = format!("{}/{}/s3/aws4_request", &at[..8], self.region);
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n\nhost:{}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{at}\n\n{signed}\nUNSIGNED-PAYLOAD",
            self.address
        );
        let hashed = digest::digest(&digest::SHA256, canonical.as_bytes());
        let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(hashed.as_ref()));
        let mut key = mac(format!("AWS4{}", self.secret).as_bytes(), &at[..8]);
        for part in [self.region.as_str(), "s3", "aws4_request"] {
            key = mac(&key, part);
        }
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\nx-amz-date: {at}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}\r\n\
             content-length: {length}\r\n\r\n",
            self.address,
            self.access_key,
            hex(&mac(&key, &to_sign))
        )
    }

    /// One request on an open connection.
    async fn ask(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
        let head = self.head(self.next.fetch_add(1, Ordering::Relaxed));
        if self.is_put && self.bytes <= 65_536 {
            // One packet, as any client that buffers sends it.
            stream
                .write_all(&[head.as_bytes(), &self.body].concat())
                .await?;
        } else {
            stream.write_all(head.as_bytes()).await?;
            if self.is_put {
                stream.write_all(&self.body).await?;
            }
        }
        let mut held = 0;
        let (end, length) = loop {
            let read = stream.read(&mut buffer[held..]).await?;
            held += read;
            if let Some(at) = buffer[..held]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            {
                break (at + 4, length_of(&buffer[..at])?);
            }
            if read == 0 || held == buffer.len() {
                return Err(Error::other("an answer was cut off"));
            }
        };
        if !self.is_put && length != self.bytes {
            return Err(Error::other(format!(
                "{length} bytes instead of {}",
                self.bytes
            )));
        }
        let mut left = length - (held - end);
        while left > 0 {
            let most = left.min(buffer.len());
            match stream.read(&mut buffer[..most]).await? {
                0 => return Err(Error::other("an answer was cut off")),
                read => left -= read,
            }
        }
        Ok(())
    }
}

/// The length that the head of an answer tells, if it went well.
fn length_of(head: &[u8]) -> Result<usize> {
    let text = String::from_utf8_lossy(head);
    if !text.starts_with("HTTP/1.1 200") {
        return Err(Error::other(text.into_owned()));
    }
    let mut lengths = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse())
    });
    match lengths.next() {
        Some(length) => length.map_err(Error::other),
        None => Ok(0),
    }
}

async fn connection(load: Arc<Load>, until: Instant, most: u64) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(&load.address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut took) = (vec![0; 256 << 10], Vec::new());
    while Instant::now() < until && load.next.load(Ordering::Relaxed) < most {
        let start = Instant::now();
        load.ask(&mut stream, &mut buffer).await?;
        took.push(start.elapsed());
    }
    Ok(took)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::other(format!("`{text}` is no number")))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [address, bucket, what, bytes, connections, objects, seconds] = &given[..] else {
        return Err(Error::other(
            "s3_load HOST:PORT BUCKET put|get BYTES CONNECTIONS OBJECTS SECONDS",
        ));
    };
    let setting = |name: &str| std::env::var(name).map_err(Error::other);
    let bytes: usize = number(bytes)?;
    let is_put = what == "put";
    let load = Arc::new(Load {
        address: address.clone(),
        bucket: bucket.clone(),
        is_put,
        bytes,
        objects: number(objects)?,
        access_key: setting("AWS_ACCESS_KEY_ID")?,
        secret: setting("AWS_SECRET_ACCESS_KEY")?,
        region: setting("AWS_REGION")?,
        // Nothing that compresses.
        body: (0..bytes as u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect(),
        next: AtomicU64::new(0),
    });
    let (start, seconds) = (Instant::now(), number::<f64>(seconds)?);
    // Without a time, every object is put once.
    let (until, most) = match seconds > 0.0 {
        true => (start + Duration::from_secs_f64(seconds), u64::MAX),
        false => (start + Duration::from_secs(3_600), load.objects),
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..number::<usize>(connections)? {
        tasks.spawn(connection(Arc::clone(&load), until, most));
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done.map_err(Error::other)??);
    }
    let elapsed = start.elapsed().as_secs_f64();
    took.sort_unstable();
    let quantile = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let rate = took.len() as f64 / elapsed;
    println!(
        "{{\"requests\": {}, \"rate\": {rate:.1}, \"mb_s\": {:.1}, \"p50_ms\": {:.2}, \"p99_ms\": {:.2}}}",
        took.len(),
        rate * bytes as f64 / 1e6,
        quantile(50),
        quantile(99)
    );
    Ok(())
}
