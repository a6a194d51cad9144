//! The formats of the published experiment: machines, tasks, orders.
//!
//! Owns: what a line may say. Must not know: files, how a machine is chosen.

use std::collections::{BTreeMap, BTreeSet};

use super::super::TraceError;
use super::super::trace::{field, no_more_than, shown, whole};
use crate::packing::{GPUS_MAX, Machine, Task, WHOLE};

/// The numbers given to GPU models.
#[derive(Debug, Clone, Default)]
pub struct Models(BTreeMap<String, u8>);

impl Models {
    fn number(&mut self, model: &str, line: usize) -> Result<u8, TraceError> {
        let next = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
        let number = *self.0.entry(model.to_owned()).or_insert(next);
        if number < 64 {
            Ok(number)
        } else {
            Err(TraceError::at(line, "there are more than 64 gpu models"))
        }
    }
}

/// Reads `sn,cpu_milli,memory_mib,gpu,model`.
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_machines(text: &str, models: &mut Models) -> Result<Vec<Machine>, TraceError> {
    let mut machines = Vec::new();
    let mut names = BTreeSet::new();
    for (line, fields) in rows(text, "sn,cpu_milli,memory_mib,gpu,model")? {
        let name = field(&fields, 0, "sn", line)?;
        let gpus = small(&fields, 3, "gpu", line, GPUS_MAX as u64)?;
        let machine = Machine {
            cpu_milli: small(&fields, 1, "cpu_milli", line, u64::from(u32::MAX))?,
            memory_mib: small(&fields, 2, "memory_mib", line, u64::from(u32::MAX))?,
            gpus: u8::try_from(gpus).unwrap_or(u8::MAX),
            model: models.number(field(&fields, 4, "model", line)?, line)?,
        };
        if machine.cpu_milli == 0 || machine.memory_mib == 0 {
            let what = if machine.cpu_milli == 0 {
                "processors"
            } else {
                "memory"
            };
            return Err(TraceError::at(line, format!("the node has no {what}")));
        }
        if !names.insert(name) {
            let problem = format!("the node `{}` stands twice", shown(name));
            return Err(TraceError::at(line, problem));
        }
        machines.push(machine);
    }
    if machines.is_empty() {
        return Err(TraceError::at(2, "there are no nodes"));
    }
    Ok(machines)
}

/// Reads `name,cpu_milli,memory_mib,num_gpu,gpu_milli[,gpu_spec,…]`, sorted by name.
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_tasks(text: &str, models: &mut Models) -> Result<Vec<Task>, TraceError> {
    let mut tasks = Vec::new();
    let mut names = BTreeSet::new();
    for (line, fields) in rows(text, "name,cpu_milli,memory_mib,num_gpu,gpu_milli")? {
        let name = field(&fields, 0, "name", line)?;
        let gpus = small(&fields, 3, "num_gpu", line, GPUS_MAX as u64)?;
        let gpu_milli = small(&fields, 4, "gpu_milli", line, u64::from(WHOLE))?;
        if gpus > 1 && gpu_milli < u32::from(WHOLE) {
            return Err(TraceError::at(
                line,
                "a part of more than one gpu is asked for",
            ));
        }
        if (gpus == 0) != (gpu_milli == 0) {
            return Err(TraceError::at(
                line,
                "`num_gpu` and `gpu_milli` contradict each other",
            ));
        }
        let mut allowed = 0;
        let spec = fields.get(5).map_or("", |text| text.trim());
        for model in spec.split('|').filter(|model| !model.is_empty()) {
            allowed |= 1 << models.number(model, line)?;
        }
        let task = Task {
            cpu_milli: small(&fields, 1, "cpu_milli", line, u64::from(u32::MAX))?,
            memory_mib: small(&fields, 2, "memory_mib", line, u64::from(u32::MAX))?,
            gpus: u8::try_from(gpus).unwrap_or(u8::MAX),
            gpu_milli: u16::try_from(gpu_milli).unwrap_or(u16::MAX),
            models: allowed,
        };
        if !names.insert(name) {
            let problem = format!("the pod `{}` stands twice", shown(name));
            return Err(TraceError::at(line, problem));
        }
        tasks.push((name, task));
    }
    if tasks.is_empty() {
        return Err(TraceError::at(2, "there are no pods"));
    }
    tasks.sort_by_key(|(name, _)| *name);
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

/// Reads the order of ties (line 1) and of arrivals (line 2).
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_arrivals(
    text: &str,
    machines: usize,
    tasks: usize,
) -> Result<(Vec<u32>, Vec<usize>), TraceError> {
    let mut lines = text.lines();
    let mut numbers = |line: usize, below: usize| -> Result<Vec<usize>, TraceError> {
        let row = lines
            .next()
            .ok_or_else(|| TraceError::at(line, "the line is missing: a label and numbers"))?;
        let words = row.split_ascii_whitespace().skip(1);
        words
            .map(|word| {
                let number = whole(word, "an index", line)?;
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                if number < below {
                    Ok(number)
                } else {
                    Err(TraceError::at(
                        line,
                        format!("the index {number} is not under {below}"),
                    ))
                }
            })
            .collect()
    };
    let order = numbers(1, machines)?;
    let arrivals = numbers(2, tasks)?;
    let mut seen = vec![false; machines];
    for machine in &order {
        if std::mem::replace(&mut seen[*machine], true) {
            return Err(TraceError::at(
                1,
                format!("the node {machine} stands twice"),
            ));
        }
    }
    if order.len() != machines {
        return Err(TraceError::at(
            1,
            format!("{} of {machines} nodes are named", order.len()),
        ));
    }
    if arrivals.is_empty() {
        return Err(TraceError::at(2, "nothing arrives: a label and numbers"));
    }
    let ranks = order
        .into_iter()
        .map(|rank| u32::try_from(rank).unwrap_or(u32::MAX))
        .collect();
    Ok((ranks, arrivals))
}

type Row<'a> = (usize, Vec<&'a str>);

/// The fields of every line but the header, which may have more fields than those that are needed.
fn rows<'a>(text: &'a str, header: &str) -> Result<Vec<Row<'a>>, TraceError> {
    let mut lines = text.lines().zip(1..).map(|(row, line)| (line, row));
    let first = lines.next().map_or("", |(_, first)| first);
    let first = first.trim_start_matches('\u{feff}').trim_end();
    let begins = first.strip_prefix(header);
    if !begins.is_some_and(|rest| rest.is_empty() || rest.starts_with(',')) {
        let problem = format!("the header `{header}` is expected, not `{}`", shown(first));
        return Err(TraceError::at(1, problem));
    }
    let most = first.split(',').count();
    let rows = lines.filter(|(_, row)| !row.trim().is_empty());
    rows.map(|(line, row)| {
        let fields: Vec<&str> = row.split(',').collect();
        no_more_than(most, &fields, line)?;
        Ok((line, fields))
    })
    .collect()
}

fn small(
    fields: &[&str],
    index: usize,
    name: &str,
    line: usize,
    most: u64,
) -> Result<u32, TraceError> {
    let text = field(fields, index, name, line)?;
    let value = whole(text, name, line)?;
    if value > most {
        return Err(TraceError::at(
            line,
            format!("`{name}` is {value}, more than {most}"),
        ));
    }
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}
