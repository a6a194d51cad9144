//! The index beside a naive model of it, and its promises one by one.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::{ContentId, Id, Name, Timestamp};
use proptest::prelude::*;

use super::*;

struct Rig {
    index: ObjectIndex,
    bucket: BucketId,
    next: u64,
    _folder: tempfile::TempDir,
}

fn home() -> Name {
    Name::default_project()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(millis).unwrap())
}

impl Rig {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = ObjectIndex::open(&folder.path().join("objects.db")).unwrap();
        let new = NewBucket {
            project: home(),
            name: "data".to_owned(),
            owner: "ann".to_owned(),
            at: at(0),
            object_lock: false,
        };
        let bucket = index.create_bucket(new).await.unwrap().id;
        Self {
            index,
            bucket,
            next: 0,
            _folder: folder,
        }
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn piece(&mut self, size_bytes: u64) -> Piece {
        let number = self.tick();
        let id = Id::from_parts(at(number), [1; 10]);
        Piece {
            content: ContentId::from(id),
            size_bytes,
            inline: size_bytes.is_multiple_of(2).then(|| vec![7; 3]),
        }
    }

    fn version(&mut self, key: &str, size_bytes: u64) -> NewVersion {
        let number = self.tick();
        NewVersion {
            bucket: self.bucket,
            key: key.to_owned(),
            size_bytes,
            etag: format!("etag-{number}"),
            // The clock stands still: order must not depend on it.
            modified: at(5),
            salt: number,
            class: "STANDARD".to_owned(),
            hold: false,
            retention: None,
            tags: String::new(),
            attributes: "{}".to_owned(),
            parts: String::new(),
            condition: Condition::default(),
        }
    }

    async fn put(&mut self, key: &str, size: u64) -> Result<ObjectVersion, IndexError> {
        let piece = self.piece(size);
        let new = self.version(key, size);
        self.index.put(new, NewBody::Pieces(vec![piece])).await
    }

    fn order(&mut self, key: &str, version: Option<VersionId>) -> ToDelete {
        ToDelete {
            bucket: self.bucket,
            key: key.to_owned(),
            version,
            at: at(6),
            salt: self.tick(),
            bypass: false,
            condition: Condition::default(),
        }
    }

    async fn delete(&mut self, key: &str, version: Option<VersionId>) -> Deletion {
        let order = self.order(key, version);
        self.index.delete(order).await.unwrap()
    }

    async fn list_all(&self, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut start = None;
        loop {
            let query = ListQuery {
                bucket: self.bucket,
                prefix: prefix.to_owned(),
                delimiter: delimiter.to_owned(),
                start: start.take(),
                limit,
            };
            let page = self.index.list(query).await.unwrap();
            assert!(page.entries.len() + page.prefixes.len() <= limit);
            let mut shown: Vec<String> = page.entries.into_iter().map(|one| one.key).collect();
            shown.extend(page.prefixes);
            shown.sort();
            all.extend(shown);
            if !page.truncated {
                return all;
            }
            start = Some(Start::After(page.last));
        }
    }

    async fn versions(&self, limit: usize) -> Vec<(String, VersionId, bool, bool)> {
        let mut all = Vec::new();
        let mut start = None;
        loop {
            let query = VersionsQuery {
                bucket: self.bucket,
                prefix: String::new(),
                delimiter: String::new(),
                start: start.take(),
                limit,
            };
            let page = self.index.list_versions(query).await.unwrap();
            for ListedVersion { version, latest } in &page.entries {
                all.push((
                    version.key.clone(),
                    version.version,
                    version.marker,
                    *latest,
                ));
            }
            let Some(last) = page.entries.last().filter(|_| page.truncated) else {
                return all;
            };
            start = Some(VersionsStart {
                key: last.version.key.clone(),
                sequence: Some(last.version.sequence),
            });
        }
    }

    async fn garbage(&self) -> BTreeSet<ContentId> {
        let found = self.index.garbage(None, 10_000).await.unwrap();
        found.map_or(BTreeSet::new(), |found| {
            found.contents.into_iter().collect()
        })
    }
}

/// Versions of each key, the newest last: its id, size if it is no marker, and contents that are
/// not inline.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Vec<(VersionId, Option<u64>)>>,
    versioning: Option<Versioning>,
}

impl Model {
    fn add(&mut self, key: &str, made: VersionId, size: Option<u64>) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        if made == VersionId::Null {
            versions.retain(|(id, _)| *id != VersionId::Null);
        }
        versions.push((made, size));
    }

    fn remove(&mut self, key: &str, version: VersionId) {
        if let Some(versions) = self.keys.get_mut(key) {
            versions.retain(|(id, _)| *id != version);
        }
        self.keys.retain(|_, versions| !versions.is_empty());
    }

    fn visible(&self) -> Vec<&String> {
        let newest = self.keys.iter().filter_map(|(key, versions)| {
            versions.last().filter(|(_, size)| size.is_some())?;
            Some(key)
        });
        newest.collect()
    }

    fn listing(&self, prefix: &str, delimiter: &str) -> Vec<String> {
        let mut shown = BTreeSet::new();
        for key in self.visible() {
            let Some(rest) = key.strip_prefix(prefix) else {
                continue;
            };
            match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
                Some(end) => shown.insert(key[..prefix.len() + end + delimiter.len()].to_owned()),
                None => shown.insert(key.clone()),
            };
        }
        shown.into_iter().collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, u64),
    Delete(String),
    DeleteVersion(usize),
    Versioning(bool),
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab/]{1,4}",
        "[aä\u{10ffff}/]{1,3}",
        Just("a/".to_owned()),
        Just("\u{7f}".to_owned()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), 1..9_u64).prop_map(|(key, size)| Step::Put(key, size)),
        2 => key().prop_map(Step::Delete),
        3 => (0..40_usize).prop_map(Step::DeleteVersion),
        1 => any::<bool>().prop_map(Step::Versioning),
    ]
}

async fn follow(rig: &mut Rig, model: &mut Model, step: Step) {
    match step {
        Step::Put(key, size) => {
            let made = rig.put(&key, size).await.unwrap();
            model.add(&key, made.version, Some(size));
        }
        Step::Delete(key) => match rig.delete(&key, None).await {
            Deletion {
                marker: true,
                version: Some(made),
            } => model.add(&key, made, None),
            _ => {
                model.keys.remove(&key);
            }
        },
        Step::DeleteVersion(number) => {
            let all = rig.versions(100).await;
            if let Some((key, version, ..)) = all.get(number) {
                rig.delete(key, Some(*version)).await;
                model.remove(key, *version);
            }
        }
        Step::Versioning(on) => {
            let versioning = match on {
                true => Versioning::Enabled,
                false => Versioning::Suspended,
            };
            rig.index
                .set_versioning(rig.bucket, versioning)
                .await
                .unwrap();
            model.versioning = Some(versioning);
        }
    }
}

async fn compare(rig: &mut Rig, model: &Model, limit: usize) {
    for prefix in ["", "a", "a/", "ä", "\u{10ffff}", "b/a"] {
        for delimiter in ["", "/", "a", "ä/"] {
            assert_eq!(
                rig.list_all(prefix, delimiter, limit).await,
                model.listing(prefix, delimiter),
                "prefix `{prefix}` delimiter `{delimiter}`"
            );
        }
    }
    let expected: Vec<_> = model
        .keys
        .iter()
        .flat_map(|(key, versions)| {
            let newest = versions.len() - 1;
            let listed = versions.iter().enumerate().rev();
            listed
                .map(move |(place, (id, size))| (key.clone(), *id, size.is_none(), place == newest))
        })
        .collect();
    assert_eq!(rig.versions(limit).await, expected);
    let sizes = model.keys.values().flatten().filter_map(|(_, size)| *size);
    let usage = rig.index.usage(&home()).await.unwrap();
    assert_eq!(usage.bytes, sizes.clone().sum::<u64>());
    assert_eq!(usage.objects, sizes.count() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_is_what_a_naive_model_says(
        steps in proptest::collection::vec(step(), 1..60),
        limit in 1..7_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::open().await;
            let mut model = Model::default();
            for step in steps {
                follow(&mut rig, &mut model, step).await;
            }
            compare(&mut rig, &model, limit).await;
            // All that is left is deleted: then every byte is garbage, and nothing is counted.
            for (key, version, ..) in rig.versions(100).await {
                rig.delete(&key, Some(version)).await;
            }
            assert_eq!(rig.index.usage(&home()).await.unwrap(), Usage::default());
            assert!(rig.index.contents_after(&home(), None, 10).await.unwrap().is_empty());
            rig.index.delete_bucket(rig.bucket).await.unwrap();
        });
    }
}

#[tokio::test]
async fn bytes_that_are_shared_become_garbage_with_their_last_holder() {
    let mut rig = Rig::open().await;
    let first = rig.put("first", 3).await.unwrap();
    let copy = rig.version("copy", 3);
    let body = first.body.unwrap();
    rig.index.put(copy, NewBody::Shared(body)).await.unwrap();
    rig.delete("first", None).await;
    assert!(rig.garbage().await.is_empty());
    assert_eq!(rig.index.pieces(body).await.unwrap().len(), 1);
    rig.delete("copy", None).await;
    let garbage = rig.garbage().await;
    assert_eq!(garbage.len(), 1);
    // Still named, so that no sweep is in the way of who deletes it.
    let ids: Vec<_> = garbage.iter().copied().collect();
    assert_eq!(
        rig.index.named(&home(), ids.clone()).await.unwrap(),
        garbage
    );
    let whole = rig.index.garbage(None, 10).await.unwrap().unwrap();
    rig.index.forget(whole).await.unwrap();
    assert!(rig.index.named(&home(), ids).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_becomes_one_version_of_its_parts_and_the_others_are_garbage() {
    let mut rig = Rig::open().await;
    let id = UploadId::new(Id::from_parts(at(1), [9; 10]));
    let new = NewUpload {
        bucket: rig.bucket,
        key: "big".to_owned(),
        id,
        at: at(1),
        owner: "ann".to_owned(),
        class: "STANDARD".to_owned(),
        attributes: "{}".to_owned(),
    };
    rig.index.begin_upload(new).await.unwrap();
    for number in [1_u16, 2, 2, 3] {
        let piece = rig.piece(5);
        let part = Part {
            number,
            size_bytes: 5,
            etag: format!("part-{number}"),
            modified: at(2),
            attributes: String::new(),
        };
        let put = rig.index.put_part(rig.bucket, "big", id, part, vec![piece]);
        put.await.unwrap();
    }
    assert_eq!(rig.index.usage(&home()).await.unwrap().bytes, 15);
    let wrong = vec![(1, "part-1".to_owned()), (2, "other".to_owned())];
    let version = rig.version("big", 10);
    let refused = rig.index.complete_upload(id, wrong, version).await;
    assert!(matches!(
        refused,
        Err(IndexError::Refused(Refusal::InvalidPart { number: 2 }))
    ));
    let chosen = vec![(1, "part-1".to_owned()), (3, "part-3".to_owned())];
    let version = rig.version("big", 10);
    let made = rig
        .index
        .complete_upload(id, chosen, version)
        .await
        .unwrap();
    assert_eq!(rig.index.pieces(made.body.unwrap()).await.unwrap().len(), 2);
    assert_eq!(rig.index.usage(&home()).await.unwrap().bytes, 10);
    // The part that was replaced, and the one that was not chosen.
    assert_eq!(rig.garbage().await.len(), 2);
    let gone = rig.index.abort_upload(rig.bucket, "big", id).await;
    assert!(matches!(
        gone,
        Err(IndexError::Refused(Refusal::NoSuchUpload))
    ));
}

#[tokio::test]
async fn conditions_and_quotas_are_checked_where_the_write_happens() {
    let mut rig = Rig::open().await;
    rig.put("a", 4).await.unwrap();
    let conditioned = |rig: &mut Rig, condition| {
        let piece = rig.piece(1);
        let new = NewVersion {
            condition,
            ..rig.version("a", 1)
        };
        (new, NewBody::Pieces(vec![piece]))
    };
    let absent = Condition {
        matches_not: Some("*".to_owned()),
        ..Condition::default()
    };
    let (new, body) = conditioned(&mut rig, absent);
    assert!(matches!(
        rig.index.put(new, body).await,
        Err(IndexError::Refused(Refusal::Precondition))
    ));
    let quota = Quota {
        bytes_max: Some(5),
        objects_max: None,
    };
    rig.index.set_quota(&home(), quota).await.unwrap();
    assert!(matches!(
        rig.put("b", 2).await,
        Err(IndexError::Refused(Refusal::QuotaExceeded))
    ));
    // What was refused left nothing.
    assert_eq!(rig.list_all("", "", 10).await, ["a"]);
    assert_eq!(rig.index.usage(&home()).await.unwrap().bytes, 4);
    rig.put("b", 1).await.unwrap();
}

#[tokio::test]
async fn a_locked_version_stays_until_its_time_and_is_not_weakened() {
    let mut rig = Rig::open().await;
    rig.index
        .set_versioning(rig.bucket, Versioning::Enabled)
        .await
        .unwrap();
    rig.index.enable_object_lock(rig.bucket).await.unwrap();
    let made = rig.put("kept", 1).await.unwrap();
    let which = Which::Version(made.version);
    let set = async |wanted, bypass, now| {
        let change = VersionChange::Retention { wanted, bypass };
        rig.index
            .change_version(rig.bucket, "kept", which, change, now)
            .await
    };
    let until = |millis, mode| {
        Some(Retention {
            mode,
            until: at(millis),
        })
    };
    let (governance, compliance) = (RetentionMode::Governance, RetentionMode::Compliance);
    set(until(100, governance), false, at(10)).await.unwrap();
    assert!(set(until(50, governance), false, at(10)).await.is_err());
    set(until(90, governance), true, at(10)).await.unwrap();
    set(until(100, compliance), true, at(10)).await.unwrap();
    assert!(set(None, true, at(10)).await.is_err());
    set(until(200, compliance), false, at(10)).await.unwrap();
    let mut order = rig.order("kept", Some(made.version));
    order.bypass = true;
    assert!(matches!(
        rig.index.delete(order.clone()).await,
        Err(IndexError::Refused(Refusal::Locked { .. }))
    ));
    order.at = at(200);
    rig.index.delete(order).await.unwrap();
}

#[tokio::test]
async fn blobs_share_pieces_and_let_them_go() {
    let mut rig = Rig::open().await;
    let digest = |byte| lepton_types::resources::BlobDigest::from_bytes([byte; 32]);
    let (one, two) = (rig.piece(3), rig.piece(5));
    let blob = |byte, pieces| NewBlobRow {
        digest: digest(byte),
        size_bytes: 8,
        pieces,
    };
    let written = |key: u8, piece: &Piece| NewBlobPiece::Written {
        key: [key; 32],
        piece: piece.clone(),
    };
    let first = blob(1, vec![written(1, &one), written(2, &two)]);
    let index = rig.index.clone();
    assert!(
        index
            .record_blob(&home(), first, at(1))
            .await
            .unwrap()
            .is_empty()
    );
    let again = rig.piece(3);
    let known = NewBlobPiece::Known {
        key: [2; 32],
        content: two.content,
    };
    let second = blob(2, vec![written(1, &again), known, written(1, &again)]);
    let unused = index.record_blob(&home(), second, at(2)).await.unwrap();
    assert_eq!(unused, [again.content, again.content]);
    let read = index.blob(&home(), digest(2)).await.unwrap().unwrap();
    let contents: Vec<_> = read.pieces.iter().map(|piece| piece.content).collect();
    assert_eq!(contents, [one.content, two.content, one.content]);
    let gone = index
        .remove_blobs(&home(), BTreeSet::new(), at(2), 10)
        .await;
    assert_eq!(gone.unwrap(), 1);
    assert!(
        index
            .unneeded_pieces(&home(), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    index
        .remove_blobs(&home(), BTreeSet::new(), at(3), 10)
        .await
        .unwrap();
    let unneeded = index.unneeded_pieces(&home(), None, 10).await.unwrap();
    assert_eq!(unneeded, [[1; 32], [2; 32]]);
    assert_eq!(index.remove_pieces(&home(), unneeded).await.unwrap(), 2);
    assert_eq!(
        rig.garbage().await,
        BTreeSet::from([one.content, two.content])
    );
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.db");
    let index = ObjectIndex::open(&file).unwrap();
    let bucket = NewBucket {
        project: home(),
        name: "data".to_owned(),
        owner: "ann".to_owned(),
        at: at(0),
        object_lock: false,
    };
    index.create_bucket(bucket).await.unwrap();
    // Not closed: as when the process is killed.
    let again = ObjectIndex::open(&file).unwrap();
    assert!(again.bucket(&home(), "data").await.unwrap().is_some());
    index.close().await;
}

#[tokio::test]
async fn what_is_stored_is_counted_by_class_and_over_time() {
    let mut rig = Rig::open().await;
    rig.put("warm", 3).await.unwrap();
    let mut cold = rig.version("cold", 5);
    cold.class = "STANDARD_IA".to_owned();
    let piece = rig.piece(5);
    let content = piece.content;
    rig.index
        .put(cold, NewBody::Pieces(vec![piece]))
        .await
        .unwrap();
    let stored = |all: &std::collections::BTreeMap<String, (Usage, Vec<Stored>)>| {
        let (_, stored) = &all[home().as_str()];
        stored
            .iter()
            .map(|it| (it.class.clone(), it.bytes, it.objects))
            .collect::<Vec<_>>()
    };
    let standard = rig.version("x", 0).class;
    let now = stored(&rig.index.all_usage().await.unwrap());
    assert!(now.contains(&(standard.clone(), 3, 1)), "{now:?}");
    assert!(now.contains(&("STANDARD_IA".to_owned(), 5, 1)), "{now:?}");
    // 2026-11-18, and an hour later.
    let start = Timestamp::from_millis(1_795_000_000_000);
    rig.index.meter(start).await.unwrap();
    let later = Timestamp::from_millis(start.as_millis() + 3_600_000);
    rig.index.meter(later).await.unwrap();
    // A clock that was set back takes nothing away.
    rig.index.meter(start).await.unwrap();
    let metered = rig.index.metered(&home(), "2026-11").await.unwrap();
    assert_eq!(metered.byte_seconds["STANDARD_IA"], 5.0 * 3_600.0);
    assert_eq!(metered.byte_seconds[&standard], 3.0 * 3_600.0);
    let other = rig.index.metered(&home(), "2026-10").await.unwrap();
    assert_eq!(other, Metered::default());
    let change = VersionChange::Class("STANDARD_IA".to_owned());
    let warm = rig
        .index
        .change_version(rig.bucket, "warm", Which::Newest, change, start);
    warm.await.unwrap();
    let now = stored(&rig.index.all_usage().await.unwrap());
    assert_eq!(now, [("STANDARD_IA".to_owned(), 8, 2)]);
    let known = rig.index.known_as(&home(), content, 10).await.unwrap();
    assert_eq!(known.len(), 1);
    assert!(known[0].ends_with("/cold"), "{known:?}");
}

#[tokio::test]
async fn an_index_has_an_id_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.db");
    let index = ObjectIndex::open(&file).unwrap();
    let id = index.id().await.unwrap();
    assert!(!index.names_contents().await.unwrap());
    index.close().await;
    assert_eq!(ObjectIndex::open(&file).unwrap().id().await.unwrap(), id);
}

#[tokio::test]
async fn what_an_earlier_release_kept_is_counted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.db");
    let old = Connection::open(&file).unwrap();
    old.execute_batch(schema::FIRST).unwrap();
    old.execute_batch(
        "INSERT INTO buckets VALUES (1, 'default', 'box', 'ann', 0, 0, 0);
         INSERT INTO bodies VALUES (1, 'default', 1, x'', NULL), (2, 'default', 1, x'', x'07'),
                                   (3, 'default', 1, x'', NULL);
         INSERT INTO versions VALUES
             (1, 'plain', 1, 0, 1, 0, 1, 10, '', 0, 'STANDARD_IA', 0, 0, 0, 1, '', ''),
             (1, 'file', 1, 0, 1, 0, 1, 500, '', 0, 'STANDARD', 0, 0, 0, 2, '', ''),
             (1, 'gone', 1, 0, 1, 1, 0, 0, '', 0, '', 0, 0, 0, NULL, '', '');
         INSERT INTO uploads VALUES (1, 'big', x'01', 0, 'ann', 'STANDARD', '');
         INSERT INTO parts VALUES (x'01', 1, 20, '', 0, 3, '');
         INSERT INTO contents VALUES ('default', x'0a', 7, NULL), ('lab', x'0b', 9, NULL);
         INSERT INTO pieces VALUES ('default', x'0c', x'0a', 1), ('lab', x'0d', x'0b', 1);
         INSERT INTO usage (project, bytes, objects, requests, bytes_max)
             VALUES ('default', 530, 2, 3, 1000);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let index = ObjectIndex::open(&file).unwrap();
    let all = index.all_usage().await.unwrap();
    let (usage, stored) = &all["default"];
    assert_eq!((usage.bytes, usage.objects), (10 + 20 + 7, 2));
    assert_eq!(
        (usage.traffic.requests, usage.quota.bytes_max),
        (3, Some(1000))
    );
    let stored: Vec<_> = stored
        .iter()
        .map(|it| (it.class.as_str(), it.bytes, it.objects))
        .collect();
    assert_eq!(stored, [("STANDARD", 27, 1), ("STANDARD_IA", 10, 1)]);
    assert_eq!(all["lab"].0.bytes, 9);
}

#[tokio::test]
async fn parts_among_the_attributes_of_an_earlier_release_get_a_column_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.db");
    let old = Connection::open(&file).unwrap();
    old.execute_batch(schema::FIRST).unwrap();
    let parts = r#"[{"number":1,"size":5242880},{"number":2,"size":1,"sum":"x"}]"#;
    old.execute_batch(&format!(
        r#"INSERT INTO buckets VALUES (1, 'default', 'box', 'ann', 0, 0, 0);
           INSERT INTO bodies VALUES (1, 'default', 3, x'', NULL);
           INSERT INTO versions VALUES
             (1, CAST('plain' AS BLOB), 1, 0, 1, 0, 1, 10, '', 0, 'STANDARD', 0, 0, 0, 1, '', '{{"content_type":"a/b"}}'),
             (1, CAST('parts' AS BLOB), 1, 0, 1, 0, 1, 10, '', 0, 'STANDARD', 0, 0, 0, 1, '',
              '{{"content_type":"a/b","parts":{parts},"uploaded_as":"u"}}'),
             (1, CAST('sly' AS BLOB), 1, 0, 1, 0, 1, 10, '', 0, 'STANDARD', 0, 0, 0, 1, '',
              '{{"metadata":{{"parts":["x"],"said":"\"parts\":["}}}}'),
             (1, CAST('gone' AS BLOB), 2, 0, 1, 1, 0, 0, '', 0, '', 0, 0, 0, NULL, '', '');
           PRAGMA user_version = 1;"#
    ))
    .unwrap();
    drop(old);
    let index = ObjectIndex::open(&file).unwrap();
    let bucket = BucketId(1);
    let kept = async |key: &str| {
        let found = index.open_version(bucket, key, Which::Newest).await;
        let found = found.unwrap().unwrap();
        (found.version.attributes, found.parts)
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(
        kept("plain").await,
        (text(r#"{"content_type":"a/b"}"#), text(""))
    );
    let without = r#"{"content_type":"a/b","uploaded_as":"u"}"#;
    assert_eq!(kept("parts").await, (text(without), text(parts)));
    let sly = r#"{"metadata":{"parts":["x"],"said":"\"parts\":["}}"#;
    assert_eq!(kept("sly").await, (text(sly), text("")));
    assert_eq!(kept("gone").await, (text(""), text("")));
}

#[tokio::test]
async fn what_will_not_fit_is_known_before_it_comes_and_no_other_is_refused() {
    let mut rig = Rig::open().await;
    rig.put("a", 4).await.unwrap();
    let quota = Quota {
        bytes_max: Some(6),
        objects_max: Some(2),
    };
    rig.index.set_quota(&home(), quota).await.unwrap();
    // Whether it is foreseen, and what the transaction says.
    let asked = async |rig: &mut Rig, key: &str, size| {
        let newcomer = Newcomer::Object(key.to_owned());
        let room = rig.index.check_room(rig.bucket, newcomer, size).await;
        (room.is_ok(), rig.put(key, size).await.is_ok())
    };
    assert_eq!(asked(&mut rig, "b", 3).await, (false, false));
    // What is replaced makes room.
    assert_eq!(asked(&mut rig, "a", 6).await, (true, true));
    assert_eq!(asked(&mut rig, "a", 7).await, (false, false));
    assert_eq!(asked(&mut rig, "b", 0).await, (true, true));
    assert_eq!(asked(&mut rig, "c", 0).await, (false, false));
    let versions = Versioning::Enabled;
    rig.index
        .set_versioning(rig.bucket, versions)
        .await
        .unwrap();
    assert_eq!(asked(&mut rig, "a", 1).await, (false, false));
}

#[tokio::test]
async fn a_note_outlives_its_writer_and_can_be_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.db");
    let index = ObjectIndex::open(&file).unwrap();
    assert_eq!(index.note("id").await.unwrap(), None);
    for text in ["one", "two"] {
        index.set_note("id", Some(text.to_owned())).await.unwrap();
    }
    let id = index.id().await.unwrap();
    index.close().await;
    let again = ObjectIndex::open(&file).unwrap();
    assert_eq!(again.note("id").await.unwrap().as_deref(), Some("two"));
    again.set_note("id", None).await.unwrap();
    assert_eq!(again.note("id").await.unwrap(), None);
    assert_eq!(again.id().await.unwrap(), id);
}
