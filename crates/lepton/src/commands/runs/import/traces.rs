//! Bringing traces: what is known of them, what was said of them, and their spans.
//!
//! A trace keeps its id. Spans that the source's server has in its own store come into the server's store here;
//! others stay the file that MLflow's clients read, `traces.json`. The last step notes on the trace what its
//! source looked like; where that has not changed, the trace is passed over the next time.

use lepton_client::Method;
use serde_json::{Map, Value, json};

use super::experiments::Standing;
use super::file_traces::SPANS_FILE;
use super::source::{Source, SourceTrace, Spans};
use super::{DONE_TAG, Importing, is_refused, is_refused_by_face};
use crate::failure::Failure;
use crate::progress::Progress;

/// The tags that say where the files and the spans of a trace are: the server's own.
const LOCATION_TAG: &str = "mlflow.artifactLocation";
pub(super) const SPANS_TAG: &str = "mlflow.trace.spansLocation";

/// Metadata that names a run, and a logged model.
const RUN_KEY: &str = "mlflow.sourceRun";
const MODEL_KEY: &str = "mlflow.modelId";

/// Spans in one request.
const SPANS_SENT: usize = 200;

impl Importing<'_> {
    pub(super) fn bring_traces(
        &mut self,
        source: &Source,
        experiment: &Standing,
        progress: &Progress,
    ) -> Result<(), Failure> {
        source.each_trace(&experiment.source, &mut |found| {
            match found {
                Ok(trace) => {
                    self.one_more(progress);
                    progress.say(trace.id.clone());
                    self.bring_trace(source, experiment, &trace)?;
                    progress.advance(1);
                }
                Err(why) => self.left_out(why),
            }
            Ok(())
        })
    }

    fn bring_trace(
        &mut self,
        source: &Source,
        experiment: &Standing,
        trace: &SourceTrace,
    ) -> Result<(), Failure> {
        let shown = format!("trace `{}`", trace.id);
        let known = match self.client.trace(&trace.id) {
            Ok(known) => known,
            Err(error) if error.status() == Some(404) => Value::Null,
            Err(error) if is_refused_by_face(&error) => {
                self.left_out(format!("{shown}: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if known["trace"]["trace_info"]["tags"][DONE_TAG] == trace.fingerprint.as_str() {
            self.brought.unchanged += 1;
            return Ok(());
        }
        let info = self.info_here(experiment, trace);
        let told = match self
            .client
            .put_trace(&json!({"trace": {"trace_info": info}}))
        {
            Ok(told) => told,
            Err(error) if is_refused_by_face(&error) => {
                self.left_out(format!("{shown}: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let location = &told["trace"]["trace_info"]["tags"][LOCATION_TAG];
        let location = location.as_str().unwrap_or_default();
        self.bring_spans(source, experiment, (trace, location))?;
        let fields = json!({"key": DONE_TAG, "value": trace.fingerprint});
        let path = format!("traces/{}/tags", trace.id);
        self.tell(&Method::PATCH, &path, &fields, &shown)?;
        self.brought.traces += 1;
        Ok(())
    }

    /// What is known of a trace, in the words of the server here.
    fn info_here(&self, experiment: &Standing, trace: &SourceTrace) -> Value {
        let mut info = trace.info.clone();
        info["trace_location"] = json!({
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": experiment.id},
        });
        if let Some(tags) = info["tags"].as_object_mut() {
            tags.remove(LOCATION_TAG);
            tags.remove(SPANS_TAG);
        }
        if let Some(metadata) = info["trace_metadata"].as_object_mut() {
            let run = metadata.get(RUN_KEY).and_then(Value::as_str);
            if let Some(run) = run.and_then(|run| self.runs.get(run)) {
                metadata.insert(RUN_KEY.to_owned(), run.to_string().into());
            }
            let model = metadata.get(MODEL_KEY).and_then(Value::as_str);
            if let Some(model) = model.and_then(|model| self.logged.get(model)) {
                metadata.insert(MODEL_KEY.to_owned(), model.id.clone().into());
            }
        }
        info
    }

    fn bring_spans(
        &mut self,
        source: &Source,
        experiment: &Standing,
        (trace, location): (&SourceTrace, &str),
    ) -> Result<(), Failure> {
        let sent = match source.spans(&experiment.source, trace)? {
            Spans::Listed(spans) => spans.chunks(SPANS_SENT).try_for_each(|some| {
                let some: Vec<Value> = some.iter().map(|span| otlp_of(span, &trace.id)).collect();
                let scope = json!([{"spans": some}]);
                let spans = json!({"resourceSpans": [{"scopeSpans": scope}]});
                self.client.put_spans(&experiment.id, &spans)
            }),
            Spans::File(file) => match location.strip_prefix("mlflow-artifacts:/") {
                Some(folder) => {
                    let path = format!("{folder}/{SPANS_FILE}");
                    self.client.put_mlflow_file(&path, (*file).as_ref())
                }
                None => {
                    let why = "its experiment keeps files elsewhere";
                    self.left_out(format!("the spans of trace `{}`: {why}", trace.id));
                    Ok(())
                }
            },
            Spans::Nowhere => {
                self.left_out(format!(
                    "the spans of trace `{}`: nobody has them",
                    trace.id
                ));
                Ok(())
            }
        };
        match sent {
            Err(error) if is_refused(&error) || is_refused_by_face(&error) => {
                self.left_out(format!("the spans of trace `{}`: {error}", trace.id));
                Ok(())
            }
            sent => Ok(sent?),
        }
    }
}

/// What MLflow 2 says of a trace, in the words of MLflow 3. What is told already in those words stays.
pub(super) fn info_of_second(info: &Value) -> Value {
    let pairs = |field: &str| match &info[field] {
        Value::Array(list) => {
            let pair =
                |pair: &Value| Some((pair["key"].as_str()?.to_owned(), pair["value"].clone()));
            Value::Object(list.iter().filter_map(pair).collect())
        }
        other => other.clone(),
    };
    let millis = super::tracking_server::integer(&info["timestamp_ms"]).unwrap_or_default();
    let known = ["OK", "ERROR", "IN_PROGRESS"];
    let state = info["status"]
        .as_str()
        .filter(|state| known.contains(state));
    let mut third = json!({
        "trace_id": info["request_id"],
        "request_time": lepton_types::Timestamp::from_millis(millis).to_string(),
        "state": state.unwrap_or("STATE_UNSPECIFIED"),
        "trace_metadata": pairs("request_metadata"),
        "tags": pairs("tags"),
    });
    if let Some(ms) = info["execution_time_ms"].as_f64() {
        third["execution_duration"] = format!("{}s", ms / 1_000.0).into();
    }
    third
}

/// A span of MLflow's REST API as OTLP's JSON has it: names in camel case, and ids in hex. It says which trace
/// it is of, as MLflow's own exporter does.
fn otlp_of(span: &Value, trace: &str) -> Value {
    let mut written = renamed(span);
    for field in ["traceId", "spanId", "parentSpanId"] {
        if let Some(id) = written[field].as_str() {
            written[field] = hex_of(id).into();
        }
    }
    if written["attributes"].as_array().is_none() {
        written["attributes"] = json!([]);
    }
    let is_told = |pair: &Value| pair["key"] == "mlflow.traceRequestId";
    if let Some(attributes) = written["attributes"].as_array_mut()
        && !attributes.iter().any(is_told)
    {
        let value = json!({"stringValue": trace});
        attributes.push(json!({"key": "mlflow.traceRequestId", "value": value}));
    }
    written
}

/// The same with the names of all fields in camel case.
fn renamed(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(renamed).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| (camel(name), renamed(value));
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// Protobuf's JSON has bytes in base64, OTLP's has ids in hex.
fn hex_of(base64: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
    let bytes = bytes.unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_mlflows_api_becomes_one_of_otlp() {
        let span = json!({
            "trace_id": "AQAsz/NnirdbR45Dyn38HQ==", "span_id": "P6nLnbsGseA=", "name": "a_name",
            "start_time_unix_nano": 1, "status": {"code": "STATUS_CODE_OK"},
            "attributes": [{"key": "in_put", "value": {"kvlist_value": {"values": [
                {"key": "k_1", "value": {"array_value": {"values": [{"int_value": 3}]}}}]}}}],
        });
        let written = otlp_of(&span, "tr-1");
        assert_eq!(written["traceId"], "01002ccff3678ab75b478e43ca7dfc1d");
        assert_eq!(written["spanId"], "3fa9cb9dbb06b1e0");
        assert_eq!(
            (&written["name"], &written["startTimeUnixNano"]),
            (&json!("a_name"), &json!(1))
        );
        let told = json!({"key": "mlflow.traceRequestId", "value": {"stringValue": "tr-1"}});
        let input = json!({"key": "in_put", "value": {"kvlistValue": {"values": [
            {"key": "k_1", "value": {"arrayValue": {"values": [{"intValue": 3}]}}}]}}});
        assert_eq!(written["attributes"], json!([input, told]));
    }

    #[test]
    fn what_mlflow_2_says_of_a_trace_is_said_in_the_words_of_3() {
        let second = json!({
            "request_id": "ab", "experiment_id": "1", "timestamp_ms": 1_500, "execution_time_ms": 33,
            "status": "TRACE_STATUS_UNSPECIFIED", "request_metadata": [{"key": "m", "value": "1"}],
            "tags": [{"key": "t", "value": "2"}],
        });
        let third = info_of_second(&second);
        assert_eq!(
            (&third["trace_id"], &third["state"]),
            (&json!("ab"), &json!("STATE_UNSPECIFIED"))
        );
        assert_eq!(third["request_time"], "1970-01-01T00:00:01.500Z");
        assert_eq!(third["execution_duration"], "0.033s");
        assert_eq!(
            (&third["trace_metadata"], &third["tags"]),
            (&json!({"m": "1"}), &json!({"t": "2"}))
        );
    }
}
