//! What `cluster::plan` promises, for any view that a generator can make, and for a few
//! that a person would.
#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod any;
mod extremes;
mod months;
mod properties;
mod reservations;
mod rules;
mod scale;

use std::collections::BTreeMap;

use lepton_planner::PlanRng;
use lepton_planner::cluster::{
    Ask, Booking, ClusterView, GangId, Node, NodeName, Occupied, PendingGang, Plan, PromisedSeat,
    Reason, Record, Reservation, RunningGang, Selector, Share, StopCause, book, check, plan,
};
use lepton_types::{CpuMillis, DurationMs, Id, MemoryBytes, Name, Resources, Timestamp};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn gang(number: u8) -> GangId {
    GangId::from(Id::from_parts(NOW, [0, 0, 0, 0, 0, 0, 0, 0, 0, number]))
}

fn cpus(count: u64) -> Resources {
    Resources {
        cpu: CpuMillis::from_millis(count * 1_000),
        memory: MemoryBytes::from_mib(count * 1_024),
        gpus: 0,
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn node_name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn pending(project: &str, waited_s: u64, members: Vec<Ask>) -> PendingGang {
    PendingGang {
        project: name(project),
        priority: 0,
        submitted_at: NOW - DurationMs::from_secs(waited_s),
        members,
        selector: Selector::default(),
        predicted_duration: None,
        runs_at_most: None,
        deadline: None,
    }
}

fn one_node(count: u64) -> ClusterView {
    ClusterView {
        nodes: BTreeMap::from([(node_name("local"), Node::from(cpus(count)))]),
        ..ClusterView::default()
    }
}

/// What the view is once the plan has been applied and nothing else has happened.
fn apply(view: &ClusterView, plan: &Plan) -> ClusterView {
    let mut after = view.clone();
    for (id, seats) in &plan.starts {
        let gang = after.queue.remove(id).unwrap();
        let members = gang.members.iter().zip(seats);
        let members = members.map(|(ask, seat)| Occupied {
            ask: *ask,
            seat: seat.clone(),
        });
        let running = RunningGang {
            project: gang.project,
            priority: gang.priority,
            preemptible: true,
            members: members.collect(),
            started_at: NOW,
            checkpointed_at: None,
            predicted_duration: gang.predicted_duration,
            runs_at_most: gang.runs_at_most,
            stopping: false,
        };
        after.running.insert(*id, running);
    }
    for id in plan.stops.keys() {
        after.running.get_mut(id).unwrap().stopping = true;
    }
    after
}

fn decide(view: &ClusterView) -> (Plan, lepton_planner::cluster::Report) {
    let (plan, report) = plan(view, NOW, &PlanRng::from_seed(1));
    assert_eq!(check(view, &plan, NOW), []);
    (plan, report)
}

fn after(seconds: u64) -> Timestamp {
    NOW + DurationMs::from_secs(seconds)
}
