//! Expressions: from SQL text over named columns to something that runs on a batch.
//!
//! Owns: which expressions are allowed, and their types. Must not know: steps.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::error::{StepFault, excerpt};
use crate::read::canonical;

/// Reads and types expressions.
pub(crate) struct Expressions {
    context: SessionContext,
}

impl std::fmt::Debug for Expressions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expressions")
    }
}

/// An expression that has been read: its columns exist and its type is known.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub(crate) text: String,
    pub(crate) expr: Expr,
    pub(crate) data_type: DataType,
}

impl Expression {
    /// The columns that it reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = String> {
        let columns = self.expr.column_refs().into_iter().map(|c| c.name.clone());
        columns
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
    }
}

/// What stands for settings that everything here shares: names mean what is written.
pub(crate) fn config() -> SessionConfig {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.enable_ident_normalization = false;
    config
}

impl Expressions {
    pub(crate) fn new() -> Self {
        Self {
            context: SessionContext::new_with_config(config()),
        }
    }

    /// Reads an expression over these columns; gives the name behind `AS` too.
    pub(crate) fn read(
        &self,
        text: &str,
        schema: &Schema,
    ) -> Result<(Expression, Option<String>), StepFault> {
        let refused = |reason: String| StepFault::Expression {
            expression: excerpt(text),
            reason,
        };
        let columns = DFSchema::try_from(schema.clone()).map_err(|error| refused(plain(&error)))?;
        let expr = self
            .context
            .parse_sql_expr(text, &columns)
            .map_err(|error| refused(plain(&error)))?;
        let (expr, alias) = match expr {
            Expr::Alias(alias) => (*alias.expr, Some(alias.name)),
            other => (other, None),
        };
        check(&expr).map_err(|reason| refused(reason.to_owned()))?;
        if let Some(column) = expr
            .column_refs()
            .iter()
            .find(|c| schema.index_of(&c.name).is_err())
        {
            return Err(unknown_column(&column.name, schema));
        }
        // Types are those after coercion, which the physical expression knows.
        let physical = self.bind_expr(&expr, schema).map_err(&refused)?;
        let found = physical
            .data_type(schema)
            .map_err(|error| refused(plain(&error)))?;
        let data_type = canonical(&found).ok_or_else(|| {
            refused(format!(
                "its values are {found}: cast them to numbers or text"
            ))
        })?;
        let expression = Expression {
            text: text.to_owned(),
            expr,
            data_type,
        };
        Ok((expression, alias))
    }

    /// The same as something that runs on batches of this schema.
    pub(crate) fn bind(
        &self,
        expression: &Expression,
        schema: &Schema,
    ) -> Result<Bound, StepFault> {
        let physical =
            self.bind_expr(&expression.expr, schema)
                .map_err(|reason| StepFault::Expression {
                    expression: excerpt(&expression.text),
                    reason,
                })?;
        Ok(Bound {
            physical,
            data_type: expression.data_type.clone(),
        })
    }

    fn bind_expr(&self, expr: &Expr, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, String> {
        let columns = DFSchema::try_from(schema.clone()).map_err(|error| plain(&error))?;
        let _typed = expr.get_type(&columns);
        self.context
            .create_physical_expr(expr.clone(), &columns)
            .map_err(|error| plain(&error))
    }
}

/// An expression that runs.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

impl Bound {
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, StepFault> {
        let failed = |error: String| StepFault::Evaluation(error);
        let value = self
            .physical
            .evaluate(batch)
            .map_err(|error| failed(plain(&error)))?;
        let array = value
            .into_array(batch.num_rows())
            .map_err(|error| failed(plain(&error)))?;
        if *array.data_type() == self.data_type {
            return Ok(array);
        }
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&array, &self.data_type, &strict)
            .map_err(|error| failed(error.to_string()))
    }
}

/// Rows are judged one by one, and the same way on every day.
fn check(expr: &Expr) -> Result<(), &'static str> {
    let mut refused = None;
    let _always_ok = expr.apply(|part| {
        refused = match part {
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                Some("it looks at more than one row: use `sql` for that")
            }
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) => {
                Some("it has a query inside: use `sql` for that")
            }
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                Some("its value changes from one run to the next: give the value as a constant")
            }
            _ => None,
        };
        Ok(if refused.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    refused.map_or(Ok(()), Err)
}

/// The engine's message without what the engine calls the part of it that says so, on one line and not too long.
pub(crate) fn plain(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::NotImplemented(text) => text.clone(),
        DataFusionError::SchemaError(error, _) => error.to_string(),
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::SQL(error, _) => {
            let text = error.to_string();
            text.trim_start_matches("sql parser error: ").to_owned()
        }
        other => other.strip_backtrace(),
    };
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}

pub(crate) fn unknown_column(column: &str, schema: &Schema) -> StepFault {
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let names: Vec<&str> = names.filter(|name| !name.starts_with('\u{1}')).collect();
    StepFault::UnknownColumn {
        column: excerpt(column),
        known: crate::error::listed(names.into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;

    use super::*;

    #[test]
    fn a_message_names_no_part_of_the_engine() {
        let plan = DataFusionError::Plan("no function is called `f`".to_owned());
        assert_eq!(plain(&plan), "no function is called `f`");
        let within = plan.context("type_coercion");
        assert_eq!(plain(&within), "no function is called `f`");
    }

    #[test]
    fn expressions_are_typed_and_refused_with_a_reason() {
        let schema = Schema::new(vec![
            Field::new("A b", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
        ]);
        let all = Expressions::new();
        let (read, alias) = all.read("\"A b\" * 2.5 AS c", &schema).unwrap();
        assert_eq!(
            (read.data_type, alias.as_deref()),
            (DataType::Float64, Some("c"))
        );
        assert_eq!(
            all.read("upper(t)", &schema).unwrap().0.data_type,
            DataType::Utf8
        );
        for (text, said) in [
            ("random() > 1", "changes"),
            ("sum(\"A b\")", "more than one row"),
            ("c + 1", "c"),
            ("t +", "`t +`"),
            ("now() > t", "changes"),
        ] {
            let error = all.read(text, &schema).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
