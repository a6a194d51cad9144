//! One walk over the queue: who starts, who stops, and what keeps the others.
//!
//! Owns: the decision about one gang when its turn comes. Must not know: the order of turns,
//! how a node is chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lepton_types::{Name, Resources};
use rand::RngCore as _;

use super::capacity::{Candidates, Free, Shortfall, Taken, give_back, seat_gang};
use super::market::Market;
use super::queue::{Item, Queue, Turns};
use super::report::{Nearest, Plan, Reason};
use super::reserve::Kept;
use super::world::{Active, Amount, World};
use super::{Ask, GangId, Seat, promises, room};
use crate::PlanRng;

/// See the module.
pub(super) struct Pass<'p, 'a> {
    pub(super) world: &'p mut World<'a>,
    pub(super) queue: &'p Queue<'a>,
    pub(super) rng: &'p PlanRng,
    pub(super) plan: &'p mut Plan,
    /// Room that later gangs must leave alone.
    pub(super) kept: Option<Kept>,
    /// What each project will get once others have stopped.
    pub(super) claimed: BTreeMap<&'a Name, Amount>,
    /// Fruitless searches for room, by shape, priority and project.
    pub(super) no_room: BTreeSet<(usize, i32, &'a Name)>,
    /// What a shape has lacked: now, and beside what is kept. Room only shrinks in a pass.
    failed: Vec<[Option<Rc<Shortfall>>; 2]>,
    /// Whether a shape would fit into the empty pool.
    possible: Vec<Option<Result<(), Reason>>>,
}

/// Why a gang found no seats.
pub(super) enum NoSeat {
    /// No room.
    Short(Rc<Shortfall>),
    /// Room that is kept for another.
    Kept(GangId),
    /// Room that was promised in advance.
    Promised(Name),
}

/// What a pass came to: who still waits, in the order of their turns, and why.
pub(super) type Outcome = Vec<(usize, Reason)>;

/// Walks over the items numbered in `waiting`; says whether anything was started or stopped.
pub(super) fn walk<'a>(
    world: &mut World<'a>,
    queue: &Queue<'a>,
    rng: &PlanRng,
    plan: &mut Plan,
    waiting: &[usize],
) -> (Outcome, bool) {
    let before = (plan.starts.len(), plan.stops.len());
    let mut turns = Turns::new(world, queue, waiting);
    let mut pass = Pass {
        world,
        queue,
        rng,
        plan,
        kept: None,
        claimed: BTreeMap::new(),
        no_room: BTreeSet::new(),
        failed: vec![[None, None]; queue.shapes],
        possible: vec![None; queue.shapes],
    };
    let mut outcome = Vec::new();
    while let Some((project, number)) = turns.next() {
        let item = &queue.items[number];
        if let Some(reason) = pass.decide(item) {
            outcome.push((number, reason));
        }
        turns.requeue(pass.world, queue, project);
    }
    let after = (plan.starts.len(), plan.stops.len());
    (outcome, before != after)
}

impl<'a> Pass<'_, 'a> {
    /// Starts the gang, or says why not.
    fn decide(&mut self, item: &Item<'a>) -> Option<Reason> {
        if let Some(reason) = self.refuse(item) {
            return Some(reason);
        }
        match self.seat(item) {
            Ok(seats) => {
                self.start(item, seats);
                None
            }
            Err(NoSeat::Kept(by)) => Some(Reason::Reserved { by }),
            Err(NoSeat::Promised(reservation)) => Some(self.promised(reservation)),
            Err(NoSeat::Short(shortfall)) => Some(self.wait(item, &shortfall)),
        }
    }

    /// What no waiting for room would change.
    fn refuse(&self, item: &Item<'a>) -> Option<Reason> {
        let invalid = |what: &str| {
            Some(Reason::Invalid {
                what: what.to_owned(),
            })
        };
        if item.gang.members.is_empty() {
            return invalid("the gang has no workers");
        }
        if self.world.view.running.contains_key(&item.id) {
            return invalid("the gang runs already");
        }
        let both = |ask: &Ask| ask.resources.gpus > 0 && ask.gpu_milli > 0;
        if item.gang.members.iter().any(both) {
            return invalid("a worker asks for whole gpus and for a part of one");
        }
        if item
            .gang
            .members
            .iter()
            .any(|ask| ask.gpu_milli > super::GPU_MILLI)
        {
            return invalid("a worker asks for more than a thousand thousandths of one gpu");
        }
        self.over_quota(item)
    }

    fn over_quota(&self, item: &Item<'a>) -> Option<Reason> {
        let project = &item.gang.project;
        let share = self.world.share(project);
        let used = self.world.usage(project);
        let refuse = |limit: bool, allowed: Resources| Reason::Quota {
            project: project.clone(),
            limit,
            allowed,
            used: used.resources(),
            asked: item.amount.resources(),
        };
        let exceeds = |most: &Resources| !used.allows(item.amount, Amount::of(most));
        if let Some(limit) = share.limit.filter(exceeds) {
            return Some(refuse(true, limit));
        }
        let quota = share.quota.filter(|_| !share.may_borrow);
        quota.filter(exceeds).map(|quota| refuse(false, quota))
    }

    /// Takes room for the gang, if it finds some that is not kept for another.
    fn seat(&mut self, item: &Item<'a>) -> Result<Vec<Taken>, NoSeat> {
        let constrained = self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.binds(item, self.world.now));
        for kind in 0..=usize::from(constrained) {
            if let Some(shortfall) = &self.failed[item.shape][kind] {
                return Err(self.no_seat(kind, shortfall.clone()));
            }
        }
        let first = self.first_node(item.id);
        if let Some(mut beside) = promises::beside(self.world, item) {
            let room = std::mem::take(&mut beside.free);
            if let Some(seats) = self.seat_beside(item, room, constrained) {
                return Ok(seats);
            }
            let mut free = self.world.free.clone();
            let mut later = self
                .kept
                .as_ref()
                .filter(|_| constrained)
                .map(|kept| kept.later.clone());
            let groups = &self.queue.selectors[item.selector];
            let market = &self.world.market;
            if seat_in_groups(&mut free, later.as_deref_mut(), item, groups, market, first).is_ok()
            {
                return Err(NoSeat::Promised(beside.first));
            }
        }
        let World { free, market, .. } = &mut *self.world;
        let later = self.kept.as_mut().map(|kept| &mut kept.later[..]);
        let later = later.filter(|_| constrained);
        let groups = &self.queue.selectors[item.selector];
        let shortfall = match seat_in_groups(free, later, item, groups, market, first) {
            Ok(seats) => return Ok(seats),
            Err(shortfall) => Rc::new(shortfall),
        };
        // Without room now even for one that nothing is kept from, the reason is the room.
        let unbound = constrained
            && seat_in_groups(&mut free.clone(), None, item, groups, market, first).is_ok();
        let kind = usize::from(unbound);
        self.failed[item.shape][kind] = Some(shortfall.clone());
        Err(self.no_seat(kind, shortfall))
    }

    /// Takes room that is free both now and in `beside`, which is what promises leave.
    fn seat_beside(
        &mut self,
        item: &Item<'a>,
        mut beside: Vec<Free>,
        constrained: bool,
    ) -> Option<Vec<Taken>> {
        if let Some(kept) = self.kept.as_ref().filter(|_| constrained) {
            for (beside, kept) in beside.iter_mut().zip(&kept.later) {
                *beside = beside.least(kept);
            }
        }
        let first = self.first_node(item.id);
        let groups = &self.queue.selectors[item.selector];
        let World { free, market, .. } = &mut *self.world;
        let seats = seat_in_groups(free, Some(&mut beside), item, groups, market, first).ok()?;
        if promises::breaks(self.world, item, &seats) {
            give_back(&mut self.world.free, &seats);
            return None;
        }
        if let Some(kept) = self.kept.as_mut().filter(|_| constrained) {
            for seat in &seats {
                kept.later[seat.node].occupy(&seat.ask, &[]);
            }
        }
        Some(seats)
    }

    fn promised(&self, reservation: Name) -> Reason {
        let promise = &self.world.view.reservations[&reservation];
        Reason::Promised {
            project: promise.project.clone(),
            from: promise.from,
            until: promise.until,
            reservation,
        }
    }

    fn no_seat(&self, kind: usize, shortfall: Rc<Shortfall>) -> NoSeat {
        match (&self.kept, kind) {
            (Some(kept), 1) => NoSeat::Kept(kept.first_owner),
            _ => NoSeat::Short(shortfall),
        }
    }

    /// Where ties begin to be broken for this gang.
    pub(super) fn first_node(&self, id: GangId) -> usize {
        let hex = id.to_string();
        let number = u128::from_str_radix(&hex, 16).unwrap_or(0);
        let draw = self.rng.stream("gang", number).next_u32();
        draw as usize % self.world.free.len().max(1)
    }

    fn start(&mut self, item: &Item<'a>, seats: Vec<Taken>) {
        let named = seats.iter().map(|taken| Seat {
            node: self.world.names[taken.node].clone(),
            gpus: taken.gpus.clone(),
        });
        self.plan.starts.insert(item.id, named.collect());
        let now = self.world.now;
        let active = Active {
            project: &item.gang.project,
            priority: item.gang.priority,
            // What starts now has run for no time: it is not stopped in the same plan.
            preemptible: false,
            seats,
            started_at: now,
            saved_at: now,
            predicted: item.gang.predicted_duration,
            ends_by: item.gang.runs_at_most.map(|most| now + most),
            stopping: false,
            amount: item.amount,
        };
        self.world.start(item.id, active);
    }

    /// Tries to make or to keep room, and says what the gang waits for.
    fn wait(&mut self, item: &Item<'a>, shortfall: &Shortfall) -> Reason {
        let known = self.possible[item.shape].clone();
        let possible = known.unwrap_or_else(|| self.fit_when_empty(item));
        self.possible[item.shape] = Some(possible.clone());
        if let Err(reason) = possible {
            return reason;
        }
        if let Some(gangs) = room::make(self, item) {
            return Reason::Stopping { gangs };
        }
        let waited = self.world.now.since(item.gang.submitted_at);
        if self.kept.is_none() && waited >= self.world.view.policy.reserve_after {
            let first = self.first_node(item.id);
            let groups = &self.queue.selectors[item.selector];
            self.kept = Kept::until_room(self.world, item, groups, first);
            // What failed beside nothing kept has failed beside this too; the rest is open.
            for [_, beside] in &mut self.failed {
                *beside = None;
            }
        }
        let members = count(item.gang.members.len());
        Reason::Capacity {
            placed: count(shortfall.placed),
            members,
            ask: shortfall.ask,
            nearest: self.nearest(shortfall),
        }
    }

    /// Whether the gang would fit into the empty pool.
    fn fit_when_empty(&self, item: &Item<'a>) -> Result<(), Reason> {
        let groups = &self.queue.selectors[item.selector];
        if groups.iter().all(Vec::is_empty) {
            return Err(Self::no_such_node(item));
        }
        let mut empty: Vec<Free> = self
            .world
            .nodes
            .iter()
            .map(|node| Free::whole(node))
            .collect();
        let found = seat_in_groups(&mut empty, None, item, groups, &self.world.market, 0);
        let Err(shortfall) = found else {
            return Ok(());
        };
        Err(Reason::NeverFits {
            placed: count(shortfall.placed),
            members: count(item.gang.members.len()),
            ask: shortfall.ask,
            nearest: self.nearest(&shortfall),
        })
    }

    fn no_such_node(item: &Item<'a>) -> Reason {
        let selector = &item.gang.selector;
        let labels = selector
            .labels
            .iter()
            .map(|(key, value)| format!("the label `{key}={value}`"));
        let models = (!selector.gpu_models.is_empty()).then(|| {
            let models: Vec<&str> = selector.gpu_models.iter().map(String::as_str).collect();
            format!("gpus of model `{}`", models.join("` or `"))
        });
        let topology = selector
            .together
            .iter()
            .map(|label| format!("the label `{label}`"));
        let wanted: Vec<String> = labels.chain(models).chain(topology).collect();
        let wanted = if wanted.is_empty() {
            "leave to take new work".to_owned()
        } else {
            format!("{} and takes new work", wanted.join(" and "))
        };
        Reason::NoSuchNode { wanted }
    }

    fn nearest(&self, shortfall: &Shortfall) -> Option<Nearest> {
        shortfall.nearest.map(|(node, lacks)| Nearest {
            node: self.world.names[node].clone(),
            lacks,
        })
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Seats a gang in the first group of nodes that has room for all of it; else the shortfall
/// of the group where most found a place.
pub(super) fn seat_in_groups(
    free: &mut [Free],
    mut later: Option<&mut [Free]>,
    item: &Item<'_>,
    groups: &[Vec<usize>],
    market: &Market,
    first: usize,
) -> Result<Vec<Taken>, Shortfall> {
    let mut best: Option<Shortfall> = None;
    for nodes in groups {
        let candidates = Candidates {
            nodes,
            market,
            first,
        };
        match seat_gang(free, later.as_deref_mut(), &item.gang.members, &candidates) {
            Ok(seats) => return Ok(seats),
            Err(shortfall)
                if best
                    .as_ref()
                    .is_none_or(|best| shortfall.placed > best.placed) =>
            {
                best = Some(shortfall);
            }
            Err(_) => {}
        }
    }
    Err(best.unwrap_or_else(|| Shortfall {
        placed: 0,
        ask: item.gang.members.first().copied().unwrap_or_default(),
        nearest: None,
    }))
}
