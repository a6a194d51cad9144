//! `lepton plan explain`: a recorded decision, taken again.
//!
//! Owns: reading the record and printing what it comes to. Must not know: how it was decided.

use std::io::Write;
use std::path::PathBuf;

use lepton_planner::autoscaling;
use lepton_planner::cluster::{Record, Replay};
use lepton_types::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// What can be done with a recorded decision.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Plan {
    /// Takes a recorded decision again, and says why it is what it is
    #[command(
        after_help = "Example:\n  lepton plan record > decision.json\n  lepton plan explain decision.json"
    )]
    Explain(ExplainArgs),
    /// Prints the server's newest decision about who runs where, or about the number of an
    /// endpoint's replicas, as a record
    #[command(
        after_help = "Examples:\n  lepton plan record > decision.json\n  lepton plan record --endpoint wine > decision.json\n\nWho runs where tells of every project, so it takes an owner's token."
    )]
    Record(RecordArgs),
}

/// Which decision.
#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// The endpoint whose number of replicas was decided
    #[arg(long, value_name = "NAME")]
    endpoint: Option<Name>,
}

/// A decision of either kind.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Recorded {
    Placement(Box<Record>),
    Scaling(Box<autoscaling::Record>),
}

/// Which record, and how to print it.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// JSON with `view`, `now`, `seed` and `plan`
    file: PathBuf,
}

/// Why a record was not explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    /// A file that cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no record.
    #[error("`{path}` is no recorded decision")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The decision is another one today.
    #[error("the plan is not the recorded one")]
    Differs,
    /// The words cannot be written.
    #[error("the explanation cannot be written")]
    Write(#[from] std::io::Error),
}

impl Plan {
    /// Does what is asked.
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Explain(args) => args
                .explain(ctx.format, &mut ctx.out())
                .map_err(|error| Failure::part(&error)),
            Self::Record(args) => {
                let client = ctx.client()?;
                let record = match &args.endpoint {
                    Some(endpoint) => client.scaling_decision(endpoint)?,
                    None => client.latest_decision()?,
                };
                ctx.print(&output::json(&record))
            }
        }
    }
}

impl ExplainArgs {
    /// Explains to `out`; an error if the decision would be another today.
    fn explain(&self, format: Format, out: &mut dyn Write) -> Result<(), ExplainError> {
        let args = self;
        let path = || args.file.clone();
        let text = std::fs::read_to_string(&args.file).map_err(|source| ExplainError::Read {
            path: path(),
            source,
        })?;
        // Told apart by hand: of two kinds that both fail, only one failure says what is wrong.
        let parsed = match serde_json::from_str(&text) {
            Ok(Recorded::Scaling(record)) => return explain_scaling(&record, format, out),
            Ok(Recorded::Placement(record)) => Ok(*record),
            Err(_) => serde_json::from_str::<Record>(&text),
        };
        let record = parsed.map_err(|source| ExplainError::Parse {
            path: path(),
            source,
        })?;
        let replay = record.replay();
        if !format.is_for_people() {
            let json = serde_json::to_string_pretty(&replay).map_err(std::io::Error::from)?;
            writeln!(out, "{json}")?;
        } else {
            explain(&record, &replay, out)?;
        }
        if replay.same {
            Ok(())
        } else {
            Err(ExplainError::Differs)
        }
    }
}

fn explain_scaling(
    record: &autoscaling::Record,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), ExplainError> {
    let replay = record.replay();
    if format.is_for_people() {
        let have = record.view.replicas;
        let (ready, starting, draining) = (have.ready, have.starting, have.draining);
        writeln!(
            out,
            "at {}, seed {}: {ready} ready, {starting} starting, {draining} draining, {} requests in flight",
            record.now, record.seed, record.view.in_flight
        )?;
        let wanted = output::count(replay.plan.replicas.into(), "replica");
        writeln!(out, "{wanted}: {}", replay.plan.report)?;
        for finding in &replay.findings {
            writeln!(out, "refused: {finding}")?;
        }
        writeln!(
            out,
            "{}; the checker finds {} faults",
            verdict(replay.same),
            replay.findings.len()
        )?;
    } else {
        let json = serde_json::to_string_pretty(&replay).map_err(std::io::Error::from)?;
        writeln!(out, "{json}")?;
    }
    if replay.same {
        Ok(())
    } else {
        Err(ExplainError::Differs)
    }
}

const fn verdict(same: bool) -> &'static str {
    if same {
        "the recorded plan, byte for byte"
    } else {
        "not the recorded plan"
    }
}

fn explain(record: &Record, replay: &Replay, out: &mut dyn Write) -> std::io::Result<()> {
    let view = &record.view;
    let (nodes, running, queued) = (view.nodes.len(), view.running.len(), view.queue.len());
    writeln!(
        out,
        "at {}, seed {}: {nodes} nodes, {running} running, {queued} queued",
        record.now, record.seed
    )?;
    for (gang, seats) in &replay.plan.starts {
        let nodes: Vec<String> = seats.iter().map(|seat| seat.node.to_string()).collect();
        writeln!(out, "start {gang} on {}", nodes.join(", "))?;
    }
    for (gang, stop) in &replay.plan.stops {
        writeln!(out, "stop  {gang}: {stop}")?;
    }
    let mut waiting: Vec<_> = replay.report.waiting.iter().collect();
    waiting.sort_by_key(|(_, waiting)| waiting.position);
    for (gang, reason) in waiting {
        writeln!(out, "wait  {gang}: {reason}")?;
    }
    for note in &replay.report.notes {
        writeln!(out, "note: {note}")?;
    }
    for finding in &replay.findings {
        writeln!(out, "refused: {finding}")?;
    }
    writeln!(
        out,
        "{}; the checker finds {} faults",
        verdict(replay.same),
        replay.findings.len()
    )
}
