//! Making a promise: which machines' parts are promised for a window of time.
//!
//! Owns: the choice of machines for a reservation. Must not know: how the promise is kept.

use lepton_types::{Name, Timestamp};

use super::capacity::{Candidates, Free, give_back, seat_gang};
use super::queue::allowed;
use super::world::{Amount, World};
use super::{Ask, ClusterView, GangId, PromisedSeat, Reservation, Selector};

/// What is to be promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Whose gangs may use it.
    pub project: Name,
    /// The one gang that may use it; any of the project where absent.
    pub gang: Option<GangId>,
    /// When the window opens.
    pub from: Timestamp,
    /// When it closes.
    pub until: Timestamp,
    /// What is promised, one amount a machine.
    pub members: Vec<Ask>,
    /// On which machines.
    pub selector: Selector,
}

/// Why nothing is promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBooked {
    /// The window is over, or ends before it begins.
    #[error("the window from {from} until {until} is over, or ends before it begins")]
    NoWindow {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        until: Timestamp,
    },
    /// Nothing is asked for.
    #[error("nothing is asked for")]
    Nothing,
    /// Not enough room is sure to be free.
    #[error(
        "room for {placed} of {members} is sure to be free then: the rest is promised, or held by what may still run"
    )]
    NoRoom {
        /// How many amounts found a machine.
        placed: usize,
        /// How many there are.
        members: usize,
    },
}

/// Chooses machines whose parts can be promised: what is free when the window opens even if nothing
/// ends but by its hard limit, or could be stopped then, beside what other reservations hold in the
/// same window.
///
/// # Errors
/// A window that is none, or no room that is sure.
pub fn book(
    view: &ClusterView,
    now: Timestamp,
    booking: &Booking,
) -> Result<Reservation, NotBooked> {
    if booking.until <= now || booking.until <= booking.from {
        return Err(NotBooked::NoWindow {
            from: booking.from,
            until: booking.until,
        });
    }
    if booking.members.is_empty() {
        return Err(NotBooked::Nothing);
    }
    // Parts of GPUs add up to wholes that are no room for them: each is promised a whole one.
    let members: Vec<Ask> = booking.members.iter().map(with_whole_gpu).collect();
    let world = World::new(view, now);
    let mut free = free_at(&world, booking.from.max(now), booking.until);
    let groups = allowed(&world.nodes, &booking.selector);
    let mut placed = 0;
    for nodes in &groups {
        let candidates = Candidates {
            nodes,
            market: &world.market,
            first: 0,
        };
        match seat_gang(&mut free, None, &members, &candidates) {
            Ok(taken) => {
                let seats = taken.iter().map(|seat| PromisedSeat {
                    ask: seat.ask,
                    node: world.names[seat.node].clone(),
                });
                return Ok(Reservation {
                    project: booking.project.clone(),
                    gang: booking.gang,
                    from: booking.from,
                    until: booking.until,
                    seats: seats.collect(),
                });
            }
            Err(shortfall) => placed = placed.max(shortfall.placed),
        }
    }
    Err(NotBooked::NoRoom {
        placed,
        members: booking.members.len(),
    })
}

fn with_whole_gpu(ask: &Ask) -> Ask {
    let mut whole = *ask;
    if std::mem::take(&mut whole.gpu_milli) > 0 {
        whole.resources.gpus = whole.resources.gpus.max(1);
    }
    whole
}

/// What is sure to be free from `from` on, beside every promise that overlaps the window.
fn free_at(world: &World<'_>, from: Timestamp, until: Timestamp) -> Vec<Free> {
    let mut free = world.free.clone();
    let preemption = world.view.policy.preemption;
    for active in world.active.values() {
        let stops = preemption && active.preemptible;
        if stops || active.stopping || active.surely_over_by(world.now, from) {
            give_back(&mut free, &active.seats);
        }
    }
    let others = world.view.reservations.values();
    for other in others.filter(|other| other.from < until && from < other.until) {
        for seat in &other.seats {
            if let Ok(node) = world.names.binary_search(&&seat.node) {
                Amount::of_all([&seat.ask]).take_from(&mut free[node]);
            }
        }
    }
    free
}
