//! `lepton deploy`: a model behind an endpoint.

use std::time::Instant;

use lepton_client::Client;
use lepton_types::resources::{
    Endpoint, EndpointPhase, EndpointSpec, Kind, ModelRef, ParseModelRefError,
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
    after_help = "Examples:\n  lepton deploy wine --model wine --wait\n  lepton deploy wine --model wine@champion --replicas 2\n  lepton deploy wine --model wine:3 --cpu 500m --memory 512Mi\n\nAn alias is followed as it moves; a version stays. A change never drops a request."
)]
pub(crate) struct Deploy {
    /// The endpoint's name
    name: Name,
    /// MODEL for its newest version, MODEL:VERSION or MODEL@ALIAS
    #[arg(long, value_name = "MODEL[@ALIAS|:VERSION]", value_parser = reference)]
    model: ModelRef,
    /// How many copies
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    replicas: u32,
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

/// Failures in a row after which waiting is in vain; a single one may be a port that was taken.
const FAILURES_MAX: u32 = 3;

impl Deploy {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let defaults = EndpointSpec::default_resources();
        let spec = EndpointSpec {
            model: self.model.clone(),
            replicas: self.replicas,
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
        endpoint.spec.model.model, status.phase, status.ready_replicas, endpoint.spec.replicas
    )
}
