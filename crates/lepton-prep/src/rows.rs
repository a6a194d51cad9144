//! Steps on batches: what the plan says by name, bound to the columns of a schema, and run.
//!
//! Owns: every operation on rows. Must not know: where batches come from or go.

mod values;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use self::values::{
    Lookups, Places, clean_texts, complete, fill, floats, replace, strictly, whole, with_parts,
};
pub(crate) use self::values::{Spread, keep};
use crate::bind::Bound;
use crate::description::{Constant, EncodeMethod};
use crate::error::{DescriptionError, PrepError, StepFault};
use crate::fit::Fitted;
use crate::join::Lookup;
use crate::plan::{Op, PART, Placed, Prepared};
use crate::split::{deal, deal_strata};
use crate::strata::Bounds;

/// What operations need beyond the description.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By slot.
    pub(crate) fitted: Vec<Option<Fitted>>,
    /// By input: the other sides of joins.
    pub(crate) lookups: HashMap<(usize, Vec<String>), Arc<Lookup>>,
    /// By slot and piece: the rows that repeat no earlier one.
    pub(crate) distincts: Vec<Option<Vec<BooleanArray>>>,
    /// Where the parts of each stratum end, if the split has strata.
    pub(crate) strata: Option<Arc<Bounds>>,
}

/// Operations bound to a schema.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    known: &'a Known,
    links: Vec<(&'a Placed, Link)>,
    pub(crate) schema: SchemaRef,
    /// One-hot columns, spread at the end.
    spread: Vec<(String, usize)>,
}

#[derive(Debug)]
enum Link {
    Text(Vec<usize>),
    DropMissing(f64),
    Distinct(usize),
    Cast(Vec<(usize, DataType)>),
    Filter(Bound),
    /// Columns taken over, or computed.
    Project(SchemaRef, Vec<Take>),
    Join(Arc<Lookup>),
    Split {
        columns: Vec<usize>,
        bounds: Vec<f64>,
        seed: u64,
    },
    SplitStrata {
        strata: Vec<usize>,
        columns: Vec<usize>,
        bounds: Arc<Bounds>,
        seed: u64,
    },
    Fill(usize),
    Scale(usize),
    Codes(usize, Lookups),
    Check(usize, Lookups),
}

#[derive(Debug)]
enum Take {
    Column(usize),
    Compute(Bound),
}

/// Which columns of the source the operations need for these of the result; `None` is all of them.
pub(crate) fn needs(ops: &[Placed], wanted: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let mut wanted = wanted?;
    for placed in ops.iter().rev() {
        match &placed.op {
            Op::DropMissing(_) | Op::Distinct { columns: None, .. } => return None,
            Op::Distinct {
                columns: Some(columns),
                ..
            } => wanted.extend(columns.iter().cloned()),
            Op::Filter(expression) => wanted.extend(expression.columns()),
            Op::Select(columns) => {
                let kept = columns.iter().filter(|(name, _)| wanted.contains(name));
                let part = wanted.contains(PART);
                let read: BTreeSet<String> = kept
                    .flat_map(|(_, expression)| expression.columns())
                    .collect();
                wanted = read;
                if part {
                    wanted.insert(PART.to_owned());
                }
            }
            Op::Derive(columns) => {
                let made: Vec<_> = columns
                    .iter()
                    .filter(|(name, _)| wanted.contains(name))
                    .collect();
                for (name, _) in &made {
                    wanted.remove(name);
                }
                wanted.extend(made.iter().flat_map(|(_, expression)| expression.columns()));
            }
            Op::Join { on, .. } => wanted.extend(on.iter().cloned()),
            Op::Split(split) => {
                if wanted.remove(PART) {
                    if split.by.is_empty() {
                        return None;
                    }
                    wanted.extend(split.by.iter().chain(&split.stratify).cloned());
                }
            }
            Op::Text(_) | Op::Cast(_) | Op::Fill { .. } | Op::Scale { .. } | Op::Encode { .. } => {}
        }
    }
    Some(wanted)
}

impl<'a> Chain<'a> {
    /// Binds operations to the columns that are there. Computed columns that nobody wants, or
    /// that cannot be computed as nobody wanted what they read, are left out. What is not
    /// fitted yet is left as it is.
    pub(crate) fn bind(
        prepared: &'a Prepared,
        known: &'a Known,
        ops: &'a [Placed],
        source: SchemaRef,
    ) -> Result<Self, DescriptionError> {
        let mut chain = Self {
            known,
            links: Vec::new(),
            schema: source,
            spread: Vec::new(),
        };
        for placed in ops {
            let link = chain
                .link(prepared, placed)
                .map_err(|fault| placed.wrong(fault))?;
            if let Some(link) = link {
                chain.links.push((placed, link));
            }
        }
        Ok(chain)
    }

    fn at(&self, column: &str) -> Option<usize> {
        self.schema.index_of(column).ok()
    }

    fn retype(&mut self, at: usize, data_type: &DataType) {
        let mut fields: Vec<Field> = self
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        fields[at] = Field::new(fields[at].name(), data_type.clone(), true);
        self.schema = Arc::new(Schema::new(fields));
    }

    fn link(&mut self, prepared: &Prepared, placed: &Placed) -> Result<Option<Link>, StepFault> {
        let fitted = |slot: usize| self.known.fitted.get(slot).and_then(Option::as_ref);
        Ok(match &placed.op {
            Op::Text(_) => {
                let texts = self.schema.fields().iter().enumerate();
                let texts = texts
                    .filter(|(_, f)| *f.data_type() == DataType::Utf8)
                    .map(|(at, _)| at);
                Some(Link::Text(texts.collect()))
            }
            Op::DropMissing(share) => Some(Link::DropMissing(*share)),
            Op::Distinct { slot, .. } => Some(Link::Distinct(*slot)),
            Op::Cast(types) => {
                let mut casts = Vec::new();
                for (column, data_type) in types {
                    if let Some(at) = self.at(column)
                        && self.schema.field(at).data_type() != data_type
                    {
                        casts.push((at, data_type.clone()));
                    }
                }
                for (at, data_type) in &casts {
                    self.retype(*at, data_type);
                }
                (!casts.is_empty()).then_some(Link::Cast(casts))
            }
            Op::Filter(expression) => Some(Link::Filter(
                prepared.expressions.bind(expression, &self.schema)?,
            )),
            Op::Select(columns) => self.project(prepared, columns, false)?,
            Op::Derive(columns) => self.project(prepared, columns, true)?,
            Op::Join { with, on, kind } => {
                let lookup = self.known.lookups.get(&(*with, on.clone()));
                let lookup =
                    Arc::clone(lookup.expect("invariant: joins are read in before anything runs"));
                self.schema = lookup.schema(&self.schema, *kind);
                Some(Link::Join(lookup))
            }
            Op::Split(split) => {
                let places = |columns: &[String]| -> Option<Vec<usize>> {
                    columns.iter().map(|column| self.at(column)).collect()
                };
                let columns = match split.by.is_empty() {
                    true => Some((0..self.schema.fields().len()).collect()),
                    false => places(&split.by),
                };
                let (Some(columns), Some(strata)) = (columns, places(&split.stratify)) else {
                    // Nobody asked for parts.
                    return Ok(None);
                };
                let part = Arc::new(Field::new(PART, DataType::UInt8, false));
                let fields: Vec<_> = self.schema.fields().iter().cloned().chain([part]).collect();
                self.schema = Arc::new(Schema::new(fields));
                let seed = split.seed;
                Some(match &self.known.strata {
                    Some(bounds) => Link::SplitStrata {
                        strata,
                        columns,
                        bounds: Arc::clone(bounds),
                        seed,
                    },
                    None => Link::Split {
                        columns,
                        bounds: split.shares(),
                        seed,
                    },
                })
            }
            Op::Fill { column, slot } => match (self.at(column), fitted(*slot)) {
                (Some(at), Some(Fitted::Fill(constant))) => {
                    if matches!(constant, Constant::Number(_)) {
                        self.retype(at, &DataType::Float64);
                    }
                    Some(Link::Fill(at))
                }
                _ => None,
            },
            Op::Scale { column, slot } => match (self.at(column), fitted(*slot)) {
                (Some(at), Some(_)) => {
                    self.retype(at, &DataType::Float64);
                    Some(Link::Scale(at))
                }
                _ => None,
            },
            Op::Encode {
                column,
                slot,
                method,
                unseen,
            } => {
                let (Some(at), Some(fitted)) = (self.at(column), fitted(*slot)) else {
                    return Ok(None);
                };
                let lookups = Lookups::new(fitted, *method, *unseen);
                if *method == EncodeMethod::OneHot {
                    self.spread.push((column.clone(), *slot));
                    lookups.must_be_known.then_some(Link::Check(at, lookups))
                } else {
                    self.retype(at, &DataType::Float64);
                    Some(Link::Codes(at, lookups))
                }
            }
        })
    }

    fn project(
        &mut self,
        prepared: &Prepared,
        columns: &[(String, crate::bind::Expression)],
        keep: bool,
    ) -> Result<Option<Link>, StepFault> {
        let (mut fields, mut takes) = (Vec::new(), Vec::new());
        if keep {
            for (at, field) in self.schema.fields().iter().enumerate() {
                fields.push(field.as_ref().clone());
                takes.push(Take::Column(at));
            }
        }
        for (name, expression) in columns {
            if !expression
                .columns()
                .all(|column| self.at(&column).is_some())
            {
                continue;
            }
            let field = Field::new(name, expression.data_type.clone(), true);
            let alone = match &expression.expr {
                datafusion::logical_expr::Expr::Column(column) => self.at(&column.name),
                _ => None,
            };
            let take = match alone {
                Some(at) => Take::Column(at),
                None => Take::Compute(prepared.expressions.bind(expression, &self.schema)?),
            };
            let field = match alone {
                Some(at) => Field::new(name, self.schema.field(at).data_type().clone(), true),
                None => field,
            };
            match fields.iter().position(|f: &Field| f.name() == name) {
                Some(place) => {
                    fields[place] = field;
                    takes[place] = take;
                }
                None => {
                    fields.push(field);
                    takes.push(take);
                }
            }
        }
        if !keep {
            if let Some(part) = self.at(PART) {
                fields.push(self.schema.field(part).clone());
                takes.push(Take::Column(part));
            }
            // A column of several names is spread under each.
            self.spread
                .retain(|(column, _)| columns.iter().any(|(name, _)| name == column));
        }
        self.schema = Arc::new(Schema::new(fields));
        Ok(Some(Link::Project(Arc::clone(&self.schema), takes)))
    }

    /// Runs all operations on a piece; one-hot columns are not spread yet.
    pub(crate) fn run(
        &self,
        piece: usize,
        mut batch: RecordBatch,
    ) -> Result<RecordBatch, PrepError> {
        for (placed, link) in &self.links {
            batch = self
                .step(piece, placed, link, batch)
                .map_err(|fault| placed.wrong(fault))?;
        }
        Ok(batch)
    }

    fn step(
        &self,
        piece: usize,
        placed: &Placed,
        link: &Link,
        batch: RecordBatch,
    ) -> Result<RecordBatch, StepFault> {
        let name = |at: usize| batch.schema_ref().field(at).name().clone();
        match (link, &placed.op) {
            (Link::Text(columns), Op::Text(rules)) => {
                columns.iter().try_fold(batch, |batch, &at| {
                    let cleaned = clean_texts(batch.column(at).as_string::<i32>(), rules);
                    replace(&batch, at, cleaned)
                })
            }
            (Link::DropMissing(share), _) => keep(&batch, &complete(&batch, *share)),
            (Link::Distinct(slot), _) => {
                match self.known.distincts.get(*slot).and_then(Option::as_ref) {
                    Some(stays) => keep(&batch, &stays[piece]),
                    None => Ok(batch),
                }
            }
            (Link::Cast(casts), _) => casts.iter().try_fold(batch, |batch, (at, data_type)| {
                let cast = strictly(
                    batch.column(*at),
                    data_type,
                    batch.schema_ref().field(*at).name(),
                )?;
                replace(&batch, *at, cast)
            }),
            (Link::Filter(bound), _) => {
                let stays = bound.evaluate(&batch)?;
                keep(&batch, stays.as_boolean())
            }
            (Link::Project(schema, takes), _) => {
                let arrays = takes.iter().map(|take| match take {
                    Take::Column(at) => Ok(Arc::clone(batch.column(*at))),
                    Take::Compute(bound) => bound.evaluate(&batch),
                });
                let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
                whole(Arc::clone(schema), arrays, batch.num_rows())
            }
            (Link::Join(lookup), Op::Join { on, kind, .. }) => lookup.join(&batch, on, *kind),
            (
                Link::Split {
                    columns,
                    bounds,
                    seed,
                },
                _,
            ) => {
                let by: Vec<&ArrayRef> = columns.iter().map(|at| batch.column(*at)).collect();
                with_parts(&batch, deal(&by, batch.num_rows(), bounds, *seed))
            }
            (
                Link::SplitStrata {
                    strata,
                    columns,
                    bounds,
                    seed,
                },
                _,
            ) => {
                let of = |places: &[usize]| -> Vec<&ArrayRef> {
                    places.iter().map(|at| batch.column(*at)).collect()
                };
                let rows = batch.num_rows();
                with_parts(
                    &batch,
                    deal_strata(&of(strata), &of(columns), rows, bounds, *seed),
                )
            }
            (Link::Fill(at), Op::Fill { slot, .. }) => {
                let Some(Some(Fitted::Fill(constant))) = self.known.fitted.get(*slot) else {
                    return Ok(batch);
                };
                let filled = fill(batch.column(*at), constant)?;
                replace(&batch, *at, filled)
            }
            (Link::Scale(at), Op::Scale { slot, .. }) => {
                let Some(Some(Fitted::Scale { centre, factor })) = self.known.fitted.get(*slot)
                else {
                    return Ok(batch);
                };
                let scaled = floats(batch.column(*at))?.unary(|value| (value - centre) * factor);
                let scaled: Float64Array = scaled;
                replace(&batch, *at, Arc::new(scaled))
            }
            (Link::Codes(at, lookups), _) => {
                let codes = lookups.apply(batch.column(*at), &name(*at))?;
                replace(&batch, *at, Arc::new(codes))
            }
            (Link::Check(at, lookups), _) => {
                lookups.apply(batch.column(*at), &name(*at))?;
                Ok(batch)
            }
            _ => Ok(batch),
        }
    }

    /// The columns once one-hot ones are spread, and how to spread them.
    pub(crate) fn spread(&self) -> Spread {
        let mut fields = Vec::new();
        let mut sources = Vec::new();
        for (at, field) in self
            .schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| f.name() != PART)
        {
            let slot = self
                .spread
                .iter()
                .find(|(column, _)| column == field.name())
                .map(|(_, slot)| *slot);
            match slot
                .and_then(|slot| self.known.fitted.get(slot))
                .and_then(Option::as_ref)
            {
                Some(Fitted::Categories { values, .. }) => {
                    for index in 0..values.len() {
                        fields.push(Field::new(
                            format!("{}={}", field.name(), values.name(index)),
                            DataType::Float64,
                            true,
                        ));
                    }
                    sources.push((at, Some(Places::new(values))));
                }
                _ => {
                    fields.push(field.as_ref().clone());
                    sources.push((at, None));
                }
            }
        }
        Spread {
            schema: Arc::new(Schema::new(fields)),
            sources,
        }
    }
}
