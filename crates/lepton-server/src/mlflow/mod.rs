//! MLflow's REST API, spoken over Lepton's own runs, models and objects: one truth, two faces.
//!
//! Owns: what MLflow's requests mean here, and how Lepton's records look to its clients. Must not
//! know: SQL, and who may do what, which `auth` decides.
//!
//! | file | what |
//! |---|---|
//! | `ask` | who asks, in which workspace, for what |
//! | `filter` | the filter language |
//! | `rules` | what keys, values and names may be |
//! | `wire` | records in MLflow's words |
//! | `error` | refusals in MLflow's words |
//! | the others | one resource each |

mod artifacts;
mod ask;
mod assessments;
mod error;
mod experiment_search;
mod experiments;
mod filter;
mod inputs;
mod logged_model_search;
pub(crate) mod logged_models;
mod logging;
mod metrics;
mod model_versions;
mod multipart;
mod otlp;
mod otlp_json;
mod owners;
mod pages;
mod register;
mod registered_models;
mod rules;
mod run_wire;
mod runs;
mod server;
mod trace_deletion;
mod trace_export;
mod trace_filter;
mod trace_search;
mod traces;
mod traces2;
mod wire;
mod workspaces;

use axum::Router;
use axum::routing::{any, delete as remove, get, patch, post, put};

use crate::app::App;

pub(crate) use multipart::is_abandoned;

/// Every path of this face.
pub(crate) fn router() -> Router<App> {
    let mut router = Router::new()
        .route("/health", get(server::health))
        .route("/v1/traces", post(trace_export::export))
        .route("/graphql", any(server::no_such_path))
        .nest("/api/2.0/mlflow-artifacts", proxied())
        .nest("/ajax-api/2.0/mlflow-artifacts", proxied());
    // The second is what pages of a browser use; the third version of MLflow asks for some of the
    // same things under a third name.
    for base in ["/api/2.0/mlflow", "/ajax-api/2.0/mlflow"] {
        router = router.nest(base, tracking().merge(logged_models()).merge(registry()));
    }
    for base in ["/api/3.0/mlflow", "/ajax-api/3.0/mlflow"] {
        router = router.nest(base, third());
    }
    router
}

fn tracking() -> Router<App> {
    Router::new()
        .route("/experiments/create", post(experiments::create))
        .route("/experiments/get", get(experiments::get))
        .route("/experiments/get-by-name", get(experiments::get_by_name))
        .route(
            "/experiments/search",
            get(experiment_search::search).post(experiment_search::search),
        )
        .route("/experiments/delete", post(experiments::delete))
        .route("/experiments/restore", post(experiments::restore))
        .route("/experiments/update", post(experiments::update))
        .route(
            "/experiments/set-experiment-tag",
            post(experiments::set_tag),
        )
        .route(
            "/experiments/delete-experiment-tag",
            post(experiments::delete_tag),
        )
        .route("/runs/create", post(runs::create))
        .route("/runs/get", get(runs::get))
        .route("/runs/update", post(runs::update))
        .route("/runs/delete", post(runs::delete))
        .route("/runs/restore", post(runs::restore))
        .route("/runs/search", post(runs::search))
        .route("/runs/log-metric", post(logging::log_metric))
        .route("/runs/log-parameter", post(logging::log_param))
        .route("/runs/log-batch", post(logging::log_batch))
        .route("/runs/log-inputs", post(inputs::log_inputs))
        .route("/runs/outputs", post(inputs::log_outputs))
        .route("/runs/log-model", post(logging::log_model))
        .route("/runs/set-tag", post(logging::set_tag))
        .route("/runs/delete-tag", post(logging::delete_tag))
        .route("/metrics/get-history", get(metrics::history))
        .route("/metrics/get-history-bulk", get(metrics::bulk))
        .route(
            "/metrics/get-history-bulk-interval",
            get(metrics::bulk_interval),
        )
        .route("/artifacts/list", get(artifacts::list_of_run))
        .route("/traces", post(traces2::start).get(traces2::search))
        .route("/traces/delete-traces", post(trace_deletion::delete))
        .route("/traces/{id}", patch(traces2::end))
        .route("/traces/{id}/info", get(traces2::get))
        .route(
            "/traces/{id}/tags",
            patch(traces::set_tag).delete(traces::delete_tag),
        )
        .fallback(server::no_such_path)
}

fn logged_models() -> Router<App> {
    Router::new()
        .route("/logged-models", post(logged_models::create))
        .route("/logged-models/search", post(logged_model_search::search))
        .route(
            "/logged-models/{id}",
            get(logged_models::get)
                .patch(logged_models::finalize)
                .delete(logged_models::delete),
        )
        .route("/logged-models/{id}/tags", patch(logged_models::set_tags))
        .route(
            "/logged-models/{id}/tags/{key}",
            remove(logged_models::delete_tag),
        )
        .route(
            "/logged-models/{id}/params",
            post(logged_models::log_params),
        )
        .route(
            "/logged-models/{id}/artifacts/directories",
            get(logged_models::list_files),
        )
}

fn registry() -> Router<App> {
    Router::new()
        .route("/registered-models/create", post(registered_models::create))
        .route("/registered-models/get", get(registered_models::get))
        .route(
            "/registered-models/update",
            patch(registered_models::update),
        )
        .route("/registered-models/rename", post(registered_models::rename))
        .route(
            "/registered-models/delete",
            remove(registered_models::delete),
        )
        .route("/registered-models/search", get(registered_models::search))
        .route(
            "/registered-models/get-latest-versions",
            get(registered_models::latest_versions).post(registered_models::latest_versions),
        )
        .route(
            "/registered-models/set-tag",
            post(registered_models::set_tag),
        )
        .route(
            "/registered-models/delete-tag",
            remove(registered_models::delete_tag),
        )
        .route(
            "/registered-models/alias",
            get(registered_models::get_by_alias)
                .post(registered_models::set_alias)
                .delete(registered_models::delete_alias),
        )
        .route("/model-versions/create", post(register::create))
        .route("/model-versions/get", get(model_versions::get))
        .route("/model-versions/update", patch(model_versions::update))
        .route("/model-versions/delete", remove(model_versions::delete))
        .route("/model-versions/search", get(model_versions::search))
        .route("/model-versions/set-tag", post(model_versions::set_tag))
        .route(
            "/model-versions/delete-tag",
            remove(model_versions::delete_tag),
        )
        .route(
            "/model-versions/transition-stage",
            post(model_versions::transition),
        )
        .route(
            "/model-versions/get-download-uri",
            get(model_versions::download_uri),
        )
}

fn third() -> Router<App> {
    Router::new()
        .route("/server-info", get(server::info))
        .route(
            "/workspaces",
            get(workspaces::list).post(workspaces::create),
        )
        .route(
            "/workspaces/{name}",
            get(workspaces::get).delete(workspaces::delete),
        )
        .route("/traces", post(traces::start))
        .route("/traces/get", get(traces::get))
        .route("/traces/batchGet", get(traces::batch_get))
        .route("/traces/search", post(trace_search::search))
        .route("/traces/delete-traces", post(trace_deletion::delete))
        .route("/traces/{id}", get(traces::get_info))
        .route(
            "/traces/{id}/tags",
            patch(traces::set_tag).delete(traces::delete_tag),
        )
        .route("/traces/{id}/assessments", post(assessments::create))
        .route(
            "/traces/{id}/assessments/{assessment}",
            get(assessments::get)
                .patch(assessments::update)
                .delete(assessments::delete),
        )
        .fallback(server::no_such_path)
}

fn proxied() -> Router<App> {
    Router::new()
        .route("/artifacts", get(artifacts::list))
        .route(
            "/artifacts/{*path}",
            put(artifacts::upload)
                .get(artifacts::download)
                .delete(artifacts::delete),
        )
        .route("/mpu/create/{*path}", post(multipart::create))
        .route("/mpu/complete/{*path}", post(multipart::complete))
        .route("/mpu/abort/{*path}", post(multipart::abort))
        .route("/mpu/parts/{upload}/{number}", put(multipart::put_part))
        .fallback(server::no_such_path)
}
