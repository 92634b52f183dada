//! HTTP.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query as Params, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error};

use super::{BadQuery, ENDPOINTS, Endpoint, Query, Style, metrics};
use crate::server::Server;

/// Time in which a request's head must have come, and a TLS handshake must be over.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves monitoring until the task is aborted.
pub(crate) async fn serve(server: Arc<Server>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!("Cannot serve monitoring: {error}"),
    };
    let routes = routes(server);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                error!("monitoring: cannot accept: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (routes, tls) = (routes.clone(), tls.clone());
        connections.spawn(async move {
            let Some(tls) = tls else { return speak(routes, stream).await };
            match timeout(PATIENCE, TlsAcceptor::from(tls).accept(stream)).await {
                Ok(Ok(stream)) => speak(routes, stream).await,
                Ok(Err(why)) => debug!("monitoring: TLS handshake error from {peer}: {why}"),
                Err(_) => debug!("monitoring: TLS handshake timeout of {peer}"),
            }
        });
    }
}

async fn speak<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(routes: Router, io: T) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(why) = http.serve_connection(TokioIo::new(io), TowerToHyperService::new(routes)).await {
        debug!("monitoring: {why}");
    }
}

type Asked = Params<BTreeMap<String, String>>;

fn routes(server: Arc<Server>) -> Router {
    let base = server.setup().options.monitor.base_path.clone();
    let mut routes = Router::new().route("/", get(index));
    for endpoint in ENDPOINTS {
        let handle = move |State(server): State<Arc<Server>>, Params(params): Asked| async move {
            answer(&server, endpoint, &Query(params))
        };
        routes = routes.route(endpoint.path, get(handle));
        if endpoint.path == "/subsz" {
            routes = routes.route("/subscriptionsz", get(handle));
        }
    }
    let routes =
        routes.route("/metrics", get(async |State(server): State<Arc<Server>>| metrics::text(&server)));
    let routes = if base.is_empty() { routes } else { Router::new().nest(&format!("/{base}"), routes) };
    routes.fallback(missing).with_state(server)
}

async fn missing() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

fn answer(server: &Server, endpoint: &Endpoint, query: &Query) -> Response {
    server.count_request(endpoint.path);
    match (endpoint.read)(server, query, Style::Pretty) {
        Ok(text) => {
            let anyone = (HeaderName::from_static("access-control-allow-origin"), "*");
            ([anyone, (header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(BadQuery(why)) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

async fn index(State(server): State<Arc<Server>>) -> Html<String> {
    server.count_request("/");
    let base = server.setup().options.monitor.base_path.clone();
    let below = if base.is_empty() { "." } else { &format!("./{base}") };
    let links = ENDPOINTS.iter().map(|endpoint| (endpoint.title, endpoint.path));
    let links = links.chain([("Metrics", "/metrics")]);
    let links = links.map(|(title, path)| format!("<li><a href=\"{below}{path}\">{title}</a> {path}</li>\n"));
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><title>midge</title><h1>midge {}</h1>\n<ul>\n{}</ul></html>\n",
        env!("CARGO_PKG_VERSION"),
        links.collect::<String>()
    ))
}
