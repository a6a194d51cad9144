//! What training code records beside parameters, tags and series.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `run_index` | `run` | what runs are searched by; triggers keep it in step with `resources` |
//! | `datasets` | `experiment, name, digest` | data that went into runs, once an experiment |
//! | `run_datasets` | `run, name, digest` | which went into which run; `tags` is JSON |
//! | `run_models` | `run, way, model` | logged models that runs used and made |
//! | `logged_models` | `id` | models before they are registered; their tags and parameters are in `run_tags` and `run_params` |
//! | `model_metrics` | `model, key, at, step, run, …` | measurements of logged models |
//! | see `files.rs` | | files of runs, and those that clients keep under paths of their own |

use std::collections::{HashMap, VecDeque};

use lepton_types::tracking::{LoggedModel, LoggedModelPhase, ModelMetric, RunDataset};
use lepton_types::{Id, Name, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::files;
use super::reader::Reader;
use super::requirements::{
    require_free_for_model, require_model_of_run, require_project, require_record,
};
use crate::tracking::{LoggedModelRecord, TrackingWrite};
use crate::{CommitError, StoreError};

/// From schema 1 to schema 2.
pub(super) const SCHEMA: &str = r"
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
CREATE INDEX run_index_started ON run_index (experiment, started DESC, run);
INSERT INTO run_index
SELECT id, project, grp, name, body ->> '$.status.phase',
       COALESCE(body ->> '$.spec.user', body ->> '$.metadata.created_by', ''),
       body ->> '$.spec.artifact_uri',
       COALESCE(body ->> '$.status.started_at', body ->> '$.metadata.created_at'),
       body ->> '$.status.finished_at', body ->> '$.status.deleted_at' IS NOT NULL
FROM resources WHERE kind = 8;
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
CREATE TABLE datasets (
    experiment BLOB NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, source_type TEXT NOT NULL,
    source TEXT NOT NULL, schema TEXT, profile TEXT, PRIMARY KEY (experiment, name, digest)
) WITHOUT ROWID;
CREATE TABLE run_datasets (
    position INTEGER PRIMARY KEY, run BLOB NOT NULL, experiment BLOB NOT NULL, name TEXT NOT NULL,
    digest TEXT NOT NULL, tags TEXT NOT NULL, UNIQUE (run, name, digest)
);
CREATE TABLE run_models (
    position INTEGER PRIMARY KEY, run BLOB NOT NULL, way INTEGER NOT NULL, model BLOB NOT NULL,
    step INTEGER NOT NULL, UNIQUE (run, way, model, step)
);
CREATE TRIGGER run_gone AFTER DELETE ON resources WHEN OLD.kind = 8 BEGIN
    DELETE FROM run_index WHERE run = OLD.id;
    DELETE FROM run_datasets WHERE run = OLD.id;
    DELETE FROM run_models WHERE run = OLD.id;
END;
CREATE TABLE logged_models (
    id BLOB NOT NULL PRIMARY KEY, project TEXT NOT NULL, experiment BLOB NOT NULL,
    name TEXT NOT NULL, model_type TEXT NOT NULL, source_run TEXT NOT NULL, phase TEXT NOT NULL,
    artifact_uri TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, deleted INTEGER
) WITHOUT ROWID;
CREATE INDEX logged_models_experiment ON logged_models (experiment, id);
CREATE TABLE model_metrics (
    position INTEGER PRIMARY KEY, model BLOB NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL,
    step INTEGER NOT NULL, run BLOB NOT NULL, value INTEGER NOT NULL, dataset_name TEXT NOT NULL,
    dataset_digest TEXT NOT NULL, UNIQUE (model, key, at, step, run, dataset_name, dataset_digest)
);
CREATE TABLE kept_files (
    project TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (project, path)
) WITHOUT ROWID;
";

/// From schema 7 to schema 8: what a purge looks for, it finds without reading the rest.
pub(super) const INDEXES: &str = r"
CREATE INDEX run_models_model ON run_models (model);
CREATE INDEX run_datasets_experiment ON run_datasets (experiment);
CREATE INDEX logged_models_binned ON logged_models (project, id) WHERE deleted IS NOT NULL;
";

pub(super) fn apply(connection: &Connection, write: &TrackingWrite) -> Result<(), CommitError> {
    match write {
        TrackingWrite::Datasets {
            run,
            experiment,
            datasets,
        } => {
            require_record(connection, *run)?;
            link_datasets(connection, *run, *experiment, datasets)?;
        }
        TrackingWrite::Models { run, links } => {
            require_record(connection, *run)?;
            let mut insert = connection.prepare_cached(
                "INSERT INTO run_models (run, way, model, step) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
            )?;
            for link in links {
                require_model_of_run(connection, link.model, *run)?;
                let (run, model) = (run.to_bytes(), link.model.to_bytes());
                insert.execute(params![run, link.r#use as u8, model, link.step])?;
            }
        }
        TrackingWrite::CreateModel(model) => {
            require_project(connection, model.project.as_str())?;
            require_free_for_model(connection, model.id)?;
            create_model(connection, model)?;
        }
        TrackingWrite::ModelPhase { model, phase, at } => {
            connection
                .prepare_cached("UPDATE logged_models SET phase = ?2, updated = ?3 WHERE id = ?1")?
                .execute(params![model.to_bytes(), phase.as_str(), at.as_millis()])?;
        }
        TrackingWrite::DeleteModel { model, at } => {
            connection
                .prepare_cached(
                    "UPDATE logged_models SET deleted = ?2, updated = ?2 WHERE id = ?1",
                )?
                .execute(params![model.to_bytes(), at.as_millis()])?;
        }
        TrackingWrite::ModelMetrics(metrics) => append_model_metrics(connection, metrics)?,
        TrackingWrite::File(write) => files::apply(connection, write)?,
    }
    Ok(())
}

fn link_datasets(
    connection: &Connection,
    run: Id,
    experiment: Id,
    datasets: &[RunDataset],
) -> Result<(), CommitError> {
    let mut describe = connection.prepare_cached(
        "INSERT INTO datasets (experiment, name, digest, source_type, source, schema, profile)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
    )?;
    let mut link = connection.prepare_cached(
        "INSERT INTO run_datasets (run, experiment, name, digest, tags)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?;
    let (run, experiment) = (run.to_bytes(), experiment.to_bytes());
    for data in datasets {
        let (name, digest) = (&data.name, &data.digest);
        describe.execute(params![
            experiment,
            name,
            digest,
            data.source_type,
            data.source,
            data.schema,
            data.profile
        ])?;
        let tags = serde_json::to_string(&data.tags).expect("invariant: pairs of texts serialise");
        link.execute(params![run, experiment, name, digest, tags])?;
    }
    Ok(())
}

fn create_model(connection: &Connection, model: &LoggedModel) -> Result<(), CommitError> {
    connection
        .prepare_cached(
            "INSERT INTO logged_models (id, project, experiment, name, model_type, source_run,
                                        phase, artifact_uri, created, updated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            model.id.to_bytes(),
            model.project.as_str(),
            model.experiment.id().to_bytes(),
            model.name,
            model.model_type,
            model.source_run,
            model.phase.as_str(),
            model.artifact_uri,
            model.created_at.as_millis(),
            model.updated_at.as_millis(),
        ])?;
    Ok(())
}

fn append_model_metrics(
    connection: &Connection,
    metrics: &[ModelMetric],
) -> Result<(), CommitError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO model_metrics (model, key, at, step, run, value, dataset_name, dataset_digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
    )?;
    for metric in metrics {
        require_model_of_run(connection, metric.model, metric.run.id())?;
        insert.execute(params![
            metric.model.to_bytes(),
            metric.key,
            metric.at.as_millis(),
            metric.step,
            metric.run.id().to_bytes(),
            metric.value.to_bits().cast_signed(),
            metric.dataset_name,
            metric.dataset_digest,
        ])?;
    }
    Ok(())
}

impl Reader<'_> {
    pub(crate) fn logged_model(&self, id: Id) -> Result<Option<LoggedModelRecord>, StoreError> {
        let sql = format!("SELECT {MODEL_COLUMNS} FROM logged_models WHERE id = ?1");
        let found = self
            .connection()
            .prepare_cached(&sql)?
            .query_row([id.to_bytes()], model_of)
            .optional()?;
        let models = found.into_iter().collect();
        Ok(self.with_records(models)?.pop())
    }

    pub(crate) fn logged_models(
        &self,
        project: &str,
        experiment: Id,
        after: Option<Id>,
    ) -> Result<Vec<LoggedModelRecord>, StoreError> {
        let sql = format!(
            "SELECT {MODEL_COLUMNS} FROM logged_models WHERE experiment = ?1 AND project = ?2
             AND deleted IS NULL AND id > ?3 ORDER BY id LIMIT {PIECE_MODELS}"
        );
        let after = after.map_or([0; 16], Id::to_bytes);
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map(params![experiment.to_bytes(), project, after], model_of)?;
        self.with_records(rows.collect::<Result<_, _>>()?)
    }

    fn with_records(&self, models: Vec<LoggedModel>) -> Result<Vec<LoggedModelRecord>, StoreError> {
        let ids: Vec<Id> = models.iter().map(|model| model.id).collect();
        let mut params = self.pairs_by_run("run_params", &ids)?;
        let mut tags = self.pairs_by_run("run_tags", &ids)?;
        let mut metrics: HashMap<Id, VecDeque<ModelMetric>> = HashMap::new();
        self.for_each_of(
            &ids,
            "SELECT model, key, at, step, run, value, dataset_name, dataset_digest
             FROM model_metrics WHERE model IN (",
            ") ORDER BY position",
            |row| {
                let metric = model_metric_of(row)?;
                let of_model = metrics.entry(metric.model).or_default();
                of_model.push_back(metric);
                if of_model.len() > METRICS_MAX {
                    of_model.pop_front();
                }
                Ok(())
            },
        )?;
        let record = |model: LoggedModel| LoggedModelRecord {
            params: params.remove(&model.id).unwrap_or_default(),
            tags: tags.remove(&model.id).unwrap_or_default(),
            metrics: metrics.remove(&model.id).unwrap_or_default().into(),
            model,
        };
        Ok(models.into_iter().map(record).collect())
    }
}

/// Logged models that are read at once.
const PIECE_MODELS: usize = 32;

/// Measurements that are shown of a logged model: the newest.
const METRICS_MAX: usize = 10_000;

const MODEL_COLUMNS: &str = "id, project, experiment, name, model_type, source_run, phase, \
                             artifact_uri, created, updated, deleted";

fn model_of(row: &Row<'_>) -> rusqlite::Result<LoggedModel> {
    let project: String = row.get(1)?;
    let phase: String = row.get(6)?;
    let deleted: Option<i64> = row.get(10)?;
    Ok(LoggedModel {
        id: Id::from_bytes(row.get(0)?),
        project: project.parse().unwrap_or_else(|_| Name::default_project()),
        experiment: Id::from_bytes(row.get(2)?).into(),
        name: row.get(3)?,
        model_type: row.get(4)?,
        source_run: row.get(5)?,
        phase: LoggedModelPhase::from_word(&phase).unwrap_or(LoggedModelPhase::Pending),
        artifact_uri: row.get(7)?,
        created_at: Timestamp::from_millis(row.get(8)?),
        updated_at: Timestamp::from_millis(row.get(9)?),
        deleted_at: deleted.map(Timestamp::from_millis),
    })
}

fn model_metric_of(row: &Row<'_>) -> rusqlite::Result<ModelMetric> {
    let bits: i64 = row.get(5)?;
    Ok(ModelMetric {
        model: Id::from_bytes(row.get(0)?),
        key: row.get(1)?,
        at: Timestamp::from_millis(row.get(2)?),
        step: row.get(3)?,
        run: Id::from_bytes(row.get(4)?).into(),
        value: f64::from_bits(bits.cast_unsigned()),
        dataset_name: row.get(6)?,
        dataset_digest: row.get(7)?,
    })
}
