-- A store as schema 6 wrote it: two runs, one with three artifacts.
BEGIN TRANSACTION;
CREATE TABLE datasets (
    experiment BLOB NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, source_type TEXT NOT NULL,
    source TEXT NOT NULL, schema TEXT, profile TEXT, PRIMARY KEY (experiment, name, digest)
) WITHOUT ROWID;
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    project TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    severity TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE TABLE kept_files (
    project TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (project, path)
) WITHOUT ROWID;
INSERT INTO "kept_files" VALUES('default','kept/x.txt','79f076abdd19a752db7267bfff2f9022161d120dea919fdaca2ffdfc24ca8c96',4);
CREATE TABLE lineage (
    project TEXT NOT NULL,
    source BLOB NOT NULL,
    relation TEXT NOT NULL,
    target BLOB NOT NULL,
    source_kind INTEGER NOT NULL,
    source_name TEXT NOT NULL,
    target_kind INTEGER NOT NULL,
    target_name TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (source, relation, target)
) WITHOUT ROWID;
CREATE TABLE logged_models (
    id BLOB NOT NULL PRIMARY KEY, project TEXT NOT NULL, experiment BLOB NOT NULL,
    name TEXT NOT NULL, model_type TEXT NOT NULL, source_run TEXT NOT NULL, phase TEXT NOT NULL,
    artifact_uri TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, deleted INTEGER
) WITHOUT ROWID;
CREATE TABLE metric_batches (
    run BLOB NOT NULL, batch INTEGER NOT NULL, points INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (run, batch)
) WITHOUT ROWID;
INSERT INTO "metric_batches" VALUES(X'01A1FDDBBB467139A5454BFE916A91F4',1,1,X'0101050002063FF8');
INSERT INTO "metric_batches" VALUES(X'01A1FDDBBC2878C1A49DE21C14845E9B',1,1,X'0201050002063FF8');
CREATE TABLE metric_blocks (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    first_step INTEGER NOT NULL, first_at INTEGER NOT NULL, first_rank INTEGER NOT NULL,
    last_step INTEGER NOT NULL, last_at INTEGER NOT NULL, last_rank INTEGER NOT NULL,
    points INTEGER NOT NULL, from_at INTEGER NOT NULL, to_at INTEGER NOT NULL,
    summary BLOB NOT NULL, body BLOB NOT NULL
);
CREATE TABLE metric_latest (
    run BLOB NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
    value INTEGER NOT NULL, number REAL, lowest REAL, highest REAL, series INTEGER NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
INSERT INTO "metric_latest" VALUES(X'01A1FDDBBB467139A5454BFE916A91F4','m',0,1,4609434218613702656,1.5,1.5,1.5,1);
INSERT INTO "metric_latest" VALUES(X'01A1FDDBBC2878C1A49DE21C14845E9B','m',0,1,4609434218613702656,1.5,1.5,1.5,2);
CREATE TABLE metric_series (
    series INTEGER PRIMARY KEY AUTOINCREMENT, run BLOB NOT NULL, dropped INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "metric_series" VALUES(1,X'01A1FDDBBB467139A5454BFE916A91F4',0);
INSERT INTO "metric_series" VALUES(2,X'01A1FDDBBC2878C1A49DE21C14845E9B',0);
CREATE TABLE model_metrics (
    position INTEGER PRIMARY KEY, model BLOB NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL,
    step INTEGER NOT NULL, run BLOB NOT NULL, value INTEGER NOT NULL, dataset_name TEXT NOT NULL,
    dataset_digest TEXT NOT NULL, UNIQUE (model, key, at, step, run, dataset_name, dataset_digest)
);
CREATE TABLE resources (
    id BLOB NOT NULL PRIMARY KEY,
    kind INTEGER NOT NULL,
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    owner BLOB,
    grp BLOB,
    phase TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "resources" VALUES(X'01A1FDDBB9FB7A4CBF00520912484CB4',1,'default','default','default',NULL,NULL,'active',1,'{"kind":"project","metadata":{"id":"01a1fddbb9fb7a4cbf00520912484cb4","project":"default","name":"default","generation":1,"resource_version":0,"created_at":1795260398075,"created_by":"lepton"},"spec":{"description":"what names no project"},"status":{}}');
INSERT INTO "resources" VALUES(X'01A1FDDBBAB677DEAE9C4664A43611FF',5,'default','wine','wine',NULL,NULL,'active',4,'{"kind":"experiment","metadata":{"id":"01a1fddbbab677deae9c4664a43611ff","project":"default","name":"wine","generation":1,"resource_version":0,"created_at":1795260398262,"created_by":"owner"},"spec":{"tags":{}},"status":{}}');
INSERT INTO "resources" VALUES(X'01A1FDDBBB467139A5454BFE916A91F4',8,'default','01a1fddbbb467139a5454bfe916a91f4','one',NULL,X'01A1FDDBBAB677DEAE9C4664A43611FF','RUNNING',8,'{"kind":"run","metadata":{"id":"01a1fddbbb467139a5454bfe916a91f4","project":"default","name":"one","generation":1,"resource_version":7,"created_at":1795260398406,"created_by":"owner"},"spec":{"experiment":"01a1fddbbab677deae9c4664a43611ff","user":""},"status":{"phase":"RUNNING","started_at":1,"artifacts":[{"path":"a.txt","digest":"56995ef0ff12864ff2d855a287e912d9a1d24ba841c523fcc27fb690474174c3","size_bytes":11},{"path":"c d.txt","digest":"009d3eec4de51f07245b2105817f1ad6df3a064f53b12201bce167d4b61f6550","size_bytes":13},{"path":"plots/b.png","digest":"039f44e6ce08051a4087ad4df5ba4061d28d28b400e4bfc1db8b88bece8f8c3d","size_bytes":17}]}}');
INSERT INTO "resources" VALUES(X'01A1FDDBBC2878C1A49DE21C14845E9B',8,'default','01a1fddbbc2878c1a49de21c14845e9b','two',NULL,X'01A1FDDBBAB677DEAE9C4664A43611FF','RUNNING',9,'{"kind":"run","metadata":{"id":"01a1fddbbc2878c1a49de21c14845e9b","project":"default","name":"two","generation":1,"resource_version":0,"created_at":1795260398632,"created_by":"owner"},"spec":{"experiment":"01a1fddbbab677deae9c4664a43611ff","user":""},"status":{"phase":"RUNNING","started_at":1}}');
CREATE TABLE retired_numbers (
    project TEXT NOT NULL, key TEXT NOT NULL, latest INTEGER NOT NULL, PRIMARY KEY (project, key)
) WITHOUT ROWID;
CREATE TABLE run_datasets (
    position INTEGER PRIMARY KEY, run BLOB NOT NULL, experiment BLOB NOT NULL, name TEXT NOT NULL,
    digest TEXT NOT NULL, tags TEXT NOT NULL, UNIQUE (run, name, digest)
);
CREATE TABLE run_index (
    run BLOB NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    experiment BLOB NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    user TEXT NOT NULL,
    artifact_uri TEXT,
    started INTEGER NOT NULL,
    finished INTEGER,
    deleted INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "run_index" VALUES(X'01A1FDDBBB467139A5454BFE916A91F4','default',X'01A1FDDBBAB677DEAE9C4664A43611FF','one','RUNNING','',NULL,1,NULL,0);
INSERT INTO "run_index" VALUES(X'01A1FDDBBC2878C1A49DE21C14845E9B','default',X'01A1FDDBBAB677DEAE9C4664A43611FF','two','RUNNING','',NULL,1,NULL,0);
CREATE TABLE run_models (
    position INTEGER PRIMARY KEY, run BLOB NOT NULL, way INTEGER NOT NULL, model BLOB NOT NULL,
    step INTEGER NOT NULL, UNIQUE (run, way, model, step)
);
CREATE TABLE run_params (
    run BLOB NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
INSERT INTO "run_params" VALUES(X'01A1FDDBBB467139A5454BFE916A91F4','lr','0.1');
INSERT INTO "run_params" VALUES(X'01A1FDDBBC2878C1A49DE21C14845E9B','lr','0.1');
CREATE TABLE run_tags (
    run BLOB NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE tombstones (
    version INTEGER NOT NULL PRIMARY KEY,
    kind INTEGER NOT NULL,
    project TEXT NOT NULL,
    id BLOB NOT NULL
);
CREATE TABLE trace_spans (
    project TEXT NOT NULL, trace TEXT NOT NULL, span TEXT NOT NULL, began INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (project, trace, span)
) WITHOUT ROWID;
CREATE TABLE traces (
    project TEXT NOT NULL, id TEXT NOT NULL, experiment BLOB NOT NULL, began INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (project, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX resources_key ON resources (kind, project, key);
CREATE INDEX resources_name ON resources (kind, project, name, id);
CREATE INDEX resources_phase ON resources (kind, project, phase, id);
CREATE INDEX resources_all ON resources (kind, project, id);
CREATE INDEX resources_owner ON resources (owner, kind, id) WHERE owner IS NOT NULL;
CREATE INDEX resources_group ON resources (grp, kind, id) WHERE grp IS NOT NULL;
CREATE UNIQUE INDEX resources_version ON resources (version);
CREATE INDEX events_about ON events (id, sequence);
CREATE INDEX lineage_target ON lineage (target, relation, source);
CREATE TRIGGER run_made AFTER INSERT ON resources WHEN NEW.kind = 8 BEGIN
    INSERT INTO run_index
    VALUES (NEW.id, NEW.project, NEW.grp, NEW.name, NEW.body ->> '$.status.phase',
            COALESCE(NEW.body ->> '$.spec.user', NEW.body ->> '$.metadata.created_by', ''),
            NEW.body ->> '$.spec.artifact_uri',
            COALESCE(NEW.body ->> '$.status.started_at', NEW.body ->> '$.metadata.created_at'),
            NEW.body ->> '$.status.finished_at', NEW.body ->> '$.status.deleted_at' IS NOT NULL);
END;
CREATE TRIGGER run_changed AFTER UPDATE ON resources WHEN NEW.kind = 8 BEGIN
    UPDATE run_index SET experiment = NEW.grp, name = NEW.name,
        status = NEW.body ->> '$.status.phase',
        user = COALESCE(NEW.body ->> '$.spec.user', NEW.body ->> '$.metadata.created_by', ''),
        artifact_uri = NEW.body ->> '$.spec.artifact_uri',
        started = COALESCE(NEW.body ->> '$.status.started_at', NEW.body ->> '$.metadata.created_at'),
        finished = NEW.body ->> '$.status.finished_at',
        deleted = NEW.body ->> '$.status.deleted_at' IS NOT NULL
    WHERE run = NEW.id;
END;
CREATE TRIGGER run_gone AFTER DELETE ON resources WHEN OLD.kind = 8 BEGIN
    DELETE FROM run_index WHERE run = OLD.id;
    DELETE FROM run_datasets WHERE run = OLD.id;
    DELETE FROM run_models WHERE run = OLD.id;
END;
CREATE INDEX logged_models_experiment ON logged_models (experiment, id);
CREATE INDEX metric_series_dropped ON metric_series (series) WHERE dropped = 1;
CREATE UNIQUE INDEX metric_blocks_first
    ON metric_blocks (series, first_step, first_at, first_rank);
CREATE INDEX traces_began ON traces (experiment, began DESC, id DESC);
CREATE INDEX run_index_started ON run_index (experiment, started DESC, run, deleted, project);
CREATE INDEX run_index_name ON run_index (name);
CREATE INDEX run_params_value ON run_params (key, substr(value, 1, 64));
CREATE INDEX run_tags_value ON run_tags (key, substr(value, 1, 64));
CREATE INDEX metric_latest_number ON metric_latest (key, number);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('metric_series',2);
COMMIT;
PRAGMA user_version = 6;
