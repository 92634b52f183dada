//! `/healthz`: whether the server can be sent clients.

use serde::Serialize;

use super::{BadQuery, Query};
use crate::server::Server;

/// nats-server 2.15's `HealthStatus`.
#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
}

/// What may be wrong with a server in the original's sense is its JetStream, or that it has not begun to listen; the
/// first is not here, and then nobody could ask.
pub(super) fn read(_: &Server, query: &Query) -> Result<Health, BadQuery> {
    if query.text("stream").is_some() && query.text("account").is_none() {
        return Err(wrong("\\\"account\\\" must not be empty when checking stream health"));
    }
    if query.text("consumer").is_some() && query.text("stream").is_none() {
        return Err(wrong("\\\"stream\\\" must not be empty when checking consumer health"));
    }
    Ok(Health { status: "ok" })
}

fn wrong(why: &str) -> BadQuery {
    BadQuery(format!("{{\"status\":\"error\",\"error\":\"{why}\"}}"))
}
