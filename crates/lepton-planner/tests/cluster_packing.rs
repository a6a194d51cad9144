//! How full the passes of `cluster::plan` make a pool whose GPUs are shared, task by task.
#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;

use lepton_planner::PlanRng;
use lepton_planner::cluster::{
    Ask, ClusterView, GangId, Node, NodeName, Occupied, PendingGang, RunningGang, Seat, Selector,
    check, plan,
};
use lepton_types::{CpuMillis, Id, MemoryBytes, Name, Resources, Timestamp};
use rand::Rng as _;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn gang(number: u16) -> GangId {
    let [high, low] = number.to_be_bytes();
    GangId::from(Id::from_parts(NOW, [0, 0, 0, 0, 0, 0, 0, 0, high, low]))
}

fn machine(cpu: u64, gpus: u32) -> Node {
    Node::from(resources(cpu, gpus))
}

fn resources(cpu: u64, gpus: u32) -> Resources {
    Resources {
        cpu: CpuMillis::from_millis(cpu * 1_000),
        memory: MemoryBytes::from_mib(cpu * 1_024),
        gpus,
    }
}

fn part(cpu: u64, gpu_milli: u16) -> Ask {
    Ask {
        gpu_milli,
        ..Ask::from(resources(cpu, 0))
    }
}

fn waiting(ask: Ask) -> PendingGang {
    PendingGang {
        project: "a".parse::<Name>().unwrap(),
        priority: 0,
        submitted_at: NOW,
        members: vec![ask],
        selector: Selector::default(),
        predicted_duration: None,
        runs_at_most: None,
        deadline: None,
    }
}

fn running(ask: Ask, seat: Seat) -> RunningGang {
    RunningGang {
        project: "a".parse::<Name>().unwrap(),
        priority: 0,
        preemptible: false,
        members: vec![Occupied { ask, seat }],
        started_at: NOW,
        checkpointed_at: None,
        predicted_duration: None,
        runs_at_most: None,
        stopping: false,
    }
}

fn pool(nodes: u16, node: &Node) -> ClusterView {
    let name = |number: u16| format!("n{number:03}").parse::<NodeName>().unwrap();
    ClusterView {
        nodes: (0..nodes).map(|n| (name(n), node.clone())).collect(),
        ..ClusterView::default()
    }
}

/// The sizes of a shared pool: most ask for a part, some for whole GPUs, and processors run out
/// on some nodes first.
fn draw(random: &mut lepton_planner::Stream) -> Ask {
    let pick: u32 = random.random_range(0..100);
    match pick {
        0..18 => part(4, 470),
        18..30 => part(6, 530),
        30..45 => part(2, 330),
        45..55 => part(8, 670),
        55..63 => part(3, 200),
        63..68 => part(6, 800),
        68..90 => Ask::from(resources(8, 1)),
        90..96 => Ask::from(resources(16, 2)),
        _ => Ask::from(resources(32, 4)),
    }
}

/// Tasks come one by one until as much has been asked for as there is; who finds no place goes.
/// The share of the GPUs that is allocated then.
fn fill(mut view: ClusterView, jobs: impl Iterator<Item = PendingGang>, rng: &PlanRng) -> f64 {
    let gpus: u32 = view.nodes.values().map(|node| node.capacity.gpus).sum();
    let capacity = u64::from(gpus) * 1_000;
    let (mut asked, mut allocated) = (0, 0);
    for (job, number) in jobs.zip(0..) {
        let (id, ask) = (gang(number), job.members[0]);
        asked += ask.gpu_milli_total();
        if asked > capacity {
            break;
        }
        view.queue = BTreeMap::from([(id, job)]);
        let (plan, _) = plan(&view, NOW, rng);
        assert_eq!(check(&view, &plan, NOW), []);
        if let Some(seats) = plan.starts.get(&id) {
            allocated += ask.gpu_milli_total();
            view.running.insert(id, running(ask, seats[0].clone()));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let share = allocated as f64 / capacity as f64;
    share
}

#[test]
fn a_shared_pool_is_filled_as_far_as_prices_can() {
    let filled = |seed| {
        let rng = PlanRng::from_seed(seed);
        let mut random = rng.stream("arrivals", 0);
        let jobs = std::iter::repeat_with(move || waiting(draw(&mut random)));
        fill(pool(32, &machine(64, 4)), jobs, &rng)
    };
    let shares: Vec<f64> = (0..4).map(filled).collect();
    let mean = shares.iter().sum::<f64>() / 4.0;
    eprintln!("{:.2} % filled", 100.0 * mean);
    assert!(mean > 0.95, "{shares:?}");
}

/// An eighth of the nodes of Alibaba's `openb`, whose folder `LEPTON_OPENB` names, filled as its
/// first three arrival orders ask.
#[test]
#[ignore = "reads a trace that is not part of the project"]
fn openb_is_filled_by_passes_of_the_cluster() {
    let folder = std::path::PathBuf::from(std::env::var("LEPTON_OPENB").unwrap());
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let amount = |text: &str| text.parse::<u64>().unwrap_or(0);
    let row = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut empty = ClusterView::default();
    let nodes = text("openb_node_list_gpu_node.csv");
    for (number, line) in nodes.lines().skip(1).enumerate().step_by(8) {
        let fields = row(line);
        let mut node = Node::from(resources_of(&fields[1], &fields[2], amount(&fields[3])));
        node.gpu_model = Some(fields[4].clone());
        empty
            .nodes
            .insert(format!("n{number:04}").parse().unwrap(), node);
    }
    let mut pods: Vec<Vec<String>> = text("openb_pod_list_default.csv")
        .lines()
        .skip(1)
        .map(row)
        .collect();
    pods.sort();
    for seed in 42..45 {
        let order = text(&format!("arrivals/default.seed{seed}.txt"));
        let order = order.lines().nth(1).unwrap().split_whitespace().skip(1);
        let jobs = order.map(|index| {
            let pod = &pods[index.parse::<usize>().unwrap()];
            let (gpus, milli) = (amount(&pod[3]), amount(&pod[4]));
            let part = gpus == 1 && milli < 1_000;
            let mut ask = Ask::from(resources_of(&pod[1], &pod[2], gpus * u64::from(!part)));
            ask.gpu_milli = u16::try_from(milli).unwrap() * u16::from(part);
            let mut job = waiting(ask);
            let models = pod[5].split('|').filter(|model| !model.is_empty());
            job.selector.gpu_models = models.map(str::to_owned).collect();
            job
        });
        let begun = std::time::Instant::now();
        let share = fill(empty.clone(), jobs, &PlanRng::from_seed(seed));
        eprintln!("{seed}: {:.2} %, {:?}", 100.0 * share, begun.elapsed());
    }
}

fn resources_of(cpu_milli: &str, memory_mib: &str, gpus: u64) -> Resources {
    Resources {
        cpu: CpuMillis::from_millis(cpu_milli.parse().unwrap()),
        memory: MemoryBytes::from_mib(memory_mib.parse().unwrap()),
        gpus: u32::try_from(gpus).unwrap(),
    }
}
