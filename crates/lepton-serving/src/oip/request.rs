//! A request to infer, from its bytes to tensors.

use lepton_types::signature::Datatype;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::binary::{self, BinaryError};
use super::elements::{self, DataError, excerpt};
use crate::tensor::{ElementCountMismatch, NamedTensor, Shape, Tensor};

/// The most inputs or outputs that one request may name; no model of the field has more.
const TENSORS_MAX: usize = 10_000;

/// A request to infer.
#[derive(Debug, Clone, PartialEq)]
pub struct InferRequest {
    /// The caller's name for the request, given back in the response.
    pub id: Option<String>,
    /// The tensors.
    pub inputs: Vec<NamedTensor>,
    /// The outputs wanted; all of them where empty.
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs that are not named are wanted as raw bytes.
    pub binary_by_default: bool,
}

/// One output that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    /// The output's name.
    pub name: String,
    /// Whether it is wanted as raw bytes after the JSON.
    pub binary: bool,
}

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, or JSON of another form.
    #[error("the request is no valid inference request: {0}")]
    Json(#[from] JsonError),
    /// The header tells of more JSON than the body has.
    #[error("the header says {told} bytes of JSON, the body has {got} bytes")]
    HeaderLength {
        /// The header's number.
        told: usize,
        /// The body's length.
        got: usize,
    },
    /// An element type that the protocol does not have.
    #[error("input `{input}` has datatype `{datatype}`, which is none of the protocol's")]
    Datatype {
        /// The input.
        input: String,
        /// What was given.
        datatype: String,
    },
    /// A negative dimension.
    #[error("input `{input}` has shape {shape}: a request's dimensions cannot be negative")]
    NegativeShape {
        /// The input.
        input: String,
        /// What was given.
        shape: Shape,
    },
    /// Neither `data` nor raw bytes.
    #[error("input `{input}` has no data")]
    NoData {
        /// The input.
        input: String,
    },
    /// Elements that cannot be read.
    #[error("input `{input}`: {source}")]
    Data {
        /// The input.
        input: String,
        /// What is wrong.
        source: DataError,
    },
    /// Raw bytes that are no tensor.
    #[error("input `{input}`: {source}")]
    Binary {
        /// The input.
        input: String,
        /// What is wrong.
        source: BinaryError,
    },
    /// Raw bytes that do not fill the shape.
    #[error("input `{input}`: {source}")]
    Count {
        /// The input.
        input: String,
        /// What is wrong.
        source: ElementCountMismatch,
    },
    /// Raw bytes that the body does not have, or has too many of.
    #[error("the raw bytes after the JSON are {got}, the inputs tell of {told}")]
    BinaryLength {
        /// What the inputs' `binary_data_size` sum to.
        told: usize,
        /// What the body has.
        got: usize,
    },
    /// More tensors than any model has.
    #[error("the request names {count} tensors: at most {TENSORS_MAX} are taken")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Invalid JSON, with its place, and a hint where the mistake is a known one.
#[derive(Debug, thiserror::Error)]
#[error("{message}{hint}")]
pub struct JsonError {
    message: String,
    hint: &'static str,
}

impl JsonError {
    /// What is wrong with `text`.
    pub(crate) fn new(error: &serde_json::Error, text: &[u8]) -> Self {
        Self {
            message: excerpt_of_error(error),
            hint: hint(error, text),
        }
    }
}

/// The reader's message may repeat a field's name at any length; bound it.
fn excerpt_of_error(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some((at, _)) = message.char_indices().nth(200) {
        message.truncate(at);
        message.push('…');
    }
    message
}

/// Python's `json` writes `NaN` and `Infinity`, which JSON does not have.
fn hint(error: &serde_json::Error, text: &[u8]) -> &'static str {
    if !error.is_syntax() || error.line() == 0 {
        return "";
    }
    let line = text.split(|&byte| byte == b'\n').nth(error.line() - 1);
    let near = line.map_or(&[][..], |line| {
        let column = error.column().min(line.len());
        &line[column.saturating_sub(12)..(column + 12).min(line.len())]
    });
    let holds = |word: &[u8]| near.windows(word.len()).any(|window| window == word);
    if holds(b"NaN") {
        "; JSON has no NaN: write null for a missing value"
    } else if holds(b"Infin") {
        "; JSON has no infinities"
    } else {
        ""
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<WireInput<'a>>,
    #[serde(default)]
    outputs: Vec<WireOutput>,
    #[serde(default)]
    parameters: WireParameters,
}

#[derive(Deserialize)]
struct WireInput<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: WireParameters,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireOutput {
    name: String,
    #[serde(default)]
    parameters: WireParameters,
}

/// The parameters that mean something here; others are the caller's own.
#[derive(Deserialize, Default)]
struct WireParameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
}

impl InferRequest {
    /// Reads a request; `json_length` is the value of [`super::HEADER_LENGTH`], if given.
    ///
    /// # Errors
    /// The first thing that is wrong, with the input's name.
    pub fn parse(body: &[u8], json_length: Option<usize>) -> Result<Self, RequestError> {
        let told = json_length.unwrap_or(body.len());
        let (json, mut raw) = body
            .split_at_checked(told)
            .ok_or(RequestError::HeaderLength {
                told,
                got: body.len(),
            })?;
        let wire: Wire<'_> =
            serde_json::from_slice(json).map_err(|error| JsonError::new(&error, json))?;
        let count = wire.inputs.len().max(wire.outputs.len());
        if count > TENSORS_MAX {
            return Err(RequestError::TooMany { count });
        }
        let told: usize = wire
            .inputs
            .iter()
            .filter_map(|input| input.parameters.binary_data_size)
            .fold(0, usize::saturating_add);
        if told != raw.len() {
            return Err(RequestError::BinaryLength {
                told,
                got: raw.len(),
            });
        }
        let inputs = wire
            .inputs
            .into_iter()
            .map(|input| input.read(&mut raw))
            .collect::<Result<_, _>>()?;
        let outputs = wire.outputs.into_iter().map(|output| RequestedOutput {
            binary: output
                .parameters
                .binary_data
                .or(wire.parameters.binary_data_output)
                .unwrap_or(false),
            name: output.name,
        });
        Ok(Self {
            id: wire.id,
            inputs,
            outputs: outputs.collect(),
            binary_by_default: wire.parameters.binary_data_output.unwrap_or(false),
        })
    }
}

impl WireInput<'_> {
    /// Reads the elements, from the JSON or from the front of `raw`.
    fn read(self, raw: &mut &[u8]) -> Result<NamedTensor, RequestError> {
        let Self {
            name,
            shape,
            datatype,
            parameters,
            data,
        } = self;
        let Ok(datatype) = Datatype::deserialize(serde::de::value::StrDeserializer::<
            serde::de::value::Error,
        >::new(&datatype)) else {
            return Err(RequestError::Datatype {
                input: name,
                datatype: excerpt(&datatype),
            });
        };
        let Ok(lengths) = shape
            .iter()
            .map(|&length| usize::try_from(length))
            .collect()
        else {
            return Err(RequestError::NegativeShape {
                input: name,
                shape: Shape(shape),
            });
        };
        let tensor = match (parameters.binary_data_size, data) {
            (Some(size), _) => {
                let (bytes, rest) = raw
                    .split_at_checked(size)
                    .expect("invariant: the sizes sum to the raw bytes");
                *raw = rest;
                let data =
                    binary::read(bytes, datatype).map_err(|source| RequestError::Binary {
                        input: name.clone(),
                        source,
                    })?;
                Tensor::new(lengths, data).map_err(|source| RequestError::Count {
                    input: name.clone(),
                    source,
                })?
            }
            (None, Some(data)) => {
                elements::read(data, datatype, lengths).map_err(|source| RequestError::Data {
                    input: name.clone(),
                    source,
                })?
            }
            (None, None) => return Err(RequestError::NoData { input: name }),
        };
        Ok(NamedTensor { name, tensor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorData;
    use proptest::prelude::*;

    fn message(body: &str) -> String {
        InferRequest::parse(body.as_bytes(), None)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_request_is_read_whatever_the_order_of_its_fields() {
        let body = r#"{"parameters":{"mine":1},"id":"7","outputs":[{"name":"y"}],
            "inputs":[{"data":[1,null],"parameters":{},"shape":[2,1],"datatype":"FP32","name":"x"}]}"#;
        let request = InferRequest::parse(body.as_bytes(), None).unwrap();
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.inputs[0].name, "x");
        assert_eq!(request.inputs[0].tensor.shape(), [2, 1]);
        assert_eq!(request.outputs[0].name, "y");
        assert!(!request.outputs[0].binary && !request.binary_by_default);
    }

    #[test]
    fn raw_bytes_follow_the_json_in_the_order_of_the_inputs() {
        let json = r#"{"inputs":[
            {"name":"a","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}},
            {"name":"j","shape":[1],"datatype":"BOOL","data":[true]},
            {"name":"b","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}],
            "parameters":{"binary_data_output":true},"outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z"}]}"#;
        let mut body = json.as_bytes().to_vec();
        body.extend([1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, b'h', b'i']);
        let request = InferRequest::parse(&body, Some(json.len())).unwrap();
        let data: Vec<&TensorData> = request
            .inputs
            .iter()
            .map(|input| input.tensor.data())
            .collect();
        assert_eq!(data[0], &TensorData::Int32(vec![1, 2]));
        assert_eq!(data[1], &TensorData::Bool(vec![true]));
        assert_eq!(data[2], &TensorData::Bytes(vec!["hi".to_owned()]));
        assert!(!request.outputs[0].binary && request.outputs[1].binary);
        assert!(request.binary_by_default);
        let short = InferRequest::parse(&body[..body.len() - 1], Some(json.len())).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the raw bytes after the JSON are 13, the inputs tell of 14"
        );
        let beyond = InferRequest::parse(b"{}", Some(3)).unwrap_err();
        assert_eq!(
            beyond.to_string(),
            "the header says 3 bytes of JSON, the body has 2 bytes"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_the_inputs_name() {
        let with = |input: &str| format!(r#"{{"inputs":[{input}]}}"#);
        assert_eq!(
            message(&with(
                r#"{"name":"x","shape":[1],"datatype":"FLOAT","data":[1]}"#
            )),
            "input `x` has datatype `FLOAT`, which is none of the protocol's"
        );
        assert_eq!(
            message(&with(
                r#"{"name":"x","shape":[-1],"datatype":"FP32","data":[1]}"#
            )),
            "input `x` has shape [-1]: a request's dimensions cannot be negative"
        );
        assert_eq!(
            message(&with(r#"{"name":"x","shape":[1],"datatype":"FP32"}"#)),
            "input `x` has no data"
        );
        assert_eq!(
            message(&with(
                r#"{"name":"x","shape":[1],"datatype":"FP32","data":["a"]}"#
            )),
            "input `x`: expects FP32, got the text `a` at element 0"
        );
        assert!(message("{}").contains("missing field `inputs`"));
        assert!(message("[").contains("EOF"), "{}", message("["));
    }

    #[test]
    fn pythons_nan_gets_a_hint() {
        let text = r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1.0, NaN]}]}"#;
        assert!(
            message(text).ends_with("write null for a missing value"),
            "{}",
            message(text)
        );
        let text = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[-Infinity]}]}"#;
        assert!(
            message(text).ends_with("JSON has no infinities"),
            "{}",
            message(text)
        );
    }

    #[test]
    fn nesting_of_any_depth_is_refused_without_overflow() {
        let deep = "[".repeat(1_000_000);
        let open =
            format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":{deep}"#);
        assert!(InferRequest::parse(open.as_bytes(), None).is_err());
        let closed = format!("{open}{}}}]}}", "]".repeat(1_000_000));
        assert!(
            message(&closed).contains("nested more than"),
            "{}",
            message(&closed)
        );
        assert!(InferRequest::parse("{\"a\":".repeat(500_000).as_bytes(), None).is_err());
    }

    /// The same tensors as JSON, and as raw bytes after it.
    fn written(inputs: &[NamedTensor]) -> [(Vec<u8>, Option<usize>); 2] {
        let mut raw = Vec::new();
        let describe = |input: &NamedTensor| {
            serde_json::json!({"name": input.name, "shape": input.tensor.shape(),
                               "datatype": input.tensor.datatype()})
        };
        let (mut as_json, mut as_bytes) = (Vec::new(), Vec::new());
        for input in inputs {
            let mut one = describe(input);
            one["data"] = match input.tensor.data() {
                TensorData::Fp32(values) => serde_json::json!(values),
                TensorData::Int64(values) => serde_json::json!(values),
                TensorData::Bytes(values) => serde_json::json!(values),
                other => unreachable!("{other:?}"),
            };
            as_json.push(one);
            let before = raw.len();
            binary::write(input.tensor.data(), &mut raw);
            let mut one = describe(input);
            one["parameters"] = serde_json::json!({"binary_data_size": raw.len() - before});
            as_bytes.push(one);
        }
        let body = |inputs| {
            serde_json::json!({ "inputs": inputs })
                .to_string()
                .into_bytes()
        };
        let mut with_bytes = body(as_bytes);
        let length = with_bytes.len();
        with_bytes.extend(raw);
        [(body(as_json), None), (with_bytes, Some(length))]
    }

    proptest! {
        #[test]
        fn json_and_raw_bytes_carry_the_same_tensors(
            floats in prop::collection::vec(-1e30_f32..1e30, 0..9),
            integers: Vec<i64>,
            texts in prop::collection::vec(".{0,5}", 0..4),
        ) {
            let tensor = |name: &str, data: TensorData| NamedTensor {
                name: name.to_owned(),
                tensor: Tensor::new(vec![data.len(), 1], data).unwrap(),
            };
            let inputs = vec![
                tensor("f", TensorData::Fp32(floats)),
                tensor("i", TensorData::Int64(integers)),
                tensor("t", TensorData::Bytes(texts)),
            ];
            for (body, length) in written(&inputs) {
                let request = InferRequest::parse(&body, length).unwrap();
                prop_assert_eq!(&request.inputs, &inputs);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", length in proptest::option::of(0_usize..300)) {
            let _ = InferRequest::parse(text.as_bytes(), length);
        }
    }
}
