//! `lepton deploy`: a model behind an endpoint.

use std::str::FromStr;
use std::time::Instant;

use lepton_client::Client;
use lepton_types::resources::{
    Endpoint, EndpointPhase, EndpointSpec, Kind, ModelRef, ParseModelRefError, Scaling,
};
use lepton_types::{CpuMillis, DurationMs, MemoryBytes, Name, Resources};

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::took;
use crate::progress::Progress;
use crate::waiting::{self, Look};

/// Serves a model behind an endpoint, or changes what is served
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton deploy wine --model wine --wait\n  lepton deploy wine --model wine@champion --replicas 2\n  lepton deploy wine --model wine:3 --cpu 500m --memory 512Mi\n  lepton deploy wine --model wine --replicas 0..8\n\nAn alias is followed as it moves; a version stays. A change never drops a request."
)]
pub(crate) struct Deploy {
    /// The endpoint's name
    name: Name,
    /// MODEL for its newest version, MODEL:VERSION or MODEL@ALIAS
    #[arg(long, value_name = "MODEL[@ALIAS|:VERSION]", value_parser = reference)]
    model: ModelRef,
    /// How many copies, or the fewest and the most between which they follow the load; with 0
    /// as the fewest all stop while nobody asks, and the next request starts one
    #[arg(long, value_name = "COUNT|MIN..MAX", default_value = "1")]
    replicas: ReplicaCount,
    /// Requests that one copy is given at once, where the number follows the load [default: 8]
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u32>,
    /// A request that waits longer for a copy is late; one in a hundred may be [default: 1s]
    #[arg(long, value_name = "DURATION")]
    late_after: Option<DurationMs>,
    /// How long the last copy is kept without a request [default: while it costs less than a start]
    #[arg(long, value_name = "DURATION")]
    idle_after: Option<DurationMs>,
    /// Processors of each copy: 2, 0.5 or 500m
    #[arg(long, value_name = "CPU")]
    cpu: Option<CpuMillis>,
    /// Memory of each copy: 1Gi, 512Mi
    #[arg(long, value_name = "MEMORY")]
    memory: Option<MemoryBytes>,
    /// Where it is placed
    #[arg(long, value_name = "NAME")]
    pool: Option<Name>,
    /// Waits until all copies answer
    #[arg(long)]
    wait: bool,
    /// Gives up waiting after so long; the deployment goes on
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    wait_timeout: DurationMs,
}

fn reference(text: &str) -> Result<ModelRef, ParseModelRefError> {
    text.parse()
}

/// How many copies are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplicaCount {
    /// Always as many.
    Fixed(u32),
    /// As the load asks, between the two.
    Between(u32, u32),
}

/// What is no number of copies.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ParseReplicaCountError {
    #[error("`{0}` is neither a number, as `2`, nor two, as `0..8`")]
    Malformed(String),
    #[error("the fewest copies, {0}, are more than the most, {1}")]
    Contradictory(u32, u32),
}

impl ReplicaCount {
    /// With how many to begin: one at least, where the load decides, so that a model that cannot be served is noticed.
    fn first(self) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Between(min, _) => min.max(1),
        }
    }
}

impl FromStr for ReplicaCount {
    type Err = ParseReplicaCountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseReplicaCountError::Malformed(text.to_owned());
        let number = |part: &str| part.trim().parse::<u32>().map_err(|_| malformed());
        let Some((min, max)) = text.split_once("..") else {
            return Ok(Self::Fixed(number(text)?));
        };
        // The most is included, as Rust writes it with a sign that nobody else needs to know.
        let (min, max) = (number(min)?, number(max.trim_start_matches('='))?);
        if min > max {
            return Err(ParseReplicaCountError::Contradictory(min, max));
        }
        Ok(Self::Between(min, max))
    }
}

/// Failures in a row after which waiting is in vain; a single one may be a port that was taken.
const FAILURES_MAX: u32 = 3;

impl Deploy {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let defaults = EndpointSpec::default_resources();
        let (replicas, scaling) = self.number()?;
        let spec = EndpointSpec {
            model: self.model.clone(),
            replicas,
            scaling,
            resources: Resources {
                cpu: self.cpu.unwrap_or(defaults.cpu),
                memory: self.memory.unwrap_or(defaults.memory),
                gpus: 0,
            },
            pool: self.pool.clone().unwrap_or_else(EndpointSpec::default_pool),
        };
        let endpoint = client.put_endpoint(&self.name, &spec).map_err(|error| {
            let model = self.model.model.as_str();
            kinds::or_near_names(client, Kind::Model, model, error)
        })?;
        let endpoint = match self.wait {
            true => self.until_ready(ctx, client)?,
            false => endpoint,
        };
        ctx.answer(&endpoint, || summary(client.url(), &endpoint))
    }

    /// How many to begin with, and between which limits the load decides.
    fn number(&self) -> Result<(u32, Option<Scaling>), Failure> {
        let ReplicaCount::Between(min, max) = self.replicas else {
            let asked_for = [
                ("--concurrency", self.concurrency.is_some()),
                ("--late-after", self.late_after.is_some()),
                ("--idle-after", self.idle_after.is_some()),
            ];
            if let Some((option, _)) = asked_for.into_iter().find(|(_, given)| *given) {
                let message = format!(
                    "`{option}` is of a number that follows the load: give `--replicas MIN..MAX`"
                );
                return Err(Failure::Usage { message });
            }
            return Ok((self.replicas.first(), None));
        };
        let usual = Scaling::between(min, max);
        let scaling = Scaling {
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            late_after: self.late_after.unwrap_or(usual.late_after),
            idle_after: self.idle_after,
            ..usual
        };
        Ok((self.replicas.first(), Some(scaling)))
    }

    fn until_ready(&self, ctx: &Context, client: &Client) -> Result<Endpoint, Failure> {
        let name = &self.name;
        waiting::leave_on_interrupt(format!(
            "the deployment goes on: `lepton describe endpoint {name}` tells how far it is"
        ))?;
        let start = Instant::now();
        let progress = Progress::of_waiting(ctx, name.as_str());
        let mut told = String::new();
        let what = format!("endpoint `{name}`");
        let endpoint = waiting::until(&what, Some(self.wait_timeout), || {
            let endpoint = client.endpoint(name)?;
            let status = &endpoint.status;
            let why = status.waiting.as_ref().map(|why| why.message.clone());
            let why = why.unwrap_or_else(|| status.phase.to_string());
            match status.phase {
                EndpointPhase::Ready => return Ok(Look::Done(endpoint)),
                EndpointPhase::Failing if status.failures >= FAILURES_MAX => {
                    return Err(Failure::DoesNotGetReady {
                        endpoint: name.to_string(),
                        why: format!("{why}; `lepton logs {name} --endpoint` shows what it wrote"),
                    });
                }
                _ => {}
            }
            if !ctx.progress && why != told {
                ctx.note(&format!("endpoint {name}: {why}"));
                told.clone_from(&why);
            }
            progress.say(format!("{name}: {why}"));
            Ok(Look::NotYet(why))
        })?;
        drop(progress);
        let waited =
            DurationMs::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
        ctx.note(&format!("endpoint {name} is ready after {}", took(waited)));
        Ok(endpoint)
    }
}

fn summary(url: &str, endpoint: &Endpoint) -> String {
    let name = &endpoint.metadata.name;
    let status = &endpoint.status;
    let version = status
        .version
        .map_or(String::new(), |version| format!(" version {version}"));
    format!(
        "endpoint {name} serves {}{version} ({}, {}/{} ready)\n{url}/v2/models/{name}/infer, or `lepton predict {name} --data FILE`",
        endpoint.spec.model.model,
        status.phase,
        status.ready_replicas,
        endpoint.wanted_replicas()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_two() {
        assert_eq!("2".parse(), Ok(ReplicaCount::Fixed(2)));
        assert_eq!("0..8".parse(), Ok(ReplicaCount::Between(0, 8)));
        assert_eq!("1..=4".parse(), Ok(ReplicaCount::Between(1, 4)));
        let refused = |text: &str| text.parse::<ReplicaCount>().unwrap_err().to_string();
        assert_eq!(
            refused("8..2"),
            "the fewest copies, 8, are more than the most, 2"
        );
        for text in ["", "..", "0..", "..4", "-1", "0..x", "99999999999"] {
            assert!(refused(text).contains("is neither a number"), "{text}");
        }
        assert_eq!(ReplicaCount::Between(0, 8).first(), 1);
    }
}
