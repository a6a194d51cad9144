//! Runs in MLflow's words, written as they are read: a page of a thousand is one text from the start, and
//! never a thousand records.
//!
//! As protobuf's JSON has it, what is empty is left out.

use lepton_store::{RunHead, RunSink};
use lepton_types::Timestamp;
use lepton_types::tracking::{ModelLink, ModelUse, RunDataset};
use serde::{Serialize, Serializer};
use serde_json::to_writer;

use super::filter::runs::RUN_NAME_TAG;
use super::wire::{DefaultExperiment, RunInfo, Tag, float, model_id, tags};

/// Runs as JSON, one after the other, parted by commas.
pub(super) struct RunsText {
    text: Vec<u8>,
    default: DefaultExperiment,
    /// What of the run under way comes after what it logged.
    run: Ending,
    /// In which list of the run's data the text is.
    within: Option<Logged>,
}

/// What a run's text ends with.
#[derive(Default)]
struct Ending {
    name: String,
    datasets: Vec<DatasetInput>,
    models: Vec<ModelLink>,
}

/// Lists of a run's data, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logged {
    Metrics,
    Params,
    Tags,
}

impl Logged {
    const fn field(self) -> &'static [u8] {
        match self {
            Self::Metrics => b"\"metrics\":[",
            Self::Params => b"\"params\":[",
            Self::Tags => b"\"tags\":[",
        }
    }
}

#[derive(Serialize)]
struct Inputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<DatasetInput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<ModelWire>,
}

#[derive(Serialize)]
struct DatasetInput {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    dataset: DatasetWire,
}

#[derive(Serialize)]
struct DatasetWire {
    name: String,
    digest: String,
    source_type: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
}

#[derive(Serialize)]
struct ModelWire {
    model_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
}

#[derive(Serialize)]
struct Outputs {
    model_outputs: Vec<ModelWire>,
}

impl RunsText {
    /// A text that begins with `start`.
    pub(super) fn new(start: &str, default: DefaultExperiment) -> Self {
        Self {
            text: start.as_bytes().to_vec(),
            default,
            run: Ending::default(),
            within: None,
        }
    }

    /// The text, with `end` after the runs.
    pub(super) fn ended(mut self, end: &str) -> Vec<u8> {
        self.text.extend_from_slice(end.as_bytes());
        self.text
    }

    fn put(&mut self, value: &(impl Serialize + ?Sized)) {
        to_writer(&mut self.text, value).expect("invariant: what is written has text keys");
    }

    /// Goes to the next place in a list of the run's data.
    fn enter(&mut self, list: Logged) {
        match self.within {
            Some(open) if open == list => self.text.push(b','),
            open => {
                if open.is_some() {
                    self.text.extend_from_slice(b"],");
                }
                self.text.extend_from_slice(list.field());
                self.within = Some(list);
            }
        }
    }

    fn pair(&mut self, key: &str, value: &str) {
        self.text.extend_from_slice(b"{\"key\":");
        self.put(key);
        self.text.extend_from_slice(b",\"value\":");
        self.put(value);
        self.text.push(b'}');
    }
}

/// A float as protobuf's JSON has it.
struct Float(f64);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        float(&self.0, serializer)
    }
}

impl RunSink for RunsText {
    fn head(&mut self, head: RunHead) {
        if self.text.ends_with(b"}") {
            self.text.push(b',');
        }
        let info = RunInfo::of_head(head, self.default);
        self.text.extend_from_slice(b"{\"info\":");
        self.put(&info);
        self.text.extend_from_slice(b",\"data\":{");
        self.run.name = info.run_name;
    }

    fn metric(&mut self, key: &str, value: f64, at: Timestamp, step: i64) {
        self.enter(Logged::Metrics);
        self.text.extend_from_slice(b"{\"key\":");
        self.put(key);
        self.text.extend_from_slice(b",\"value\":");
        self.put(&Float(value));
        self.text.extend_from_slice(b",\"timestamp\":");
        self.put(&at.as_millis());
        self.text.extend_from_slice(b",\"step\":");
        self.put(&step);
        self.text.push(b'}');
    }

    fn param(&mut self, key: &str, value: &str) {
        self.enter(Logged::Params);
        self.pair(key, value);
    }

    fn tag(&mut self, key: &str, value: &str) {
        // The name is told once, and by the run.
        if key != RUN_NAME_TAG {
            self.enter(Logged::Tags);
            self.pair(key, value);
        }
    }

    fn dataset(&mut self, data: RunDataset) {
        self.run.datasets.push(DatasetInput {
            tags: tags(data.tags),
            dataset: DatasetWire {
                name: data.name,
                digest: data.digest,
                source_type: data.source_type,
                source: data.source,
                schema: data.schema,
                profile: data.profile,
            },
        });
    }

    fn model(&mut self, link: ModelLink) {
        self.run.models.push(link);
    }

    fn end(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.enter(Logged::Tags);
        self.pair(RUN_NAME_TAG, &run.name);
        self.within = None;
        self.text.extend_from_slice(b"]},\"inputs\":");
        let links = |wanted: ModelUse| {
            let links = run.models.iter().filter(move |link| link.r#use == wanted);
            let model = move |link: &ModelLink| ModelWire {
                model_id: model_id(link.model),
                step: (wanted == ModelUse::Output).then_some(link.step),
            };
            links.map(model).collect::<Vec<_>>()
        };
        let (inputs, outputs) = (links(ModelUse::Input), links(ModelUse::Output));
        self.put(&Inputs {
            dataset_inputs: run.datasets,
            model_inputs: inputs,
        });
        if !outputs.is_empty() {
            self.text.extend_from_slice(b",\"outputs\":");
            self.put(&Outputs {
                model_outputs: outputs,
            });
        }
        self.text.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use lepton_types::Id;
    use serde_json::{Value, json};

    use super::*;

    fn head(number: u8, name: &str) -> RunHead {
        RunHead {
            id: Id::from_bytes([number; 16]),
            project: "default".to_owned(),
            experiment: Id::from_bytes([9; 16]).into(),
            name: name.to_owned(),
            phase: "RUNNING".to_owned(),
            user: "me".to_owned(),
            artifact_uri: None,
            started_at: Timestamp::from_millis(5),
            finished_at: None,
            is_deleted: false,
        }
    }

    #[test]
    fn what_is_written_piece_by_piece_is_one_valid_text() {
        let default = DefaultExperiment(Some(Id::from_bytes([9; 16])));
        let mut text = RunsText::new("[", default);
        text.head(head(1, "bare \"}"));
        text.end();
        text.head(head(2, "full"));
        text.metric("m", f64::NAN, Timestamp::from_millis(1), -3);
        text.metric("n", 0.5, Timestamp::from_millis(2), 0);
        text.param("p\n", "\u{1b}");
        text.tag("a", "");
        text.tag(RUN_NAME_TAG, "stale");
        for r#use in [ModelUse::Input, ModelUse::Output] {
            text.model(ModelLink {
                r#use,
                model: Id::from_bytes([3; 16]),
                step: 7,
            });
        }
        text.end();
        let read: Value = serde_json::from_slice(&text.ended("]")).unwrap();
        let name = |name: &str| json!({"key": "mlflow.runName", "value": name});
        assert_eq!(read[0]["data"], json!({"tags": [name("bare \"}")]}));
        assert_eq!(read[0]["inputs"], json!({}));
        assert_eq!(read[0]["info"]["experiment_id"], "0");
        let data = json!({
            "metrics": [
                {"key": "m", "value": "NaN", "timestamp": 1, "step": -3},
                {"key": "n", "value": 0.5, "timestamp": 2, "step": 0},
            ],
            "params": [{"key": "p\n", "value": "\u{1b}"}],
            "tags": [{"key": "a", "value": ""}, name("full")],
        });
        assert_eq!(read[1]["data"], data);
        let model = format!("m-{}", "03".repeat(16));
        assert_eq!(
            read[1]["inputs"],
            json!({"model_inputs": [{"model_id": model}]})
        );
        assert_eq!(
            read[1]["outputs"],
            json!({"model_outputs": [{"model_id": model, "step": 7}]})
        );
    }
}
