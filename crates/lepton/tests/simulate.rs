//! `lepton simulate` as a script sees it: input that makes no sense is named by file and line, or by
//! the argument, and what is asked for as JSON is JSON.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

/// The status, and what goes to each output, of `lepton simulate WORDS` in `folder`.
fn simulate(folder: &Path, words: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lepton"))
        .arg("simulate")
        .args(words.split_ascii_whitespace())
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .output()
        .unwrap();
    (
        output.status.code().expect("it ends by itself"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

const JOBS: &str = "submit_s,duration_s,gpus,virtual_cluster\n";
const REQUESTS: &str = "at_ms,service_ms\n";
const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\n";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n";
const THROUGHPUT: &str = "src_region,src_tier,dst_region,dst_tier,gbps\n";
const EGRESS: &str = "src,dest,src_tier,dest_tier,cost\n";

/// Good files, among which each bad one is put.
fn files(folder: &Path) {
    let up = vec!["1"; 2_000].join(",");
    let zone = format!("{{\"metadata\": {{\"gap_seconds\": 195}}, \"data\": [{up}]}}");
    for (name, text) in [
        ("jobs", format!("{JOBS}0,10,1,a\n5,10,8,b\n")),
        ("requests", format!("{REQUESTS}0,100\n500,100\n")),
        ("nodes", format!("{NODES}a,9,9,1,T4\n")),
        ("pods", format!("{PODS}p,1,1,1,500\n")),
        ("order", "nodes 0\npods 0 0\n".to_owned()),
        ("throughput", format!("{THROUGHPUT}a,PREMIUM,b,PREMIUM,5\n")),
        ("egress", format!("{EGRESS}a,b,PREMIUM,PREMIUM,0.02\n")),
        ("zone", zone),
        ("empty", String::new()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::fs::write(folder.join("garbage"), b"\x7fELF\n\n\xff\xfe\x00").unwrap();
}

/// What each command needs, with `bad` where its main file belongs.
const COMMANDS: [&str; 5] = [
    "packing --pods pods --arrivals order --nodes bad",
    "queueing --jobs bad",
    "autoscaling --requests bad",
    "buying --availability bad",
    "transfer --egress egress --throughput bad",
];

#[test]
fn files_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    for command in COMMANDS {
        for (file, status, words) in [
            ("garbage", 8, "`garbage`, line 3: not text in UTF-8"),
            ("empty", 8, "`empty`, line 1: "),
            ("folder", 8, "cannot read `folder`: "),
            ("missing", 8, "cannot read `missing`: "),
        ] {
            let (found, out, err) = simulate(folder.path(), &command.replace("bad", file));
            assert_eq!(
                (found, out.as_str()),
                (status, ""),
                "{command} {file}: {err}"
            );
            assert!(err.contains(words), "{command} {file}: {err}");
        }
    }
}

#[test]
fn lines_that_make_no_sense_are_named_by_number() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let [packing, queueing, autoscaling, buying, transfer] = COMMANDS;
    for (command, text, words) in [
        (
            queueing,
            format!("{JOBS}NaN,1,1,a"),
            "line 2: `submit_s` is not a number: `NaN`",
        ),
        (
            queueing,
            format!("{JOBS}0,-1,1,a"),
            "line 2: `duration_s` is negative: `-1`",
        ),
        (
            queueing,
            format!("{JOBS}0,inf,1,a"),
            "line 2: `duration_s` is not a number: `inf`",
        ),
        (
            queueing,
            format!("{JOBS}0,1e300,1,a"),
            "line 2: `duration_s` is more than",
        ),
        (
            queueing,
            format!("{JOBS}0,1,0,a"),
            "line 2: `gpus` is not between 1 and",
        ),
        (
            queueing,
            format!("{JOBS}0,1,1,a\n\n0,1,513,a"),
            "line 4: the job asks for 513 gpus",
        ),
        (
            queueing,
            format!("{JOBS}9,1,1,a\n8,1,1,a"),
            "line 3: the clock goes back by 1 s",
        ),
        (queueing, JOBS.to_owned(), "line 1: there are no jobs"),
        (queueing, "{\"items\": 3}".to_owned(), "line 1: "),
        (
            autoscaling,
            format!("{REQUESTS}0,1\nx,1"),
            "line 3: `at_ms` is not a whole number",
        ),
        (
            autoscaling,
            format!("{REQUESTS}0,1\n1,-1"),
            "line 3: `service_ms` is negative",
        ),
        (
            autoscaling,
            format!("{REQUESTS}0,1\n1,99999999999"),
            "line 3: the request takes longer",
        ),
        (
            autoscaling,
            format!("{REQUESTS}9000,1\n1,1"),
            "line 3: the clock goes back",
        ),
        (
            autoscaling,
            format!("{REQUESTS}0,1\n99999999999999,1"),
            "the requests span",
        ),
        (
            packing,
            format!("{NODES}a,0,9,1,T4"),
            "line 2: the node has no processors",
        ),
        (
            packing,
            format!("{NODES}a,9,0,1,T4"),
            "line 2: the node has no memory",
        ),
        (
            packing,
            format!("{NODES}a,9,9,99,T4"),
            "line 2: `gpu` is 99, more than 16",
        ),
        (
            packing,
            format!("{NODES}a,9,9,1"),
            "line 2: the field `model` is missing",
        ),
        (packing, format!("{NODES}a,9,9,0,T4"), "no node has a gpu"),
        (
            packing,
            format!("{NODES}a,9,9,1,T4\na,9,9,1,T4"),
            "line 3: the node `a` stands twice",
        ),
        (
            transfer,
            format!("{THROUGHPUT}a,PREMIUM,b,PREMIUM,-1"),
            "line 2: `gbps` is negative",
        ),
        (
            transfer,
            format!("{THROUGHPUT}a,PREMIUM,b"),
            "line 2: 3 fields where 5 belong",
        ),
        (
            transfer,
            format!("{THROUGHPUT}x,PREMIUM,y,PREMIUM,1"),
            "no link has both",
        ),
        (
            buying,
            "{\n\"data\": [1]}".to_owned(),
            "line 2: missing field `metadata`",
        ),
        (
            buying,
            "{\"metadata\": {\"gap_seconds\": 195}, \"data\": []}".to_owned(),
            "line 1: `data` holds no sample",
        ),
        (
            buying,
            "{\"metadata\": {\"gap_seconds\": 195}, \"data\": [1]}".to_owned(),
            "a trace of 1 samples is shorter than the deadline",
        ),
    ] {
        std::fs::write(folder.path().join("bad"), &text).unwrap();
        let (status, out, err) = simulate(folder.path(), command);
        assert_eq!((status, out.as_str()), (8, ""), "{text}: {err}");
        assert!(
            err.contains(words) && err.contains("`bad`, "),
            "{text}: {err}"
        );
    }
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let packing = "packing --nodes nodes --pods pods --arrivals order";
    let buying = "buying --availability zone";
    let transfer = "transfer --throughput throughput --egress egress";
    for (command, words, said) in [
        ("queueing --jobs jobs", "--gpus 0", "'--gpus <GPUS>'"),
        ("queueing --jobs jobs", "--gpus -3", "'--gpus <GPUS>'"),
        (
            "queueing --jobs jobs",
            "--gpus-per-node 0",
            "'--gpus-per-node <GPUS_PER_NODE>'",
        ),
        (
            "queueing --jobs jobs",
            "--gpus 4000000000 --gpus-per-node 1",
            "`--gpus-per-node`: ",
        ),
        (
            "queueing --jobs jobs",
            "--checkpoint -3s",
            "`-3s` is not a duration",
        ),
        (
            "queueing --jobs jobs",
            "--policy nonsense",
            "`--policy` takes `all`, `list` or",
        ),
        (
            "autoscaling --requests requests",
            "--cold-start -1s",
            "'--cold-start <COLD_START>'",
        ),
        (
            "autoscaling --requests requests",
            "--cold-start 99999d",
            "`--cold-start 99999d` is",
        ),
        (
            "autoscaling --requests requests",
            "--slots 0",
            "'--slots <SLOTS>'",
        ),
        (
            "autoscaling --requests requests",
            "--warm -1",
            "'--warm <WARM>'",
        ),
        (
            "autoscaling --requests requests",
            "--measure-from 2h",
            "`--measure-from 2h` leaves",
        ),
        (
            "autoscaling",
            "--requests synthetic:bursts:x",
            "`--requests synthetic:bursts:x`",
        ),
        (
            buying,
            "--work 53h",
            "`--work`, `--changeover`, `--deadline`: ",
        ),
        (buying, "--work 0s", "`--work`: there is no work"),
        (
            buying,
            "--work 18446744073709551615ms",
            "do not fit before a deadline",
        ),
        (
            buying,
            "--work 48h1ms",
            "the optimum counts work in the greatest unit",
        ),
        (buying, "--starts 0", "`--starts`: "),
        (buying, "--spot-usd-per-hour -1", "`--spot-usd-per-hour`: "),
        (
            buying,
            "--on-demand-usd-per-hour NaN",
            "`--on-demand-usd-per-hour`: ",
        ),
        (
            buying,
            "--service 0",
            "`--service`, `--available`: the capacity makes no sense",
        ),
        (
            buying,
            "--service 4 --available 1.2",
            "the availability makes no sense: `1.2`",
        ),
        (buying, "--service 4 --work 3h", "cannot be used with"),
        (buying, "--service 5000", "`--service 5000`: "),
        (
            transfer,
            "--seed 99999999999999999999999",
            "'--seed <SEED>'",
        ),
        (
            transfer,
            "--seed 18446744073709551610 --count 20",
            "the last seed is",
        ),
        (transfer, "--count 0", "'--count <COUNT>'"),
        (transfer, "--budget -3", "`--budget`: "),
        (transfer, "--budget 0.001", "none costs less than"),
        (packing, "--replicate 0", "'--replicate <REPLICATE>'"),
        (packing, "--replicate 4294967295", "`--replicate`: "),
    ] {
        let (status, out, err) = simulate(folder.path(), &format!("{command} {words}"));
        assert_eq!((status, out.as_str()), (2, ""), "{words}: {err}");
        assert!(err.contains(said), "{words}: {err}");
    }
}

#[test]
fn lists_of_policies_are_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "packing",
        "queueing",
        "autoscaling",
        "buying",
        "transfer",
        "buying --service 1",
    ] {
        let (status, plain, _) = simulate(folder.path(), &format!("{command} --policy list"));
        assert_eq!(status, 0);
        let (_, json, _) = simulate(folder.path(), &format!("{command} --policy list -o json"));
        let names: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(names.join("\n"), plain.trim_end(), "{command}");
        assert!(names.contains(&"lepton".to_owned()));
    }
}

#[test]
fn figures_are_printed_and_plotted_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    for (command, names) in [
        (
            "packing --nodes nodes --pods pods --arrivals order",
            "allocated_pct_at_100 allocated_pct_at_130 bound_pct_at_100 decisions_per_s",
        ),
        (
            "queueing --jobs jobs",
            "jct_mean_s jct_p99_s makespan_s preemptions fairness",
        ),
        (
            "autoscaling --requests requests",
            "replica_seconds late_pct clairvoyant_replica_seconds",
        ),
        (
            "buying --availability zone --starts 1",
            "cost_vs_on_demand optimum_vs_on_demand missed",
        ),
        (
            "buying --availability zone --service 2",
            "cost_vs_on_demand availability usd_per_hour on_demand spot",
        ),
        (
            "transfer --throughput throughput --egress egress --seed 3",
            "cost_usd seconds gap_pct",
        ),
        (
            "transfer --throughput throughput --egress egress --seed 3 --budget 99999",
            "seconds cost_usd bound_seconds gap_pct",
        ),
    ] {
        let (status, json, err) = simulate(folder.path(), &format!("{command} -o json"));
        assert_eq!((status, err.as_str()), (0, ""), "{command}");
        let figures: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&json).unwrap();
        for name in names.split(' ') {
            assert!(figures.contains_key(name), "{command}: {json}");
        }
        let (_, text, _) = simulate(folder.path(), &format!("{command} --policy all"));
        assert!(text.contains('█'), "{command}: {text}");
    }
}
