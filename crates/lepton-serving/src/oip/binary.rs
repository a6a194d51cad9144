//! Tensors as raw bytes after the JSON: little-endian elements, `BYTES` each with a
//! 32-bit length before it (Triton's binary tensor data extension).

use half::{bf16, f16};
use lepton_types::signature::Datatype;

use crate::tensor::TensorData;

/// Why raw bytes are no tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// Not a whole number of elements.
    #[error("{bytes} bytes are no whole number of {datatype} elements")]
    Partial {
        /// How many bytes came.
        bytes: usize,
        /// The tensor's type.
        datatype: Datatype,
    },
    /// A text's length reaches beyond the tensor.
    #[error("text {at} reaches beyond the tensor's bytes")]
    TextBeyondEnd {
        /// Which element.
        at: usize,
    },
    /// A text that is not UTF-8.
    #[error("text {at} is not UTF-8")]
    NotUtf8 {
        /// Which element.
        at: usize,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("element {at} is neither 0 nor 1")]
    NotBool {
        /// Which element.
        at: usize,
    },
}

/// Reads the elements that `bytes` hold.
pub(super) fn read(bytes: &[u8], datatype: Datatype) -> Result<TensorData, BinaryError> {
    if let Some(size) = datatype.element_bytes()
        && !bytes.len().is_multiple_of(size)
    {
        return Err(BinaryError::Partial {
            bytes: bytes.len(),
            datatype,
        });
    }
    macro_rules! little_endian {
        ($variant:ident, $element:ty) => {{
            let chunks = bytes.as_chunks::<{ size_of::<$element>() }>().0;
            TensorData::$variant(
                chunks
                    .iter()
                    .map(|&c| <$element>::from_le_bytes(c))
                    .collect(),
            )
        }};
    }
    Ok(match datatype {
        Datatype::Bool => TensorData::Bool(read_bools(bytes)?),
        Datatype::Bytes => TensorData::Bytes(read_texts(bytes)?),
        Datatype::Uint8 => little_endian!(Uint8, u8),
        Datatype::Uint16 => little_endian!(Uint16, u16),
        Datatype::Uint32 => little_endian!(Uint32, u32),
        Datatype::Uint64 => little_endian!(Uint64, u64),
        Datatype::Int8 => little_endian!(Int8, i8),
        Datatype::Int16 => little_endian!(Int16, i16),
        Datatype::Int32 => little_endian!(Int32, i32),
        Datatype::Int64 => little_endian!(Int64, i64),
        Datatype::Fp16 => little_endian!(Fp16, f16),
        Datatype::Bf16 => little_endian!(Bf16, bf16),
        Datatype::Fp32 => little_endian!(Fp32, f32),
        Datatype::Fp64 => little_endian!(Fp64, f64),
    })
}

fn read_bools(bytes: &[u8]) -> Result<Vec<bool>, BinaryError> {
    bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BinaryError::NotBool { at }),
        })
        .collect()
}

fn read_texts(mut bytes: &[u8]) -> Result<Vec<String>, BinaryError> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let at = texts.len();
        let text = bytes
            .split_first_chunk::<4>()
            .and_then(|(length, tail)| {
                let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                tail.split_at_checked(length)
            })
            .map(|(text, tail)| {
                bytes = tail;
                text
            })
            .ok_or(BinaryError::TextBeyondEnd { at })?;
        let text = std::str::from_utf8(text).map_err(|_| BinaryError::NotUtf8 { at })?;
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// Appends the elements to `out`.
pub(super) fn write(data: &TensorData, out: &mut Vec<u8>) {
    macro_rules! little_endian {
        ($values:expr) => {{
            for value in $values {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }};
    }
    match data {
        TensorData::Bool(values) => out.extend(values.iter().map(|&value| u8::from(value))),
        TensorData::Uint8(values) => out.extend_from_slice(values),
        TensorData::Uint16(values) => little_endian!(values),
        TensorData::Uint32(values) => little_endian!(values),
        TensorData::Uint64(values) => little_endian!(values),
        TensorData::Int8(values) => little_endian!(values),
        TensorData::Int16(values) => little_endian!(values),
        TensorData::Int32(values) => little_endian!(values),
        TensorData::Int64(values) => little_endian!(values),
        TensorData::Fp16(values) => little_endian!(values),
        TensorData::Bf16(values) => little_endian!(values),
        TensorData::Fp32(values) => little_endian!(values),
        TensorData::Fp64(values) => little_endian!(values),
        TensorData::Bytes(texts) => {
            for text in texts {
                let length = u32::try_from(text.len())
                    .expect("invariant: a text is shorter than the largest body");
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(data: &TensorData) -> TensorData {
        let mut bytes = Vec::new();
        write(data, &mut bytes);
        read(&bytes, data.datatype()).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_and_texts_round_trip(
            ints: Vec<i64>, bytes: Vec<u8>, flags: Vec<bool>, texts: Vec<String>,
        ) {
            for data in [
                TensorData::Int64(ints),
                TensorData::Uint8(bytes),
                TensorData::Bool(flags),
                TensorData::Bytes(texts),
            ] {
                prop_assert_eq!(round_trip(&data), data);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            for datatype in [
                Datatype::Bytes,
                Datatype::Bool,
                Datatype::Fp16,
                Datatype::Bf16,
                Datatype::Int64,
            ] {
                let _ = read(&bytes, datatype);
            }
        }
    }

    #[test]
    fn damage_is_told() {
        let partial = read(&[1, 2, 3], Datatype::Fp32).unwrap_err();
        assert_eq!(
            partial.to_string(),
            "3 bytes are no whole number of FP32 elements"
        );
        let beyond = read(&[200, 0, 0, 0, b'a'], Datatype::Bytes);
        assert_eq!(beyond, Err(BinaryError::TextBeyondEnd { at: 0 }));
        let foreign = read(&[1, 0, 0, 0, 0xff], Datatype::Bytes);
        assert_eq!(foreign, Err(BinaryError::NotUtf8 { at: 0 }));
        assert_eq!(
            read(&[2], Datatype::Bool),
            Err(BinaryError::NotBool { at: 0 })
        );
    }
}
