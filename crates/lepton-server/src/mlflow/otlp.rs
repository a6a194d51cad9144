//! Spans as OpenTelemetry's exporters send them: OTLP's protobuf (opentelemetry-proto 1.9, `trace.proto`
//! and `common.proto`), read into the JSON that MLflow's clients read back.
//!
//! Only the wire format is known here, and those fields that are kept. What is read is bounded by
//! the length of the body and by how deep values nest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// How deep values may lie in values.
pub(super) const DEPTH_MAX: usize = 32;

/// Spans in one request; exporters send 512 at a time unless told otherwise.
pub(super) const SPANS_MAX: usize = 10_000;

/// Messages in one request: attributes, events, values in values. Two bytes on the wire may stand for
/// one, and each takes a few hundred in memory.
const MESSAGES_MAX: usize = 200_000;

/// Bytes that are no OTLP, or too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the body is no OTLP: a span has a trace id of 16 bytes and an id of 8, and a request at most \
     {SPANS_MAX} spans and {MESSAGES_MAX} attributes and values"
)]
pub(super) struct Malformed;

/// How many messages a request may still hold.
struct Room(usize);

impl Room {
    fn take(&mut self) -> Result<(), Malformed> {
        self.0 = self.0.checked_sub(1).ok_or(Malformed)?;
        Ok(())
    }
}

/// A span, and what is asked of it beside its JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    /// The trace's id as its exporter has it, in hex.
    pub(super) trace: String,
    /// MLflow's id of the trace, if the exporter is MLflow's.
    pub(super) request: Option<String>,
    /// The span's id in hex.
    pub(super) id: String,
    pub(super) is_root: bool,
    pub(super) name: String,
    pub(super) began_nanos: i64,
    pub(super) ended_nanos: i64,
    pub(super) failed: bool,
    pub(super) inputs: Option<String>,
    pub(super) outputs: Option<String>,
    pub(super) json: Value,
}

/// Reads an `ExportTraceServiceRequest`.
pub(super) fn spans_of(body: &[u8]) -> Result<Vec<Span>, Malformed> {
    let mut room = Room(MESSAGES_MAX);
    let mut spans = Vec::new();
    for resource in messages(body, 1, &mut room)? {
        for scope in messages(resource, 2, &mut room)? {
            for span in messages(scope, 2, &mut room)? {
                if spans.len() == SPANS_MAX {
                    return Err(Malformed);
                }
                spans.push(span_of(span, &mut room)?);
            }
        }
    }
    Ok(spans)
}

/// A span as it came, whichever way it was written.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) trace: Vec<u8>,
    pub(super) id: Vec<u8>,
    /// Empty for a root.
    pub(super) parent: Vec<u8>,
    pub(super) name: String,
    pub(super) began_nanos: i64,
    pub(super) ended_nanos: i64,
    /// Each with an `AnyValue` as protobuf's JSON has it.
    pub(super) attributes: Vec<(String, Value)>,
    pub(super) events: Vec<Value>,
    pub(super) message: String,
    pub(super) code: u64,
}

fn span_of(body: &[u8], room: &mut Room) -> Result<Span, Malformed> {
    let mut sent = Sent::default();
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(bytes)) => sent.trace = bytes.to_vec(),
            (2, Wire::Bytes(bytes)) => sent.id = bytes.to_vec(),
            (4, Wire::Bytes(bytes)) => sent.parent = bytes.to_vec(),
            (5, Wire::Bytes(bytes)) => sent.name = text(bytes),
            (7, Wire::Fixed(nanos)) => sent.began_nanos = nanos.cast_signed(),
            (8, Wire::Fixed(nanos)) => sent.ended_nanos = nanos.cast_signed(),
            (9, Wire::Bytes(bytes)) => sent.attributes.push(pair_of(bytes, 0, room)?),
            (11, Wire::Bytes(bytes)) => sent.events.push(event_of(bytes, room)?),
            (15, Wire::Bytes(bytes)) => (sent.message, sent.code) = status_of(bytes)?,
            _ => {}
        }
    }
    sent.into_span()
}

impl Sent {
    /// As it is kept: in the JSON that MLflow's clients read.
    pub(super) fn into_span(self) -> Result<Span, Malformed> {
        let lengths = (self.trace.len(), self.id.len(), self.parent.len());
        if !matches!(lengths, (16, 8, 0 | 8)) {
            return Err(Malformed);
        }
        let attribute = |wanted: &str| {
            let found = self.attributes.iter().find(|(key, _)| key == wanted);
            found.map(|(_, value)| plain(value))
        };
        let string = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let mut json = json!({
            "trace_id": STANDARD.encode(&self.trace),
            "span_id": STANDARD.encode(&self.id),
            "name": self.name,
            "start_time_unix_nano": self.began_nanos,
            "end_time_unix_nano": self.ended_nanos,
            "attributes": self.attributes.iter().map(pair_json).collect::<Vec<_>>(),
            "status": {"code": status_word(self.code), "message": self.message},
        });
        if !self.parent.is_empty() {
            json["parent_span_id"] = STANDARD.encode(&self.parent).into();
        }
        if !self.events.is_empty() {
            json["events"] = self.events.clone().into();
        }
        Ok(Span {
            request: attribute("mlflow.traceRequestId").map(string),
            inputs: attribute("mlflow.spanInputs").map(|value| value.to_string()),
            outputs: attribute("mlflow.spanOutputs").map(|value| value.to_string()),
            trace: hex(&self.trace),
            id: hex(&self.id),
            is_root: self.parent.is_empty(),
            name: self.name,
            began_nanos: self.began_nanos,
            ended_nanos: self.ended_nanos,
            failed: self.code == 2,
            json,
        })
    }
}

const fn status_word(code: u64) -> &'static str {
    match code {
        1 => "STATUS_CODE_OK",
        2 => "STATUS_CODE_ERROR",
        _ => "STATUS_CODE_UNSET",
    }
}

fn status_of(body: &[u8]) -> Result<(String, u64), Malformed> {
    let (mut message, mut code) = (String::new(), 0);
    for field in Fields(body) {
        match field? {
            (2, Wire::Bytes(bytes)) => message = text(bytes),
            (3, Wire::Number(number)) => code = number,
            _ => {}
        }
    }
    Ok((message, code))
}

fn event_of(body: &[u8], room: &mut Room) -> Result<Value, Malformed> {
    room.take()?;
    let (mut at, mut name, mut attributes) = (0, String::new(), Vec::new());
    for field in Fields(body) {
        match field? {
            (1, Wire::Fixed(nanos)) => at = nanos,
            (2, Wire::Bytes(bytes)) => name = text(bytes),
            (3, Wire::Bytes(bytes)) => attributes.push(pair_json(&pair_of(bytes, 0, room)?)),
            _ => {}
        }
    }
    Ok(json!({"time_unix_nano": at, "name": name, "attributes": attributes}))
}

fn pair_of(body: &[u8], depth: usize, room: &mut Room) -> Result<(String, Value), Malformed> {
    room.take()?;
    let (mut key, mut value) = (String::new(), Value::Object(Map::new()));
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes),
            (2, Wire::Bytes(bytes)) => value = any_of(bytes, depth, room)?,
            _ => {}
        }
    }
    Ok((key, value))
}

pub(super) fn pair_json((key, value): &(String, Value)) -> Value {
    json!({"key": key, "value": value})
}

/// An `AnyValue` as protobuf's JSON has it.
fn any_of(body: &[u8], depth: usize, room: &mut Room) -> Result<Value, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed);
    }
    let mut value = Value::Object(Map::new());
    for field in Fields(body) {
        value = match field? {
            (1, Wire::Bytes(bytes)) => json!({"string_value": text(bytes)}),
            (2, Wire::Number(number)) => json!({"bool_value": number != 0}),
            (3, Wire::Number(number)) => json!({"int_value": number.cast_signed()}),
            (4, Wire::Fixed(bits)) => json!({"double_value": f64::from_bits(bits)}),
            (5, Wire::Bytes(list)) => {
                let values: Result<Vec<Value>, Malformed> = messages(list, 1, room)?
                    .into_iter()
                    .map(|one| any_of(one, depth + 1, room))
                    .collect();
                json!({"array_value": {"values": values?}})
            }
            (6, Wire::Bytes(list)) => {
                let values: Result<Vec<Value>, Malformed> = messages(list, 1, room)?
                    .into_iter()
                    .map(|one| pair_of(one, depth + 1, room).map(|pair| pair_json(&pair)))
                    .collect();
                json!({"kvlist_value": {"values": values?}})
            }
            (7, Wire::Bytes(bytes)) => json!({"bytes_value": STANDARD.encode(bytes)}),
            _ => value,
        };
    }
    Ok(value)
}

/// What an `AnyValue` says, as JSON people write.
fn plain(any: &Value) -> Value {
    let Some((kind, value)) = any.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        "array_value" => {
            let values = value["values"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            values.iter().map(plain).collect()
        }
        "kvlist_value" => {
            let values = value["values"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let pair = |pair: &Value| {
                let key = pair["key"].as_str().unwrap_or_default().to_owned();
                (key, plain(&pair["value"]))
            };
            Value::Object(values.iter().map(pair).collect())
        }
        _ => value.clone(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The messages of a repeated field.
fn messages<'a>(body: &'a [u8], number: u64, room: &mut Room) -> Result<Vec<&'a [u8]>, Malformed> {
    let mut found = Vec::new();
    for field in Fields(body) {
        if let (field, Wire::Bytes(bytes)) = field?
            && field == number
        {
            room.take()?;
            found.push(bytes);
        }
    }
    Ok(found)
}

/// What a field holds on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, each with its number.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing after this can be told apart.
            self.0 = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.number()?;
        let wire = match key & 7 {
            0 => Wire::Number(self.number()?),
            1 => Wire::Fixed(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some((key >> 3, wire))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
        let length = u8::try_from(inner.len()).unwrap();
        [&[(number << 3) | 2, length][..], inner].concat()
    }

    fn sample() -> Vec<u8> {
        let value = bytes(2, &[0x18, 0x08]);
        let attribute = [bytes(1, b"mlflow.spanOutputs"), value].concat();
        let span = [
            bytes(1, &[1; 16]),
            bytes(2, &[2; 8]),
            bytes(5, b"outer"),
            [&[0x39][..], &7_u64.to_le_bytes()].concat(),
            bytes(9, &attribute),
            bytes(15, &[0x18, 0x02]),
        ]
        .concat();
        bytes(1, &bytes(2, &bytes(2, &span)))
    }

    #[test]
    fn a_span_is_read() {
        let spans = spans_of(&sample()).unwrap();
        let span = &spans[0];
        assert_eq!(
            (span.trace.as_str(), span.name.as_str()),
            ("01".repeat(16).as_str(), "outer")
        );
        assert_eq!(
            (span.began_nanos, span.is_root, span.failed),
            (7, true, true)
        );
        assert_eq!(span.outputs.as_deref(), Some("8"));
        assert_eq!(span.json["attributes"][0]["value"], json!({"int_value": 8}));
    }

    #[test]
    fn what_is_cut_is_malformed() {
        let whole = sample();
        for length in 1..whole.len() {
            assert_eq!(spans_of(&whole[..length]), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn a_request_holds_so_many_spans_and_values_and_no_more() {
        let long = |number: u8, inner: &[u8]| {
            let mut length = inner.len();
            let mut whole = vec![(number << 3) | 2];
            while length > 0x7f {
                whole.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            whole.push(u8::try_from(length).unwrap());
            [&whole[..], inner].concat()
        };
        let request = |spans: &[u8]| long(1, &long(2, spans));
        let span = [bytes(1, &[1; 16]), bytes(2, &[2; 8])].concat();
        let all = bytes(2, &span).repeat(SPANS_MAX);
        assert_eq!(spans_of(&request(&all)).unwrap().len(), SPANS_MAX);
        let one_more = bytes(2, &span).repeat(SPANS_MAX + 1);
        assert_eq!(spans_of(&request(&one_more)), Err(Malformed));
        // Two bytes are an attribute, a span, or a value.
        for (number, inner) in [(9, [].as_slice()), (11, &[])] {
            let stuffed = [&span[..], &bytes(number, inner).repeat(MESSAGES_MAX)].concat();
            assert_eq!(spans_of(&request(&long(2, &stuffed))), Err(Malformed));
        }
        assert_eq!(
            spans_of(&request(&[0x12, 0].repeat(1_000_000))),
            Err(Malformed)
        );
    }

    #[test]
    fn a_span_without_whole_ids_is_malformed() {
        let of = |trace: &[u8], span: &[u8], parent: &[u8]| {
            let span = [bytes(1, trace), bytes(2, span), bytes(4, parent)].concat();
            spans_of(&bytes(1, &bytes(2, &bytes(2, &span))))
        };
        assert!(of(&[1; 16], &[1; 8], &[]).is_ok());
        for (trace, span, parent) in [(15, 8, 0), (16, 7, 0), (16, 8, 9), (0, 0, 0)] {
            let bytes = |count: usize| vec![1; count];
            let refused = of(&bytes(trace), &bytes(span), &bytes(parent));
            assert_eq!(refused, Err(Malformed));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>) {
            let _either = spans_of(&body);
        }
    }
}
