//! Steps that are fitted: which slots they need, and in which pass each is fitted.
//!
//! Owns: layers. A slot is fitted together with earlier ones unless it depends on what they find out.
//! Must not know: how a value is fitted.

use datafusion::arrow::datatypes::DataType;

use super::{Ask, CATEGORIES_MAX, Op, Planner, Slot, Touch};
use crate::description::{Constant, Encode, EncodeMethod, Fill, Normalise, NormaliseMethod};
use crate::error::StepFault;
use crate::read::word_of;

impl Planner<'_> {
    /// A slot for what is fitted of a column, in the earliest layer that can have it.
    pub(super) fn slot(&mut self, column: &str, ask: Ask) -> usize {
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

    pub(super) fn fill(&mut self, at: usize, column: &str, fill: &Fill) -> Result<(), StepFault> {
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
            self.set_type(column, &DataType::Float64);
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

    pub(super) fn normalise(&mut self, at: usize, normalise: &Normalise) -> Result<(), StepFault> {
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
            self.set_type(column, &DataType::Float64);
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

    pub(super) fn encode(&mut self, at: usize, encode: &Encode) -> Result<(), StepFault> {
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
                self.set_type(column, &DataType::Float64);
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
