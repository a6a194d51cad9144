//! What was decided, and what was not and why, in words that a person understands.

use std::collections::BTreeMap;
use std::fmt;

use lepton_types::{Name, Resources, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Ask, GangId, NodeName, Seat};

/// What is to be done. Applying it twice changes nothing: what has started is no longer in
/// the queue, and what is stopping is marked so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The gangs to start, each with one seat a member, in the members' order.
    pub starts: BTreeMap<GangId, Vec<Seat>>,
    /// The gangs to stop; their machines are free once they have.
    pub stops: BTreeMap<GangId, Stop>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.stops.is_empty()
    }
}

/// Why a running gang is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The gang that gets its place.
    pub in_favour_of: GangId,
    /// Why that one goes first.
    pub cause: StopCause,
}

/// Why one gang goes before another that already runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// It has the greater priority.
    Priority,
    /// Its project takes back what the other borrowed.
    Quota,
    /// The room was promised to it in advance.
    Promise,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.cause {
            StopCause::Priority => "which has the greater priority",
            StopCause::Quota => "whose project takes back what this one borrowed",
            StopCause::Promise => "to which its room was promised",
        };
        write!(f, "stopped in favour of `{}`, {why}", self.in_favour_of)
    }
}

/// What was not done, and why.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Every gang of the queue that does not start.
    pub waiting: BTreeMap<GangId, Waiting>,
    /// Contradictions in the view that were worked around.
    pub notes: Vec<String>,
}

/// Why one gang waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// Its place in the queue, from 1.
    pub position: u32,
    /// What keeps it.
    pub reason: Reason,
    /// When it should start, if what runs and waits before it has predicted durations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start: Option<Timestamp>,
    /// The running gangs whose end lets it in, at most three, the first to end first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<GangId>,
    /// Its deadline cannot be met any more, or is not expected to be.
    #[serde(default)]
    pub late: bool,
}

/// What keeps a gang from starting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Reason {
    /// It asks for nothing that could be started.
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// No node carries the labels or the GPU model.
    NoSuchNode {
        /// What was looked for.
        wanted: String,
    },
    /// It would not fit if the pool were empty.
    NeverFits {
        /// How many members would fit.
        placed: u32,
        /// How many there are.
        members: u32,
        /// What one member asks for.
        ask: Ask,
        /// What the node that comes nearest would lack, were it empty.
        nearest: Option<Nearest>,
    },
    /// Its project may not use more.
    Quota {
        /// The project.
        project: Name,
        /// Whether it is the limit, not the quota.
        limit: bool,
        /// What the project may use.
        allowed: Resources,
        /// What it uses now.
        used: Resources,
        /// What the gang asks for altogether.
        asked: Resources,
    },
    /// There is no room now.
    Capacity {
        /// How many members would fit now.
        placed: u32,
        /// How many there are.
        members: u32,
        /// What one member asks for.
        ask: Ask,
        /// What the node that comes nearest lacks.
        nearest: Option<Nearest>,
    },
    /// There is room, and it is kept for a gang that has waited longer.
    Reserved {
        /// That gang.
        by: GangId,
    },
    /// There is room, and it was promised in advance.
    Promised {
        /// The promise.
        reservation: Name,
        /// To whom.
        project: Name,
        /// From when.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// Gangs of less importance are stopping to make room.
    Stopping {
        /// Those gangs.
        gangs: Vec<GangId>,
    },
}

/// The node that comes nearest, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nearest {
    /// The node.
    pub node: NodeName,
    /// What it lacks.
    pub lacks: Resources,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} in the queue: {}", self.position, self.reason)?;
        if let Some(at) = self.expected_start {
            write!(f, "; expected to start at {at}")?;
        }
        if !self.after.is_empty() {
            write!(f, "; waits for the end of {}", Quoted(&self.after))?;
        }
        if self.late {
            f.write_str("; its deadline will not be met")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { what } => f.write_str(what),
            Self::NoSuchNode { wanted } => write!(f, "no node of the pool has {wanted}"),
            Self::NeverFits {
                placed,
                members,
                ask,
                nearest,
            } => {
                f.write_str("larger than the pool: even were it empty, ")?;
                write_shortage(f, *placed, *members, ask, nearest.as_ref())
            }
            Self::Capacity {
                placed,
                members,
                ask,
                nearest,
            } => {
                f.write_str("no room now: ")?;
                write_shortage(f, *placed, *members, ask, nearest.as_ref())
            }
            Self::Quota {
                project,
                limit,
                allowed,
                used,
                asked,
            } => {
                let what = if *limit { "limit" } else { "quota" };
                write!(
                    f,
                    "project `{project}` would exceed its {what} of {allowed}: it uses {used}, this asks for {asked}"
                )
            }
            Self::Reserved { by } => {
                write!(
                    f,
                    "the room there is, is kept for `{by}`, which has waited longer"
                )
            }
            Self::Promised {
                reservation,
                project,
                from,
                until,
            } => write!(
                f,
                "the room there is, is promised to project `{project}` from {from} until {until} by \
                 reservation `{reservation}`, and this could still run then"
            ),
            Self::Stopping { gangs } => write!(f, "waits for {} to stop", Quoted(gangs)),
        }
    }
}

fn write_shortage(
    f: &mut fmt::Formatter<'_>,
    placed: u32,
    members: u32,
    ask: &Ask,
    nearest: Option<&Nearest>,
) -> fmt::Result {
    if members > 1 {
        write!(
            f,
            "{placed} of {members} workers fit, and all must start together; "
        )?;
    }
    write!(f, "one asks for {ask}")?;
    match nearest {
        None => f.write_str(", and no node takes new work"),
        Some(Nearest { node, lacks }) => {
            write!(
                f,
                ", node `{node}` comes nearest and lacks {}",
                Lack(*lacks)
            )
        }
    }
}

/// Only the amounts that are not nothing.
struct Lack(Resources);

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources { cpu, memory, gpus } = self.0;
        let parts = [
            (cpu.as_millis() > 0).then(|| format!("cpu {cpu}")),
            (memory.as_bytes() > 0).then(|| format!("memory {memory}")),
            (gpus > 0).then(|| format!("gpus {gpus}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            return f.write_str("room for the rest of the gang");
        }
        f.write_str(&parts.join(", "))
    }
}

struct Quoted<'a>(&'a [GangId]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, gang) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}`{gang}`")?;
        }
        Ok(())
    }
}
