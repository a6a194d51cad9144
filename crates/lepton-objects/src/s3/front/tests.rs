use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use lepton_store::index::NewBucket;
use lepton_types::{DurationMs, Name};

use super::super::Caller;
use super::super::actions::Right;
use super::super::gate::{Holder, Rights};
use super::super::policy::Asked;
use super::super::testing::face_in;
use super::*;

struct Rig {
    face: Face,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let face = face_in(
            folder.path(),
            Timestamp::from_millis(1),
            DurationMs::from_secs(86_400),
        );
        let face = face.await;
        Self {
            face,
            _folder: folder,
        }
    }

    /// A bucket named `data` of a project, with a policy.
    async fn bucket(&self, project: &Name, policy: &str) -> Bucket {
        let new = NewBucket {
            project: project.clone(),
            name: "data".to_owned(),
            owner: "ann".to_owned(),
            at: self.face.now(),
            object_lock: true,
        };
        let bucket = self.face.index.create_bucket(new).await.unwrap();
        let policy = Some(policy.to_owned());
        let set = self.face.index.set(bucket.id, settings::POLICY, policy);
        set.await.unwrap();
        bucket
    }

    async fn answer(&self, request: http::request::Builder, body: String) -> StatusCode {
        let request = request.header(http::header::CONTENT_LENGTH, body.len());
        let request = request.body(Body::from(Bytes::from(body))).unwrap();
        let answer = self.face.front().call(request).await.unwrap();
        answer.status()
    }

    /// Nobody's form of these fields, with a header more.
    async fn form(&self, fields: &[(&str, &str)], header: (&str, &str)) -> StatusCode {
        let part = |(name, value): &(&str, &str)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let file = [("key", "k"), ("file", "bytes")];
        let parts = fields.iter().chain(&file).map(part);
        let body = parts.collect::<String>() + "--b--\r\n";
        let request = Request::post("/data")
            .header(CONTENT_TYPE, "multipart/form-data; boundary=b")
            .header(header.0, header.1);
        self.answer(request, body).await
    }
}

fn allows(action: &str, condition: &str) -> String {
    format!(
        r#"{{"Statement": {{"Effect": "Allow", "Principal": "*", "Action": "{action}",
            "Resource": "arn:aws:s3:::data/*", "Condition": {condition}}}}}"#
    )
}

#[test]
fn a_form_is_one_whatever_else_the_request_says_it_is() {
    let of = |kinds: &[&[u8]]| {
        let mut request = Request::post("/").body(()).unwrap();
        for kind in kinds {
            let kind = HeaderValue::from_bytes(kind).unwrap();
            let headers = request.headers_mut();
            headers.append(CONTENT_TYPE, kind);
        }
        is_form(&request)
    };
    let form = &b"Multipart/form-data; boundary=b"[..];
    assert!(of(&[form]));
    assert!(of(&[b"text/\xff", form]));
    assert!(!of(&[b"text/plain"]));
    assert!(!of(&[]));
}

#[tokio::test]
async fn policies_hold_on_the_fields_of_forms_and_not_on_their_headers() {
    let rig = Rig::open().await;
    let condition = r#"{"StringEquals": {"s3:x-amz-meta-from": "here"}}"#;
    let policy = allows("s3:PutObject", condition);
    rig.bucket(&Name::default_project(), &policy).await;
    let (here, there) = (("x-amz-meta-from", "here"), ("x-amz-meta-from", "there"));
    assert_eq!(rig.form(&[here], there).await, 204);
    assert_eq!(rig.form(&[there], here).await, 403);
    assert_eq!(rig.form(&[], here).await, 403);
}

#[tokio::test]
async fn who_may_only_write_keeps_nothing_from_being_deleted() {
    let rig = Rig::open().await;
    let writes = allows("s3:PutObject", "{}");
    let bucket = rig.bucket(&Name::default_project(), &writes).await;
    let retain = [
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        (
            "x-amz-object-lock-retain-until-date",
            "2100-01-01T00:00:00Z",
        ),
    ];
    let hold = [("x-amz-object-lock-legal-hold", "ON"); 1];
    let put = async |method: Method, path, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        rig.answer(request, String::new()).await
    };
    assert_eq!(put(Method::PUT, "/data/k", &[]).await, 200);
    for headers in [&retain[..], &hold] {
        assert_eq!(put(Method::PUT, "/data/k", headers).await, 403);
        let begun = put(Method::POST, "/data/k?uploads", headers).await;
        assert_eq!(begun, 403);
        assert_eq!(rig.form(headers, ("x-amz-meta-a", "b")).await, 403);
    }
    let keeps = allows("s3:PutObject*", "{}");
    let set = rig.face.index.set(bucket.id, settings::POLICY, Some(keeps));
    set.await.unwrap();
    for headers in [&retain[..], &hold] {
        assert_eq!(put(Method::PUT, "/data/k", headers).await, 200);
        assert_eq!(rig.form(headers, ("x-amz-meta-a", "b")).await, 204);
    }
}

#[tokio::test]
async fn a_policy_that_is_not_understood_opens_nothing_and_can_be_replaced() {
    let rig = Rig::open().await;
    let (mine, other) = (Name::default_project(), "other".parse().unwrap());
    let bucket = rig.bucket(&mine, "{}").await;
    assert_eq!(rig.form(&[], ("x-amz-meta-a", "b")).await, 403);
    rig.bucket(&other, &allows("s3:PutObject", "{}")).await;
    assert_eq!(rig.form(&[], ("x-amz-meta-a", "b")).await, 204);
    let enter = async |action, right| {
        let rights = Rights {
            read: true,
            administer: right == Right::Administer,
            ..Rights::default()
        };
        let holder = Holder {
            name: "ann".to_owned(),
            project: mine.clone(),
            secret: String::new().into(),
            rights,
        };
        let caller = Caller {
            holder: Some(Arc::new(holder)),
            address: None,
        };
        let asked = Asked {
            action,
            bucket: "data",
            key: "",
            headers: &http::HeaderMap::new(),
            parameters: &[],
        };
        let entered = rig.face.enter(&caller, &asked, right).await;
        entered.map(|entered| entered.bucket.unwrap().id).ok()
    };
    let administer = Right::Administer;
    let changed = enter("s3:DeleteBucketPolicy", administer).await;
    assert_eq!(changed, Some(bucket.id));
    assert_eq!(enter("s3:ListBucket", administer).await, None);
    assert_eq!(enter("s3:GetBucketPolicy", Right::Read).await, None);
}

#[test]
fn what_an_answer_repeats_of_a_form_is_text() {
    let refused = refuse_form(&FormError::Characters("x-amz-<script>&".to_owned()));
    let text = refused.body().bytes().unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("`x-amz-&lt;script&gt;&amp;`"), "{text}");
}

#[tokio::test]
async fn policies_hold_on_the_tags_of_a_body_and_not_on_a_header_beside_it() {
    let rig = Rig::open().await;
    let public = r#"{"StringEquals": {"s3:RequestObjectTag/a b": "1&"}}"#;
    let tags = allows("s3:PutObjectTagging", public);
    let bucket = rig.bucket(&Name::default_project(), &tags).await;
    let set = |policy| {
        let index = &rig.face.index;
        index.set(bucket.id, settings::POLICY, Some(policy))
    };
    set(allows("s3:PutObject", "{}")).await.unwrap();
    assert_eq!(rig.form(&[], ("x-amz-meta-a", "b")).await, 204);
    set(tags).await.unwrap();
    let tag = async |value: &str, header: &str| {
        let body = format!(
            "<Tagging><TagSet><Tag><Key>a b</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
        );
        let request = Request::put("/data/k?tagging").header("x-amz-tagging", header);
        rig.answer(request, body).await
    };
    assert_eq!(tag("1&amp;", "").await, 200);
    assert_eq!(tag("2", "a+b=1%26").await, 403);
}
