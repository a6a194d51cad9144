//! Bringing runs.
//!
//! A run is made under the id that it had, parameters and tags are set, points are a set, artifacts lie under
//! their paths. The last step notes on the run what its source looked like; where that has not changed, the run
//! is passed over the next time.

use std::collections::BTreeMap;

use lepton_api::{CreateRun, ErrorCode, LogToRun, UpdateRun};
use lepton_client::Method;
use lepton_types::resources::MetricPoint;
use lepton_types::{FreeName, Id, RunId};
use sha2::{Digest as _, Sha256};

use super::logged_models::Link;
use super::source::{Source, SourceRun};
use super::{DONE_TAG, ID_TAG, Importing, PARAM_BYTES_MAX, TAG_BYTES_MAX, is_refused};
use crate::failure::Failure;
use crate::progress::Progress;

/// Points in one request.
const POINTS_SENT: usize = 5_000;

/// Parameters or tags in one request; the longest of them still fit into its bound.
const PAIRS_SENT: usize = 50;

/// Datasets in one request; a profile can be long.
const DATASETS_SENT: usize = 4;

/// How a run stands that was brought before.
#[derive(Debug, Clone, Copy, Default)]
struct Stands {
    /// All of it is here.
    is_whole: bool,
    /// It is in the bin.
    is_deleted: bool,
}

impl Importing<'_> {
    pub(super) fn bring(
        &mut self,
        source: &Source,
        run: &SourceRun,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Some(experiment) = self.experiments.get(&run.experiment_id).cloned() else {
            return Ok(());
        };
        let known = match experiment.is_in_bin {
            // It takes no new ones.
            true => self.find_run(run)?,
            false => Some(self.make_run(run, &experiment.name)?),
        };
        let Some((id, stands)) = known else {
            return Ok(());
        };
        self.runs.insert(run.id.clone(), id);
        for link in &run.models {
            let links = self.links.entry(link.model.clone()).or_default();
            links.push(Link {
                run: id,
                r#use: link.r#use,
                step: link.step,
            });
        }
        if experiment.is_in_bin {
            self.brought.unchanged += 1;
            return Ok(());
        }
        if stands.is_whole {
            self.brought.unchanged += 1;
            return self.put_away(id, run, stands);
        }
        if stands.is_deleted {
            // What is in the bin takes nothing. What was put there here alone stays there.
            if !run.is_deleted {
                self.brought.unchanged += 1;
                return Ok(());
            }
            self.move_run(id, "runs/restore", run)?;
        }
        self.bring_pairs(id, run)?;
        self.bring_inputs(id, run)?;
        for key in &run.metrics {
            if self.is_too_long("metric", key, "", TAG_BYTES_MAX) {
                continue;
            }
            progress.say(format!("{}: {key}", run.shown()));
            let mut batch = Vec::new();
            source.each_point(run, key, &mut |point| {
                batch.push(point);
                match batch.len() < POINTS_SENT {
                    true => Ok(()),
                    false => self.send_points(id, std::mem::take(&mut batch)),
                }
            })?;
            self.send_points(id, batch)?;
        }
        if self.artifacts {
            source.each_artifact(run, &mut |path, file| {
                progress.say(format!("{}: {path}", run.shown()));
                let sent = self.client.put_artifact(id, path, file, &mut |_| {});
                match sent {
                    Ok(_) => self.brought.artifacts += 1,
                    Err(error) if is_refused(&error) => {
                        self.left_out(format!("{}: artifact `{path}`: {error}", run.shown()));
                    }
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            })?;
        }
        self.finish(id, run)?;
        self.put_away(id, run, Stands::default())
    }

    /// Puts into the bin what was in the source's.
    fn put_away(&mut self, id: RunId, run: &SourceRun, stands: Stands) -> Result<(), Failure> {
        match run.is_deleted && !stands.is_deleted {
            true => self.move_run(id, "runs/delete", run),
            false => Ok(()),
        }
    }

    fn move_run(&mut self, id: RunId, to: &str, run: &SourceRun) -> Result<(), Failure> {
        let fields = serde_json::json!({"run_id": id.to_string()});
        self.tell(&Method::POST, to, &fields, &run.shown())?;
        Ok(())
    }

    /// The run here, if it is here, and how it stands.
    fn find_run(&self, run: &SourceRun) -> Result<Option<(RunId, Stands)>, Failure> {
        let own = run.id.parse::<RunId>().ok();
        for id in own.into_iter().chain([derived_id(&run.id)]) {
            if let Some(stands) = self.stands(run, id)? {
                return Ok(Some((id, stands)));
            }
        }
        Ok(None)
    }

    fn stands(&self, run: &SourceRun, id: RunId) -> Result<Option<Stands>, Failure> {
        match self.client.run_view(id) {
            Ok(view) => Ok(Some(Stands {
                is_whole: view.tags.get(DONE_TAG) == Some(&run.fingerprint),
                is_deleted: view.run.status.deleted_at.is_some(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The run here, made if it is new, and how it stands.
    fn make_run(
        &mut self,
        run: &SourceRun,
        experiment: &FreeName,
    ) -> Result<(RunId, Stands), Failure> {
        let own = run.id.parse::<RunId>().ok();
        for id in own.into_iter().chain([derived_id(&run.id)]) {
            if let Some(stands) = self.stands(run, id)? {
                return Ok((id, stands));
            }
            let request = CreateRun {
                name: run.name.clone(),
                experiment: Some(experiment.clone()),
                started_at: run.started_at,
                id: Some(id),
            };
            match self.client.create_run(&request) {
                Ok(_) => return Ok((id, Stands::default())),
                // It is another project's; the next id is ours.
                Err(error) if error.code() == Some(ErrorCode::AlreadyExists) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let message = format!("the ids that run `{}` could have are taken", run.id);
        Err(Failure::invalid(message))
    }

    fn bring_pairs(&mut self, id: RunId, run: &SourceRun) -> Result<(), Failure> {
        let params = self.fitting("parameter", &run.params, PARAM_BYTES_MAX);
        for params in pieces(params) {
            let request = LogToRun {
                params,
                ..LogToRun::default()
            };
            self.client.log_to_run(id, &request)?;
        }
        let mut tags = self.fitting("tag", &run.tags, TAG_BYTES_MAX);
        if id.to_string() != run.id {
            tags.insert(ID_TAG.to_owned(), run.id.clone());
        }
        for tags in pieces(tags) {
            let request = LogToRun {
                tags,
                ..LogToRun::default()
            };
            self.client.log_to_run(id, &request)?;
        }
        Ok(())
    }

    /// The data that went into a run.
    fn bring_inputs(&mut self, id: RunId, run: &SourceRun) -> Result<(), Failure> {
        for datasets in run.datasets.chunks(DATASETS_SENT) {
            let fields = serde_json::json!({"run_id": id.to_string(), "datasets": datasets});
            let shown = format!("{}: its datasets", run.shown());
            self.tell(&Method::POST, "runs/log-inputs", &fields, &shown)?;
        }
        Ok(())
    }

    fn send_points(&mut self, id: RunId, metrics: Vec<MetricPoint>) -> Result<(), Failure> {
        if metrics.is_empty() {
            return Ok(());
        }
        self.brought.points += metrics.len() as u64;
        let request = LogToRun {
            metrics,
            ..LogToRun::default()
        };
        Ok(self.client.log_to_run(id, &request)?)
    }

    /// Notes that all of it is here.
    fn finish(&mut self, id: RunId, run: &SourceRun) -> Result<(), Failure> {
        let request = UpdateRun {
            phase: Some(run.phase),
            finished_at: run.finished_at.filter(|_| run.phase.is_final()),
            name: run.name.clone(),
        };
        self.client.update_run(id, &request)?;
        let tags = BTreeMap::from([(DONE_TAG.to_owned(), run.fingerprint.clone())]);
        let request = LogToRun {
            tags,
            ..LogToRun::default()
        };
        self.client.log_to_run(id, &request)?;
        self.brought.imported += 1;
        Ok(())
    }
}

/// An id for a run whose own cannot be used: always the same one.
fn derived_id(id: &str) -> RunId {
    let digest = Sha256::digest(format!("lepton runs import {id}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Id::from_bytes(bytes).into()
}

fn pieces(pairs: BTreeMap<String, String>) -> Vec<BTreeMap<String, String>> {
    let pairs: Vec<(String, String)> = pairs.into_iter().collect();
    pairs
        .chunks(PAIRS_SENT)
        .map(|piece| piece.iter().cloned().collect())
        .collect()
}
