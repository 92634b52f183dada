//! `/healthz`: whether the server can be sent clients.

use serde::Serialize;

use super::{BadQuery, Query, Style};
use crate::server::Server;

/// nats-server 2.15's `HealthStatus`.
#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    /// The status that HTTP would have. HTTP itself does not repeat it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
}

/// What may be wrong with a server in the original's sense is its JetStream, or that it has not begun to listen; the
/// first is not here, and then nobody could ask.
pub(super) fn read(_: &Server, query: &Query, style: Style) -> Result<Health, BadQuery> {
    if query.text("stream").is_some() && query.text("account").is_none() {
        return Err(wrong("\\\"account\\\" must not be empty when checking stream health"));
    }
    if query.text("consumer").is_some() && query.text("stream").is_none() {
        return Err(wrong("\\\"stream\\\" must not be empty when checking consumer health"));
    }
    Ok(Health { status: "ok", status_code: (style == Style::Compact).then_some(200) })
}

fn wrong(why: &str) -> BadQuery {
    BadQuery(format!("{{\"status\":\"error\",\"error\":\"{why}\"}}"))
}
