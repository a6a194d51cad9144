//! The order in which gangs are considered.
//!
//! Owns: effective priorities, fair turns between projects, the nodes that each selector
//! allows. Must not know: what is free.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use lepton_types::{Name, Timestamp};

use super::world::{Amount, World};
use super::{Ask, GangId, Node, PendingGang, Selector};

/// One gang of the queue, with what is asked of it again and again.
pub(super) struct Item<'a> {
    pub(super) id: GangId,
    pub(super) gang: &'a PendingGang,
    pub(super) amount: Amount,
    /// Equal for gangs that ask for the same of the same nodes.
    pub(super) shape: usize,
    /// Into [`Queue::selectors`].
    pub(super) selector: usize,
    rank: Rank,
}

/// The fixed part of the order: greater priority, nearer to a deadline, longer in the queue.
type Rank = (Reverse<i64>, bool, Timestamp, GangId);

/// The whole queue.
pub(super) struct Queue<'a> {
    pub(super) items: Vec<Item<'a>>,
    /// For every selector the nodes it allows, in groups of which a gang may use only one.
    pub(super) selectors: Vec<Vec<Vec<usize>>>,
    pub(super) shapes: usize,
}

impl<'a> Queue<'a> {
    pub(super) fn new(world: &World<'a>) -> Self {
        let view = world.view;
        let mut selectors = BTreeMap::new();
        let mut groups = Vec::new();
        let mut shapes: BTreeMap<(&[Ask], usize), usize> = BTreeMap::new();
        let mut items = Vec::with_capacity(view.queue.len());
        for (id, gang) in &view.queue {
            let selector = *selectors.entry(&gang.selector).or_insert_with(|| {
                groups.push(allowed(&world.nodes, &gang.selector));
                groups.len() - 1
            });
            let count = shapes.len();
            let shape = *shapes.entry((&gang.members, selector)).or_insert(count);
            items.push(Item {
                id: *id,
                gang,
                amount: Amount::of_all(&gang.members),
                shape,
                selector,
                rank: rank(*id, gang, world),
            });
        }
        items.sort_by_key(|item| item.rank);
        Self {
            items,
            selectors: groups,
            shapes: shapes.len(),
        }
    }
}

fn rank(id: GangId, gang: &PendingGang, world: &World<'_>) -> Rank {
    let waited = world.now.since(gang.submitted_at).as_millis();
    let ageing = world.view.policy.ageing.as_millis();
    let aged = waited.checked_div(ageing).unwrap_or(0);
    let priority = i64::from(gang.priority).saturating_add(i64::try_from(aged).unwrap_or(i64::MAX));
    (
        Reverse(priority),
        !is_urgent(gang, world),
        gang.submitted_at,
        id,
    )
}

/// Whether a deadline leaves no more time to wait than a reservation takes to be made.
fn is_urgent(gang: &PendingGang, world: &World<'_>) -> bool {
    let Some((deadline, duration)) = gang.deadline.zip(gang.predicted_duration) else {
        return false;
    };
    let latest_start = deadline - duration;
    latest_start >= world.now && latest_start - world.view.policy.reserve_after <= world.now
}

pub(super) fn allowed(nodes: &[&Node], selector: &Selector) -> Vec<Vec<usize>> {
    let matching = nodes.iter().enumerate().filter(|(_, node)| {
        let labels = selector.labels.iter();
        let model = node.gpu_model.as_ref();
        !node.unschedulable
            && labels.fold(true, |all, (key, value)| {
                all && node.labels.get(key) == Some(value)
            })
            && (selector.gpu_models.is_empty()
                || model.is_some_and(|model| selector.gpu_models.contains(model)))
    });
    let Some(label) = &selector.together else {
        return vec![matching.map(|(number, _)| number).collect()];
    };
    let mut groups: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    for (number, node) in matching {
        if let Some(value) = node.labels.get(label) {
            groups.entry(value).or_default().push(number);
        }
    }
    groups.into_values().collect()
}

/// Takes gangs in turn: by priority, then those within their project's quota, then the
/// project with the least weighted dominant share, then by age.
pub(super) struct Turns<'a> {
    heads: BinaryHeap<Reverse<(Turn, usize)>>,
    /// Each project's gangs that wait, last first.
    rest: Vec<(&'a Name, Vec<usize>)>,
}

type Turn = (Reverse<i64>, bool, bool, u64, Timestamp, GangId);

impl<'a> Turns<'a> {
    /// Over the items numbered in `waiting`, which are in rank order.
    pub(super) fn new(world: &World<'a>, queue: &Queue<'a>, waiting: &[usize]) -> Self {
        let mut projects: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        for number in waiting.iter().rev() {
            let project = &queue.items[*number].gang.project;
            projects.entry(project).or_default().push(*number);
        }
        let mut turns = Self {
            heads: BinaryHeap::new(),
            rest: projects.into_iter().collect(),
        };
        for project in 0..turns.rest.len() {
            turns.push_head(world, queue, project);
        }
        turns
    }

    fn push_head(&mut self, world: &World<'a>, queue: &Queue<'a>, project: usize) {
        let (name, rest) = &self.rest[project];
        let Some(item) = rest.last().map(|number| &queue.items[*number]) else {
            return;
        };
        let (priority, later, submitted_at, id) = item.rank;
        let borrows = world.would_borrow(name, item.amount);
        let share = world.weighted_share(name);
        let turn = (priority, later, borrows, share, submitted_at, id);
        self.heads.push(Reverse((turn, project)));
    }

    /// The project whose turn it is, and its first item.
    pub(super) fn next(&mut self) -> Option<(usize, usize)> {
        let Reverse((_, project)) = self.heads.pop()?;
        let number = self.rest[project].1.pop()?;
        Some((project, number))
    }

    /// To be called once the item of `project` has been dealt with.
    pub(super) fn requeue(&mut self, world: &World<'a>, queue: &Queue<'a>, project: usize) {
        self.push_head(world, queue, project);
    }
}
