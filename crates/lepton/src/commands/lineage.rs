//! `lepton lineage`: what something came from, and what came of it, as a tree.

use std::collections::{BTreeMap, BTreeSet};

use lepton_api::LineageGraph;
use lepton_types::resources::{Kind, LineageEdge, LineageNode, LineageRelation};
use lepton_types::{Id, Timestamp};

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{age, count};

/// Shows what something came from and what came of it: data, runs, models, endpoints
#[derive(Debug, clap::Args)]
#[command(
    name = "lineage",
    after_help = "Examples:\n  lepton lineage dataset wine\n  lepton lineage model wine@champion\n  lepton lineage endpoint wine -o json"
)]
pub(crate) struct LineageOf {
    /// dataset, job, run, model or endpoint
    #[arg(value_name = "KIND")]
    kind: String,
    /// NAME or NAME:VERSION of a dataset, NAME, NAME:VERSION or NAME@ALIAS of a model, a run's id,
    /// a job's id or name, an endpoint's name
    #[arg(value_name = "NAME")]
    name: String,
}

impl LineageOf {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let kind = kinds::kind(&self.kind)?;
        let found = client.lineage(kind, &self.name).map_err(|error| {
            let name = self.name.split([':', '@']).next().unwrap_or_default();
            kinds::or_near_names(client, kind, name, error)
        })?;
        let now = ctx.now();
        ctx.answer(&found, || tree(&found, now))
    }
}

/// Everything from its oldest source down, each thing once with all that came of it.
fn tree(lineage: &LineageGraph, now: Timestamp) -> String {
    let edges: BTreeMap<_, &LineageEdge> = lineage
        .upstream
        .iter()
        .chain(&lineage.downstream)
        .map(|edge| ((edge.from.id, edge.to.id, edge.relation), edge))
        .collect();
    let mut children: BTreeMap<Id, Vec<&LineageEdge>> = BTreeMap::new();
    for edge in edges.values() {
        children.entry(edge.from.id).or_default().push(edge);
    }
    let made: BTreeSet<Id> = edges.values().map(|edge| edge.to.id).collect();
    let mut roots: Vec<&LineageNode> = edges
        .values()
        .map(|edge| &edge.from)
        .filter(|node| !made.contains(&node.id))
        .collect();
    roots.sort();
    roots.dedup();
    if roots.is_empty() {
        roots.push(&lineage.of);
    }
    let mut drawing = Drawing {
        of: lineage.of.id,
        now,
        children,
        drawn: BTreeSet::new(),
        lines: Vec::new(),
    };
    for root in roots {
        drawing.draw(root, "", "", "", "");
    }
    if edges.is_empty() {
        drawing
            .lines
            .push("nothing is recorded before or after it".to_owned());
    }
    if lineage.truncated {
        drawing.lines.push("… and more than is shown".to_owned());
    }
    drawing.lines.join("\n")
}

struct Drawing<'a> {
    of: Id,
    now: Timestamp,
    children: BTreeMap<Id, Vec<&'a LineageEdge>>,
    drawn: BTreeSet<Id>,
    lines: Vec<String>,
}

impl Drawing<'_> {
    /// `branch` stands before this line, `margin` before those below it.
    fn draw(&mut self, node: &LineageNode, branch: &str, margin: &str, how: &str, note: &str) {
        let mark = if node.id == self.of { "  ◂" } else { "" };
        let again = !self.drawn.insert(node.id) && self.children.contains_key(&node.id);
        let above = if again { "  (see above)" } else { "" };
        let name = named(node);
        self.lines
            .push(format!("{branch}{how}{name}{note}{mark}{above}"));
        if again {
            return;
        }
        let below = self.children.get(&node.id).cloned().unwrap_or_default();
        for (at, edge) in below.iter().enumerate() {
            let (corner, bar) = match at + 1 == below.len() {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            let (how, note) = (word(edge.relation), self.note(edge));
            let (branch, margin) = (format!("{margin}{corner}"), format!("{margin}{bar}"));
            self.draw(&edge.to, &branch, &margin, how, &note);
        }
    }

    fn note(&self, edge: &LineageEdge) -> String {
        match edge.relation {
            LineageRelation::ServedBy if edge.requests > 0 => {
                let ago = age(self.now, edge.last_at);
                format!("  {}, last {ago} ago", count(edge.requests, "request"))
            }
            LineageRelation::ServedBy => "  no requests yet".to_owned(),
            LineageRelation::ReadBy | LineageRelation::Made => String::new(),
        }
    }
}

fn named(node: &LineageNode) -> String {
    match node.kind {
        Kind::DatasetVersion => format!("dataset {}", node.name),
        Kind::ModelVersion => format!("model {}", node.name),
        Kind::Run => format!("run {} ({})", node.id, node.name),
        kind => format!("{kind} {}", node.name),
    }
}

const fn word(relation: LineageRelation) -> &'static str {
    match relation {
        LineageRelation::ReadBy => "read by ",
        LineageRelation::Made => "made ",
        LineageRelation::ServedBy => "served by ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: Kind, number: u8, name: &str) -> LineageNode {
        LineageNode {
            kind,
            id: Id::from_parts(Timestamp::from_millis(0), [number; 10]),
            name: name.to_owned(),
        }
    }

    fn edge(from: &LineageNode, relation: LineageRelation, to: &LineageNode) -> LineageEdge {
        LineageEdge {
            from: from.clone(),
            relation,
            to: to.clone(),
            first_at: Timestamp::from_millis(0),
            last_at: Timestamp::from_millis(0),
            requests: 3,
        }
    }

    #[test]
    fn the_tree_begins_at_the_sources_and_repeats_nothing() {
        let (a, b) = (
            node(Kind::DatasetVersion, 1, "a:1"),
            node(Kind::DatasetVersion, 2, "b:4"),
        );
        let run = node(Kind::Run, 3, "fit");
        let model = node(Kind::ModelVersion, 4, "m:2");
        let endpoint = node(Kind::Endpoint, 5, "live");
        let lineage = LineageGraph {
            of: model.clone(),
            upstream: vec![
                edge(&run, LineageRelation::Made, &model),
                edge(&a, LineageRelation::ReadBy, &run),
                edge(&b, LineageRelation::ReadBy, &run),
            ],
            downstream: vec![edge(&model, LineageRelation::ServedBy, &endpoint)],
            truncated: false,
        };
        let drawn = tree(&lineage, Timestamp::from_millis(9_000));
        let expected = format!(
            "dataset a:1\n\
             └─ read by run {id} (fit)\n   \
                └─ made model m:2  ◂\n      \
                   └─ served by endpoint live  3 requests, last 9s ago\n\
             dataset b:4\n\
             └─ read by run {id} (fit)  (see above)",
            id = run.id
        );
        assert_eq!(drawn, expected);
    }
}
