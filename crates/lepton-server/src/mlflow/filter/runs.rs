//! What runs are searched and ordered by.

use lepton_store::{DatasetField, NumberField, RunClause, RunField, RunOrder, TextField};

use super::{Comparison, More, Order, parse, parse_order};
use crate::mlflow::error::{MlflowError, shown};

/// The tag that repeats a run's name.
pub(in crate::mlflow) const RUN_NAME_TAG: &str = "mlflow.runName";

const ENTITIES: &str = "['metric', 'parameter', 'tag', 'attribute', 'dataset']";

/// Reads a filter of runs.
pub(in crate::mlflow) fn clauses(filter: &str) -> Result<Vec<RunClause>, MlflowError> {
    parse(filter)?.iter().map(clause).collect()
}

/// Reads what runs are ordered by.
pub(in crate::mlflow) fn orders(clauses: &[String]) -> Result<Vec<RunOrder>, MlflowError> {
    parse_order(clauses)?.iter().map(order).collect()
}

fn clause(comparison: &Comparison) -> Result<RunClause, MlflowError> {
    let field = field(comparison.entity.as_deref(), &comparison.key)?;
    let test = match &field {
        RunField::Metric(_) | RunField::Number(_) => comparison.number_test()?,
        RunField::Param(_) | RunField::Tag(_) => comparison.text_test(More::Absence)?,
        RunField::Text(TextField::Id) | RunField::Dataset(_) => {
            comparison.text_test(More::Lists)?
        }
        RunField::Text(_) => comparison.text_test(More::Nothing)?,
    };
    Ok(named(RunClause { field, test }))
}

/// A run has one name, and the tag of it is that name.
fn named(clause: RunClause) -> RunClause {
    match &clause.field {
        RunField::Tag(key) if key == RUN_NAME_TAG => RunClause {
            field: RunField::Text(TextField::Name),
            test: clause.test,
        },
        _ => clause,
    }
}

fn order(order: &Order) -> Result<RunOrder, MlflowError> {
    let field = match field(order.entity.as_deref(), &order.key)? {
        RunField::Dataset(_) => {
            return Err(MlflowError::invalid("Invalid identifier type 'dataset'"));
        }
        RunField::Tag(key) if key == RUN_NAME_TAG => RunField::Text(TextField::Name),
        field => field,
    };
    Ok(RunOrder {
        field,
        descending: order.descending,
    })
}

fn field(entity: Option<&str>, key: &str) -> Result<RunField, MlflowError> {
    let key = key.to_owned();
    match entity.unwrap_or("attribute") {
        "metric" | "metrics" => Ok(RunField::Metric(key)),
        "parameter" | "parameters" | "param" | "params" => Ok(RunField::Param(key)),
        "tag" | "tags" => Ok(RunField::Tag(key)),
        "attribute" | "attributes" | "attr" | "run" => attribute(&key),
        "dataset" | "datasets" => dataset(&key),
        other => Err(MlflowError::invalid(format!(
            "Invalid entity type '{}'. Valid values are {ENTITIES}",
            shown(other)
        ))),
    }
}

fn attribute(key: &str) -> Result<RunField, MlflowError> {
    Ok(match key {
        "run_id" => RunField::Text(TextField::Id),
        "run_name" | "run name" | "Run name" | "Run Name" => RunField::Text(TextField::Name),
        "status" => RunField::Text(TextField::Status),
        "user_id" => RunField::Text(TextField::User),
        "artifact_uri" => RunField::Text(TextField::ArtifactUri),
        "start_time" | "created" | "Created" => RunField::Number(NumberField::Started),
        "end_time" => RunField::Number(NumberField::Finished),
        other => {
            return Err(MlflowError::invalid(format!(
                "Invalid attribute key '{}' specified. Valid keys are 'artifact_uri', 'created', \
                 'end_time', 'run_id', 'run_name', 'start_time', 'status', 'user_id'",
                shown(other)
            )));
        }
    })
}

fn dataset(key: &str) -> Result<RunField, MlflowError> {
    match key {
        "name" => Ok(RunField::Dataset(DatasetField::Name)),
        "digest" => Ok(RunField::Dataset(DatasetField::Digest)),
        "context" => Ok(RunField::Dataset(DatasetField::Context)),
        other => Err(MlflowError::invalid(format!(
            "Invalid dataset key '{}' specified. Valid keys are 'name', 'digest', 'context'",
            shown(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_takes_its_operators_and_no_others() {
        for good in [
            "metrics.a > 1",
            "metric.a != 2.5",
            "params.a LIKE 'x%'",
            "tags.a IS NULL",
            "attributes.status = 'RUNNING'",
            "run_id IN ('a', 'b')",
            "start_time >= 1664067852747",
            "dataset.context = 'train'",
            "tags.`mlflow.runName` = 'x'",
        ] {
            assert!(clauses(good).is_ok(), "{good}");
        }
        for bad in [
            "metrics.a LIKE 'x'",
            "metrics.a = 'x'",
            "params.a > 1",
            "params.a = 1",
            "attributes.nothing = 'x'",
            "status IN ('RUNNING')",
            "start_time = 'x'",
            "start_time IS NULL",
            "dataset.rows = 'x'",
            "thing.a = 'x'",
        ] {
            assert!(clauses(bad).is_err(), "{bad}");
        }
    }
}
