//! What is checked of a training before it becomes a job.

use lepton_api::{CreateJob, ErrorCode, SubmitTrain};
use lepton_ml::tabular::Metric;
use lepton_types::resources::{Program, TrainBudget, TrainSpec};
use lepton_types::{DurationMs, Name};

use super::datasets::find_version;
use crate::app::App;
use crate::error::ApiError;

/// How long a training searches that says nothing.
const DEFAULT_BUDGET: TrainBudget = TrainBudget::Time(DurationMs::from_secs(60));

/// The training that is asked for, with the version of its data fixed.
pub(super) async fn accept_training(
    app: &App,
    project: &Name,
    request: &CreateJob,
    train: &SubmitTrain,
) -> Result<Program, ApiError> {
    if request.workers != 1 {
        return Err(ApiError::invalid("the built-in trainer runs as one worker"));
    }
    let wanted = train
        .dataset_version
        .map_or("latest".to_owned(), |version| version.to_string());
    let version = find_version(app, project, train.dataset.as_str(), &wanted).await?;
    let (columns, note) = (&version.status.columns, &version.status.note);
    if let Some(note) = note {
        let message = format!(
            "dataset `{}` cannot be trained on: {note}",
            version.metadata.name
        );
        return Err(ApiError::new(ErrorCode::InvalidData, message));
    }
    if !columns.iter().any(|column| column.name == train.target) {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let message = format!(
            "dataset `{}` has no column `{}`: it has {}",
            version.metadata.name,
            train.target,
            listed(&names)
        );
        return Err(ApiError::new(ErrorCode::InvalidData, message));
    }
    if let Some(metric) = &train.metric {
        let known = metric.parse::<Metric>();
        known.map_err(ApiError::invalid)?;
    }
    let budget = train.budget.unwrap_or(DEFAULT_BUDGET);
    if matches!(
        budget,
        TrainBudget::Trials(0) | TrainBudget::Time(DurationMs::ZERO)
    ) {
        return Err(ApiError::invalid("`budget` must not be zero"));
    }
    Ok(Program::Train(TrainSpec {
        dataset: train.dataset.clone(),
        dataset_version: version.spec.version,
        target: train.target.clone(),
        metric: train.metric.clone(),
        budget,
        model: train
            .model
            .clone()
            .unwrap_or_else(|| request.name.clone().into()),
        seed: train.seed,
    }))
}

/// The first names of many.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
