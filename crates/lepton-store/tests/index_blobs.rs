//! Objects that are a blob's bytes: they hold the blob, and let go of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use lepton_store::index::{
    Condition, NewBlobPiece, NewBlobRow, NewBody, NewBucket, NewVersion, ObjectIndex, Piece,
    ToDelete, Which,
};
use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Id, Name, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LATER: Timestamp = Timestamp::from_millis(9_000);

fn content(number: u8) -> ContentId {
    Id::from_parts(NOW, [number; 10]).into()
}

fn blob(digest: BlobDigest) -> NewBlobRow {
    let piece = |number: u8, size_bytes| NewBlobPiece::Written {
        key: [number; 32],
        piece: Piece {
            content: content(number),
            size_bytes,
            inline: None,
        },
    };
    NewBlobRow {
        digest,
        size_bytes: 7,
        pieces: vec![piece(1, 4), piece(2, 3)],
    }
}

#[tokio::test]
async fn a_blob_stays_as_long_as_an_object_is_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let index = ObjectIndex::open(&folder.path().join("objects.db")).unwrap();
    let home = Name::default_project();
    let bucket = NewBucket {
        project: home.clone(),
        name: "datasets".into(),
        owner: "test".into(),
        at: NOW,
        object_lock: false,
    };
    let bucket = index.create_bucket(bucket).await.unwrap().id;
    let digest = BlobDigest::from_bytes([9; 32]);
    let version = |key: &str| NewVersion {
        bucket,
        key: key.into(),
        size_bytes: 7,
        etag: "e".into(),
        modified: NOW,
        salt: 1,
        class: "STANDARD".into(),
        hold: false,
        retention: None,
        tags: String::new(),
        attributes: String::new(),
        parts: String::new(),
        condition: Condition::default(),
    };
    let put = async |key| index.put(version(key), NewBody::Blob(digest)).await;
    assert!(
        put("wine/1/a.csv").await.is_err(),
        "the blob is not there yet"
    );
    assert!(
        index
            .find(bucket, "wine/1/a.csv", Which::Newest)
            .await
            .unwrap()
            .is_none()
    );

    assert!(
        index
            .record_blob(&home, blob(digest), NOW)
            .await
            .unwrap()
            .is_empty()
    );
    let first = put("wine/1/a.csv").await.unwrap();
    put("wine/2/a.csv").await.unwrap();
    let pieces = index.pieces(first.body.unwrap()).await.unwrap();
    let sizes: Vec<_> = pieces.iter().map(|p| (p.content, p.size_bytes)).collect();
    assert_eq!(sizes, [(content(1), 4), (content(2), 3)]);

    let sweep = async || {
        index
            .remove_blobs(&home, BTreeSet::new(), LATER, 10)
            .await
            .unwrap()
    };
    for key in ["wine/1/a.csv", "wine/2/a.csv"] {
        assert_eq!(sweep().await, 0, "an object still is its bytes");
        let order = ToDelete {
            bucket,
            key: key.into(),
            version: None,
            at: LATER,
            salt: 2,
            bypass: false,
            condition: Condition::default(),
        };
        index.delete(order).await.unwrap();
        assert!(
            index.garbage(None, 10).await.unwrap().is_none(),
            "its pieces are the blob's"
        );
    }
    assert_eq!(sweep().await, 1);
    let unneeded = index.unneeded_pieces(&home, None, 10).await.unwrap();
    assert_eq!(index.remove_pieces(&home, unneeded).await.unwrap(), 2);
    let garbage = index.garbage(None, 10).await.unwrap().unwrap();
    assert_eq!(garbage.contents, [content(1), content(2)]);
}
