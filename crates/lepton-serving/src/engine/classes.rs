//! The names of the classes that a foreign classifier was exported with.
//!
//! Owns: reading just enough of an ONNX file's protobuf (ONNX IR specification,
//! `onnx.proto`) to find the `classlabels_*` attributes that the operators of
//! `ai.onnx.ml` carry: `ModelProto.graph = 7`, `GraphProto.node = 1`,
//! `NodeProto.attribute = 5`, `AttributeProto { name = 1, ints = 8, strings = 9 }`.
//! The runtime tells inputs and outputs but not attributes. Anything malformed ends the
//! search without an answer; the runtime judges the file itself.

/// The most classes that are believed; beyond it a file is damaged or hostile.
const CLASSES_MAX: usize = 100_000;

/// The class names of the last node that has any, in the order of its columns.
pub(super) fn find(model: &[u8]) -> Option<Vec<String>> {
    let mut found = None;
    for graph in submessages(model, 7) {
        for node in submessages(graph, 1) {
            for attribute in submessages(node, 5) {
                let names = class_names(attribute);
                if !names.is_empty() {
                    found = Some(names);
                }
            }
        }
    }
    found
}

fn class_names(attribute: &[u8]) -> Vec<String> {
    let name = submessages(attribute, 1).next();
    if name.is_none_or(|name| !name.starts_with(b"classlabels_")) {
        return Vec::new();
    }
    let mut names = Vec::new();
    for field in Fields(attribute) {
        match (field.number, field.value) {
            (9, Value::Bytes(text)) => match std::str::from_utf8(text) {
                Ok(text) => names.push(text.to_owned()),
                Err(_) => return Vec::new(),
            },
            (8, Value::Varint(number)) => names.push(number.cast_signed().to_string()),
            (8, Value::Bytes(mut packed)) => {
                while let Some(number) = varint(&mut packed) {
                    names.push(number.cast_signed().to_string());
                }
            }
            _ => {}
        }
        if names.len() > CLASSES_MAX {
            return Vec::new();
        }
    }
    names
}

/// The length-delimited fields of that number.
fn submessages(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

struct Fields<'a>(&'a [u8]);

struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => {
                take(&mut self.0, 8)?;
                Value::Fixed
            }
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            5 => {
                take(&mut self.0, 4)?;
                Value::Fixed
            }
            _ => return None,
        };
        Some(Field {
            number: tag >> 3,
            value,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for at in 0..10 {
        let (&byte, tail) = bytes.split_first()?;
        *bytes = tail;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scikit_learns_classes_are_found() {
        let zipped = include_bytes!("../../tests/data/iris_zipmap.onnx");
        assert_eq!(find(zipped).unwrap(), ["setosa", "versicolor", "virginica"]);
        let plain = include_bytes!("../../tests/data/iris_plain.onnx");
        assert_eq!(find(plain).unwrap(), ["0", "1", "2"]);
        assert_eq!(find(include_bytes!("../../tests/data/affine.onnx")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..700, byte: u8) {
            let mut model = include_bytes!("../../tests/data/iris_zipmap.onnx").to_vec();
            if let Some(slot) = model.get_mut(at) {
                *slot = byte;
            }
            let _ = find(&model);
        }
    }
}
