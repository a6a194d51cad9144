//! Whose the files are that clients keep under paths of their own: a workload changes only its own.

use lepton_store::{CommitError, Conflict};
use lepton_types::RunId;

use super::ask::Visitor;
use super::error::MlflowError;
use super::logged_models;
use super::runs::enter;

/// Whose file a path is, by the folder of `artifacts` that it lies in.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Run(RunId),
    LoggedModel(String),
    Trace(String),
    Nobody,
}

fn owner_of(path: &str) -> Owner {
    let parts: Vec<&str> = path.split('/').collect();
    for folders in parts.windows(3) {
        match *folders {
            ["models", model, "artifacts"] if logged_models::parse(model).is_ok() => {
                return Owner::LoggedModel(model.to_owned());
            }
            ["traces", trace, "artifacts"] => return Owner::Trace(trace.to_owned()),
            [_, run, "artifacts"] => {
                if let Ok(run) = run.parse() {
                    return Owner::Run(run);
                }
            }
            _ => {}
        }
    }
    Owner::Nobody
}

/// Refuses a workload what is another's; whether it was found to be its own.
pub(super) async fn enter_owner(visitor: &Visitor, path: &str) -> Result<bool, MlflowError> {
    if !visitor.caller.is_workload() {
        return Ok(true);
    }
    match owner_of(path) {
        Owner::Run(run) => enter(visitor, &run.to_string()).await.map(|_| true),
        Owner::LoggedModel(model) => logged_models::enter(visitor, &model).await.map(|_| true),
        Owner::Trace(id) => match visitor.app.store.trace(&visitor.project, &id).await? {
            Some((_, trace)) if trace.created_by == visitor.caller.0.label() => Ok(true),
            Some(_) => Err(CommitError::Conflict(Conflict::TraceOfOther { trace: id }).into()),
            None => Ok(false),
        },
        Owner::Nobody => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_whose_artifacts_it_lies_in() {
        let id = "0".repeat(32);
        let owner = |path: &str| owner_of(&path.replace("ID", &id));
        let model = || Owner::LoggedModel(format!("m-{id}"));
        assert_eq!(owner("0/models/m-ID/artifacts/MLmodel"), model());
        assert_eq!(owner("deep/er/0/models/m-ID/artifacts"), model());
        assert_eq!(owner("a/b/ID/artifacts/x"), Owner::Run(id.parse().unwrap()));
        let trace = Owner::Trace("tr-1".to_owned());
        assert_eq!(owner("0/traces/tr-1/artifacts/traces.json"), trace);
        for nobodys in ["0/models", "0/models/m-ID", "0/models/m-x/artifacts/y", "x"] {
            assert_eq!(owner(nobodys), Owner::Nobody, "{nobodys}");
        }
    }
}
