//! A replica over HTTP, with real models.
#![expect(clippy::unwrap_used, reason = "tests")]

mod rig;

use bytes::Bytes;
use http::{Method, StatusCode};
use lepton_serving::token::REPLICA_TOKEN_HEADER;
use rig::{Replica, options};
use serde_json::json;

#[tokio::test]
async fn the_inference_protocol_is_answered() {
    let replica = Replica::start(options("affine")).await;
    let caller = replica.caller();
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/affine/ready",
        "/v2/models/affine/versions/1/ready",
    ] {
        assert_eq!(caller.get(path).await.status, StatusCode::OK, "{path}");
    }
    let server = caller.get("/v2").await.json();
    assert_eq!(server["name"], "lepton");
    let metadata = caller.get("/v2/models/affine").await.json();
    assert_eq!(
        metadata,
        json!({"name": "affine", "versions": ["1"], "platform": "onnxruntime_onnx",
               "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
               "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]})
    );
    let body = json!({"id": "a", "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32",
                      "data": [[1, 2, 3], [0, 0, 0]]}]});
    let answer = caller
        .post("/v2/models/affine/versions/1/infer", body.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({"model_name": "affine", "model_version": "1", "id": "a",
               "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2],
                            "data": [4.5, 6.5, 0.5, -0.5]}]})
    );
}

#[tokio::test]
async fn raw_bytes_are_taken_and_given() {
    let replica = Replica::start(options("affine")).await;
    let caller = replica.caller();
    let head = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32",
                      "parameters": {"binary_data_size": 12}}],
                      "outputs": [{"name": "y", "parameters": {"binary_data": true}}]})
    .to_string();
    let mut body = head.clone().into_bytes();
    for value in [1.0_f32, 2.0, 3.0] {
        body.extend(value.to_le_bytes());
    }
    let mut request = caller.request(Method::POST, "/v2/models/affine/infer", Bytes::from(body));
    let length = head.len().to_string().parse().unwrap();
    request
        .headers_mut()
        .insert("Inference-Header-Content-Length", length);
    let answer = caller.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    let length: usize = answer.headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let expected: Vec<u8> = [4.5_f32, 6.5]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(&answer.body[length..], expected);
}

#[tokio::test]
async fn rows_are_answered_by_label_and_probability() {
    let replica = Replica::start(options("tabular")).await;
    let body = json!({"rows": [{"age": 30, "colour": "red"}, {"age": null, "colour": "green"},
                               {"colour": null, "age": "29"}]});
    let answer = replica
        .caller()
        .post("/v2/models/tabular/rows", body.to_string())
        .await
        .json();
    assert_eq!(
        (&answer["model"], &answer["version"]),
        (&json!("tabular"), &json!("1"))
    );
    let labels: Vec<&str> = (0..3)
        .map(|row| answer["predictions"][row]["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["yes", "no", "no"]);
    let yes = answer["predictions"][0]["probabilities"]["yes"]
        .as_f64()
        .unwrap();
    assert!((yes - 0.731_058_6).abs() < 1e-5, "{yes}");
    let metadata = replica.caller().get("/v2/models/tabular").await.json();
    assert_eq!(metadata["parameters"]["classes"], json!(["no", "yes"]));
}

#[tokio::test]
async fn rows_of_a_foreign_model_keep_the_outputs_names() {
    let replica = Replica::start(options("iris_zipmap")).await;
    let body = json!({"columns": ["a", "b", "c", "d"], "data": [[5.1, 3.5, 1.4, 0.2]]});
    let answer = replica
        .caller()
        .post("/v2/models/iris_zipmap/rows", body.to_string())
        .await
        .json();
    let prediction = &answer["predictions"][0];
    assert_eq!(prediction["output_label"], "setosa");
    assert!(prediction["output_probability"]["setosa"].as_f64().unwrap() > 0.98);
    let none = replica
        .caller()
        .post("/v2/models/iris_zipmap/rows", r#"{"rows":[]}"#)
        .await
        .json();
    assert_eq!(none["predictions"], json!([]));
}

#[tokio::test]
async fn nobody_without_the_token_gets_more_than_health() {
    let replica = Replica::start(options("affine")).await;
    let caller = replica.caller();
    for path in ["/v2", "/v2/models/affine", "/metrics", "/nothing"] {
        for token in [None, Some("wrong"), Some("")] {
            let mut request = caller.request(Method::GET, path, Bytes::new());
            request.headers_mut().remove(REPLICA_TOKEN_HEADER);
            if let Some(token) = token {
                let token = token.parse().unwrap();
                request.headers_mut().insert(REPLICA_TOKEN_HEADER, token);
            }
            let answer = caller.send(request).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    assert_eq!(caller.get("/v2/health/live").await.status, StatusCode::OK);
}

#[tokio::test]
async fn bad_requests_get_400_and_say_what_was_expected() {
    let replica = Replica::start(options("affine")).await;
    let caller = replica.caller();
    let input = |datatype: &str, shape: &str, data: &str| {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#
        )
    };
    let cases = [
        (
            input("FP64", "[1,3]", "[1,2,3]"),
            "input `x` expects FP32, got FP64",
        ),
        (
            input("FP32", "[3]", "[1,2,3]"),
            "input `x` expects shape [-1,3], got [3]",
        ),
        (
            input("FP32", "[1,3]", "[1,2]"),
            "input `x`: shape [1,3] holds 3 elements, got 2",
        ),
        (
            input("FP32", "[1,3]", "[1,2,\"c\"]"),
            "input `x`: expects FP32, got the text `c` at element 2",
        ),
        (
            input("FP32", "[1,3]", "[1,2,NaN]"),
            "JSON has no NaN: write null for a missing value",
        ),
        (
            r#"{"inputs":[]}"#.to_owned(),
            "input `x` is missing: FP32 of shape [-1,3] is expected",
        ),
        ("{".to_owned(), "EOF while parsing"),
        (String::new(), "EOF while parsing"),
        (
            format!(r#"{{"inputs":{}"#, "[".repeat(200_000)),
            "the request is no valid inference request",
        ),
    ];
    for (body, expected) in cases {
        let shown: String = body.chars().take(100).collect();
        let answer = caller.post("/v2/models/affine/infer", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{shown}");
        assert!(
            answer.error().contains(expected),
            "{shown}: {}",
            answer.error()
        );
    }
    let rows = caller
        .post("/v2/models/affine/rows", r#"{"rows":[{"a":1,"b":2}]}"#)
        .await;
    assert_eq!(rows.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        rows.error(),
        "the model takes 3 columns in order, row 1 has 2"
    );
    let wanted = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}],"outputs":[{"name":"z"}]}"#;
    let answer = caller.post("/v2/models/affine/infer", wanted).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.error(),
        "the model has no output `z`: did you mean `y`?"
    );
}

#[tokio::test]
async fn other_models_versions_paths_and_methods_are_told_apart() {
    let replica = Replica::start(options("affine")).await;
    let caller = replica.caller();
    let other = caller.get("/v2/models/other").await;
    assert_eq!(
        (other.status, other.error()),
        (
            StatusCode::NOT_FOUND,
            "no model `other` is served here".to_owned()
        )
    );
    let version = caller.get("/v2/models/affine/versions/9").await;
    assert_eq!(
        version.error(),
        "version `9` of model `affine` is not served here"
    );
    assert_eq!(caller.get("/v3").await.status, StatusCode::NOT_FOUND);
    assert_eq!(caller.get("/v3").await.error(), "no such path");
    let method = caller.get("/v2/models/affine/infer").await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
    let mut encoded = caller.request(Method::POST, "/v2/models/affine/infer", Bytes::new());
    encoded
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(
        caller.send(encoded).await.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_without_being_kept() {
    let replica = Replica::start(options("affine")).await;
    let body = Bytes::from(vec![b' '; 100 << 20]);
    let answer = replica.caller().post("/v2/models/affine/infer", body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.error(), "the body is larger than 67108864 bytes");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let replica = Replica::start(options("affine")).await;
    let caller = replica.caller();
    let good = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    caller.post("/v2/models/affine/infer", good).await;
    caller.post("/v2/models/affine/infer", "{").await;
    let text = caller.get("/metrics").await;
    let text = std::str::from_utf8(&text.body).unwrap();
    for line in [
        r#"lepton_replica_requests_total{model="affine",version="1",outcome="ok"} 1"#,
        r#"lepton_replica_requests_total{model="affine",version="1",outcome="client_error"} 1"#,
        r#"lepton_replica_runs_total{model="affine",version="1"} 1"#,
        r#"lepton_replica_request_duration_seconds_count{model="affine",version="1"} 2"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_load_ends_the_replica_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.onnx");
    std::fs::write(&broken, b"not a model").unwrap();
    let mut options = options("affine");
    options.model = broken;
    let worker = lepton_serving::worker::Worker::bind(options).await.unwrap();
    let error = worker.run(std::future::pending()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the model cannot be loaded: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_stopped_replica_ends_in_order_and_its_port_is_free() {
    let replica = Replica::start(options("affine")).await;
    let address = replica.address;
    replica.stop.send(()).unwrap();
    replica.ended.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
