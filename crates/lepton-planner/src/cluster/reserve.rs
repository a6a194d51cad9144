//! Room that is kept for a gang which has waited long, or for whom others stop
//! (EASY backfilling: Lifka, JSSPP'95).
//!
//! Owns: the time at which the gang will have its room, and what is free then beside it.
//! Must not know: whose turn is next.

use lepton_types::Timestamp;

use super::GangId;
use super::capacity::Free;
use super::pass::seat_in_groups;
use super::queue::Item;
use super::world::{Active, World};

/// What is free at the time for which room is kept, the owner's room already taken.
pub(super) struct Kept {
    pub(super) first_owner: GangId,
    pub(super) later: Vec<Free>,
    pub(super) kept_for: KeptFor,
}

/// What the owner of kept room waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeptFor {
    /// Running gangs to end; if all their ends are known, until then.
    Ends(Option<Timestamp>),
    /// Gangs to stop that were told to.
    Stopping,
}

impl Kept {
    /// Whether a gang must leave the kept room alone: not if it will have ended by then.
    pub(super) fn binds(&self, item: &Item<'_>, now: Timestamp) -> bool {
        let KeptFor::Ends(Some(until)) = self.kept_for else {
            return true;
        };
        item.gang
            .predicted_duration
            .is_none_or(|duration| now + duration > until)
    }

    /// The earliest time at which `item` has room, as far as that can be told: gangs without
    /// a predicted end are taken to end last, the oldest first.
    pub(super) fn until_room(
        world: &World<'_>,
        item: &Item<'_>,
        groups: &[Vec<usize>],
        first: usize,
    ) -> Option<Self> {
        let mut ends: Vec<(Option<Timestamp>, &Active<'_>)> = world
            .active
            .values()
            .map(|active| (active.expected_end(world.now), active))
            .collect();
        ends.sort_by_key(|(end, active)| (end.is_none(), *end, active.started_at));
        let freed_by = |count: usize| {
            let mut free = world.free.clone();
            for (_, active) in &ends[..count] {
                super::capacity::give_back(&mut free, &active.seats);
            }
            free
        };
        let attempt = |count: usize| {
            let mut free = freed_by(count);
            seat_in_groups(&mut free, None, item, groups, &world.market, first)
                .is_ok()
                .then_some(free)
        };
        // More room never hurts a gang of equal workers, and hardly any other: bisection.
        let (mut too_few, mut enough) = (0, ends.len());
        let mut later = attempt(enough)?;
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            match attempt(middle) {
                Some(free) => (enough, later) = (middle, free),
                None => too_few = middle,
            }
        }
        let until = enough.checked_sub(1).and_then(|last| ends[last].0);
        Some(Self {
            first_owner: item.id,
            later,
            kept_for: KeptFor::Ends(until),
        })
    }
}
