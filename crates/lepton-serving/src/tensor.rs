//! Tensors as requests carry them: a shape and row-major elements.
//!
//! Owns: the elements of each type of the Open Inference Protocol, and stacking and splitting
//! along axis 0. Must not know: JSON, ONNX Runtime.

use std::fmt;

use half::{bf16, f16};
use lepton_types::signature::Datatype;

/// A row-major tensor whose number of elements is the product of its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

/// A tensor with the name of the input or output that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The input's or output's name.
    pub name: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// Dimensions for people to read; -1 where any length is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub Vec<i64>);

/// A shape that its elements do not fill exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shape {shape} holds {expected} elements, got {got}")]
pub struct ElementCountMismatch {
    /// The shape.
    pub shape: Shape,
    /// The product of its dimensions.
    pub expected: usize,
    /// How many elements there are.
    pub got: usize,
}

macro_rules! datatypes {
    ($($(#[$doc:meta])* $variant:ident($element:ty);)+) => {
        /// The elements of a tensor.
        #[derive(Debug, Clone, PartialEq)]
        pub enum TensorData {
            $($(#[$doc])* $variant(Vec<$element>),)+
        }

        impl TensorData {
            /// No elements of that type, with room for `count`.
            #[must_use]
            pub fn with_capacity(datatype: Datatype, count: usize) -> Self {
                match datatype { $(Datatype::$variant => Self::$variant(Vec::with_capacity(count)),)+ }
            }

            /// The elements' type.
            #[must_use]
            pub const fn datatype(&self) -> Datatype {
                match self { $(Self::$variant(_) => Datatype::$variant,)+ }
            }

            /// How many elements there are.
            #[must_use]
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(values) => values.len(),)+ }
            }

            /// Whether there are none.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Appends the elements of `other`, if they are of this type.
            fn append(&mut self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$variant(into), Self::$variant(from)) => into.extend_from_slice(from),)+
                    _ => return false,
                }
                true
            }

            /// Appends the element `at` of `other`, which must be of this type.
            pub(crate) fn push_from(&mut self, other: &Self, at: usize) {
                match (self, other) {
                    $((Self::$variant(into), Self::$variant(from)) => into.push(from[at].clone()),)+
                    _ => unreachable!("invariant: the columns of a matrix are of one type"),
                }
            }

            /// Cuts the elements from `at` on off.
            fn split_off(&mut self, at: usize) -> Self {
                match self { $(Self::$variant(values) => Self::$variant(values.split_off(at)),)+ }
            }
        }
    };
}

datatypes! {
    /// True or false.
    Bool(bool);
    /// Unsigned, 8 bits.
    Uint8(u8);
    /// Unsigned, 16 bits.
    Uint16(u16);
    /// Unsigned, 32 bits.
    Uint32(u32);
    /// Unsigned, 64 bits.
    Uint64(u64);
    /// Signed, 8 bits.
    Int8(i8);
    /// Signed, 16 bits.
    Int16(i16);
    /// Signed, 32 bits.
    Int32(i32);
    /// Signed, 64 bits.
    Int64(i64);
    /// IEEE 754, 16 bits.
    Fp16(f16);
    /// The upper half of an IEEE 754 number of 32 bits.
    Bf16(bf16);
    /// IEEE 754, 32 bits.
    Fp32(f32);
    /// IEEE 754, 64 bits.
    Fp64(f64);
    /// UTF-8 text.
    Bytes(String);
}

impl Shape {
    /// A shape of known lengths.
    #[must_use]
    pub fn of(shape: &[usize]) -> Self {
        Self(
            shape
                .iter()
                .map(|&length| i64::try_from(length).unwrap_or(i64::MAX))
                .collect(),
        )
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, length) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{length}")?;
        }
        f.write_str("]")
    }
}

impl Tensor {
    /// A tensor of that shape.
    ///
    /// # Errors
    /// The number of elements is not the product of the shape.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, ElementCountMismatch> {
        let expected = element_count(&shape);
        if expected == Some(data.len()) {
            return Ok(Self { shape, data });
        }
        Err(ElementCountMismatch {
            shape: Shape::of(&shape),
            expected: expected.unwrap_or(usize::MAX),
            got: data.len(),
        })
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row by row.
    #[must_use]
    pub const fn data(&self) -> &TensorData {
        &self.data
    }

    /// Gives the parts back.
    #[must_use]
    pub fn into_parts(self) -> (Vec<usize>, TensorData) {
        (self.shape, self.data)
    }

    /// The elements' type.
    #[must_use]
    pub const fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// The length of axis 0; `None` for a scalar.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Whether both may be stacked: same type, and same shape but for axis 0.
    #[must_use]
    pub fn stacks_with(&self, other: &Self) -> bool {
        !self.shape.is_empty()
            && self.datatype() == other.datatype()
            && self.shape.len() == other.shape.len()
            && self.shape[1..] == other.shape[1..]
    }

    /// Puts the rows of `other` below these; `false`, and nothing done, where they
    /// do not stack.
    pub fn stack(&mut self, other: &Self) -> bool {
        self.stacks_with(other) && {
            self.shape[0] += other.shape[0];
            self.data.append(&other.data)
        }
    }

    /// Cuts axis 0 into pieces of these lengths; `None` unless they sum to it.
    #[must_use]
    pub fn split(mut self, lengths: &[usize]) -> Option<Vec<Self>> {
        let rows = self.rows()?;
        if lengths.iter().sum::<usize>() != rows {
            return None;
        }
        let row_elements: usize = self.shape[1..].iter().product();
        let mut pieces = Vec::with_capacity(lengths.len());
        for &length in lengths.iter().rev() {
            let cut = self.data.len() - length * row_elements;
            let mut shape = self.shape.clone();
            shape[0] = length;
            pieces.push(Self {
                shape,
                data: self.data.split_off(cut),
            });
        }
        pieces.reverse();
        Some(pieces)
    }
}

/// The product of a shape; `None` where it, or any part of it, passes `isize::MAX`.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    // Zeros count as one at first: a part of the shape must not overflow either.
    let bound = shape.iter().try_fold(1_usize, |product, &length| {
        let product = product.checked_mul(length.max(1))?;
        isize::try_from(product).is_ok().then_some(product)
    })?;
    Some(if shape.contains(&0) { 0 } else { bound })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shape_must_be_filled_exactly() {
        let error = Tensor::new(vec![2, 2], TensorData::Int64(vec![1, 2, 3])).unwrap_err();
        assert_eq!(error.to_string(), "shape [2,2] holds 4 elements, got 3");
        let huge = Tensor::new(vec![usize::MAX, 3], TensorData::Bool(vec![]));
        assert!(huge.is_err());
        let huge_but_empty = Tensor::new(vec![0, usize::MAX, 3], TensorData::Bool(vec![]));
        assert!(huge_but_empty.is_err());
        assert!(Tensor::new(vec![5, 0], TensorData::Bool(vec![])).is_ok());
        assert!(Tensor::new(vec![], TensorData::Bool(vec![true])).is_ok());
    }

    #[test]
    fn other_types_and_other_widths_do_not_stack() {
        let mut pair = Tensor::new(vec![1, 2], TensorData::Fp32(vec![1.0, 2.0])).unwrap();
        let before = pair.clone();
        let single = Tensor::new(vec![1, 1], TensorData::Fp32(vec![1.0])).unwrap();
        let double = Tensor::new(vec![1, 2], TensorData::Fp64(vec![1.0, 2.0])).unwrap();
        assert!(!pair.stack(&single));
        assert!(!pair.stack(&double));
        assert_eq!(pair, before);
    }

    proptest! {
        #[test]
        fn stacking_then_splitting_gives_the_parts_back(
            width in 0_usize..4,
            lengths in prop::collection::vec(0_usize..5, 1..6),
        ) {
            let mut next = 0_i64;
            let parts: Vec<Tensor> = lengths
                .iter()
                .map(|&length| {
                    let count = length * width;
                    let values = (next..next + i64::try_from(count).unwrap()).collect();
                    next += i64::try_from(count).unwrap();
                    Tensor::new(vec![length, width], TensorData::Int64(values)).unwrap()
                })
                .collect();
            let mut whole = parts[0].clone();
            for part in &parts[1..] {
                prop_assert!(whole.stack(part));
            }
            prop_assert_eq!(whole.clone().split(&lengths), Some(parts));
            prop_assert_eq!(whole.split(&[999]), None);
        }
    }
}
