"""Answers of two servers, compared field by field after ids and times are gone."""

import re

HEX = re.compile(r"(?<![0-9a-f])(m-)?[0-9a-f]{32}(?![0-9a-f])")
# MLflow counts experiments, Lepton gives them ids; both stand in paths and fields.
IN_PATH = re.compile(r"(?<=mlflow-artifacts:/)([1-9][0-9]*|[0-9a-f]{32})(?=/|$)")
TIMES = {"creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp",
         "creation_timestamp_ms", "last_updated_timestamp_ms", "created_at", "updated_at"}
# Given by the script where they are small, and by the client's clock where they are not.
CLOCKS = {"start_time", "end_time", "timestamp"}
# What a server may word, round or hold in its own way.
OWN = {"workspace", "effective_trace_archival_retention"}


class Normal:
    """Makes answers of two servers alike, but for what they must not differ in: an id stands for the same
    thing wherever it is met, so each is named by its place among those met before."""

    def __init__(self):
        self.ids = {}

    def named(self, kind, text):
        of_kind = self.ids.setdefault(kind, {})
        return f"{kind}{of_kind.setdefault(text, len(of_kind) + 1)}"

    def __call__(self, value, key=None):
        if isinstance(value, dict):
            known = sorted((k, v) for k, v in value.items() if k not in OWN)
            return {self(k): self(v, k) for k, v in known}
        if isinstance(value, list):
            return [self(v, key) for v in value]
        if key in TIMES and isinstance(value, int):
            return "TIME"
        if key in CLOCKS and isinstance(value, int) and value > 1_000_000_000_000:
            return "TIME"
        if key == "experiment_id" and value != "0":
            return self.named("EXPERIMENT", value)
        if isinstance(value, str):
            value = IN_PATH.sub(lambda found: self.named("EXPERIMENT", found.group(1)), value)
            return HEX.sub(lambda found: (found.group(1) or "") + self.named("ID", found.group(0)), value)
        return value


def differences(ours, theirs):
    """Lines that say where two lists of `[step, answer]` differ."""
    found = []
    normal_ours, normal_theirs = Normal(), Normal()
    for index in range(max(len(ours), len(theirs))):
        if index >= len(ours) or index >= len(theirs):
            found.append(f"{index}: only one has {(ours + theirs)[-1][0]!r}")
            continue
        (step, our), (other, their) = ours[index], theirs[index]
        if normal_ours(step) != normal_theirs(other):
            found.append(f"{index}: the steps are {step!r} and {other!r}")
        else:
            found += [f"{step}{where}" for where in differ(normal_ours(our), normal_theirs(their))]
    return found


def differ(our, their, path=""):
    if isinstance(our, dict) and isinstance(their, dict):
        found = []
        for key in sorted(set(our) | set(their), key=str):
            if key not in our or key not in their:
                found.append(f"{path}.{key}: ours {our.get(key, 'nothing')!r}, MLflow's {their.get(key, 'nothing')!r}")
            else:
                found += differ(our[key], their[key], f"{path}.{key}")
        return found
    if isinstance(our, list) and isinstance(their, list) and len(our) == len(their):
        found = []
        for index, (a, b) in enumerate(zip(our, their)):
            found += differ(a, b, f"{path}[{index}]")
        return found
    return [] if our == their else [f"{path}: ours {our!r}, MLflow's {their!r}"]
