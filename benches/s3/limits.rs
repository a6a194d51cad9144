//! What an S3 server could reach at most on these cores and this disk: MD5 and AES-256-GCM on one core,
//! plain files that are written and synced, or read, and bytes that come and go by HTTP and are neither looked at nor
//! kept.
//!
//!     limits FOLDER BYTES WRITERS SECONDS
//!     limits serve PORT BYTES
//!
//! The first: `WRITERS` threads each write files of `BYTES` from memory into `FOLDER` in pieces of 1 MiB, sync each, and
//! take the next, for `SECONDS`; then read them from the page cache. One line of JSON comes out, in MB a second, and the
//! processor seconds that a MB took. The second answers PUT by throwing the body away, and GET by `BYTES` from memory.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, measures time, and ends at the first error"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use md5_many::{Md5Many, Md5State};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const PIECE: usize = 1 << 20;
const SEGMENT: usize = 64 << 10;
/// Streams whose MD5s one core computes together.
const STREAMS: usize = 16;

/// MB a second of `work` on 16 MiB, over and over.
fn rate(seconds: f64, mut work: impl FnMut(&mut [u8])) -> f64 {
    let mut bytes: Vec<u8> = (0..16_u64 << 20)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < seconds {
        work(&mut bytes);
        done += bytes.len();
    }
    done as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn seal(key: &LessSafeKey, bytes: &mut [u8]) {
    for (number, segment) in bytes.chunks_mut(SEGMENT).enumerate() {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), segment);
        let _ = std::hint::black_box(tag.unwrap());
    }
}

/// MB a second that `threads` move with `one`, which moves `bytes`, and the processor seconds of a MB.
fn together(
    threads: usize,
    bytes: usize,
    seconds: f64,
    one: impl Fn(usize, u64) + Sync,
) -> (f64, f64) {
    let before = processor_seconds();
    let (start, moved) = (Instant::now(), AtomicU64::new(0));
    let until = start + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (one, moved) = (&one, &moved);
            scope.spawn(move || {
                let mut round = 0;
                while Instant::now() < until {
                    one(thread, round);
                    round += 1;
                    moved.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let moved = moved.into_inner() as f64 / 1e6;
    let cost = (processor_seconds() - before) / moved;
    (moved / start.elapsed().as_secs_f64(), cost)
}

/// The processor time of this process so far, in seconds: fields 14 and 15 of `/proc/self/stat`, in hundredths.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}

/// Answers requests on one connection: nothing is parsed but what HTTP needs.
fn answer(mut stream: TcpStream, body: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut come = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let mut line = String::new();
    loop {
        let (mut length, mut is_get) = (0_usize, false);
        loop {
            line.clear();
            if come.read_line(&mut line)? == 0 {
                return Ok(());
            }
            is_get |= line.starts_with("GET ");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        while length > 0 {
            let taken = come.fill_buf()?.len().min(length);
            if taken == 0 {
                return Ok(());
            }
            come.consume(taken);
            length -= taken;
        }
        let sent = if is_get { body } else { &[] };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        )?;
        stream.write_all(sent)?;
    }
}

fn serve(port: u16, bytes: usize) {
    let body: &'static [u8] = vec![7; bytes].leak();
    for stream in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming() {
        let stream = stream.unwrap();
        // A client that breaks off is no news.
        std::thread::spawn(move || drop(answer(stream, body)));
    }
}

fn write(folder: &Path, bytes: usize, name: &str) {
    let piece = vec![7_u8; PIECE.min(bytes)];
    let mut file = File::create(folder.join(name)).unwrap();
    let mut left = bytes;
    while left > 0 {
        let taken = left.min(piece.len());
        file.write_all(&piece[..taken]).unwrap();
        left -= taken;
    }
    file.sync_all().unwrap();
}

fn read(folder: &Path, name: &str) {
    let mut piece = vec![0; PIECE];
    let mut file = File::open(folder.join(name)).unwrap();
    while file.read(&mut piece).unwrap() > 0 {}
    std::hint::black_box(&piece);
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let [serves, port, bytes] = &given[..]
        && serves == "serve"
    {
        return serve(port.parse().unwrap(), bytes.parse().unwrap());
    }
    let [folder, bytes, writers, seconds] = &given[..] else {
        panic!("limits FOLDER BYTES WRITERS SECONDS");
    };
    let (folder, bytes): (&Path, usize) = (Path::new(folder), bytes.parse().unwrap());
    let (writers, seconds): (usize, f64) = (writers.parse().unwrap(), seconds.parse().unwrap());
    fs::create_dir_all(folder).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    let md5 = rate(seconds / 4.0, |bytes| {
        let mut state = Md5State::new();
        state.update(bytes);
        std::hint::black_box(state.finalize());
    });
    let many = rate(seconds / 4.0, |bytes| {
        let mut states = [Md5State::new(); STREAMS];
        let streams: Vec<&[u8]> = bytes.chunks(bytes.len() / STREAMS).collect();
        Md5Many::new().update_many(&mut states, &streams);
        std::hint::black_box(states);
    });
    let cipher = rate(seconds / 4.0, |bytes| seal(&key, bytes));
    // A few files a thread, so that a file that is written is seldom one that is there already.
    let name = |thread: usize, round: u64| format!("{thread}-{}", round % 3);
    let (written, write_cost) = together(writers, bytes, seconds, |thread, round| {
        write(folder, bytes, &name(thread, round));
    });
    let (seen, read_cost) = together(writers, bytes, seconds / 4.0, |thread, _| {
        read(folder, &name(thread, 0));
    });
    fs::remove_dir_all(folder).unwrap();
    println!(
        "{{\"md5_core\": {md5:.0}, \"md5_16_core\": {many:.0}, \"cipher_core\": {cipher:.0}, \"write\": {written:.0}, \
         \"read\": {seen:.0}, \"write_cost\": {write_cost:.6}, \"read_cost\": {read_cost:.6}}}"
    );
}
