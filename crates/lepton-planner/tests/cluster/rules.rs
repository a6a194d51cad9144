//! What a person would expect of a few gangs on a few nodes.

use super::*;

#[test]
fn a_gang_starts_with_all_its_workers_or_waits_and_says_what_is_missing() {
    let mut view = one_node(4);
    let workers = vec![Ask::from(cpus(2)); 3];
    view.queue.insert(gang(1), pending("a", 0, workers));
    view.queue
        .insert(gang(2), pending("a", 0, vec![Ask::from(cpus(3))]));
    let (plan, report) = decide(&view);
    assert_eq!(plan.starts.keys().collect::<Vec<_>>(), [&gang(2)]);
    assert_eq!(
        report.waiting[&gang(1)].to_string(),
        "number 1 in the queue: larger than the pool: even were it empty, 2 of 3 workers fit, and \
         all must start together; one asks for cpu 2, memory 2Gi, node `local` comes nearest and \
         lacks cpu 2, memory 2Gi"
    );
}

#[test]
fn the_report_tells_when_and_after_whom() {
    let mut view = one_node(4);
    let mut first = pending("a", 10, vec![Ask::from(cpus(3))]);
    first.predicted_duration = Some(DurationMs::from_secs(60));
    view.queue.insert(gang(1), first);
    view.queue
        .insert(gang(2), pending("a", 5, vec![Ask::from(cpus(2))]));
    let (_, report) = decide(&view);
    let waiting = &report.waiting[&gang(2)];
    assert_eq!(
        waiting.expected_start,
        Some(NOW + DurationMs::from_secs(60))
    );
    assert_eq!(waiting.after, [gang(1)]);
    assert!(
        waiting.to_string().contains("lacks cpu 1, memory 1Gi"),
        "{waiting}"
    );
}

#[test]
fn two_projects_share_by_weight() {
    let mut view = one_node(9);
    view.projects.insert(
        name("heavy"),
        Share {
            weight: 2,
            ..Share::default()
        },
    );
    for number in 0..20 {
        let project = if number < 10 { "heavy" } else { "light" };
        view.queue
            .insert(gang(number), pending(project, 0, vec![Ask::from(cpus(1))]));
    }
    let (plan, _) = decide(&view);
    let heavy = plan.starts.keys().filter(|id| **id < gang(10)).count();
    assert_eq!((heavy, plan.starts.len()), (6, 9));
}

#[test]
fn a_quota_is_borrowed_from_and_taken_back() {
    let owns = |count| Share {
        quota: Some(cpus(count)),
        ..Share::default()
    };
    let mut view = one_node(4);
    view.projects.insert(name("owner"), owns(2));
    view.projects.insert(name("guest"), owns(2));
    for number in 0..4 {
        view.queue
            .insert(gang(number), pending("guest", 0, vec![Ask::from(cpus(1))]));
    }
    let (borrowed, _) = decide(&view);
    assert_eq!(borrowed.starts.len(), 4);
    let mut view = apply(&view, &borrowed);
    for running in view.running.values_mut() {
        running.started_at = NOW - DurationMs::from_secs(3_600);
    }
    for number in 10..14 {
        view.queue
            .insert(gang(number), pending("owner", 0, vec![Ask::from(cpus(1))]));
    }
    let (plan, report) = decide(&view);
    assert_eq!(plan.stops.len(), 2, "what was borrowed, and no more");
    assert!(
        plan.stops
            .values()
            .all(|stop| stop.cause == StopCause::Quota)
    );
    let stopping = |waiting: &&lepton_planner::cluster::Waiting| {
        matches!(waiting.reason, Reason::Stopping { .. })
    };
    assert_eq!(report.waiting.values().filter(stopping).count(), 2);
}

#[test]
fn a_project_that_may_not_borrow_is_told_its_quota() {
    let mut view = one_node(8);
    let share = Share {
        quota: Some(cpus(2)),
        may_borrow: false,
        ..Share::default()
    };
    view.projects.insert(name("a"), share);
    for number in 0..3 {
        view.queue
            .insert(gang(number), pending("a", 0, vec![Ask::from(cpus(1))]));
    }
    let (plan, report) = decide(&view);
    assert_eq!(plan.starts.len(), 2);
    assert_eq!(
        report.waiting[&gang(2)].to_string(),
        "number 1 in the queue: project `a` would exceed its quota of cpu 2, memory 2Gi: it uses \
         cpu 2, memory 2Gi, this asks for cpu 1, memory 1Gi"
    );
}

#[test]
fn a_small_gang_passes_a_large_one_only_while_it_delays_it_not() {
    let mut view = one_node(4);
    let mut running = pending("a", 0, vec![Ask::from(cpus(2))]);
    running.predicted_duration = Some(DurationMs::from_secs(100));
    view.queue.insert(gang(0), running);
    let (first, _) = decide(&view);
    let mut view = apply(&view, &first);
    view.queue
        .insert(gang(1), pending("a", 1_000, vec![Ask::from(cpus(4))]));
    let mut short = pending("a", 10, vec![Ask::from(cpus(1))]);
    short.predicted_duration = Some(DurationMs::from_secs(90));
    let mut long = short.clone();
    long.predicted_duration = Some(DurationMs::from_secs(110));
    view.queue.insert(gang(2), long);
    view.queue.insert(gang(3), short);
    let (plan, report) = decide(&view);
    assert_eq!(plan.starts.keys().collect::<Vec<_>>(), [&gang(3)]);
    assert_eq!(
        report.waiting[&gang(2)].reason,
        Reason::Reserved { by: gang(1) }
    );
    // One that has not waited long is passed by all.
    view.queue.get_mut(&gang(1)).unwrap().submitted_at = NOW - DurationMs::from_secs(20);
    assert_eq!(decide(&view).0.starts.len(), 2);
}

#[test]
fn the_least_work_is_lost_when_room_is_made() {
    let mut view = one_node(4);
    for number in 0..4 {
        view.queue
            .insert(gang(number), pending("a", 0, vec![Ask::from(cpus(1))]));
    }
    let (first, _) = decide(&view);
    let mut view = apply(&view, &first);
    for (number, running) in view.running.values_mut().enumerate() {
        running.started_at = NOW - DurationMs::from_secs(1_000 * (4 - number as u64));
    }
    view.running.get_mut(&gang(0)).unwrap().checkpointed_at = Some(NOW);
    let mut urgent = pending("b", 0, vec![Ask::from(cpus(1)); 2]);
    urgent.priority = 1;
    view.queue.insert(gang(9), urgent);
    let (plan, report) = decide(&view);
    assert_eq!(plan.stops.keys().collect::<Vec<_>>(), [&gang(0), &gang(3)]);
    assert_eq!(
        report.waiting[&gang(9)].reason,
        Reason::Stopping {
            gangs: vec![gang(0), gang(3)]
        }
    );
}

#[test]
fn parts_of_gpus_share_a_device_and_whole_ones_do_not() {
    let mut machine = Node::from(Resources {
        gpus: 2,
        ..cpus(16)
    });
    machine.gpu_model = Some("T4".to_owned());
    let mut view = ClusterView::default();
    view.nodes.insert(node_name("n"), machine);
    let part = Ask {
        resources: cpus(1),
        gpu_milli: 500,
    };
    let whole = Ask::from(Resources { gpus: 1, ..cpus(1) });
    for (number, ask) in [part, part, whole, part].into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        view.queue.insert(
            gang(number),
            pending("a", 10 - u64::from(number), vec![ask]),
        );
    }
    let (plan, report) = decide(&view);
    let gpus: Vec<_> = plan
        .starts
        .values()
        .map(|seats| seats[0].gpus.clone())
        .collect();
    assert_eq!(gpus, [[0], [0], [1]]);
    assert!(
        report.waiting[&gang(3)]
            .to_string()
            .contains("lacks gpus 1")
    );
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let mut view = one_node(2);
    view.queue.insert(gang(0), pending("a", 0, vec![]));
    let mut labelled = pending("a", 0, vec![Ask::from(cpus(1))]);
    labelled
        .selector
        .labels
        .insert("zone".into(), "mars".into());
    labelled.selector.gpu_models.insert("H100".into());
    view.queue.insert(gang(1), labelled);
    let (_, report) = decide(&view);
    let words = |number| report.waiting[&gang(number)].reason.to_string();
    assert_eq!(words(0), "the gang has no workers");
    assert_eq!(
        words(1),
        "no node of the pool has the label `zone=mars` and gpus of model `H100` and takes new work"
    );
    let (plan, report) = decide(&ClusterView {
        nodes: BTreeMap::new(),
        ..view
    });
    assert!(plan.is_empty() && report.waiting.len() == 2);
}

#[test]
fn the_checker_refuses_what_the_planner_would_never_do() {
    let mut view = one_node(2);
    view.queue
        .insert(gang(1), pending("a", 0, vec![Ask::from(cpus(2)); 2]));
    let seat = lepton_planner::cluster::Seat {
        node: node_name("local"),
        gpus: vec![],
    };
    let mut plan = Plan::default();
    plan.starts.insert(gang(1), vec![seat.clone()]);
    let words: Vec<String> = check(&view, &plan, NOW)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        words,
        [format!("gang `{}` has 2 workers and gets 1 seats", gang(1))]
    );
    plan.starts.insert(gang(1), vec![seat.clone(), seat]);
    let words: Vec<String> = check(&view, &plan, NOW)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        words[0],
        "node `local` has not enough cpu: 4000 of 2000 would be used"
    );
}
