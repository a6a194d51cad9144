//! Bringing experiments: made before what is in them, and put into the bin after it.

use lepton_api::{CreateExperiment, ErrorCode};
use lepton_client::Method;
use lepton_types::FreeName;

use super::Importing;
use super::source::SourceExperiment;
use crate::failure::Failure;

/// The tag of an experiment that was made here to go into the bin once all that is in it was brought.
const BIN_TAG: &str = "lepton.import.deleted";

/// The experiment that MLflow knows by the id `0`.
const DEFAULT_EXPERIMENT: &str = "Default";

/// An experiment of the source, and how it stands here.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) source: SourceExperiment,
    pub(super) name: FreeName,
    /// Its id in MLflow's words.
    pub(super) id: String,
    /// It is in the bin here, and takes nothing.
    pub(super) is_in_bin: bool,
    /// It is here for what comes from the source's bin alone.
    is_for_bin: bool,
}

impl Importing<'_> {
    /// Makes an experiment, if it is not there.
    pub(super) fn make_experiment(&mut self, source: &SourceExperiment) -> Result<(), Failure> {
        let Ok(name) = source.name.parse::<FreeName>() else {
            let why = "its name cannot be used here";
            self.left_out(format!("experiment `{}`: {why}", source.name));
            return Ok(());
        };
        let mut tags = source.tags.clone();
        if source.is_deleted {
            tags.insert(BIN_TAG.to_owned(), "true".to_owned());
        }
        let request = CreateExperiment {
            name: name.clone(),
            tags,
        };
        let here = match self.client.create_experiment(&request) {
            Err(error) if error.code() == Some(ErrorCode::AlreadyExists) => {
                self.client.experiment(&name)?
            }
            made => made?,
        };
        let standing = Standing {
            id: match source.name.as_str() {
                DEFAULT_EXPERIMENT => "0".to_owned(),
                _ => here.metadata.id.to_string(),
            },
            is_in_bin: here.status.deleted_at.is_some(),
            is_for_bin: here.spec.tags.contains_key(BIN_TAG),
            source: source.clone(),
            name,
        };
        if standing.is_in_bin && !source.is_deleted {
            let why = "it is in the bin here: restore it first";
            self.left_out(format!("experiment `{}`: {why}", source.name));
        }
        self.experiments.insert(source.id.clone(), standing);
        Ok(())
    }

    /// Puts experiments into the bin that were in the source's, and were not here for anything else.
    pub(super) fn put_experiments_away(&mut self) -> Result<(), Failure> {
        let gone: Vec<Standing> = self
            .experiments
            .values()
            .filter(|it| it.source.is_deleted && it.is_for_bin && !it.is_in_bin)
            .cloned()
            .collect();
        for experiment in gone {
            let fields = serde_json::json!({"experiment_id": experiment.id});
            let shown = format!("experiment `{}`", experiment.name);
            self.tell(&Method::POST, "experiments/delete", &fields, &shown)?;
        }
        Ok(())
    }
}
