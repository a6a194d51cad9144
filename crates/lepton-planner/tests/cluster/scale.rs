//! Large queues and large pools.

use super::*;

#[test]
fn two_thousand_waiting_gangs_are_decided_at_once() {
    let mut view = one_node(4);
    for number in 0..2_000_u32 {
        let mut random = [0; 10];
        random[6..].copy_from_slice(&number.to_be_bytes());
        let mut gang = pending("a", 0, vec![Ask::from(cpus(1))]);
        gang.predicted_duration = Some(DurationMs::from_secs(1));
        view.queue
            .insert(GangId::from(Id::from_parts(NOW, random)), gang);
    }
    let begun = std::time::Instant::now();
    let (plan, report) = decide(&view);
    eprintln!("2,000 gangs on one node: {:?}", begun.elapsed());
    assert_eq!((plan.starts.len(), report.waiting.len()), (4, 1_996));
    let last = report
        .waiting
        .values()
        .map(|waiting| waiting.expected_start)
        .max();
    assert_eq!(last, Some(Some(NOW + DurationMs::from_secs(499))));
}

#[test]
fn a_gang_of_sixty_four_starts_on_ten_thousand_nodes() {
    let mut view = ClusterView::default();
    for number in 0..10_000 {
        let mut machine = Node::from(Resources {
            gpus: 8,
            ..cpus(96)
        });
        machine.price_millis_per_hour = number % 3;
        view.nodes
            .insert(node_name(&format!("n{number:05}")), machine);
    }
    let worker = Ask::from(Resources {
        gpus: 8,
        ..cpus(64)
    });
    view.queue
        .insert(gang(1), pending("a", 0, vec![worker; 64]));
    let begun = std::time::Instant::now();
    let (plan, _) = plan(&view, NOW, &PlanRng::from_seed(1));
    eprintln!("64 workers on 10,000 nodes: {:?}", begun.elapsed());
    assert_eq!(plan.starts[&gang(1)].len(), 64);
    assert_eq!(check(&view, &plan, NOW), []);
    let cheap = |seat: &lepton_planner::cluster::Seat| view.nodes[&seat.node].price_millis_per_hour;
    assert!(plan.starts[&gang(1)].iter().all(|seat| cheap(seat) == 0));
}
