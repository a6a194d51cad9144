//! What holds for any view.

use super::any::{any_view, members};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    })]

    #[test]
    fn a_plan_is_never_refused_and_leaves_nothing_unexplained(view in any_view(), seed: u64) {
        let rng = PlanRng::from_seed(seed);
        let (decided, report) = plan(&view, NOW, &rng);
        prop_assert_eq!(check(&view, &decided, NOW), []);
        for id in view.queue.keys() {
            prop_assert!(decided.starts.contains_key(id) != report.waiting.contains_key(id));
        }
        for waiting in report.waiting.values() {
            prop_assert!(!waiting.to_string().is_empty());
        }
    }

    #[test]
    fn a_record_replays_byte_for_byte(view in any_view(), seed: u64) {
        let rng = PlanRng::from_seed(seed);
        let (record, report) = Record::take(view, NOW, &rng);
        let text = serde_json::to_string(&record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &record);
        let replay = read.replay();
        prop_assert!(replay.same);
        prop_assert_eq!(
            serde_json::to_string(&replay.report).unwrap(),
            serde_json::to_string(&report).unwrap()
        );
        let again: lepton_planner::cluster::Report =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        prop_assert_eq!(again, report);
    }

    #[test]
    fn an_applied_plan_leaves_nothing_to_do(view in any_view(), seed: u64) {
        let rng = PlanRng::from_seed(seed);
        let (decided, _) = plan(&view, NOW, &rng);
        let (again, _) = plan(&apply(&view, &decided), NOW, &rng);
        prop_assert_eq!(again, Plan::default());
    }

    /// Whatever is started before a window opens, if hard limits are kept its owner has its room then.
    #[test]
    fn a_promise_is_kept(view in any_view(), seed: u64, wait in 1..4_000_u64, members in members()) {
        let mut view = view;
        view.running.clear();
        view.reservations.clear();
        view.policy.preemption = false;
        let owner = name("owner");
        let members: Vec<Ask> = members
            .into_iter()
            .filter(|ask| ask.gpu_milli == 0 || (ask.resources.gpus == 0 && ask.gpu_milli <= 1_000))
            .collect();
        let booking = Booking {
            project: owner.clone(),
            gang: Some(gang(200)),
            from: after(wait),
            until: after(wait + 1_000),
            members: members.clone(),
            selector: Selector::default(),
        };
        let Ok(reservation) = book(&view, NOW, &booking) else {
            return Ok(());
        };
        view.reservations.insert(name("it"), reservation);
        let rng = PlanRng::from_seed(seed);
        let (decided, _) = plan(&view, NOW, &rng);
        let mut then = apply(&view, &decided);
        let due = after(wait);
        then.running.retain(|_, gang| gang.runs_at_most.is_none_or(|most| NOW + most > due));
        then.queue = BTreeMap::from([(gang(200), PendingGang {
            project: owner,
            submitted_at: due,
            ..pending("owner", 0, members)
        })]);
        let (decided, _) = plan(&then, due, &rng);
        prop_assert_eq!(check(&then, &decided, due), []);
        prop_assert_eq!(decided.starts.len(), 1);
    }

    #[test]
    fn a_gang_that_comes_last_changes_nobody_s_start(view in any_view(), seed: u64) {
        let mut before = view;
        before.policy.preemption = false;
        // What an owner takes up is no longer owed, and may be another's room.
        before.reservations.clear();
        // Room that is kept, and what the stopping leave, moves as gangs start, and with it who may pass.
        before.policy.reserve_after = DurationMs::from_secs(1_000_000);
        before.running.values_mut().for_each(|gang| gang.stopping = false);
        // Whether workers that differ fit together is searched for within bounds, and what is
        // free beside them can turn the search; equal ones are placed exactly.
        for gang in before.queue.values_mut() {
            gang.members.dedup_by(|_, _| true);
        }
        let rng = PlanRng::from_seed(seed);
        let (decided, _) = plan(&before, NOW, &rng);
        let mut after = before.clone();
        let mut last = pending("z", 0, vec![Ask::from(cpus(1))]);
        last.priority = i32::MIN;
        after.queue.insert(gang(99), last);
        let (mut with, _) = plan(&after, NOW, &rng);
        with.starts.remove(&gang(99));
        prop_assert_eq!(with, decided);
    }
}
