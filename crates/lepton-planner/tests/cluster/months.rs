//! Months of arrivals, ends and faults.

use super::*;

/// A month of random arrivals, ends, faults of nodes and clocks that jump: every plan passes the
/// checker, nobody is lost, and whoever can run does in the end. `LEPTON_PLANNER_MONTHS=10000`
/// runs more.
#[test]
fn a_month_of_faults_breaks_nothing() {
    let more = std::env::var("LEPTON_PLANNER_MONTHS").ok();
    let months = more.map_or(100, |text| text.parse().expect("a number of months"));
    for seed in 0..months {
        month(seed);
    }
    eprintln!("{months} months");
}

fn month(seed: u64) {
    use rand::Rng as _;
    let rng = PlanRng::from_seed(seed);
    let mut random = rng.stream("month", 0);
    let mut view = ClusterView::default();
    for number in 0..4 {
        let machine = Node::from(Resources {
            gpus: number % 3,
            ..cpus(8)
        });
        view.nodes.insert(node_name(&format!("n{number}")), machine);
    }
    let mut now = NOW;
    let (mut asked, mut ended) = (0_u8, 0);
    for step in 0..400 {
        let jump = if random.random_bool(0.02) {
            -3_600_000
        } else {
            random.random_range(0..10_800_000)
        };
        now = Timestamp::from_millis(now.as_millis() + jump);
        if step < 150 && asked < 120 {
            let members =
                vec![Ask::from(cpus(random.random_range(1..6))); random.random_range(1..4)];
            let mut job = pending(["a", "b"][random.random_range(0..2)], 0, members);
            job.submitted_at = now;
            job.priority = random.random_range(0..3);
            view.queue.insert(gang(asked), job);
            asked += 1;
        }
        // A node is lost or comes back; what ran on a lost one ends.
        let node = node_name(&format!("n{}", random.random_range(0..4)));
        if random.random_bool(0.1) && step < 150 {
            let machine = view.nodes.get_mut(&node).unwrap();
            machine.unschedulable = !machine.unschedulable;
        } else if step == 150 {
            view.nodes
                .values_mut()
                .for_each(|machine| machine.unschedulable = false);
        }
        let (decided, report) = plan(&view, now, &rng);
        assert_eq!(check(&view, &decided, NOW), [], "seed {seed}, step {step}");
        assert_eq!(
            decided.starts.len() + report.waiting.len(),
            view.queue.len()
        );
        let mut after = apply(&view, &decided);
        for id in decided.starts.keys() {
            after.running.get_mut(id).unwrap().started_at = now;
        }
        // Those that were stopped wait again; some of the others end.
        let stopped: Vec<GangId> = after
            .running
            .iter()
            .filter(|(_, g)| g.stopping)
            .map(|(id, _)| *id)
            .collect();
        for id in stopped {
            let gone = after.running.remove(&id).unwrap();
            let members = gone.members.iter().map(|worker| worker.ask).collect();
            let mut job = pending(gone.project.as_str(), 0, members);
            (job.priority, job.submitted_at) = (gone.priority, now);
            after.queue.insert(id, job);
        }
        let before = after.running.len();
        after.running.retain(|_, _| !random.random_bool(0.3));
        ended += before - after.running.len();
        view = after;
    }
    assert!(view.queue.is_empty(), "seed {seed}: {:?}", view.queue);
    assert_eq!(
        ended + view.running.len(),
        usize::from(asked),
        "seed {seed}"
    );
}
