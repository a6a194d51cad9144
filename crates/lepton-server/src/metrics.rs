//! `/metrics`: what Prometheus scrapes.

use std::fmt::Write as _;

use lepton_access::Access;
use lepton_store::StoreError;
use lepton_store::index::{Stored, Traffic};
use lepton_types::Name;
use lepton_types::resources::Kind;

use crate::app::App;
use crate::auth::Caller;

/// The text exposition format, version 0.0.4; of endpoints, those that `caller` may see.
pub(crate) async fn render(app: &App, caller: &Caller) -> Result<String, StoreError> {
    let mut text = String::new();
    family(
        &mut text,
        "lepton_resources",
        "gauge",
        "Resources by kind and phase.",
    );
    for kind in [Kind::Job, Kind::Run, Kind::Endpoint, Kind::Replica] {
        for (phase, count) in app.store.count_by_phase(kind).await? {
            line(
                &mut text,
                "lepton_resources",
                &[("kind", kind.as_str()), ("phase", &phase)],
                count,
            );
        }
    }
    family(
        &mut text,
        "lepton_store_version",
        "counter",
        "Changes that the store has taken.",
    );
    line(
        &mut text,
        "lepton_store_version",
        &[],
        *app.store.subscribe().borrow(),
    );
    endpoints(app, caller, &mut text);
    storage(app, caller, &mut text).await;
    if let Some(bytes) = resident_bytes() {
        family(
            &mut text,
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the server.",
        );
        line(&mut text, "process_resident_memory_bytes", &[], bytes);
    }
    Ok(text)
}

fn endpoints(app: &App, caller: &Caller, text: &mut String) {
    let mut usage = app.gateway.usage();
    usage.retain(|used| {
        let project = &used.key.project;
        caller.may(Access::Read, Kind::Endpoint, project).is_ok()
    });
    family(
        text,
        "lepton_endpoint_requests_total",
        "counter",
        "Requests by endpoint and outcome.",
    );
    for used in &usage {
        let outcomes = [
            ("ok", used.ok),
            ("client-error", used.client_errors),
            ("server-error", used.server_errors),
            ("unavailable", used.unavailable),
            ("canceled", used.canceled),
        ];
        for (outcome, count) in outcomes {
            let labels = [
                ("project", used.key.project.as_str()),
                ("endpoint", used.key.endpoint.as_str()),
                ("outcome", outcome),
            ];
            line(text, "lepton_endpoint_requests_total", &labels, count);
        }
    }
    family(
        text,
        "lepton_endpoint_in_flight",
        "gauge",
        "Requests under way by endpoint.",
    );
    for used in &usage {
        let labels = [
            ("project", used.key.project.as_str()),
            ("endpoint", used.key.endpoint.as_str()),
        ];
        line(
            text,
            "lepton_endpoint_in_flight",
            &labels,
            used.in_flight as u64,
        );
    }
}

/// A family's name, what it is, and its value.
type Family<T> = (&'static str, &'static str, fn(&T) -> u64);

async fn storage(app: &App, caller: &Caller, text: &mut String) {
    // What cannot be read now is not there this time; the others are.
    let mut usage = app.objects.index.all_usage().await.unwrap_or_default();
    usage.retain(|project, _| {
        let name = project.parse::<Name>();
        name.is_ok_and(|name| caller.may(Access::Read, Kind::Project, &name).is_ok())
    });
    let gauges: [Family<Stored>; 2] = [
        (
            "lepton_storage_bytes",
            "Bytes stored by project and storage class.",
            |it| it.bytes,
        ),
        (
            "lepton_storage_objects",
            "Versions of objects by project and storage class.",
            |it| it.objects,
        ),
    ];
    for (name, help, of) in gauges {
        family(text, name, "gauge", help);
        for (project, (_, stored)) in &usage {
            for it in stored {
                let labels = [("project", project.as_str()), ("tier", it.class.as_str())];
                line(text, name, &labels, of(it));
            }
        }
    }
    let help = "Bytes that a project may store, where it is bounded.";
    family(text, "lepton_storage_quota_bytes", "gauge", help);
    for (project, (of_project, _)) in &usage {
        if let Some(bytes) = of_project.quota.bytes_max {
            line(
                text,
                "lepton_storage_quota_bytes",
                &[("project", project)],
                bytes,
            );
        }
    }
    let counters: [Family<Traffic>; 3] = [
        (
            "lepton_storage_requests_total",
            "Requests for stored bytes.",
            |it| it.requests,
        ),
        (
            "lepton_storage_received_bytes_total",
            "Bytes of bodies that came in.",
            |it| it.received_bytes,
        ),
        (
            "lepton_storage_sent_bytes_total",
            "Bytes of bodies that went out.",
            |it| it.sent_bytes,
        ),
    ];
    for (name, help, of) in counters {
        family(text, name, "counter", help);
        for (project, (of_project, _)) in &usage {
            line(text, name, &[("project", project)], of(&of_project.traffic));
        }
    }
    let help = "Reads of contents that went on at the replica since the start.";
    family(text, "lepton_objects_rescued_reads_total", "counter", help);
    let rescued = app.objects.contents.rescued_reads();
    line(text, "lepton_objects_rescued_reads_total", &[], rescued);
    if let Some(pass) = app.passes.newest()
        && pass.work != lepton_api::UpkeepWork::Replicate
        && caller
            .may_globally(Access::Administer, Kind::Project)
            .is_ok()
    {
        let help = "Contents that the newest scrub could not read, less those it repaired.";
        family(text, "lepton_objects_damaged", "gauge", help);
        let left = pass.damaged.saturating_sub(pass.repaired);
        line(text, "lepton_objects_damaged", &[], left);
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Label values are names and words of ours, which need no escaping.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    let _infallible = writeln!(text, "{name}{labels} {value}");
}

/// From `/proc`, in bytes.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
