//! A preparation checked against its inputs: what each step does to which columns.
//!
//! Owns: the check of every step, the columns after it, and which steps are fitted together.
//! Must not know: rows.

mod fitted;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Serialize;

use crate::bind::{Expression, Expressions, unknown_column};
use crate::description::{
    Clean, Constant, EncodeMethod, JoinKind, Named, Preparation, Split, Step, Unseen,
};
use crate::error::{DescriptionError, PrepError, StepFault, listed};
use crate::query;
use crate::read::{Input, Table, TextRules, type_of, word_of};

/// The hidden column that says which part a row is dealt to.
pub(crate) const PART: &str = "\u{1}part";
/// The most columns that one-hot encoding makes of one.
const CATEGORIES_MAX: usize = 10_000;
/// The most parts of a split.
const PARTS_MAX: usize = 16;

/// What one step does, by the names of columns.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Text(TextRules),
    DropMissing(f64),
    /// Which rows repeat an earlier one is found out before, by slot.
    Distinct {
        columns: Option<Vec<String>>,
        slot: usize,
    },
    Cast(Vec<(String, DataType)>),
    Filter(Expression),
    Select(Vec<(String, Expression)>),
    Derive(Vec<(String, Expression)>),
    Join {
        with: usize,
        on: Vec<String>,
        kind: JoinKind,
    },
    Split(Split),
    Fill {
        column: String,
        slot: usize,
    },
    Scale {
        column: String,
        slot: usize,
    },
    Encode {
        column: String,
        slot: usize,
        method: EncodeMethod,
        unseen: Unseen,
    },
}

/// An operation and the step that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) step: usize,
    pub(crate) word: &'static str,
    pub(crate) op: Op,
}

impl Placed {
    pub(crate) fn wrong(&self, fault: StepFault) -> DescriptionError {
        DescriptionError::at(self.step, self.word, fault)
    }
}

/// What is asked of the rows that are fitted on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    /// Nothing: the value is written in the description.
    Given(Constant),
    Mean,
    Median,
    Mode,
    Standard,
    MinMax,
    Robust,
    Categories {
        max: usize,
    },
}

/// One value, or a few, that are fitted.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// The operation that uses it.
    pub(crate) op: usize,
    pub(crate) column: String,
    pub(crate) ask: Ask,
    /// Slots of one layer are fitted in one pass.
    pub(crate) layer: usize,
    /// The slot of the same layer that fills the column before.
    pub(crate) after: Option<usize>,
}

/// A preparation whose every step has been checked.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) preparation: Preparation,
    pub(crate) expressions: Expressions,
    pub(crate) tables: Vec<Table>,
    pub(crate) source: Source,
    pub(crate) ops: Vec<Placed>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) distincts: usize,
    /// The columns after all steps, before one-hot columns are spread.
    pub(crate) schema: SchemaRef,
    planned: Vec<PlannedStep>,
}

/// Where the rows come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Table(usize),
    Query { sql: String, schema: SchemaRef },
}

/// A step as people are shown it before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// Which step, from 1; 0 is the source.
    pub step: usize,
    /// Its word.
    pub word: String,
    /// The columns after it, with their types.
    pub columns: Vec<(String, String)>,
    /// The pass over the data in which it is fitted, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fitted_in: Option<usize>,
}

impl Prepared {
    /// Checks a description against its inputs, whose first pieces are read for their types.
    ///
    /// # Errors
    /// Fails with the step or the file that is wrong.
    pub fn plan(preparation: Preparation, inputs: &[Input]) -> Result<Self, PrepError> {
        let from = beginning(&preparation, inputs)?;
        let (rules, declared, fused) = reading(&preparation, from.is_some())?;
        let mut tables = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            tables.push(if from == Some(index) {
                let table = Table::open(input, rules.clone(), &declared)?;
                let known = |name: &String| table.schema.index_of(name).is_ok();
                if let Some(name) = declared.keys().find(|name| !known(name)) {
                    let fault = unknown_column(name, &table.schema);
                    return Err(DescriptionError::at(fused, "types", fault).into());
                }
                table
            } else {
                Table::open(input, TextRules::default(), &BTreeMap::new())?
            });
        }
        let source = match (from, &preparation.sql) {
            (Some(index), _) => Source::Table(index),
            (None, sql) => {
                let sql = sql.clone().unwrap_or_default();
                let schema = query::schema_of(&sql, &tables)?;
                Source::Query { sql, schema }
            }
        };
        let schema = match &source {
            Source::Table(index) => Arc::clone(&tables[*index].schema),
            Source::Query { schema, .. } => Arc::clone(schema),
        };
        let mut planner = Planner {
            expressions: Expressions::new(),
            tables: &tables,
            schema,
            ops: Vec::new(),
            slots: Vec::new(),
            distincts: 0,
            layer: 0,
            touched: BTreeMap::new(),
            encoded: BTreeSet::new(),
            split: false,
            fitted: false,
            reads_text: from.is_some_and(|index| tables[index].is_text()),
        };
        let mut planned = vec![planner.show(0, "source", 0)];
        // Of several splits or one behind a fitted step nothing good comes.
        for (index, step) in preparation.steps.iter().enumerate() {
            let before = planner.slots.len();
            planner
                .step(index + 1, step)
                .map_err(|fault| DescriptionError::at(index + 1, step.word(), fault))?;
            planned.push(planner.show(index + 1, step.word(), before));
        }
        let Planner {
            expressions,
            schema,
            ops,
            slots,
            distincts,
            ..
        } = planner;
        Ok(Self {
            preparation,
            expressions,
            tables,
            source,
            ops,
            slots,
            distincts,
            schema,
            planned,
        })
    }

    /// The steps, as people are shown them.
    #[must_use]
    pub fn steps(&self) -> &[PlannedStep] {
        &self.planned
    }

    /// The description.
    #[must_use]
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// The parts' names, in order; one without a name where nothing is split.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        let split = self.ops.iter().find_map(|placed| match &placed.op {
            Op::Split(split) => Some(split),
            _ => None,
        });
        split.map_or_else(
            || vec![String::new()],
            |split| {
                split
                    .fractions
                    .iter()
                    .map(|(name, _)| name.to_owned())
                    .collect()
            },
        )
    }
}

/// Which input the steps begin with; none where a query does.
fn beginning(
    preparation: &Preparation,
    inputs: &[Input],
) -> Result<Option<usize>, DescriptionError> {
    if inputs.is_empty() {
        return Err(DescriptionError::NoInput);
    }
    match (&preparation.from, &preparation.sql) {
        (Some(_), Some(_)) => Err(DescriptionError::FromAndSql),
        (None, Some(_)) => Ok(None),
        (None, None) => Ok(Some(0)),
        (Some(name), None) => {
            let found = inputs.iter().position(|input| input.name == *name);
            found
                .map(Some)
                .ok_or_else(|| DescriptionError::UnknownInput {
                    name: name.clone(),
                    known: listed(inputs.iter().map(|input| input.name.as_str())),
                })
        }
    }
}

/// How the first steps have text files read: `clean` and `types` at the beginning need no pass
/// of their own. Gives the step of the `types` too.
fn reading(
    preparation: &Preparation,
    from_table: bool,
) -> Result<(TextRules, BTreeMap<String, DataType>, usize), DescriptionError> {
    let (mut rules, mut declared, mut fused) = (TextRules::default(), BTreeMap::new(), 0);
    for (index, step) in preparation
        .steps
        .iter()
        .enumerate()
        .take_while(|_| from_table)
    {
        match step {
            Step::Clean(clean) if index == 0 => {
                rules = rules_of(clean);
                if clean.drop_duplicates.is_some() || clean.drop_missing.is_some() {
                    // Types are declared for what stands in the file, so they may still follow.
                    continue;
                }
            }
            Step::Types(types) => {
                declared = types_of(types)
                    .map_err(|fault| DescriptionError::at(index + 1, "types", fault))?;
                fused = index + 1;
                break;
            }
            _ => break,
        }
    }
    Ok((rules, declared, fused))
}

fn rules_of(clean: &Clean) -> TextRules {
    TextRules {
        trim: clean.trim,
        nulls: clean
            .nulls
            .clone()
            .unwrap_or_else(|| TextRules::default().nulls),
    }
}

fn types_of(types: &Named<String>) -> Result<BTreeMap<String, DataType>, StepFault> {
    let typed = types.iter().map(|(column, word)| {
        let data_type = type_of(word).ok_or_else(|| StepFault::UnknownType {
            column: column.to_owned(),
            word: word.clone(),
        })?;
        Ok((column.to_owned(), data_type))
    });
    typed.collect()
}

/// How a column depends on what the present layer fits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Touch {
    /// Filled by this slot, and nothing else.
    Filled(usize),
    /// In another way.
    Otherwise,
}

struct Planner<'a> {
    expressions: Expressions,
    tables: &'a [Table],
    schema: SchemaRef,
    ops: Vec<Placed>,
    slots: Vec<Slot>,
    distincts: usize,
    layer: usize,
    touched: BTreeMap<String, Touch>,
    encoded: BTreeSet<String>,
    split: bool,
    fitted: bool,
    reads_text: bool,
}

impl Planner<'_> {
    fn show(&self, step: usize, word: &str, slots_before: usize) -> PlannedStep {
        let fields = self.schema.fields().iter().filter(|f| f.name() != PART);
        let columns = fields.map(|f| {
            let word = if self.encoded.contains(f.name()) {
                "one-hot"
            } else {
                word_of(f.data_type())
            };
            (f.name().clone(), word.to_owned())
        });
        PlannedStep {
            step,
            word: word.to_owned(),
            columns: columns.collect(),
            fitted_in: self.slots.get(slots_before).map(|slot| slot.layer + 1),
        }
    }

    fn push(&mut self, step: usize, word: &'static str, op: Op) {
        self.ops.push(Placed { step, word, op });
    }

    fn field(&self, column: &str) -> Result<&Field, StepFault> {
        if self.encoded.contains(column) {
            return Err(StepFault::Encoded {
                column: column.to_owned(),
            });
        }
        match self.schema.field_with_name(column) {
            Ok(field) if column != PART => Ok(field),
            _ => Err(unknown_column(column, &self.schema)),
        }
    }

    fn check_all(&self, columns: &[String]) -> Result<(), StepFault> {
        if columns.is_empty() {
            return Err(StepFault::Rule("no column is named"));
        }
        columns
            .iter()
            .try_for_each(|column| self.field(column).map(drop))
    }

    /// Which rows there are changes here: what is fitted later sees other rows.
    fn rows_change(&mut self) {
        if self.fitted {
            self.layer += 1;
            self.touched.clear();
            self.fitted = false;
        }
    }

    fn set_type(&mut self, column: &str, data_type: &DataType) {
        let fields = self.schema.fields().iter().map(|field| {
            if field.name() == column {
                Arc::new(Field::new(column, data_type.clone(), true))
            } else {
                Arc::clone(field)
            }
        });
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    }

    fn step(&mut self, at: usize, step: &Step) -> Result<(), StepFault> {
        let word = step.word();
        match step {
            Step::Clean(clean) => self.clean(at, clean),
            Step::Types(types) => {
                let typed = types_of(types)?;
                for column in typed.keys() {
                    self.field(column)?;
                }
                for (column, data_type) in &typed {
                    self.set_type(column, data_type);
                    self.touched
                        .entry(column.clone())
                        .and_modify(|touch| *touch = Touch::Otherwise);
                }
                self.push(at, word, Op::Cast(typed.into_iter().collect()));
                Ok(())
            }
            Step::Filter(text) => {
                let (expression, _) = self.read(text)?;
                if expression.data_type != DataType::Boolean {
                    return Err(StepFault::Expression {
                        expression: text.clone(),
                        reason: "it is neither true nor false".to_owned(),
                    });
                }
                self.rows_change();
                self.push(at, word, Op::Filter(expression));
                Ok(())
            }
            Step::Select(columns) => self.select(at, columns),
            Step::Derive(derived) => self.derive(at, derived),
            Step::Join(join) => self.join(at, join),
            Step::Split(split) => self.split(at, split),
            Step::Impute(impute) => {
                for (column, fill) in impute.columns.iter() {
                    self.fill(at, column, fill)?;
                }
                Ok(())
            }
            Step::Normalise(normalise) => self.normalise(at, normalise),
            Step::Encode(encode) => self.encode(at, encode),
        }
    }

    fn read(&self, text: &str) -> Result<(Expression, Option<String>), StepFault> {
        let (expression, alias) = self.expressions.read(text, &self.schema)?;
        if let Some(column) = expression
            .columns()
            .find(|column| self.encoded.contains(column))
        {
            return Err(StepFault::Encoded { column });
        }
        Ok((expression, alias))
    }
}
