//! `lepton reserve`: room on machines, promised in advance.

use std::str::FromStr;

use lepton_api::CreateReservation;
use lepton_types::resources::{Reservation, ReservationPhase};
use lepton_types::{DurationMs, Name, Timestamp};

use super::run::Each;
use crate::context::Context;
use crate::failure::Failure;
use crate::waiting::{self, Look};

/// Has room on machines promised to the project for a window of time
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton reserve demo --from 2h --lasts 30m --cpu 8 --memory 16Gi\n  lepton reserve night --from 2030-01-31T22:00:00Z --lasts 8h --workers 4 --gpus 8\n\nPromised is what is sure to be free then: what nobody else holds who has no --timeout that ends before. Only an owner may. `lepton get reservations` lists them, `lepton delete reservation NAME` gives the room back."
)]
pub(crate) struct Reserve {
    /// What to call it, unique among all reservations
    name: Name,
    /// When the window opens: a time, or how long from now; at once where absent
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// When it closes: a time, or how long from now
    #[arg(long, value_name = "TIME", required_unless_present = "lasts")]
    until: Option<Moment>,
    /// How long it is open
    #[arg(long, value_name = "DURATION", conflicts_with = "until")]
    lasts: Option<DurationMs>,
    /// How many workers there is to be room for, each on one machine
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    workers: u32,
    #[command(flatten)]
    each: Each,
}

/// A time, as it is or by its distance from now.
#[derive(Debug, Clone, Copy)]
enum Moment {
    At(Timestamp),
    In(DurationMs),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(distance) = text.parse() {
            return Ok(Self::In(distance));
        }
        let time = text.parse().map(Self::At);
        time.map_err(|error: lepton_types::ParseTimestampError| {
            format!("{error}, or as `2h` from now")
        })
    }
}

impl Moment {
    fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::In(distance) => now + distance,
        }
    }
}

/// A pass of the planner takes milliseconds.
const DECIDED_WITHIN: DurationMs = DurationMs::from_secs(30);

impl Reserve {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let now = ctx.now();
        let from = self.from.map(|moment| moment.from(now));
        let until = match (self.until, self.lasts) {
            (Some(until), _) => until.from(now),
            (None, lasts) => from.unwrap_or(now) + lasts.unwrap_or_default(),
        };
        let Some(resources) = self.each.resources() else {
            return Err(Failure::usage(
                "say what to reserve: --cpu, --memory or --gpus",
            ));
        };
        let made = client.create_reservation(&CreateReservation {
            name: self.name.clone(),
            project: client.project()?.clone(),
            from,
            until,
            workers: self.workers,
            resources,
        })?;
        let decided = waiting::until("the reservation", Some(DECIDED_WITHIN), || {
            let found = client.reservation(&made.metadata.name)?;
            Ok(match found.status.phase {
                ReservationPhase::Pending => Look::NotYet("nobody has looked for room yet".into()),
                _ => Look::Done(found),
            })
        })?;
        if decided.status.phase == ReservationPhase::Refused {
            // What was refused is of no use to anybody: the name is free for another try.
            client.delete_reservation(&made.metadata.name)?;
            let why = decided.status.message.unwrap_or_default();
            return Err(Failure::invalid(format!("nothing is reserved: {why}")));
        }
        ctx.answer(&decided, || in_words(&decided))
    }
}

fn in_words(reservation: &Reservation) -> String {
    let spec = &reservation.spec;
    format!(
        "reservation `{}`: {} times {} for project `{}` from {} until {}",
        reservation.metadata.name,
        spec.workers,
        spec.resources,
        spec.project,
        spec.from,
        spec.until
    )
}
