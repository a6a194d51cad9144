//! Steps that change rows and columns without looking at values first.
//!
//! Owns: their check, and the columns after them. Must not know: what is fitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::{Op, PART, PARTS_MAX, Planner, Touch, rules_of};
use crate::bind::{Expression, unknown_column};
use crate::description::{Clean, DropDuplicates, Join, JoinKind, Named, Split};
use crate::error::{StepFault, listed};
use crate::plan::Ask;
use crate::read::word_of;

impl Planner<'_> {
    pub(super) fn clean(&mut self, at: usize, clean: &Clean) -> Result<(), StepFault> {
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

    pub(super) fn select(&mut self, at: usize, columns: &[String]) -> Result<(), StepFault> {
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
                let same = name_alone && self.touched.contains_key(&name);
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

    pub(super) fn touch_of(&self, expression: &Expression) -> Option<Touch> {
        expression
            .columns()
            .find_map(|column| self.touched.get(&column).copied())
    }

    pub(super) fn derive(&mut self, at: usize, derived: &Named<String>) -> Result<(), StepFault> {
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

    pub(super) fn join(&mut self, at: usize, join: &Join) -> Result<(), StepFault> {
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

    pub(super) fn split(&mut self, at: usize, split: &Split) -> Result<(), StepFault> {
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
        if !split.stratify.is_empty() {
            self.check_all(&split.stratify)?;
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
}
