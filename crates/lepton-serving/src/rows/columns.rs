//! Cells into columns, columns into a model's inputs.

use std::collections::HashMap;

use lepton_types::signature::{Role, Signature, TensorSpec};

use super::cells::{self, Cell, Texts};
use super::{Place, RowsError, RowsRequest};
use crate::tensor::{NamedTensor, Tensor, TensorData};

/// The most columns a row may have; beyond it a request is a mistake or an attack.
const COLUMNS_MAX: usize = 100_000;

/// How a model takes a row.
#[derive(Debug, Clone, Copy)]
enum Layout<'m> {
    /// One `[N]` or `[N,1]` input a column.
    InputPerColumn(&'m [TensorSpec]),
    /// One `[N,k]` input, its columns in the order given; `None` where any k is taken.
    Matrix(&'m TensorSpec, Option<usize>),
}

/// The columns read so far.
pub(super) struct Columns<'m> {
    layout: Layout<'m>,
    texts: Texts,
    columns: Vec<Column>,
    index: HashMap<String, usize>,
    /// For rows written as arrays: the column of each position.
    header: Option<Vec<usize>>,
    /// Rows that are complete.
    rows: usize,
    /// Values seen in the row being read.
    values: usize,
}

struct Column {
    name: String,
    data: TensorData,
    /// Whether rows may leave it out.
    optional: bool,
}

impl<'m> Columns<'m> {
    /// No rows yet, for a model of that signature.
    pub(super) fn new(signature: &'m Signature) -> Result<Self, RowsError> {
        let layout = layout_of(signature)?;
        let mut columns = Self {
            layout,
            texts: match signature.task {
                Some(_) => Texts::AsTrained,
                None => Texts::Verbatim,
            },
            columns: Vec::new(),
            index: HashMap::new(),
            header: None,
            rows: 0,
            values: 0,
        };
        if let Layout::InputPerColumn(specs) = layout {
            for spec in specs {
                columns.add(&spec.name, spec);
            }
        }
        Ok(columns)
    }

    /// Names the positions of rows that are written as arrays.
    pub(super) fn set_header(&mut self, names: Vec<String>) -> Result<(), RowsError> {
        let mut header = Vec::with_capacity(names.len().min(COLUMNS_MAX));
        for name in names {
            let at = self.place_of(&name, Place::Header)?;
            if header.contains(&at) {
                return Err(RowsError::DuplicateColumn {
                    place: Place::Header,
                    column: name,
                });
            }
            header.push(at);
        }
        self.check_width(header.len(), Place::Header)?;
        let absent = self
            .columns
            .iter()
            .enumerate()
            .find(|(at, column)| !column.optional && !header.contains(at));
        if let Some((_, absent)) = absent {
            return Err(RowsError::AbsentColumn {
                place: Place::Header,
                column: absent.name.clone(),
            });
        }
        self.header = Some(header);
        Ok(())
    }

    /// Whether rows are arrays.
    pub(super) const fn has_header(&self) -> bool {
        self.header.is_some()
    }

    /// The row being read.
    pub(super) const fn place(&self) -> Place {
        Place::Row(self.rows + 1)
    }

    /// Takes a value by its column's name.
    pub(super) fn push_named(&mut self, name: &str, cell: Cell<'_>) -> Result<(), RowsError> {
        let at = self.place_of(name, self.place())?;
        self.push(at, cell)
    }

    /// Takes the next value of a row that is an array.
    pub(super) fn push_next(&mut self, cell: Cell<'_>) -> Result<(), RowsError> {
        let at = self
            .header
            .as_ref()
            .and_then(|header| header.get(self.values))
            .copied();
        self.values += 1;
        match at {
            Some(at) => self.push(at, cell),
            // Counted, and told at the row's end.
            None => Ok(()),
        }
    }

    /// Checks that the row had every column.
    pub(super) fn end_row(&mut self) -> Result<(), RowsError> {
        if let Some(header) = &self.header
            && header.len() != self.values
        {
            return Err(RowsError::RowLength {
                place: self.place(),
                expected: header.len(),
                got: self.values,
            });
        }
        if self.rows == 0 {
            self.check_width(self.columns.len(), self.place())?;
        }
        for column in &mut self.columns {
            if column.data.len() > self.rows {
                continue;
            }
            // What the model does not use may be left out, if its type can miss.
            let filled =
                column.optional && cells::push(&mut column.data, Cell::Null, self.texts).is_ok();
            if !filled {
                return Err(RowsError::AbsentColumn {
                    place: Place::Row(self.rows + 1),
                    column: column.name.clone(),
                });
            }
        }
        self.rows += 1;
        self.values = 0;
        Ok(())
    }

    /// The model's inputs.
    pub(super) fn finish(self) -> RowsRequest {
        let rows = self.rows;
        let named = |name: &str, shape: Vec<usize>, data| NamedTensor {
            name: name.to_owned(),
            tensor: Tensor::new(shape, data)
                .expect("invariant: every complete row gave one value to each column"),
        };
        let inputs = match self.layout {
            Layout::InputPerColumn(specs) => specs
                .iter()
                .zip(self.columns)
                .map(|(spec, column)| {
                    let mut shape = vec![1; spec.shape.len()];
                    shape[0] = rows;
                    named(&spec.name, shape, column.data)
                })
                .collect(),
            Layout::Matrix(spec, _) => {
                let width = self.columns.len();
                let mut data = TensorData::with_capacity(spec.datatype, rows * width);
                for row in 0..rows {
                    for column in &self.columns {
                        data.push_from(&column.data, row);
                    }
                }
                vec![named(&spec.name, vec![rows, width], data)]
            }
        };
        RowsRequest { inputs, rows }
    }

    fn push(&mut self, at: usize, cell: Cell<'_>) -> Result<(), RowsError> {
        let column = &mut self.columns[at];
        if column.data.len() > self.rows {
            return Err(RowsError::DuplicateColumn {
                place: self.place(),
                column: self.columns[at].name.clone(),
            });
        }
        cells::push(&mut column.data, cell, self.texts).map_err(|got| RowsError::Cell {
            place: Place::Row(self.rows + 1),
            column: column.name.clone(),
            expected: column.data.datatype(),
            got,
        })
    }

    /// The column of that name; a foreign model's first row, or its header, makes it.
    fn place_of(&mut self, name: &str, place: Place) -> Result<usize, RowsError> {
        if let Some(&at) = self.index.get(name) {
            return Ok(at);
        }
        match self.layout {
            Layout::Matrix(spec, width)
                if self.rows == 0 && self.header.is_none() && self.columns.len() < COLUMNS_MAX =>
            {
                // One more than the width is taken in, so that the count can be told.
                if width.is_some_and(|width| self.columns.len() > width) {
                    return self
                        .check_width(self.columns.len(), place)
                        .map(|()| self.columns.len());
                }
                Ok(self.add(name, spec))
            }
            _ => Err(RowsError::UnknownColumn {
                place,
                column: name.chars().take(200).collect(),
                known: self
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect(),
            }),
        }
    }

    fn add(&mut self, name: &str, spec: &TensorSpec) -> usize {
        let at = self.columns.len();
        self.columns.push(Column {
            name: name.to_owned(),
            data: TensorData::with_capacity(spec.datatype, 0),
            optional: spec.role == Role::Ignored,
        });
        self.index.insert(name.to_owned(), at);
        at
    }

    fn check_width(&self, got: usize, place: Place) -> Result<(), RowsError> {
        match self.layout {
            Layout::Matrix(_, Some(expected)) if expected != got => Err(RowsError::Width {
                place,
                expected,
                got,
            }),
            _ => Ok(()),
        }
    }
}

fn layout_of(signature: &Signature) -> Result<Layout<'_>, RowsError> {
    let is_column = |spec: &TensorSpec| matches!(spec.shape.as_slice(), [_] | [_, 1]);
    if signature.inputs.iter().all(is_column) {
        return Ok(Layout::InputPerColumn(&signature.inputs));
    }
    match signature.inputs.as_slice() {
        [only] if only.shape.len() == 2 => {
            Ok(Layout::Matrix(only, usize::try_from(only.shape[1]).ok()))
        }
        inputs => {
            let other = inputs
                .iter()
                .find(|spec| !is_column(spec))
                .expect("invariant: not all inputs are columns");
            Err(RowsError::NotTabular {
                why: format!(
                    "input `{}` has shape {}",
                    other.name,
                    crate::tensor::Shape(other.shape.clone())
                ),
            })
        }
    }
}
