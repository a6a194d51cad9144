//! What was fitted, as part of a model.
//!
//! Owns: which operations a model repeats, and how SQL becomes a formula. Must not know: graphs.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator as SqlOperator};
use lepton_ml::fitted::{
    FittedStep, FittedTransform, Formula, Function, Operator, RawColumn, Value, Values as Kinds,
};
use lepton_ml::tabular::ColumnType;

use crate::bind::Expression;
use crate::description::{Constant, EncodeMethod};
use crate::fit::{Fitted, Values};
use crate::plan::{Op, Placed, PlannedStep, Prepared};
use crate::rows::Known;

/// The steps that a model repeats: from the first that is fitted on, with what is computed right
/// before it. What changes rows only is no part of it.
pub(crate) fn transform(prepared: &Prepared, known: &Known) -> FittedTransform {
    let ops = &prepared.ops;
    let is_fitted = |placed: &Placed| {
        matches!(
            placed.op,
            Op::Fill { .. } | Op::Scale { .. } | Op::Encode { .. }
        )
    };
    let Some(first) = ops.iter().position(is_fitted) else {
        return FittedTransform::default();
    };
    let planned = prepared.steps();
    let start = ops[..first]
        .iter()
        .filter(|placed| is_data_only(placed, planned))
        .map(|placed| placed.step)
        .max();
    let start = start.unwrap_or(0);
    let inputs = planned[start].columns.iter().map(|(name, word)| RawColumn {
        name: name.clone(),
        column_type: if is_number(word) {
            ColumnType::Number
        } else {
            ColumnType::Text
        },
    });
    let mut writer = Writer {
        planned,
        known,
        steps: Vec::new(),
        last: Vec::new(),
    };
    for placed in ops.iter().filter(|placed| placed.step > start) {
        writer.write(placed);
    }
    writer.steps.append(&mut writer.last);
    FittedTransform {
        inputs: inputs.collect(),
        steps: writer.steps,
    }
}

fn is_number(word: &str) -> bool {
    matches!(word, "int" | "float" | "bool")
}

fn is_data_only(placed: &Placed, planned: &[PlannedStep]) -> bool {
    match &placed.op {
        Op::Text(_) | Op::Cast(_) | Op::Join { .. } => true,
        Op::Derive(columns) | Op::Select(columns) => {
            let before = &planned[placed.step - 1].columns;
            columns
                .iter()
                .any(|(_, expression)| formula(expression, before).is_err())
        }
        _ => false,
    }
}

struct Writer<'a> {
    planned: &'a [PlannedStep],
    known: &'a Known,
    steps: Vec<FittedStep>,
    /// One-hot columns are spread when all else is done.
    last: Vec<FittedStep>,
}

impl Writer<'_> {
    fn opaque(&mut self, placed: &Placed, column: &str, why: &str) {
        let reason = format!("step {} ({}): {why}", placed.step, placed.word);
        self.steps.push(FittedStep::Opaque {
            column: column.to_owned(),
            reason,
        });
    }

    fn write(&mut self, placed: &Placed) {
        let fitted = |slot: &usize| self.known.fitted.get(*slot).and_then(Option::as_ref);
        match &placed.op {
            Op::Filter(_) | Op::Split(_) | Op::DropMissing(_) | Op::Distinct { .. } => {}
            Op::Text(_) => {
                for (column, _) in self.planned[placed.step]
                    .columns
                    .iter()
                    .filter(|(_, word)| word == "text")
                {
                    self.opaque(placed, column, "texts are cleaned behind a fitted step");
                }
            }
            Op::Cast(types) => {
                for (column, _) in types {
                    self.opaque(placed, column, "a type is changed behind a fitted step");
                }
            }
            Op::Join { .. } => {
                let before: BTreeSet<&String> = self.planned[placed.step - 1]
                    .columns
                    .iter()
                    .map(|(name, _)| name)
                    .collect();
                let added = self.planned[placed.step]
                    .columns
                    .iter()
                    .filter(|(name, _)| !before.contains(name));
                for (column, _) in added {
                    self.opaque(placed, column, "it comes from a join behind a fitted step");
                }
            }
            Op::Derive(columns) | Op::Select(columns) => self.derive(placed, columns),
            Op::Fill { column, slot } => {
                if let Some(Fitted::Fill(constant)) = fitted(slot) {
                    let value = match constant {
                        Constant::Number(number) => Value::Number(*number),
                        Constant::Text(text) => Value::Text(text.clone()),
                    };
                    self.steps.push(FittedStep::Fill {
                        column: column.clone(),
                        value,
                    });
                }
            }
            Op::Scale { column, slot } => {
                if let Some(Fitted::Scale { centre, factor }) = fitted(slot) {
                    let (centre, factor) = (*centre, *factor);
                    self.steps.push(FittedStep::Scale {
                        column: column.clone(),
                        centre,
                        factor,
                    });
                }
            }
            Op::Encode {
                column,
                slot,
                method,
                ..
            } => {
                if let Some(fitted) = fitted(slot) {
                    let step = encode(column, fitted, *method);
                    let place = if *method == EncodeMethod::OneHot {
                        &mut self.last
                    } else {
                        &mut self.steps
                    };
                    place.extend(step);
                }
            }
        }
    }

    fn derive(&mut self, placed: &Placed, columns: &[(String, Expression)]) {
        let before = &self.planned[placed.step - 1].columns;
        let mut written: BTreeSet<&str> = BTreeSet::new();
        for (name, expression) in columns {
            // All expressions of a step see the columns before it, and here one follows the other.
            let overwritten = expression
                .columns()
                .any(|column| written.contains(column.as_str()));
            match formula(expression, before) {
                Ok(Formula::Column(column)) if column == *name => continue,
                Ok(_) if overwritten => {
                    self.opaque(placed, name, "it reads a column that the same step changes");
                }
                Ok(formula) => self.steps.push(FittedStep::Derive {
                    column: name.clone(),
                    formula,
                }),
                Err(why) => self.opaque(
                    placed,
                    name,
                    &format!("`{}` cannot be part of a model: {why}", expression.text),
                ),
            }
            written.insert(name);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "categories and rows are fewer than 2^53"
)]
fn encode(column: &str, fitted: &Fitted, method: EncodeMethod) -> Option<FittedStep> {
    let Fitted::Categories {
        values,
        counts,
        rows,
    } = fitted
    else {
        return None;
    };
    let kinds = match values {
        Values::Texts(texts) => Kinds::Texts(texts.clone()),
        Values::Numbers(numbers) => Kinds::Numbers(numbers.clone()),
    };
    let column = column.to_owned();
    let frequency = method == EncodeMethod::Frequency;
    Some(match method {
        EncodeMethod::OneHot => FittedStep::OneHot {
            outputs: (0..values.len())
                .map(|at| format!("{column}={}", values.name(at)))
                .collect(),
            column,
            values: kinds,
        },
        _ => FittedStep::Codes {
            column,
            values: kinds,
            codes: counts
                .iter()
                .enumerate()
                .map(|(at, count)| {
                    if frequency {
                        *count as f64 / *rows as f64
                    } else {
                        at as f64
                    }
                })
                .collect(),
            unseen: frequency.then_some(0.0),
        },
    })
}

type Types = [(String, String)];

/// An expression as a formula, or why it is none. A column alone may hold texts.
fn formula(expression: &Expression, types: &Types) -> Result<Formula, String> {
    if let Expr::Column(column) = &expression.expr {
        return Ok(Formula::Column(column.name.clone()));
    }
    if !matches!(
        expression.data_type,
        DataType::Float64 | DataType::Int64 | DataType::Boolean
    ) {
        return Err("it gives no number".to_owned());
    }
    number(&expression.expr, types).map(|(formula, _)| formula)
}

/// The formula, and whether SQL computes it in whole numbers.
fn number(expr: &Expr, types: &Types) -> Result<(Formula, bool), String> {
    let call = |function, of: &Expr| {
        let (of, whole) = number(of, types)?;
        Ok((Formula::Call(function, Box::new(of)), whole))
    };
    let not = |formula| Formula::Call(Function::Not, Box::new(formula));
    match expr {
        Expr::Column(column) => {
            let word = types.iter().find(|(name, _)| *name == column.name).map(|(_, word)| word.as_str());
            match word {
                Some(word) if is_number(word) => Ok((Formula::Column(column.name.clone()), word == "int")),
                _ => Err(format!("column `{}` holds no numbers", column.name)),
            }
        }
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(binary) => self::binary(binary, types),
        Expr::Not(of) => call(Function::Not, of),
        Expr::Negative(of) => call(Function::Negative, of),
        Expr::IsNull(of) => Ok((call(Function::IsMissing, of)?.0, false)),
        Expr::IsNotNull(of) => Ok((not(call(Function::IsMissing, of)?.0), false)),
        Expr::Between(between) => {
            let (value, low, high) = (number(&between.expr, types)?.0, number(&between.low, types)?.0, number(&between.high, types)?.0);
            let both = two(Operator::And, two(Operator::GreaterOrEqual, value.clone(), low), two(Operator::LessOrEqual, value, high));
            Ok((if between.negated { not(both) } else { both }, false))
        }
        Expr::Case(case) => {
            let subject = case.expr.as_ref().map(|expr| number(expr, types)).transpose()?;
            let mut branches = Vec::with_capacity(case.when_then_expr.len());
            for (when, then) in &case.when_then_expr {
                let when = number(when, types)?.0;
                let condition = match &subject {
                    Some((subject, _)) => two(Operator::Equal, subject.clone(), when),
                    None => when,
                };
                branches.push((condition, number(then, types)?.0));
            }
            let otherwise = case.else_expr.as_ref().map_or(Ok((Formula::Missing, false)), |expr| number(expr, types))?;
            Ok((Formula::Case(branches, Box::new(otherwise.0)), false))
        }
        Expr::Cast(cast) => match cast.field.data_type() {
            DataType::Float64 => Ok((number(&cast.expr, types)?.0, false)),
            other => Err(format!("a cast to {other} is not supported there")),
        },
        Expr::ScalarFunction(function) => self::function(function.name(), &function.args, types),
        _ => Err("only arithmetic, comparisons, CASE, COALESCE, abs, sqrt, exp, ln, floor, ceil and power are supported there".to_owned()),
    }
}

fn two(operator: Operator, left: Formula, right: Formula) -> Formula {
    Formula::Binary(operator, Box::new(left), Box::new(right))
}

fn literal(value: &ScalarValue) -> Result<(Formula, bool), String> {
    if value.is_null() {
        return Ok((Formula::Missing, false));
    }
    match value {
        #[expect(clippy::cast_precision_loss, reason = "graphs compute with floats")]
        ScalarValue::Int64(Some(number)) => Ok((Formula::Number(*number as f64), true)),
        ScalarValue::Float64(Some(number)) => Ok((Formula::Number(*number), false)),
        ScalarValue::Boolean(Some(truth)) => {
            Ok((Formula::Number(f64::from(u8::from(*truth))), false))
        }
        _ => Err("it has a constant that is no number".to_owned()),
    }
}

fn binary(binary: &BinaryExpr, types: &Types) -> Result<(Formula, bool), String> {
    let operator = match binary.op {
        SqlOperator::Plus => Operator::Add,
        SqlOperator::Minus => Operator::Subtract,
        SqlOperator::Multiply => Operator::Multiply,
        SqlOperator::Divide => Operator::Divide,
        SqlOperator::Eq => Operator::Equal,
        SqlOperator::NotEq => Operator::NotEqual,
        SqlOperator::Lt => Operator::Less,
        SqlOperator::LtEq => Operator::LessOrEqual,
        SqlOperator::Gt => Operator::Greater,
        SqlOperator::GtEq => Operator::GreaterOrEqual,
        SqlOperator::And => Operator::And,
        SqlOperator::Or => Operator::Or,
        other => return Err(format!("`{other}` is not supported there")),
    };
    let (left, left_whole) = number(&binary.left, types)?;
    let (right, right_whole) = number(&binary.right, types)?;
    let whole = left_whole && right_whole;
    if whole && operator == Operator::Divide {
        return Err("it divides whole numbers: write `1.0 * a / b`".to_owned());
    }
    let arithmetic = matches!(
        operator,
        Operator::Add | Operator::Subtract | Operator::Multiply
    );
    Ok((two(operator, left, right), whole && arithmetic))
}

fn function(name: &str, args: &[Expr], types: &Types) -> Result<(Formula, bool), String> {
    let one = |function| {
        let [of] = args else {
            return Err(format!(
                "`{name}` with {} arguments is not supported there",
                args.len()
            ));
        };
        let (of, whole) = number(of, types)?;
        Ok((
            Formula::Call(function, Box::new(of)),
            whole && function == Function::Absolute,
        ))
    };
    match name {
        "abs" => one(Function::Absolute),
        "sqrt" => one(Function::SquareRoot),
        "exp" => one(Function::Exponential),
        "ln" => one(Function::Logarithm),
        "floor" => one(Function::Floor),
        "ceil" => one(Function::Ceiling),
        "power" | "pow" => {
            let [base, exponent] = args else {
                return Err("`power` takes two numbers".to_owned());
            };
            let (base, exponent) = (number(base, types)?, number(exponent, types)?);
            Ok((two(Operator::Power, base.0, exponent.0), false))
        }
        "coalesce" => {
            let mut values = args
                .iter()
                .map(|arg| number(arg, types))
                .collect::<Result<Vec<_>, _>>()?;
            let last = values.pop().ok_or("`coalesce` of nothing")?;
            let branches = values.into_iter().map(|(value, _)| {
                let missing = Formula::Call(Function::IsMissing, Box::new(value.clone()));
                (Formula::Call(Function::Not, Box::new(missing)), value)
            });
            Ok((Formula::Case(branches.collect(), Box::new(last.0)), false))
        }
        other => Err(format!("`{other}` is not supported there")),
    }
}
