//! OTLP as JSON: protobuf's JSON with names in camel case, except that ids are hex (the OTLP
//! specification, "JSON Protobuf Encoding").
//!
//! Only the form is known here; what becomes of a span is `otlp`'s.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ask::{int, list};
use super::otlp::{DEPTH_MAX, Malformed, SPANS_MAX, Sent, Span, pair_json};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Request {
    #[serde(deserialize_with = "list")]
    resource_spans: Vec<OfResource>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct OfResource {
    #[serde(deserialize_with = "list")]
    scope_spans: Vec<OfScope>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfScope {
    #[serde(deserialize_with = "list")]
    spans: Vec<Written>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    name: String,
    #[serde(deserialize_with = "int")]
    start_time_unix_nano: Option<i64>,
    #[serde(deserialize_with = "int")]
    end_time_unix_nano: Option<i64>,
    #[serde(deserialize_with = "list")]
    attributes: Vec<Pair>,
    #[serde(deserialize_with = "list")]
    events: Vec<Event>,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pair {
    key: String,
    value: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Event {
    #[serde(deserialize_with = "int")]
    time_unix_nano: Option<i64>,
    name: String,
    #[serde(deserialize_with = "list")]
    attributes: Vec<Pair>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    message: String,
    code: Value,
}

/// Reads an `ExportTraceServiceRequest`.
pub(super) fn spans_of(body: &[u8]) -> Result<Vec<Span>, Malformed> {
    let request: Request = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let resources = request.resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    let spans: Vec<Written> = scopes.flat_map(|scope| scope.spans).collect();
    if spans.len() > SPANS_MAX {
        return Err(Malformed);
    }
    spans
        .into_iter()
        .map(|span| span.read().and_then(Sent::into_span))
        .collect()
}

impl Written {
    fn read(self) -> Result<Sent, Malformed> {
        let events = self.events.into_iter().map(|event| {
            let attributes: Vec<Value> = pairs(event.attributes)?.iter().map(pair_json).collect();
            let at = event.time_unix_nano.unwrap_or_default();
            Ok(json!({"time_unix_nano": at, "name": event.name, "attributes": attributes}))
        });
        Ok(Sent {
            trace: unhex(&self.trace_id)?,
            id: unhex(&self.span_id)?,
            parent: unhex(&self.parent_span_id)?,
            name: self.name,
            began_nanos: self.start_time_unix_nano.unwrap_or_default(),
            ended_nanos: self.end_time_unix_nano.unwrap_or_default(),
            events: events.collect::<Result<_, Malformed>>()?,
            attributes: pairs(self.attributes)?,
            message: self.status.message,
            code: match &self.status.code {
                Value::String(word) if word == "STATUS_CODE_ERROR" => 2,
                Value::String(word) if word == "STATUS_CODE_OK" => 1,
                code => code.as_u64().unwrap_or(0),
            },
        })
    }
}

fn pairs(pairs: Vec<Pair>) -> Result<Vec<(String, Value)>, Malformed> {
    let read = |pair: Pair| Ok((pair.key, any_of(&pair.value, 0)?));
    pairs.into_iter().map(read).collect()
}

/// An `AnyValue`, its fields named as protobuf names them.
fn any_of(any: &Map<String, Value>, depth: usize) -> Result<Value, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed);
    }
    let Some((kind, value)) = any.iter().next() else {
        return Ok(Value::Object(Map::new()));
    };
    let values = || {
        let list = value.get("values").and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    };
    let inner = |value: &Value| any_of(value.as_object().ok_or(Malformed)?, depth + 1);
    Ok(match kind.as_str() {
        "stringValue" => json!({"string_value": value.as_str().ok_or(Malformed)?}),
        "boolValue" => json!({"bool_value": value.as_bool().ok_or(Malformed)?}),
        "intValue" => json!({"int_value": int(value).map_err(|_| Malformed)?.ok_or(Malformed)?}),
        "doubleValue" => json!({"double_value": value}),
        "bytesValue" => {
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
            json!({"bytes_value": STANDARD.encode(bytes.ok_or(Malformed)?)})
        }
        "arrayValue" => {
            let values: Vec<Value> = values().iter().map(inner).collect::<Result<_, _>>()?;
            json!({"array_value": {"values": values}})
        }
        "kvlistValue" => {
            let pair = |pair: &Value| {
                let key = pair["key"].as_str().ok_or(Malformed)?;
                Ok(pair_json(&(key.to_owned(), inner(&pair["value"])?)))
            };
            let values: Vec<Value> = values()
                .iter()
                .map(pair)
                .collect::<Result<_, Malformed>>()?;
            json!({"kvlist_value": {"values": values}})
        }
        _ => return Err(Malformed),
    })
}

fn unhex(text: &str) -> Result<Vec<u8>, Malformed> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(Malformed);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Ok((digit(high)? << 4 | digit(low)?) as u8),
            _ => Err(Malformed),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_as_the_specification_writes_it() {
        let body = r#"{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"s"},
            "spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
            "parentSpanId":"EEE19B7EC3C1B173","name":"call","startTimeUnixNano":"1544712660000000000",
            "endTimeUnixNano":1544712661000000000,"kind":2,"status":{"code":2,"message":"no"},
            "events":[{"timeUnixNano":"5","name":"e"}],
            "attributes":[{"key":"k","value":{"kvlistValue":{"values":[{"key":"n","value":{"intValue":"7"}}]}}},
            {"key":"mlflow.spanInputs","value":{"stringValue":"in"}}]}]}]}]}"#;
        let span = spans_of(body.as_bytes()).unwrap().remove(0);
        assert_eq!(span.trace, "5b8efff798038103d269b633813fc60c");
        assert_eq!(
            (span.id.as_str(), span.is_root),
            ("eee19b7ec3c1b174", false)
        );
        assert_eq!(span.ended_nanos - span.began_nanos, 1_000_000_000);
        assert!(span.failed);
        assert_eq!(span.inputs.as_deref(), Some("\"in\""));
        let value = json!({"kvlist_value": {"values": [{"key": "n", "value": {"int_value": 7}}]}});
        assert_eq!(span.json["attributes"][0]["value"], value);
        assert_eq!(span.json["events"][0]["time_unix_nano"], 5);
    }

    #[test]
    fn what_is_no_span_is_malformed() {
        let of = |span: &str| {
            let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
            spans_of(body.as_bytes())
        };
        let ids = r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174""#;
        let with = |more: &str| of(&format!("{{{ids}{more}}}"));
        assert!(with("").is_ok());
        let many = vec![format!("{{{ids}}}"); SPANS_MAX + 1].join(",");
        assert_eq!(of(&many), Err(Malformed));
        for bad in [
            r#"{"traceId":"0"}"#,
            r#"{"traceId":"00"}"#,
            r#"{"traceId":"zz"}"#,
            "7",
        ] {
            assert_eq!(of(bad), Err(Malformed), "{bad}");
        }
        for bad in [
            r#","attributes":[{"key":"k","value":{"otherValue":1}}]"#,
            r#","attributes":[{"key":"k","value":{"intValue":"x"}}]"#,
        ] {
            assert_eq!(with(bad), Err(Malformed), "{bad}");
        }
    }
}
