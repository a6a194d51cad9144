//! Traces of a running MLflow server.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::source::{Each, SourceExperiment, SourceTrace, Spans};
use super::traces::{SPANS_TAG, info_of_second};
use super::transport::TrackingServer;
use crate::failure::Failure;

const TRACES_A_PAGE: u32 = 100;

/// Traces as they came, and the token of the next page.
type Page = (Vec<Value>, Option<String>);

impl TrackingServer {
    /// The traces of an experiment; in words those that cannot be read.
    pub(super) fn each_trace(
        &self,
        experiment: &SourceExperiment,
        each: Each<'_, SourceTrace>,
    ) -> Result<(), Failure> {
        let mut token = None;
        loop {
            let (traces, next) = match self.page_of_third(experiment, token.as_deref())? {
                Some(page) => page,
                None => match self.page_of_second(experiment, token.as_deref())? {
                    Some(page) => page,
                    // Before 2.14 there were none.
                    None => return Ok(()),
                },
            };
            for info in traces {
                each(trace_of(info))?;
            }
            token = next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// New traces come last: none moves to a page that was read.
    fn page_of_third(
        &self,
        experiment: &SourceExperiment,
        token: Option<&str>,
    ) -> Result<Option<Page>, Failure> {
        let place = json!({
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": experiment.id},
        });
        let fields = json!({
            "locations": [place], "max_results": TRACES_A_PAGE,
            "order_by": ["timestamp_ms ASC"], "page_token": token,
        });
        let page = self.post_if_spoken("api/3.0/mlflow/traces/search", &fields)?;
        Ok(page.map(page_of))
    }

    fn page_of_second(
        &self,
        experiment: &SourceExperiment,
        token: Option<&str>,
    ) -> Result<Option<Page>, Failure> {
        let most = TRACES_A_PAGE.to_string();
        let mut query = vec![
            ("experiment_ids", experiment.id.as_str()),
            ("max_results", most.as_str()),
            ("order_by", "timestamp_ms ASC"),
        ];
        query.extend(token.map(|token| ("page_token", token)));
        let page = self.get_if_spoken("api/2.0/mlflow/traces", &query)?;
        Ok(page.map(page_of).map(|(traces, next)| {
            let traces = traces.iter().map(info_of_second).collect();
            (traces, next)
        }))
    }

    pub(super) fn spans(&self, trace: &SourceTrace) -> Result<Spans, Failure> {
        if trace.info["tags"][SPANS_TAG] == "TRACKING_STORE" {
            let query = [("trace_id", trace.id.as_str())];
            let found = self.get_if_spoken("api/3.0/mlflow/traces/get", &query)?;
            if let Some(mut found) = found
                && let Value::Array(spans) = found["trace"]["spans"].take()
            {
                return Ok(Spans::Listed(spans));
            }
        }
        let file = self.trace_file(&trace.id)?;
        Ok(file.map_or(Spans::Nowhere, |file| Spans::File(Box::new(file))))
    }
}

fn page_of(mut page: Value) -> Page {
    let traces = match page["traces"].take() {
        Value::Array(traces) => traces,
        _ => Vec::new(),
    };
    let token = page["next_page_token"].as_str();
    let token = token.filter(|token| !token.is_empty());
    (traces, token.map(str::to_owned))
}

fn trace_of(info: Value) -> Result<SourceTrace, String> {
    let id = info["trace_id"].as_str().map(str::to_owned);
    Ok(SourceTrace {
        id: id.ok_or_else(|| "a trace: it has no id".to_owned())?,
        // Keys of objects are sorted: the same trace is the same text.
        fingerprint: format!("{:x}", Sha256::digest(info.to_string())),
        info,
    })
}
