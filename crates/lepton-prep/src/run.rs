//! A preparation carried out: passes over the pieces until all is fitted, then the output.
//!
//! Owns: which passes there are, what each reads, and what is put together. Must not know: how
//! an operation works.

mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::RecordBatch;
use lepton_ml::fitted::FittedTransform;
use lepton_types::resources::ColumnStatistics;

use self::write::fitted_on;
use crate::description::{Format, Split};
use crate::duplicates::{Collector, digests};
use crate::error::{PrepError, StepFault};
use crate::fit::{self, Fitted, Task, Total};
use crate::join::Lookup;
use crate::ordered;
use crate::output::{self, Ready};
use crate::plan::{Op, PART, Placed, Prepared, Slot, Source};
use crate::quantile::{Look, Quantile, Sum};
use crate::query;
use crate::read::{Input, InputFile, Table, TextRules};
use crate::rows::{Chain, Known, needs};
use crate::split::places;
use crate::statistics::PartStatistics;
use crate::strata::Strata;

/// What a preparation may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Threads that compute.
    pub threads: usize,
    /// Memory, in bytes: what is held on to at once is kept below it.
    pub memory_bytes: u64,
    /// A folder for what does not fit it.
    pub scratch: PathBuf,
    /// The most bytes there.
    pub scratch_bytes: u64,
}

/// Is told how far it is, and may end it.
pub trait Observer: Sync {
    /// So many bytes of the inputs were read, of so many in all passes that are known of.
    fn progress(&self, pass: usize, bytes: u64, total: u64);
    /// Whether somebody asked for the end.
    fn should_stop(&self) -> bool {
        false
    }
}

impl Observer for () {
    fn progress(&self, _pass: usize, _bytes: u64, _total: u64) {}
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Its path below the output folder, with `/`.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// What a preparation made.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The files, one a part.
    pub files: Vec<OutputFile>,
    /// The columns, over all parts.
    pub columns: Vec<ColumnStatistics>,
    /// The parts.
    pub parts: Vec<PartStatistics>,
    /// What models do with raw values before they are what was written.
    pub fitted: FittedTransform,
    /// Passes over the source.
    pub passes: usize,
}

impl Prepared {
    /// Carries it out: writes one file a part into `folder`.
    ///
    /// # Errors
    /// Fails with the step, the file and the line that are wrong; of several the first in order.
    pub fn run(
        mut self,
        folder: &Path,
        limits: &Limits,
        observer: &dyn Observer,
    ) -> Result<Outcome, PrepError> {
        let tables: Vec<Arc<Table>> = std::mem::take(&mut self.tables)
            .into_iter()
            .map(Arc::new)
            .collect();
        let source = self.source(&tables, limits)?;
        let mut known = Known {
            fitted: vec![None; self.slots.len()],
            lookups: self.lookups(&tables, limits)?,
            distincts: vec![None; self.distincts],
            strata: None,
        };
        let mut passes = Passes {
            prepared: &self,
            source: &source,
            limits,
            observer,
            count: 0,
        };
        passes.settle(&mut known)?;
        passes.write(&known, folder)
    }

    /// The table that the steps begin with; a query's rows are kept in the scratch folder.
    fn source(&self, tables: &[Arc<Table>], limits: &Limits) -> Result<Arc<Table>, PrepError> {
        let (sql, schema) = match &self.source {
            Source::Table(index) => return Ok(Arc::clone(&tables[*index])),
            Source::Query { sql, schema } => (sql, schema),
        };
        let path = limits.scratch.join("query.parquet");
        let mut appender = output::create(path.clone(), Format::Parquet, schema)?;
        query::run(sql, tables, schema, limits, |batch| {
            appender.append(Ready::Rows(batch))
        })?;
        appender.finish()?;
        let input = Input {
            name: "query".to_owned(),
            files: vec![InputFile {
                name: "query.parquet".to_owned(),
                path,
            }],
        };
        Ok(Arc::new(Table::open(
            &input,
            TextRules::default(),
            &BTreeMap::new(),
        )?))
    }

    fn lookups(&self, tables: &[Arc<Table>], limits: &Limits) -> Result<Lookups, PrepError> {
        let mut lookups = Lookups::new();
        // Beside the rows stand the keys, and pieces need room too.
        let limit = limits.memory_bytes / 4;
        for placed in &self.ops {
            let Op::Join { with, on, .. } = &placed.op else {
                continue;
            };
            let table = &tables[*with];
            let columns: Vec<usize> = (0..table.schema.fields().len()).collect();
            let (mut batches, mut bytes) = (Vec::new(), 0_u64);
            ordered::each(
                limits.threads,
                table.pieces(&columns),
                |_, piece| table.decode(&piece, &columns),
                |_, batch| {
                    bytes += batch.get_array_memory_size() as u64;
                    if bytes > limit {
                        let fault = StepFault::JoinTooLarge {
                            with: table.name.clone(),
                            limit,
                        };
                        return Err(placed.wrong(fault).into());
                    }
                    batches.push(batch);
                    Ok(())
                },
            )?;
            let lookup = Lookup::new(&table.name, &table.schema, &batches, on)
                .map_err(|fault| placed.wrong(fault))?;
            lookups.insert((*with, on.clone()), Arc::new(lookup));
        }
        Ok(lookups)
    }
}

/// The other sides of joins, by input and keys.
type Lookups = HashMap<(usize, Vec<String>), Arc<Lookup>>;

/// What a column is asked in one pass.
struct Question<'a> {
    slot: usize,
    placed: &'a Placed,
    column: &'a str,
    task: Task,
}

struct Passes<'a> {
    prepared: &'a Prepared,
    source: &'a Table,
    limits: &'a Limits,
    observer: &'a dyn Observer,
    count: usize,
}

impl<'a> Passes<'a> {
    /// Finds out everything that the last pass needs, in the order of the steps.
    fn settle(&mut self, known: &mut Known) -> Result<(), PrepError> {
        let layers = self
            .prepared
            .slots
            .iter()
            .map(|slot| slot.layer + 1)
            .max()
            .unwrap_or(0);
        for layer in 0..layers {
            let prepared = self.prepared;
            let slots: Vec<(usize, &Slot)> = prepared
                .slots
                .iter()
                .enumerate()
                .filter(|(_, s)| s.layer == layer)
                .collect();
            let Some(end) = slots.iter().map(|(_, slot)| slot.op).max() else {
                continue;
            };
            self.look_at_rows(known, end)?;
            self.fit(known, &slots, end)?;
        }
        self.look_at_rows(known, self.prepared.ops.len())
    }

    /// Finds out what the operations before `end` must know of all rows: which repeat others, and
    /// which strata they are in.
    fn look_at_rows(&mut self, known: &mut Known, end: usize) -> Result<(), PrepError> {
        let ops: &'a [Placed] = &self.prepared.ops;
        for (at, placed) in ops.iter().enumerate().take(end) {
            if let Op::Split(split) = &placed.op
                && !split.stratify.is_empty()
                && known.strata.is_none()
            {
                self.strata(known, at, split)?;
            }
            let Op::Distinct { columns, slot } = &placed.op else {
                continue;
            };
            if known.distincts[*slot].is_some() {
                continue;
            }
            let wanted = columns
                .as_ref()
                .map(|columns| columns.iter().cloned().collect());
            let folder = self.limits.scratch.join(format!("distinct-{slot}"));
            let mut collector = Collector::new(&folder)?;
            let look = |_, batch: &RecordBatch| {
                let arrays = batch.columns().iter().zip(batch.schema_ref().fields());
                let arrays = arrays.filter(|(_, field)| match columns {
                    Some(columns) => columns.contains(field.name()),
                    None => field.name() != PART,
                });
                let arrays: Vec<_> = arrays.map(|(array, _)| array).collect();
                Ok(digests(&arrays, batch.num_rows()))
            };
            self.pass(known, &ops[..at], wanted, look, |digests| {
                collector.add(&digests)
            })?;
            known.distincts[*slot] = Some(collector.finish()?);
        }
        Ok(())
    }

    /// Finds where the parts of each stratum end.
    fn strata(&mut self, known: &mut Known, at: usize, split: &Split) -> Result<(), PrepError> {
        let ops: &'a [Placed] = &self.prepared.ops;
        let wanted = (!split.by.is_empty())
            .then(|| split.by.iter().chain(&split.stratify).cloned().collect());
        let look = |_, batch: &RecordBatch| {
            let of = |columns: &[String]| -> Vec<_> {
                let found = columns.iter().map(|name| batch.column_by_name(name));
                found
                    .map(|found| found.expect("invariant: the pass was asked for it"))
                    .collect()
            };
            let columns = match split.by.is_empty() {
                true => batch.columns().iter().collect(),
                false => of(&split.by),
            };
            Ok(places(
                &of(&split.stratify),
                &columns,
                batch.num_rows(),
                split.seed,
            ))
        };
        let mut strata = Strata::default();
        self.pass(known, &ops[..at], wanted, look, |places| {
            strata
                .add(places)
                .map_err(|fault| ops[at].wrong(fault).into())
        })?;
        known.strata = Some(Arc::new(strata.bounds(&split.shares())));
        Ok(())
    }

    /// Fits the slots of one layer.
    fn fit(
        &mut self,
        known: &mut Known,
        slots: &[(usize, &Slot)],
        end: usize,
    ) -> Result<(), PrepError> {
        let ops: &'a [Placed] = &self.prepared.ops;
        let mut quantiles: Vec<Vec<Quantile>> = slots
            .iter()
            .map(|(_, slot)| fit::quantiles(&slot.ask))
            .collect();
        let mut totals: BTreeMap<usize, Total> = BTreeMap::new();
        let mut first = true;
        loop {
            let searches: usize = quantiles.iter().map(|q| q.len() * 2).sum();
            // A sixteenth of the memory for values that are collected.
            let most = self.limits.memory_bytes / 128 / (searches.max(1) as u64);
            let mut questions = Vec::new();
            for ((slot_at, slot), quantiles) in slots.iter().zip(&quantiles) {
                let looks = distinct_looks(quantiles, most);
                let task = match fit::task(&slot.ask) {
                    Some(task) if first => task,
                    None if !looks.is_empty() => Task::Looks(looks),
                    _ => continue,
                };
                let placed = &ops[slot.op];
                let column = slot.column.as_str();
                questions.push(Question {
                    slot: *slot_at,
                    placed,
                    column,
                    task,
                });
            }
            if questions.is_empty() {
                break;
            }
            let answers = self.ask(known, &questions, end)?;
            let before: Vec<_> = quantiles
                .iter()
                .map(|all| distinct_looks(all, most))
                .collect();
            for (question, total) in questions.iter().zip(answers) {
                let Total::Sums(sums) = total else {
                    totals.insert(question.slot, total);
                    continue;
                };
                let place = slots.iter().position(|(at, _)| *at == question.slot);
                let place = place.expect("invariant: questions are of these slots");
                for (look, mut sum) in sums {
                    if let Sum::Keys(keys) = &mut sum {
                        keys.sort_unstable();
                    }
                    quantiles[place]
                        .iter_mut()
                        .for_each(|quantile| quantile.take(look, &sum));
                }
            }
            let after: Vec<_> = quantiles
                .iter()
                .map(|all| distinct_looks(all, most))
                .collect();
            // No value to count: the search ends without one.
            if !first && before == after {
                break;
            }
            first = false;
        }
        for ((at, slot), quantiles) in slots.iter().zip(&quantiles) {
            let fill = slot
                .after
                .and_then(|before| match known.fitted[before].as_ref() {
                    Some(Fitted::Fill(constant)) => Some(constant.clone()),
                    _ => None,
                });
            let fitted = fit::conclude(&slot.ask, totals.remove(at), quantiles, fill.as_ref());
            let fitted = fitted.ok_or_else(|| {
                ops[slot.op].wrong(StepFault::NothingToFit {
                    column: slot.column.clone(),
                })
            })?;
            known.fitted[*at] = Some(fitted);
        }
        Ok(())
    }

    /// One pass that answers questions about the rows that are fitted on.
    fn ask(
        &mut self,
        known: &Known,
        questions: &[Question<'_>],
        end: usize,
    ) -> Result<Vec<Total>, PrepError> {
        let mut wanted: BTreeSet<String> = questions.iter().map(|q| q.column.to_owned()).collect();
        let ops: &'a [Placed] = &self.prepared.ops;
        let split = ops[..end]
            .iter()
            .any(|placed| matches!(placed.op, Op::Split(_)));
        if split {
            wanted.insert(PART.to_owned());
        }
        let look = |_, batch: &RecordBatch| {
            let batch = fitted_on(batch)?;
            let found = questions.iter().map(|question| {
                let column = batch.column_by_name(question.column);
                let column = column.expect("invariant: the pass was asked for these columns");
                question.task.look(column)
            });
            Ok(found.collect::<Vec<_>>())
        };
        let mut totals: Vec<Total> = questions
            .iter()
            .map(|question| question.task.total())
            .collect();
        self.pass(known, &ops[..end], Some(wanted), look, |found| {
            for ((total, found), question) in totals.iter_mut().zip(found).zip(questions) {
                total
                    .add(found, question.column)
                    .map_err(|fault| question.placed.wrong(fault))?;
            }
            Ok(())
        })?;
        Ok(totals)
    }

    /// One pass over the source: the operations on every piece, then `look`, then `take` in order.
    fn pass<R: Send>(
        &mut self,
        known: &Known,
        ops: &'a [Placed],
        wanted: Option<BTreeSet<String>>,
        look: impl Fn(usize, &RecordBatch) -> Result<R, PrepError> + Sync,
        mut take: impl FnMut(R) -> Result<(), PrepError>,
    ) -> Result<(), PrepError> {
        self.count += 1;
        let columns = self.columns(ops, wanted);
        let chain = Chain::bind(self.prepared, known, ops, self.source.projected(&columns))?;
        let read = AtomicU64::new(0);
        let (observer, count, total) = (self.observer, self.count, self.source.bytes);
        ordered::each(
            self.limits.threads,
            self.source.pieces(&columns),
            |index, piece| {
                if observer.should_stop() {
                    return Err(PrepError::Cancelled);
                }
                let batch = chain.run(index, self.source.decode(&piece, &columns)?)?;
                let so_far = read.fetch_add(piece.bytes(), Ordering::Relaxed) + piece.bytes();
                observer.progress(count, so_far, total);
                look(index, &batch)
            },
            |_, found| take(found),
        )
    }

    /// The source's columns that a pass reads.
    fn columns(&self, ops: &[Placed], wanted: Option<BTreeSet<String>>) -> Vec<usize> {
        let fields = self.source.schema.fields().iter().enumerate();
        match needs(ops, wanted) {
            None => fields.map(|(at, _)| at).collect(),
            Some(needed) => fields
                .filter(|(_, f)| needed.contains(f.name()))
                .map(|(at, _)| at)
                .collect(),
        }
    }
}

fn distinct_looks(quantiles: &[Quantile], most: u64) -> Vec<Look> {
    let mut looks: Vec<Look> = Vec::new();
    for look in quantiles.iter().flat_map(|quantile| quantile.looks(most)) {
        if !looks.contains(&look) {
            looks.push(look);
        }
    }
    looks
}
