//! The answer to a request to infer, from tensors to bytes.

use lepton_types::signature::Datatype;
use serde::Serialize;
use serde::ser::Serializer;

use super::binary;
use super::request::RequestedOutput;
use crate::engine::Output;
use crate::tensor::TensorData;

/// The outputs of a run, and what of them the caller wants.
#[derive(Debug)]
pub struct InferReply<'a> {
    /// The model's name.
    pub model_name: &'a str,
    /// Its version.
    pub model_version: &'a str,
    /// The request's id, given back.
    pub id: Option<&'a str>,
    /// The outputs wanted; all of them where empty.
    pub wanted: &'a [RequestedOutput],
    /// Whether outputs that are not named are wanted as raw bytes.
    pub binary_by_default: bool,
}

/// A response's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedReply {
    /// The JSON, then the raw bytes.
    pub body: Vec<u8>,
    /// How many of the bytes are JSON, where raw bytes follow.
    pub json_length: Option<usize>,
}

/// A request for an output that the model does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model has no output `{name}`: {suggestion}")]
pub struct UnknownOutput {
    /// The name asked for.
    pub name: String,
    suggestion: String,
}

#[derive(Serialize)]
struct Wire<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<WireOutput<'a>>,
}

#[derive(Serialize)]
struct WireOutput<'a> {
    name: &'a str,
    datatype: Datatype,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<WireParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct WireParameters {
    binary_data_size: usize,
}

impl InferReply<'_> {
    /// Writes the response.
    ///
    /// # Errors
    /// An output is wanted that the model does not have.
    pub fn encode(&self, outputs: &[Output]) -> Result<EncodedReply, UnknownOutput> {
        let chosen: Vec<(&Output, bool)> = if self.wanted.is_empty() {
            let all = outputs
                .iter()
                .map(|output| (output, self.binary_by_default));
            all.collect()
        } else {
            self.wanted
                .iter()
                .map(|wanted| Ok((find(outputs, &wanted.name)?, wanted.binary)))
                .collect::<Result<_, _>>()?
        };
        let mut raw = Vec::new();
        let wire = Wire {
            model_name: self.model_name,
            model_version: self.model_version,
            id: self.id,
            outputs: chosen
                .into_iter()
                .map(|(output, binary)| WireOutput::new(output, binary, &mut raw))
                .collect(),
        };
        let mut body =
            serde_json::to_vec(&wire).expect("invariant: text keys and plain values are JSON");
        let json_length = (!raw.is_empty()).then_some(body.len());
        body.append(&mut raw);
        Ok(EncodedReply { body, json_length })
    }
}

fn find<'a>(outputs: &'a [Output], name: &str) -> Result<&'a Output, UnknownOutput> {
    outputs
        .iter()
        .find(|output| output.name == name)
        .ok_or_else(|| {
            let known: Vec<String> = outputs.iter().map(|output| output.name.clone()).collect();
            UnknownOutput {
                name: name.to_owned(),
                suggestion: crate::inputs::suggest(name, &known),
            }
        })
}

impl<'a> WireOutput<'a> {
    fn new(output: &'a Output, binary: bool, raw: &mut Vec<u8>) -> Self {
        let data = output.tensor.data();
        let before = raw.len();
        if binary {
            binary::write(data, raw);
        }
        Self {
            name: &output.name,
            datatype: data.datatype(),
            shape: output.tensor.shape(),
            parameters: binary.then(|| WireParameters {
                binary_data_size: raw.len() - before,
            }),
            data: (!binary).then_some(Elements(data)),
        }
    }
}

/// Elements as a flat JSON array; what is not finite is `null`, for JSON has no word for it.
struct Elements<'a>(&'a TensorData);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            TensorData::Bool(values) => values.serialize(serializer),
            TensorData::Uint8(values) => values.serialize(serializer),
            TensorData::Uint16(values) => values.serialize(serializer),
            TensorData::Uint32(values) => values.serialize(serializer),
            TensorData::Uint64(values) => values.serialize(serializer),
            TensorData::Int8(values) => values.serialize(serializer),
            TensorData::Int16(values) => values.serialize(serializer),
            TensorData::Int32(values) => values.serialize(serializer),
            TensorData::Int64(values) => values.serialize(serializer),
            TensorData::Fp16(values) => serializer.collect_seq(values.iter().map(|it| it.to_f32())),
            TensorData::Bf16(values) => serializer.collect_seq(values.iter().map(|it| it.to_f32())),
            TensorData::Fp32(values) => values.serialize(serializer),
            TensorData::Fp64(values) => values.serialize(serializer),
            TensorData::Bytes(values) => values.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn outputs() -> Vec<Output> {
        let output = |name: &str, shape: &[usize], data| Output {
            name: name.to_owned(),
            tensor: Tensor::new(shape.to_vec(), data).unwrap(),
            columns: None,
        };
        vec![
            output("y", &[1, 2], TensorData::Fp32(vec![0.1, f32::NAN])),
            output("label", &[1], TensorData::Bytes(vec!["ja".to_owned()])),
        ]
    }

    fn reply<'a>(wanted: &'a [RequestedOutput], binary_by_default: bool) -> InferReply<'a> {
        InferReply {
            model_name: "m",
            model_version: "3",
            id: Some("7"),
            wanted,
            binary_by_default,
        }
    }

    #[test]
    fn json_by_default_with_the_id_given_back() {
        let encoded = reply(&[], false).encode(&outputs()).unwrap();
        assert_eq!(encoded.json_length, None);
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            concat!(
                r#"{"model_name":"m","model_version":"3","id":"7","outputs":["#,
                r#"{"name":"y","datatype":"FP32","shape":[1,2],"data":[0.1,null]},"#,
                r#"{"name":"label","datatype":"BYTES","shape":[1],"data":["ja"]}]}"#
            )
        );
    }

    #[test]
    fn raw_bytes_where_wanted_and_only_what_is_wanted() {
        let wanted = [RequestedOutput {
            name: "label".to_owned(),
            binary: true,
        }];
        let encoded = reply(&wanted, false).encode(&outputs()).unwrap();
        let (json, raw) = encoded.body.split_at(encoded.json_length.unwrap());
        assert!(
            std::str::from_utf8(json)
                .unwrap()
                .contains(r#"{"binary_data_size":6}"#)
        );
        assert_eq!(raw, [2, 0, 0, 0, b'j', b'a']);
        let unknown = [RequestedOutput {
            name: "labels".to_owned(),
            binary: false,
        }];
        assert_eq!(
            reply(&unknown, false)
                .encode(&outputs())
                .unwrap_err()
                .to_string(),
            "the model has no output `labels`: did you mean `label`?"
        );
    }
}
