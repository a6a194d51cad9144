//! A preparation checked against its inputs: what each step does to which columns.
//!
//! Owns: the check of every step, the columns after it, and which steps are fitted together.
//! Must not know: rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Serialize;

use crate::bind::{Expression, Expressions, unknown_column};
use crate::description::{
    Clean, Constant, DropDuplicates, Encode, EncodeMethod, Fill, JoinKind, Named, Normalise,
    NormaliseMethod, Preparation, Split, Step, Unseen,
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

    fn set_type(&mut self, column: &str, data_type: DataType) {
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
                    self.set_type(column, data_type.clone());
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

    fn clean(&mut self, at: usize, clean: &Clean) -> Result<(), StepFault> {
        // The first step's rules were followed while the texts were read.
        if at > 1 || !self.reads_text {
            self.push(at, "clean", Op::Text(rules_of(clean)));
        }
        let columns: Vec<String> = self.touched.keys().cloned().collect();
        for column in columns {
            self.touched.insert(column, Touch::Otherwise);
        }
        if let Some(share) = clean.drop_missing {
            if !(0.0..1.0).contains(&share) {
                return Err(StepFault::Rule(
                    "`drop_missing` is a share: 0 or more, and less than 1",
                ));
            }
            self.rows_change();
            self.push(at, "clean", Op::DropMissing(share));
        }
        let columns = match &clean.drop_duplicates {
            None | Some(DropDuplicates::All(false)) => return Ok(()),
            Some(DropDuplicates::All(true)) => None,
            Some(DropDuplicates::Columns(columns)) => {
                self.check_all(columns)?;
                Some(columns.clone())
            }
        };
        if !self.encoded.is_empty() {
            return Err(StepFault::Rule(
                "rows are told apart by columns as they are before `encode`: move this step up",
            ));
        }
        self.rows_change();
        let slot = self.distincts;
        self.distincts += 1;
        self.push(at, "clean", Op::Distinct { columns, slot });
        Ok(())
    }

    fn select(&mut self, at: usize, columns: &[String]) -> Result<(), StepFault> {
        let mut chosen: Vec<(String, Expression)> = Vec::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len() + 1);
        let mut touched = BTreeMap::new();
        for text in columns {
            // A name as it stands, whatever characters it has, is a column.
            let name_alone = self.schema.index_of(text).is_ok();
            let quoted = format!("\"{}\"", text.replace('"', "\"\""));
            let (expression, alias) = if self.encoded.contains(text) {
                self.expressions.read(&quoted, &self.schema)?
            } else {
                self.read(if name_alone { &quoted } else { text })?
            };
            let name = alias.unwrap_or_else(|| {
                expression
                    .columns()
                    .next()
                    .filter(|_| name_alone)
                    .unwrap_or_else(|| text.clone())
            });
            if chosen.iter().any(|(other, _)| *other == name) {
                return Err(StepFault::DuplicateColumn { column: name });
            }
            if let Some(touch) = self.touch_of(&expression) {
                let same = name_alone && self.touched.get(&name).is_some();
                touched.insert(name.clone(), if same { touch } else { Touch::Otherwise });
            }
            fields.push(Field::new(&name, expression.data_type.clone(), true));
            chosen.push((name, expression));
        }
        if chosen.is_empty() {
            return Err(StepFault::Rule("no column is selected"));
        }
        self.encoded
            .retain(|column| chosen.iter().any(|(name, _)| name == column));
        fields.extend(self.schema.field_with_name(PART).ok().cloned());
        self.schema = Arc::new(Schema::new(fields));
        self.touched = touched;
        self.push(at, "select", Op::Select(chosen));
        Ok(())
    }

    fn touch_of(&self, expression: &Expression) -> Option<Touch> {
        expression
            .columns()
            .find_map(|column| self.touched.get(&column).copied())
    }

    fn derive(&mut self, at: usize, derived: &Named<String>) -> Result<(), StepFault> {
        let mut made = Vec::with_capacity(derived.0.len());
        for (name, text) in derived.iter() {
            if self.encoded.contains(name) {
                return Err(StepFault::Encoded {
                    column: name.to_owned(),
                });
            }
            if name.is_empty() || name.starts_with('\u{1}') {
                return Err(StepFault::Rule("a column needs a name"));
            }
            made.push((name.to_owned(), self.read(text)?.0));
        }
        let mut fields: Vec<Field> = self
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        for (name, expression) in &made {
            match self.touch_of(expression) {
                Some(_) => self.touched.insert(name.clone(), Touch::Otherwise),
                None => self.touched.remove(name),
            };
            let field = Field::new(name, expression.data_type.clone(), true);
            match fields.iter().position(|f| f.name() == name) {
                Some(place) => fields[place] = field,
                None => fields.push(field),
            }
        }
        self.schema = Arc::new(Schema::new(fields));
        self.push(at, "derive", Op::Derive(made));
        Ok(())
    }

    fn join(&mut self, at: usize, join: &crate::description::Join) -> Result<(), StepFault> {
        let with = self.tables.iter().position(|table| table.name == join.with);
        let with = with.ok_or_else(|| StepFault::UnknownInput {
            name: join.with.clone(),
            known: listed(self.tables.iter().map(|table| table.name.as_str())),
        })?;
        self.check_all(&join.on)?;
        let other = &self.tables[with].schema;
        for key in &join.on {
            let left = self.field(key)?.data_type().clone();
            let right = other
                .field_with_name(key)
                .map_err(|_| unknown_column(key, other))?;
            if left != *right.data_type() {
                return Err(StepFault::KeyTypes {
                    column: key.clone(),
                    left: word_of(&left).to_owned(),
                    right: word_of(right.data_type()).to_owned(),
                    with: join.with.clone(),
                });
            }
        }
        if matches!(join.kind, JoinKind::Inner | JoinKind::Left) {
            let mut fields: Vec<Field> = self
                .schema
                .fields()
                .iter()
                .map(|f| f.as_ref().clone())
                .collect();
            for field in other
                .fields()
                .iter()
                .filter(|f| !join.on.contains(f.name()))
            {
                if fields.iter().any(|f| f.name() == field.name()) {
                    return Err(StepFault::DuplicateColumn {
                        column: field.name().clone(),
                    });
                }
                fields.push(field.as_ref().clone());
            }
            self.schema = Arc::new(Schema::new(fields));
        }
        self.rows_change();
        let (on, kind) = (join.on.clone(), join.kind);
        self.push(at, "join", Op::Join { with, on, kind });
        Ok(())
    }

    fn split(&mut self, at: usize, split: &Split) -> Result<(), StepFault> {
        if self.split {
            return Err(StepFault::Rule("there is a split already"));
        }
        if !self
            .slots
            .iter()
            .all(|slot| matches!(slot.ask, Ask::Given(_)))
        {
            return Err(StepFault::Rule(
                "a split comes before all steps that are fitted, so that they see the first part only: move it up",
            ));
        }
        let count = split.fractions.0.len();
        if !(2..=PARTS_MAX).contains(&count) {
            return Err(StepFault::Rule("`fractions` names 2 to 16 parts"));
        }
        let sum: f64 = split.fractions.iter().map(|(_, share)| *share).sum();
        let positive = split.fractions.iter().all(|(_, share)| *share > 0.0);
        if !positive || (sum - 1.0).abs() > 1e-9 {
            return Err(StepFault::Rule("`fractions` are above 0 and sum to 1"));
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if let Some((name, _)) = split
            .fractions
            .iter()
            .find(|(name, _)| name.is_empty() || name.len() > 40 || !name.chars().all(valid))
        {
            return Err(StepFault::PartName {
                name: name.chars().take(40).collect(),
            });
        }
        if !split.by.is_empty() {
            self.check_all(&split.by)?;
        }
        if let Some(column) = &split.stratify {
            self.field(column)?;
            return Err(StepFault::Rule(
                "`stratify` cannot be carried out yet: leave it out",
            ));
        }
        self.split = true;
        let mut fields: Vec<Field> = self
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        fields.push(Field::new(PART, DataType::UInt8, false));
        self.schema = Arc::new(Schema::new(fields));
        self.push(at, "split", Op::Split(split.clone()));
        Ok(())
    }

    /// A slot for what is fitted of a column, in the earliest layer that can have it.
    fn slot(&mut self, column: &str, ask: Ask) -> usize {
        let touch = self.touched.get(column).copied();
        let chained = matches!(ask, Ask::Standard | Ask::MinMax | Ask::Categories { .. });
        let after = match touch {
            Some(Touch::Filled(slot)) if chained => Some(slot),
            Some(_) if !matches!(ask, Ask::Given(_)) => {
                self.layer += 1;
                self.touched.clear();
                None
            }
            _ => None,
        };
        self.fitted |= !matches!(ask, Ask::Given(_));
        self.slots.push(Slot {
            op: self.ops.len(),
            column: column.to_owned(),
            ask,
            layer: self.layer,
            after,
        });
        self.slots.len() - 1
    }

    fn fill(&mut self, at: usize, column: &str, fill: &Fill) -> Result<(), StepFault> {
        let data_type = self.field(column)?.data_type().clone();
        let is_text = data_type == DataType::Utf8;
        let numeric = matches!(
            data_type,
            DataType::Int64 | DataType::Float64 | DataType::Boolean
        );
        let ask = match fill {
            Fill::Mean => Ask::Mean,
            Fill::Median => Ask::Median,
            Fill::Mode => Ask::Mode,
            Fill::Constant(constant) => {
                let needed = match (constant, is_text) {
                    (Constant::Number(number), false) if number.is_finite() => None,
                    (Constant::Text(_), true) => None,
                    (_, true) => Some("a text, in quotes"),
                    (_, false) => Some("a number"),
                };
                if let Some(needed) = needed {
                    return Err(StepFault::ConstantType {
                        column: column.to_owned(),
                        needed,
                    });
                }
                Ask::Given(constant.clone())
            }
        };
        if !(numeric || is_text && matches!(ask, Ask::Mode | Ask::Given(_))) {
            return Err(StepFault::NotNumbers {
                column: column.to_owned(),
                found: word_of(&data_type).to_owned(),
            });
        }
        let slot = self.slot(column, ask);
        self.touched.insert(column.to_owned(), Touch::Filled(slot));
        if !is_text {
            self.set_type(column, DataType::Float64);
        }
        self.push(
            at,
            "impute",
            Op::Fill {
                column: column.to_owned(),
                slot,
            },
        );
        Ok(())
    }

    fn normalise(&mut self, at: usize, normalise: &Normalise) -> Result<(), StepFault> {
        self.check_all(&normalise.columns)?;
        for column in &normalise.columns {
            let data_type = self.field(column)?.data_type().clone();
            if !matches!(
                data_type,
                DataType::Int64 | DataType::Float64 | DataType::Boolean
            ) {
                return Err(StepFault::NotNumbers {
                    column: column.clone(),
                    found: word_of(&data_type).to_owned(),
                });
            }
            let ask = match normalise.method {
                NormaliseMethod::Standard => Ask::Standard,
                NormaliseMethod::MinMax => Ask::MinMax,
                NormaliseMethod::Robust => Ask::Robust,
            };
            let slot = self.slot(column, ask);
            self.touched.insert(column.clone(), Touch::Otherwise);
            self.set_type(column, DataType::Float64);
            self.push(
                at,
                "normalise",
                Op::Scale {
                    column: column.clone(),
                    slot,
                },
            );
        }
        Ok(())
    }

    fn encode(&mut self, at: usize, encode: &Encode) -> Result<(), StepFault> {
        self.check_all(&encode.columns)?;
        if !(1..=CATEGORIES_MAX).contains(&encode.max) {
            return Err(StepFault::Rule("`max` is 1 to 10000"));
        }
        for column in &encode.columns {
            let data_type = self.field(column)?.data_type().clone();
            if matches!(data_type, DataType::Date32 | DataType::Timestamp(..)) {
                return Err(StepFault::NotCategories {
                    column: column.clone(),
                    found: word_of(&data_type).to_owned(),
                });
            }
            let slot = self.slot(column, Ask::Categories { max: encode.max });
            self.touched.insert(column.clone(), Touch::Otherwise);
            if encode.method == EncodeMethod::OneHot {
                self.encoded.insert(column.clone());
            } else {
                self.set_type(column, DataType::Float64);
            }
            let (method, unseen) = (encode.method, encode.unseen);
            self.push(
                at,
                "encode",
                Op::Encode {
                    column: column.clone(),
                    slot,
                    method,
                    unseen,
                },
            );
        }
        Ok(())
    }
}
