//! Passes over all objects: started, watched, told.

use std::time::Duration;

use lepton_api::{StartUpkeep, Upkeep, UpkeepPhase, UpkeepWork};
use lepton_types::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Cell, bytes};

/// Between two looks at a pass.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The first looks are closer, as small stores are through at once.
const FIRST_LOOK: Duration = Duration::from_millis(50);

pub(super) fn scrub(ctx: &Context, projects: Vec<Name>, repair: bool) -> Result<(), Failure> {
    let work = match repair {
        true => UpkeepWork::Repair,
        false => UpkeepWork::Scrub,
    };
    let done = carry_out(ctx, work, projects)?;
    if ctx.format.is_for_people() && !done.findings.is_empty() {
        let headers = ["PROJECT", "CONTENT", "PROBLEM", "REPAIRED", "AFFECTS"];
        let mut table = super::table(&headers, "");
        for finding in &done.findings {
            table.push(vec![
                Cell::from(finding.project.as_str()),
                Cell::from(finding.content.to_string()),
                Cell::from(finding.problem.as_str()),
                Cell::from(if finding.repaired { "yes" } else { "no" }),
                Cell::from(finding.affects.join(", ")),
            ]);
        }
        ctx.print(&table.render(ctx.columns))?;
    }
    ctx.answer(&done, || {
        let shredded = match done.shredded {
            0 => String::new(),
            count => format!(", {count} shredded before"),
        };
        format!(
            "{} contents ({}) read, {} damaged, {} repaired{shredded}",
            done.contents,
            bytes(done.size_bytes),
            done.damaged,
            done.repaired
        )
    })?;
    ended(&done)?;
    let left = done.damaged - done.repaired.min(done.damaged);
    match left {
        0 => Ok(()),
        left => Err(Failure::Part {
            message: format!("{left} contents cannot be read{}", hint(work)),
        }),
    }
}

fn hint(work: UpkeepWork) -> &'static str {
    match work {
        UpkeepWork::Repair => ": the replica has no whole copy of them either",
        _ => ": `--repair` restores them from the replica, if there is one",
    }
}

pub(super) fn replicate(ctx: &Context, projects: Vec<Name>) -> Result<(), Failure> {
    let done = carry_out(ctx, UpkeepWork::Replicate, projects)?;
    ctx.answer(&done, || {
        format!(
            "{} contents copied, {} deleted, {} could not be read",
            done.contents, done.deleted, done.damaged
        )
    })?;
    ended(&done)
}

/// Starts a pass and waits for its end.
fn carry_out(ctx: &Context, work: UpkeepWork, projects: Vec<Name>) -> Result<Upkeep, Failure> {
    let client = ctx.client()?;
    let mut pass = client.start_upkeep(&StartUpkeep { work, projects })?;
    let mut wait = FIRST_LOOK;
    while pass.phase == UpkeepPhase::Running {
        std::thread::sleep(wait);
        wait = (wait * 2).min(LOOK_EVERY);
        pass = client.upkeep()?;
        if ctx.progress && wait == LOOK_EVERY && pass.phase == UpkeepPhase::Running {
            let read = bytes(pass.size_bytes);
            ctx.note(&format!("{} contents, {read}, so far", pass.contents));
        }
    }
    Ok(pass)
}

fn ended(pass: &Upkeep) -> Result<(), Failure> {
    let message = match pass.phase {
        UpkeepPhase::Finished | UpkeepPhase::Running => return Ok(()),
        UpkeepPhase::Cancelled => "the pass was stopped before its end".to_owned(),
        UpkeepPhase::Failed => {
            let why = pass
                .error
                .as_deref()
                .unwrap_or("the server's log has the cause");
            format!("the pass was cut off: {why}")
        }
    };
    Err(Failure::Part { message })
}
