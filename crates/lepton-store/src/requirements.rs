//! What a transaction asks to be there; the answers are in `sqlite/requirements.rs`.

use lepton_types::resources::Kind;
use lepton_types::{ExperimentId, Id, Name, RunId};

use crate::Transaction;
use crate::transaction::Write;

/// Something that must hold, or the transaction changes nothing.
#[derive(Debug)]
pub(crate) enum Requirement {
    Run { run: Id, project: String },
    Tag { of: Id, key: String },
    LoggedModel { model: Id, project: String },
    Resource { kind: Kind, id: Id },
    Experiment { experiment: Id },
}

impl Transaction {
    fn require(&mut self, requirement: Requirement) -> &mut Self {
        self.writes.push(Write::Require(requirement));
        self
    }

    /// A conflict unless the run is in `project` and not in the bin. Asked where the writes
    /// happen, so that nothing comes in between, and nobody need read it first.
    pub fn require_run(&mut self, run: RunId, project: &Name) -> &mut Self {
        self.require(Requirement::Run {
            run: run.id(),
            project: project.to_string(),
        })
    }

    /// A conflict unless the run, or the logged model, has this tag.
    pub fn require_tag(&mut self, of: RunId, key: &str) -> &mut Self {
        self.require(Requirement::Tag {
            of: of.id(),
            key: key.to_owned(),
        })
    }

    /// A conflict unless there is this logged model in `project`, in the bin or not.
    pub fn require_logged_model(&mut self, model: Id, project: &Name) -> &mut Self {
        self.require(Requirement::LoggedModel {
            model,
            project: project.to_string(),
        })
    }

    /// A conflict unless there is this resource.
    pub fn require_resource(&mut self, kind: Kind, id: Id) -> &mut Self {
        self.require(Requirement::Resource { kind, id })
    }

    /// A conflict unless there is this experiment, and not in the bin.
    pub fn require_experiment(&mut self, experiment: ExperimentId) -> &mut Self {
        self.require(Requirement::Experiment {
            experiment: experiment.id(),
        })
    }
}
