//! Tables of the object index.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `buckets` | `id` | one row a bucket |
//! | `bucket_settings` | `bucket, kind` | what is configured of a bucket, as text that only its face reads |
//! | `versions` | `bucket, key, sequence desc` | every version of every object, delete markers among them; keys are the bytes of their UTF-8, so their order is S3's; `parts` is the last column, so that listings do not read it |
//! | `bodies` | `id` | what bytes a version or part has: pieces in order, how many versions share them, and the blob that has the pieces if one does |
//! | `contents` | `project, id` | every sealed content that something names; `bytes` are the small ones themselves |
//! | `garbage` | `project, id` | contents that nothing names any more, to be deleted |
//! | `uploads`, `parts` | | uploads in parts that are under way |
//! | `blobs`, `blob_pieces`, `pieces` | | bytes by SHA-256, over pieces that are kept once; `held` counts the bodies that are a blob's bytes |
//! | `usage` | `project` | what a project has and uses, and may |
//! | `stored` | `project, class` | the same by storage class; bytes of blobs count once, as what their pieces have |
//! | `metered`, `metered_traffic` | `project, month` | what is paid for: bytes over time by class, and what went over the wire |
//! | `about` | `name` | the index's own id, up to when stored bytes are metered, and notes of the server |
//! | `access_keys` | `id` | S3 key pairs; secrets are sealed |

use crate::sqlite::schema::Migration;

/// Each entry brings the schema from its index to the next. Never edit one that was released.
pub(super) const MIGRATIONS: [Migration; 3] = [
    Migration::of_sql(FIRST),
    Migration::of_sql(METERING),
    Migration::of_sql(PARTS_APART),
];

/// As the first release had it.
pub(super) const FIRST: &str = r"
CREATE TABLE buckets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    versioning INTEGER NOT NULL,
    object_lock INTEGER NOT NULL
);
CREATE UNIQUE INDEX buckets_name ON buckets (project, name);
CREATE INDEX buckets_anywhere ON buckets (name);
CREATE TABLE bucket_settings (
    bucket INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (bucket, kind)
) WITHOUT ROWID;
CREATE INDEX bucket_settings_kind ON bucket_settings (kind, bucket);
CREATE TABLE versions (
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    salt INTEGER NOT NULL,
    is_null INTEGER NOT NULL,
    marker INTEGER NOT NULL,
    visible INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified INTEGER NOT NULL,
    class TEXT NOT NULL,
    hold INTEGER NOT NULL,
    retention INTEGER NOT NULL,
    retain_until INTEGER NOT NULL,
    body INTEGER,
    tags TEXT NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (bucket, key, sequence DESC)
) WITHOUT ROWID;
CREATE UNIQUE INDEX versions_visible ON versions (bucket, key) WHERE visible = 1;
CREATE INDEX versions_old_null ON versions (bucket, key) WHERE is_null = 1 AND visible = 0;
CREATE TABLE bodies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    shared INTEGER NOT NULL,
    pieces BLOB NOT NULL,
    blob BLOB
);
CREATE TABLE contents (
    project TEXT NOT NULL, id BLOB NOT NULL, size INTEGER NOT NULL, bytes BLOB,
    PRIMARY KEY (project, id)
) WITHOUT ROWID;
CREATE TABLE garbage (
    project TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (project, id)
) WITHOUT ROWID;
CREATE TABLE uploads (
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    id BLOB NOT NULL,
    initiated INTEGER NOT NULL,
    owner TEXT NOT NULL,
    class TEXT NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (bucket, key, id)
) WITHOUT ROWID;
CREATE TABLE parts (
    upload BLOB NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified INTEGER NOT NULL,
    body INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE TABLE blobs (
    project TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, used_at INTEGER NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, digest)
) WITHOUT ROWID;
CREATE TABLE blob_pieces (
    project TEXT NOT NULL, digest BLOB NOT NULL, ordinal INTEGER NOT NULL, piece BLOB NOT NULL,
    PRIMARY KEY (project, digest, ordinal)
) WITHOUT ROWID;
CREATE TABLE pieces (
    project TEXT NOT NULL, key BLOB NOT NULL, content BLOB NOT NULL, needed INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) WITHOUT ROWID;
CREATE INDEX pieces_unneeded ON pieces (project, key) WHERE needed = 0;
CREATE TABLE usage (
    project TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL DEFAULT 0,
    objects INTEGER NOT NULL DEFAULT 0,
    requests INTEGER NOT NULL DEFAULT 0,
    received INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    bytes_max INTEGER,
    objects_max INTEGER
) WITHOUT ROWID;
CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
";

/// Until then blobs were not counted, and objects that are a blob's bytes were.
const METERING: &str = r"
CREATE TABLE about (name TEXT NOT NULL PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO about VALUES ('id', lower(hex(randomblob(16)))), ('metered_at', 0);
CREATE TABLE stored (
    project TEXT NOT NULL, class TEXT NOT NULL,
    bytes INTEGER NOT NULL, objects INTEGER NOT NULL,
    PRIMARY KEY (project, class)
) WITHOUT ROWID;
INSERT INTO stored SELECT project, class, SUM(bytes), SUM(objects) FROM (
    SELECT buckets.project, versions.class,
           IIF(bodies.blob IS NULL, versions.size, 0) AS bytes, 1 AS objects
    FROM versions JOIN buckets ON buckets.id = versions.bucket
    JOIN bodies ON bodies.id = versions.body
    UNION ALL
    SELECT buckets.project, uploads.class, parts.size, 0
    FROM parts JOIN uploads ON uploads.id = parts.upload JOIN buckets ON buckets.id = uploads.bucket
    UNION ALL
    SELECT pieces.project, 'STANDARD', contents.size, 0
    FROM pieces JOIN contents ON contents.project = pieces.project AND contents.id = pieces.content
) GROUP BY project, class;
INSERT INTO usage (project) SELECT DISTINCT project FROM stored WHERE true ON CONFLICT DO NOTHING;
UPDATE usage SET
    bytes = COALESCE((SELECT SUM(bytes) FROM stored WHERE stored.project = usage.project), 0),
    objects = COALESCE((SELECT SUM(objects) FROM stored WHERE stored.project = usage.project), 0);
CREATE TABLE metered (
    project TEXT NOT NULL, month TEXT NOT NULL, class TEXT NOT NULL, byte_seconds REAL NOT NULL,
    PRIMARY KEY (project, month, class)
) WITHOUT ROWID;
CREATE TABLE metered_traffic (
    project TEXT NOT NULL, month TEXT NOT NULL,
    requests INTEGER NOT NULL, received INTEGER NOT NULL, sent INTEGER NOT NULL,
    PRIMARY KEY (project, month)
) WITHOUT ROWID;
";

/// Until then what is kept of an object's parts was among its attributes, which every listing reads: with
/// ten thousand parts that is half a megabyte a row. A last column is read by who asks for it alone.
const PARTS_APART: &str = r#"
ALTER TABLE versions ADD COLUMN parts TEXT NOT NULL DEFAULT '';
UPDATE versions SET
    parts = json_extract(attributes, '$.parts'),
    attributes = json_remove(attributes, '$.parts')
WHERE instr(attributes, '"parts":[') > 0 AND json_valid(attributes)
    AND json_type(attributes, '$.parts') = 'array';
"#;
