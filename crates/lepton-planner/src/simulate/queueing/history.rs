//! Lepton's own history as a log: what `lepton get jobs -o json` prints.
//!
//! Owns: what a finished job says of its demand. Must not know: any order of service.

use lepton_types::resources;
use serde::Deserialize;

use super::Job;
use crate::simulate::trace::TraceError;

#[derive(Deserialize)]
struct Listed {
    items: Vec<resources::Job>,
}

/// Reads the jobs that ran and ended; the others are left out, as nobody knows how long they take.
/// A worker counts as its GPUs, or as one place where it has none. Times count from the first job.
pub(super) fn read(text: &str) -> Result<Vec<Job>, TraceError> {
    let listed: Listed = serde_json::from_str(text)
        .map_err(|error| TraceError::at(error.line().max(1), error.to_string()))?;
    let first = listed.items.iter().map(|job| job.metadata.created_at).min();
    let ended = listed.items.iter().zip(1..).filter_map(|(job, line)| {
        let (status, spec) = (&job.status, &job.spec);
        let ran = status.finished_at?.since(status.started_at?);
        let asked_for = job.metadata.created_at.since(first?);
        Some(Job {
            submit_s: asked_for.as_secs_f64(),
            duration_s: ran.as_secs_f64(),
            gpus: spec.workers.saturating_mul(spec.resources.gpus.max(1)),
            virtual_cluster: job.metadata.project.to_string(),
            line,
        })
    });
    Ok(ended.filter(|job| job.gpus > 0).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lepton_types::resources::{CommandSpec, Job, JobSpec, Program, Resource};
    use lepton_types::{Id, Resources, Timestamp};
    use serde_json::json;

    use super::super::parse_jobs;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + minute * 60_000)
    }

    fn job(asked_for: i64, ran: (Option<i64>, Option<i64>), gpus: u32) -> Job {
        let id = Id::from_parts(at(0), [1; 10]);
        let spec = JobSpec {
            program: Program::Command(CommandSpec {
                command: vec!["true".to_owned()],
                code: None,
            }),
            workers: 2,
            resources: Resources {
                cpu: "1".parse().unwrap(),
                memory: "1Gi".parse().unwrap(),
                gpus,
            },
            env: BTreeMap::new(),
            timeout: None,
            retries: 0,
            priority: 0,
            pool: "local".parse().unwrap(),
            experiment: "e".parse().unwrap(),
            run: id.into(),
            cancel_requested_at: None,
            cancel_requested_by: None,
        };
        let mut job = Resource::draft(id, "team".parse().unwrap(), "j", at(asked_for), spec);
        job.status.started_at = ran.0.map(at);
        job.status.finished_at = ran.1.map(at);
        job
    }

    #[test]
    fn what_ended_is_replayed_and_what_did_not_is_left_out() {
        let items = [
            job(1, (Some(2), Some(7)), 4),
            job(0, (Some(2), None), 4),
            job(3, (Some(3), Some(7)), 0),
        ];
        let jobs = parse_jobs(&json!({"items": items}).to_string()).unwrap();
        let seen: Vec<_> = jobs
            .iter()
            .map(|j| (j.submit_s, j.duration_s, j.gpus))
            .collect();
        assert_eq!(seen, [(60.0, 300.0, 8), (180.0, 240.0, 2)]);
        assert_eq!(jobs[0].virtual_cluster, "team");
    }

    #[test]
    fn what_is_no_history_says_where() {
        let broken = parse_jobs("{\n \"items\": [\n 7]}").unwrap_err();
        assert_eq!(broken.line, 3, "{broken}");
        assert!(parse_jobs("{\"items\": []}").is_err());
    }
}
