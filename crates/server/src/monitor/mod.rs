//! Monitoring over HTTP, with nats-server's paths, query parameters and field names.

mod connz;
mod subsz;
mod varz;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tracing::error;

use crate::server::Server;

/// Entries of a list when the query does not say how many.
const DEFAULT_LIMIT: usize = 1024;

/// What the handlers share.
pub(crate) struct Monitor {
    server: Arc<Server>,
    /// How often each path was asked for.
    requests: Mutex<BTreeMap<&'static str, u64>>,
}

type Params = Query<BTreeMap<String, String>>;

/// Serves monitoring until the task is aborted.
pub(crate) async fn serve(server: Arc<Server>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!("Cannot serve monitoring: {error}"),
    };
    if let Err(error) = axum::serve(listener, routes(server)).await {
        error!("Monitoring ended: {error}");
    }
}

fn routes(server: Arc<Server>) -> Router {
    let monitor = Arc::new(Monitor { server, requests: Mutex::new(BTreeMap::new()) });
    Router::new()
        .route("/", get(index))
        .route("/varz", get(varz::handle))
        .route("/connz", get(connz::handle))
        .route("/subsz", get(subsz::handle))
        .route("/subscriptionsz", get(subsz::handle))
        .route("/healthz", get(healthz))
        .fallback(missing)
        .with_state(monitor)
}

impl Monitor {
    fn count(&self, path: &'static str) {
        *self.requests.lock().entry(path).or_default() += 1;
    }

    /// A moment of the server's own clock as a time of day.
    fn time_of(&self, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.server.started());
        self.server.started_at().saturating_add(since).unwrap_or(self.server.started_at())
    }
}

async fn missing() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn index(State(monitor): State<Arc<Monitor>>) -> Html<String> {
    monitor.count("/");
    let links =
        [("General", "varz"), ("Connections", "connz"), ("Subscriptions", "subsz"), ("Health", "healthz")];
    let links = links.map(|(title, path)| format!("<li><a href=\"./{path}\">{title}</a> /{path}</li>"));
    Html(format!(
        "<!doctype html><html lang=\"en\"><title>midge</title><h1>midge {}</h1><ul>{}</ul></html>\n",
        env!("CARGO_PKG_VERSION"),
        links.concat()
    ))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

async fn healthz(State(monitor): State<Arc<Monitor>>, params: Params) -> Response {
    monitor.count("/healthz");
    // A server that is not healthy in the original's sense has JetStream or has not started: neither can be here.
    let text = serde_json::to_string(&Health { status: "ok" }).unwrap_or_default();
    respond(text, &params)
}

/// JSON as the original lays it out.
fn json(value: &impl Serialize, params: &Params) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => respond(text, params),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A page on another site may ask, by its own request or by a `callback` that the answer is wrapped in.
fn respond(text: String, params: &Params) -> Response {
    let anyone = (HeaderName::from_static("access-control-allow-origin"), "*");
    match params.get("callback") {
        Some(callback) => {
            let kind = (header::CONTENT_TYPE, "application/javascript");
            ([anyone, kind], format!("{callback}({text})")).into_response()
        }
        None => ([anyone, (header::CONTENT_TYPE, "application/json")], text).into_response(),
    }
}

/// Why a query cannot be answered.
struct BadQuery(String);

impl IntoResponse for BadQuery {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.0).into_response()
    }
}

/// A number in the query; zero when it is not there.
fn number(params: &Params, key: &str) -> Result<usize, BadQuery> {
    let Some(text) = params.get(key) else { return Ok(0) };
    let number: i64 =
        text.parse().map_err(|_| BadQuery(format!("Error decoding '{key}': '{text}' is no number")))?;
    Ok(usize::try_from(number).unwrap_or(0))
}

/// A truth value in the query; false when it is not there.
fn truth(params: &Params, key: &str) -> Result<bool, BadQuery> {
    match params.get(key).map(String::as_str) {
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(text) => Err(BadQuery(format!("Error decoding '{key}': '{text}' is neither true nor false"))),
    }
}

/// Offset and limit of a list.
fn window(params: &Params) -> Result<(usize, usize), BadQuery> {
    let limit = match number(params, "limit")? {
        0 => DEFAULT_LIMIT,
        limit => limit,
    };
    Ok((number(params, "offset")?, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        Query(
            text.split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }

    #[test]
    fn queries_are_read_as_the_original_does() {
        assert!(matches!(window(&params("limit=5&offset=2")), Ok((2, 5))));
        assert!(matches!(window(&params("limit=-1")), Ok((0, DEFAULT_LIMIT))));
        assert!(window(&params("limit=x")).is_err());
        assert!(matches!(truth(&params("subs=1"), "subs"), Ok(true)));
        assert!(truth(&params("subs=detail"), "subs").is_err());
    }
}
