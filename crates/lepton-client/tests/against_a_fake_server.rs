//! The client against a server that answers what it is told to: what is sent,
//! what is tried again, and what failures are called.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lepton_api::{ErrorCode, LogToRun};
use lepton_client::{
    Client, ClientError, ClientOptions, JobFilter, LogQuery, Page, Pages, RetryPolicy,
};
use lepton_types::resources::{Kind, MetricPoint};
use lepton_types::{Id, RunId, Timestamp};

/// What the server got.
#[derive(Debug)]
struct Got {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}:");
        let found = self
            .headers
            .iter()
            .find(|header| header.to_ascii_lowercase().starts_with(&prefix));
        found.map(|header| header[prefix.len()..].trim())
    }
}

/// What the server does with a connection.
enum Deed {
    /// Answers so and closes.
    Answer(String),
    /// Closes without an answer.
    HangUp,
}

fn json(status: &str, body: &str) -> Deed {
    let length = body.len();
    Deed::Answer(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

/// A server that does these deeds, one a connection, and tells what it got.
fn serve(deeds: Vec<Deed>) -> (String, Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for deed in deeds {
            let (stream, _) = listener.accept().unwrap();
            let got = read_request(&stream);
            let _ = tell.send(got);
            if let Deed::Answer(text) = deed {
                (&stream).write_all(text.as_bytes()).unwrap();
            }
        }
    });
    (url, told)
}

fn read_request(stream: &TcpStream) -> Got {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut got = Got {
        line: lines.remove(0),
        headers: lines,
        body: Vec::new(),
    };
    if got.header("expect").is_some() {
        let mut writer = stream;
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    }
    if let Some(length) = got.header("content-length") {
        got.body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut got.body).unwrap();
    }
    got
}

fn client(url: &str, tries: u32) -> Client {
    let options = ClientOptions {
        retry: RetryPolicy {
            tries,
            first_pause: Duration::from_millis(1),
            pause_max: Duration::from_millis(2),
            spread: 0,
        },
        ..ClientOptions::default()
    };
    let project = Some("p".parse().unwrap());
    Client::with_options(url, "lpt_secret", project, options).unwrap()
}

const WHO: &str = r#"{"name":"ci","role":"editor","project":"vision"}"#;

#[test]
fn every_call_carries_the_token_and_the_project() {
    let (url, got) = serve(vec![json("200 OK", WHO), json("200 OK", r#"{"items":[]}"#)]);
    let client = Client::new(&url, "lpt_secret", None).unwrap();
    assert!(client.endpoints(&Page::first(7)).unwrap().items.is_empty());
    let who = got.recv().unwrap();
    assert_eq!(who.line, "GET /api/v1/whoami HTTP/1.1");
    assert_eq!(who.header("authorization"), Some("Bearer lpt_secret"));
    let list = got.recv().unwrap();
    assert_eq!(
        list.line,
        "GET /api/v1/projects/vision/endpoints?limit=7 HTTP/1.1"
    );
}

#[test]
fn an_error_has_its_code_message_and_details() {
    let body =
        r#"{"error":{"code":"not-found","message":"job `x` not found","details":{"kind":"job"}}}"#;
    let (url, _got) = serve(vec![json("404 Not Found", body)]);
    let error = client(&url, 3).job("x").unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "job `x` not found");
    let ClientError::Api(api) = error else {
        panic!("not the server's own error")
    };
    assert_eq!(api.code, Some(ErrorCode::NotFound));
    assert_eq!(api.details["kind"], "job");
}

#[test]
fn a_stranger_is_recognised() {
    let page = "<html>It works!</html>";
    let answers = [
        json("200 OK", page),
        json("404 Not Found", page),
        json("302 Found\r\nLocation: http://127.0.0.1:1/", ""),
    ];
    for answer in answers {
        let (url, _got) = serve(vec![answer]);
        let error = client(&url, 1).whoami().unwrap_err();
        assert!(
            matches!(error, ClientError::UnexpectedAnswer(_)),
            "{error:?}"
        );
    }
}

#[test]
fn reading_is_tried_again_and_making_is_not() {
    let (url, _got) = serve(vec![Deed::HangUp, Deed::HangUp, json("200 OK", WHO)]);
    assert_eq!(client(&url, 3).whoami().unwrap().name, "ci");

    let (url, got) = serve(vec![Deed::HangUp, json("201 Created", "{}")]);
    let request =
        serde_json::from_str(r#"{"name":"x","program":{"type":"command","command":["true"]}}"#);
    let error = client(&url, 3).create_job(&request.unwrap()).unwrap_err();
    assert!(
        matches!(error, ClientError::Interrupted { .. }),
        "{error:?}"
    );
    assert!(got.recv().is_ok());
    assert!(got.try_recv().is_err(), "it was sent twice");
}

#[test]
fn a_busy_server_is_asked_again() {
    let busy = r#"{"error":{"code":"overloaded","message":"too many"}}"#;
    let answers = vec![
        json("429 Too Many Requests\r\nRetry-After: 30", busy),
        json("200 OK", WHO),
    ];
    let (url, _got) = serve(answers);
    assert!(client(&url, 2).whoami().is_ok());
}

#[test]
fn nobody_there_is_called_so() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = client(&url, 2).whoami().unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)));
    let message = error.to_string();
    assert!(
        message.contains("`lepton up`") && message.contains("connection refused"),
        "{message}"
    );
}

#[test]
fn points_with_their_time_may_be_sent_twice() {
    let log = |timestamp| LogToRun {
        metrics: vec![MetricPoint {
            key: "loss".to_owned(),
            step: 1,
            timestamp,
            value: 0.5,
        }],
        ..LogToRun::default()
    };
    let run = RunId::from(Id::from_bytes([1; 16]));
    let done = || Deed::Answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned());
    let (url, _got) = serve(vec![Deed::HangUp, done()]);
    let timed = log(Some(Timestamp::from_millis(5)));
    client(&url, 2).log_to_run(run, &timed).unwrap();
    let (url, _got) = serve(vec![Deed::HangUp, done()]);
    assert!(client(&url, 2).log_to_run(run, &log(None)).is_err());
}

const DIGEST: &str = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";

#[test]
fn uploads_stream_and_are_checked() {
    let info = format!(r#"{{"digest":"{DIGEST}","size_bytes":4}}"#);
    let (url, got) = serve(vec![json("201 Created", &info)]);
    let mut moved = 0;
    let found = client(&url, 1)
        .upload(&mut b"foo\n".as_slice(), Some(4), &mut |read| moved += read)
        .unwrap();
    assert_eq!((found.digest.to_string().as_str(), moved), (DIGEST, 4));
    assert_eq!(got.recv().unwrap().body, b"foo\n");

    let (url, _got) = serve(vec![json("201 Created", &info)]);
    let error = client(&url, 1).upload(&mut b"fox\n".as_slice(), Some(4), &mut |_| {});
    assert!(matches!(error, Err(ClientError::Mismatch(_))));
}

#[test]
fn a_download_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/file");
    let save = |deed| {
        let (url, _got) = serve(vec![deed]);
        let digest = DIGEST.parse().unwrap();
        let download = client(&url, 1).blob(digest).unwrap();
        download.save_as(&path, Some(digest), &mut |_| {})
    };
    assert!(matches!(
        save(json("200 OK", "fox\n")),
        Err(ClientError::Mismatch(_))
    ));
    let short = Deed::Answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfoo\n".to_owned());
    assert!(matches!(save(short), Err(ClientError::Interrupted { .. })));
    assert!(!path.exists());
    assert_eq!(save(json("200 OK", "foo\n")).unwrap(), 4);
    assert_eq!(std::fs::read(&path).unwrap(), b"foo\n");
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "something half-written was left");
}

#[test]
fn lists_are_read_to_their_last_page() {
    let (url, got) = serve(vec![
        json("200 OK", r#"{"items":[],"next_page_token":"a b"}"#),
        json("200 OK", r#"{"items":[]}"#),
    ]);
    let client = client(&url, 1);
    let filter = JobFilter::default();
    let all: Result<Vec<_>, _> = Pages::new(|page| client.jobs(&filter, &page)).collect();
    assert!(all.unwrap().is_empty());
    assert_eq!(
        got.recv().unwrap().line,
        "GET /api/v1/projects/p/jobs HTTP/1.1"
    );
    let second = got.recv().unwrap().line;
    assert_eq!(
        second,
        "GET /api/v1/projects/p/jobs?page_token=a%20b HTTP/1.1"
    );
}

fn log(body: &str, cursor: &str, end: bool) -> Deed {
    let length = body.len();
    Deed::Answer(format!(
        "HTTP/1.1 200 OK\r\nLepton-Next-Cursor: {cursor}\r\nLepton-Log-End: {end}\r\nLepton-Attempt: 2\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

#[test]
fn a_log_is_followed_over_a_broken_connection_to_its_end() {
    let (url, got) = serve(vec![
        log("one\n", "c1", false),
        Deed::HangUp,
        log("", "c1", false),
        log("two\n", "c2", true),
    ]);
    let chunks = client(&url, 3)
        .follow_job_log("j", LogQuery::default())
        .unwrap();
    let text: Vec<u8> = chunks.flat_map(|chunk| chunk.unwrap().bytes).collect();
    assert_eq!(text, b"one\ntwo\n");
    let lines: Vec<_> = got.iter().map(|got| got.line).collect();
    assert_eq!(
        lines[0],
        "GET /api/v1/projects/p/jobs/j/logs?stream=both&wait=10s HTTP/1.1"
    );
    assert!(
        lines[1..].iter().all(|line| line.contains("cursor=c1")),
        "{lines:?}"
    );
}

#[test]
fn a_watch_is_taken_up_where_it_broke_off() {
    let id = "01".repeat(16);
    let change = |version: u64| {
        format!(
            "{{\"version\":{version},\"change\":\"deleted\",\"kind\":\"job\",\"id\":\"{id}\"}}\n"
        )
    };
    let stream = |lines: String| {
        Deed::Answer(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{lines}"
        ))
    };
    let (url, got) = serve(vec![
        stream(format!("{{\"version\":5}}\n\n{}{{\"vers", change(6))),
        stream(change(7)),
    ]);
    let versions: Vec<u64> = client(&url, 1)
        .watch(&[Kind::Job], None)
        .take(2)
        .map(|event| event.unwrap().version)
        .collect();
    assert_eq!(versions, [6, 7]);
    assert_eq!(
        got.recv().unwrap().line,
        "GET /api/v1/projects/p/watch?kinds=job HTTP/1.1"
    );
    assert!(got.recv().unwrap().line.contains("since=6"));
}

#[test]
fn a_token_that_cannot_be_sent_is_refused_before_it_is() {
    assert!(Client::new("http://127.0.0.1:1", "a\nb", None).is_err());
}
