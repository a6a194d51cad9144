use lepton_store::index::{NewBody, NewBucket, NewUpload, NewVersion, Piece, UploadId};
use lepton_types::{ContentId, Name};

use super::super::Face;
use super::super::testing::face_in;
use super::*;

const DAY: u64 = 86_400_000;

fn at(days: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(days * DAY + 1).unwrap())
}

struct Rig {
    face: Face,
    bucket: Bucket,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn open(rules: &str) -> Self {
        Self::open_with_days_of(DurationMs::from_millis(DAY), rules).await
    }

    async fn open_with_days_of(lifecycle_day: DurationMs, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let face = face_in(folder.path(), at(0), lifecycle_day).await;
        let new = NewBucket {
            project: Name::default_project(),
            name: "data".to_owned(),
            owner: "ann".to_owned(),
            at: at(0),
            object_lock: false,
        };
        let bucket = face.index.create_bucket(new).await.unwrap();
        let rules: dto::LifecycleRules = serde_json::from_str(rules).unwrap();
        let rules = checked(dto::BucketLifecycleConfiguration { rules }, 1).unwrap();
        let text = serde_json::to_string(&rules).unwrap();
        let kind = settings::LIFECYCLE;
        face.index.set(bucket.id, kind, Some(text)).await.unwrap();
        Self {
            face,
            bucket,
            _folder: folder,
        }
    }

    async fn put(&self, key: &str, day: u64, tags: &str) {
        let piece = Piece {
            content: ContentId::from(self.face.ids.next_id()),
            size_bytes: 1,
            inline: Some(vec![1]),
        };
        let new = NewVersion {
            bucket: self.bucket.id,
            key: key.to_owned(),
            size_bytes: 1,
            etag: "e".to_owned(),
            modified: at(day),
            salt: 1,
            class: "STANDARD".to_owned(),
            hold: false,
            retention: None,
            tags: tags.to_owned(),
            attributes: "{}".to_owned(),
            parts: String::new(),
            condition: Condition::default(),
        };
        let body = NewBody::Pieces(vec![piece]);
        self.face.index.put(new, body).await.unwrap();
    }

    async fn versioned(&self) {
        let index = &self.face.index;
        let enabled = lepton_store::index::Versioning::Enabled;
        index.set_versioning(self.bucket.id, enabled).await.unwrap();
    }

    /// Key, day of writing and class of each version; markers have no class.
    async fn versions(&self) -> Vec<(String, u64, String)> {
        let query = VersionsQuery {
            bucket: self.bucket.id,
            prefix: String::new(),
            delimiter: String::new(),
            start: None,
            limit: 100,
        };
        let page = self.face.index.list_versions(query).await.unwrap();
        let day = |at: Timestamp| u64::try_from(at.as_millis()).unwrap() / DAY;
        page.entries
            .into_iter()
            .map(|ListedVersion { version, .. }| {
                (version.key, day(version.modified), version.class)
            })
            .collect()
    }
}

fn standard(key: &str, day: u64) -> (String, u64, String) {
    (key.to_owned(), day, "STANDARD".to_owned())
}

#[tokio::test]
async fn what_is_old_expires_if_its_prefix_and_tags_are_the_rules() {
    let rig = Rig::open(
        r#"[{"id": "r", "status": "Enabled", "expiration": {"days": 3},
             "filter": {"and": {"prefix": "a/", "tags": [{"key": "k", "value": "v"}]}}}]"#,
    )
    .await;
    for key in ["a/1", "b/1"] {
        rig.put(key, 0, r#"[["k","v"]]"#).await;
    }
    rig.put("a/2", 0, "").await;
    rig.put("a/3", 2, r#"[["k","v"]]"#).await;
    assert_eq!(rig.face.carry_out_lifecycles(at(3)).await.unwrap(), 0);
    assert_eq!(rig.face.carry_out_lifecycles(at(4)).await.unwrap(), 1);
    let left = rig.versions().await;
    assert_eq!(
        left,
        [standard("a/2", 0), standard("a/3", 2), standard("b/1", 0)]
    );
    // Doing it again changes nothing.
    assert_eq!(rig.face.carry_out_lifecycles(at(4)).await.unwrap(), 0);
}

#[tokio::test]
async fn versions_that_were_replaced_go_and_lonely_markers_after_them() {
    let rig = Rig::open(
        r#"[{"id": "r", "status": "Enabled", "prefix": "",
             "noncurrent_version_expiration": {"noncurrent_days": 2, "newer_noncurrent_versions": 1},
             "expiration": {"expired_object_delete_marker": true}}]"#,
    )
    .await;
    rig.versioned().await;
    for day in [0, 1, 2, 9] {
        rig.put("o", day, "").await;
    }
    // Replaced on days 1, 2 and 9; the newest of those is kept by number.
    assert_eq!(rig.face.carry_out_lifecycles(at(5)).await.unwrap(), 2);
    assert_eq!(rig.versions().await, [standard("o", 9), standard("o", 2)]);
    rig.face
        .index
        .delete(ToDelete {
            bucket: rig.bucket.id,
            key: "gone".to_owned(),
            version: None,
            at: at(3),
            salt: 1,
            bypass: false,
            condition: Condition::default(),
        })
        .await
        .unwrap();
    assert_eq!(rig.versions().await.len(), 3);
    assert_eq!(rig.face.carry_out_lifecycles(at(6)).await.unwrap(), 1);
    assert_eq!(rig.versions().await.len(), 2);
}

#[tokio::test]
async fn objects_move_to_their_tier_and_old_uploads_are_given_up() {
    let rig = Rig::open(
        r#"[{"id": "r", "status": "Enabled", "prefix": "",
             "transitions": [{"days": 1, "storage_class": "STANDARD_IA"},
                             {"days": 5, "storage_class": "GLACIER_IR"}],
             "abort_incomplete_multipart_upload": {"days_after_initiation": 2}},
            {"id": "off", "status": "Disabled", "prefix": "", "expiration": {"days": 1}}]"#,
    )
    .await;
    rig.put("o", 0, "").await;
    let upload = NewUpload {
        bucket: rig.bucket.id,
        key: "u".to_owned(),
        id: UploadId::new(rig.face.ids.next_id()),
        at: at(0),
        owner: "ann".to_owned(),
        class: "STANDARD".to_owned(),
        attributes: "{}".to_owned(),
    };
    rig.face.index.begin_upload(upload).await.unwrap();
    for (day, touched, class) in [
        (1, 0, "STANDARD"),
        (2, 1, "STANDARD_IA"),
        (3, 1, "STANDARD_IA"),
        (6, 1, "GLACIER_IR"),
        (7, 0, "GLACIER_IR"),
    ] {
        let done = rig.face.carry_out_lifecycles(at(day)).await.unwrap();
        assert_eq!((day, done), (day, touched));
        assert_eq!(rig.versions().await[0].2, class);
    }
}

#[tokio::test]
async fn shorter_days_make_rules_come_sooner_and_dates_as_ever() {
    let rules = r#"[{"id": "days", "status": "Enabled", "prefix": "a/", "expiration": {"days": 2}},
                    {"id": "date", "status": "Enabled", "prefix": "b/",
                     "expiration": {"date": "1970-01-03T00:00:00Z"}}]"#;
    let rig = Rig::open_with_days_of(DurationMs::from_secs(10), rules).await;
    for key in ["a/1", "b/1"] {
        rig.put(key, 0, "[]").await;
    }
    let moment = |millis| Timestamp::from_millis(millis);
    for (millis, touched) in [(29_999, 0), (30_000, 1), (172_799_999, 0), (172_800_000, 1)] {
        let done = rig.face.carry_out_lifecycles(moment(millis)).await.unwrap();
        assert_eq!(done, touched, "at {millis}");
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    for (rules, code) in [
        ("[]", "MalformedXML"),
        (
            r#"[{"status": "On", "prefix": "", "expiration": {"days": 1}}]"#,
            "MalformedXML",
        ),
        (r#"[{"status": "Enabled", "prefix": ""}]"#, "InvalidRequest"),
        (
            r#"[{"status": "Enabled", "prefix": "", "expiration": {"days": 0}}]"#,
            "InvalidArgument",
        ),
        (
            r#"[{"status": "Enabled", "prefix": "", "transitions": [{"days": 1, "storage_class": "ATTIC"}]}]"#,
            "MalformedXML",
        ),
        (
            r#"[{"id": "a", "status": "Enabled", "prefix": "", "expiration": {"days": 1}},
                {"id": "a", "status": "Enabled", "prefix": "", "expiration": {"days": 1}}]"#,
            "InvalidArgument",
        ),
    ] {
        let rules = serde_json::from_str(rules).unwrap();
        let refused = checked(dto::BucketLifecycleConfiguration { rules }, 1).unwrap_err();
        assert_eq!(refused.code().as_str(), code);
    }
}
