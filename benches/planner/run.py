#!/usr/bin/env python3
"""Replays the public traces through every policy and prints the tables of docs/planner.md.

    benches/planner/run.py LEPTON DATA packing|speed|queueing

LEPTON is a release build of the binary, DATA the folder that holds `openb` and `philly`.
"""

import csv
import json
import pathlib
import subprocess
import sys
from collections import defaultdict

WORKLOADS = ["default", "cpu050", "cpu100", "gpushare40", "gpuspec10", "multigpu20"]
SEEDS = range(42, 47)


def simulate(lepton, *arguments):
    command = [lepton, "simulate", *map(str, arguments), "-o", "json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer if isinstance(answer, list) else [answer]


def openb(data, workload, seed):
    folder = data / "openb"
    return [
        "--nodes", folder / "openb_node_list_gpu_node.csv",
        "--pods", folder / f"openb_pod_list_{workload}.csv",
        "--arrivals", folder / "arrivals" / f"{workload}.seed{seed}.txt",
    ]


def packing(lepton, data):
    published = defaultdict(list)
    with open(data / "openb" / "published.csv") as file:
        for row in csv.DictReader(file):
            published[row["workload"], row["policy"]].append(float(row["allocated_pct_at_100"]))
    print("| workload | policy | at 100 % | by seed | at 130 % | published | difference |")
    print("|---|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        figures, bounds = defaultdict(list), []
        for seed in SEEDS:
            for run in simulate(lepton, "packing", *openb(data, workload, seed),
                                "--seed", seed, "--policy", "all"):
                figures[run["policy"]].append(run)
            bounds.append(run["bound_pct_at_100"])
        for policy, runs in figures.items():
            at = [run["allocated_pct_at_100"] for run in runs]
            later = [run["allocated_pct_at_130"] for run in runs]
            mean = sum(at) / len(at)
            other = published.get((workload, policy if policy != "lepton" else "FGD"))
            other = sum(other) / len(other)
            name = "FGD: " if policy == "lepton" else ""
            print(f"| {workload} | {policy} | {mean:.2f} | {' '.join(f'{x:.2f}' for x in at)} "
                  f"| {sum(later) / len(later):.2f} | {name}{other:.2f} | {mean - other:+.2f} |")
        print(f"| {workload} | bound | {sum(bounds) / len(bounds):.2f} | | | | |")


def speed(lepton, data):
    print("| nodes | policy | at 100 % | decisions a second |\n|---|---|---|---|")
    for copies in [1, 8, 41]:
        for run in simulate(lepton, "packing", *openb(data, "default", 42),
                            "--replicate", copies, "--policy", "FGD,lepton"):
            print(f"| {1213 * copies:,} | {run['policy']} | {run['allocated_pct_at_100']:.2f} "
                  f"| {run['decisions_per_s']:,.0f} |")


def queueing(lepton, data):
    print("| policy | mean | p99 | makespan | stops | fairness | events a second |")
    print("|---|---|---|---|---|---|---|")
    for run in simulate(lepton, "queueing", "--jobs", data / "philly" / "jobs.csv",
                        "--gpus", 512, "--gpus-per-node", 8, "--policy", "all"):
        print(f"| {run['policy']} | {run['jct_mean_s']:,.0f} | {run['jct_p99_s']:,.0f} "
              f"| {run['makespan_s']:,.0f} | {run['preemptions']:,} | {run['fairness']:.2f} "
              f"| {run['events_per_s']:,.0f} |")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in ("packing", "speed", "queueing"):
        sys.exit(__doc__)
    globals()[sys.argv[3]](sys.argv[1], pathlib.Path(sys.argv[2]))
