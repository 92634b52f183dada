//! The `websocket` block.
//!
//! Keys are nats-server 2.15's (`server/opts.go`, `parseWebsocket`), checks those of its `validateWebsocketOptions`.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Uri};
use midge_conf::Value;

use super::faults::Faults;
use super::table::{OptionSpec, put, said, spec, tls_block};
use super::{Given, OptionsError, Secret, TlsOptions};

/// Where and how WebSocket clients are listened for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WebSocketOptions {
    /// Name or IP address; `None` for all.
    pub host: Option<String>,
    /// The port, zero for any that is free; `None` for no listener.
    pub port: Option<u16>,
    /// The address that clients are told, if another.
    pub advertise: Option<String>,
    /// Whether there is no TLS.
    pub no_tls: bool,
    /// How TLS is spoken.
    pub tls: Option<TlsOptions>,
    /// Whether a page must come from the host that it connects to.
    pub same_origin: bool,
    /// Origins that a page may come from; empty for any.
    pub allowed_origins: Vec<String>,
    /// Time in which a request must have come; `None` for any.
    pub handshake_timeout: Option<Duration>,
    /// Whether messages are compressed for clients that take it.
    pub compression: bool,
    /// What WebSocket clients must show instead of what others must.
    pub auth: super::Auth,
    /// The user that somebody is who says nothing of himself.
    pub no_auth_user: Option<String>,
    /// Cookies that say who somebody is.
    pub cookies: Cookies,
    /// Headers for the answer.
    pub headers: Vec<(String, String)>,
    /// Time between PINGs to WebSocket clients; `None` is as for others.
    pub ping_interval: Option<Duration>,
}

/// The names of cookies that say who somebody is; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cookies {
    /// With the user's name.
    pub user: String,
    /// With the password.
    pub password: String,
    /// With the token.
    pub token: String,
}

/// Headers that the server writes itself.
const OWN_HEADERS: [&str; 5] = ["host", "content-length", "connection", "upgrade", "nats-no-masking"];

impl WebSocketOptions {
    /// Whether WebSocket clients are asked for something else than others.
    #[must_use]
    pub const fn has_own_auth(&self) -> bool {
        self.auth.user.is_some() || self.auth.token.is_some() || self.no_auth_user.is_some()
    }

    pub(super) fn check(&self, users: bool) -> Result<(), OptionsError> {
        if self.port.is_none() {
            return Ok(());
        }
        if self.tls.is_none() && !self.no_tls {
            return Err(OptionsError::WebSocketWithoutTls);
        }
        for origin in &self.allowed_origins {
            let wrong = |why: &str| OptionsError::Origin { origin: origin.clone(), why: why.to_owned() };
            let uri: Uri = origin.parse().map_err(|_| wrong("it is no URL"))?;
            if !matches!(uri.scheme_str(), Some("http" | "https")) {
                return Err(wrong("allowed origins must be absolute URLs with http or https scheme"));
            }
            if uri.host().is_none_or(str::is_empty) {
                return Err(wrong("host is required"));
            }
        }
        if users && self.auth.user.is_some() {
            return Err(OptionsError::WebSocketAuth("username"));
        }
        if users && self.auth.token.is_some() {
            return Err(OptionsError::WebSocketAuth("token"));
        }
        for (name, value) in &self.headers {
            let small = name.to_lowercase();
            let own = OWN_HEADERS.contains(&small.as_str()) || small.starts_with("sec-websocket-");
            if own || small.parse::<HeaderName>().is_err() || value.parse::<HeaderValue>().is_err() {
                return Err(OptionsError::Header(name.clone()));
            }
        }
        Ok(())
    }
}

/// What can stand in the block.
pub(super) static WEBSOCKET: &[OptionSpec] = &[
    spec(
        &["websocket.listen", "ws.listen"],
        "Address and port, or only the port, to listen on for WebSocket clients.",
        "none",
        "\"127.0.0.1:8080\"",
        |o, v| {
            let address = v.address(0)?;
            o.websocket.host = address.host.or(o.websocket.host.take());
            o.websocket.port = Some(address.port);
            Ok(())
        },
    )
    .restart(|o| format!("{:?}:{:?}", o.websocket.host, o.websocket.port)),
    spec(
        &["websocket.port", "ws.port"],
        "Port for WebSocket clients; -1 for any that is free.",
        "none",
        "8080",
        |o, v| {
            put(
                &mut o.websocket.port,
                v.within(-1, 65_535).map(|port| (port != 0).then(|| u16::try_from(port).unwrap_or(0))),
            )
        },
    )
    .restart(|o| format!("{:?}", o.websocket.port)),
    spec(
        &["websocket.host", "websocket.net", "ws.host", "ws.net"],
        "Address to listen on for WebSocket clients.",
        "0.0.0.0",
        "\"127.0.0.1\"",
        |o, v| put(&mut o.websocket.host, v.text().map(Some)),
    )
    .restart(|o| format!("{:?}", o.websocket.host)),
    spec(
        &["websocket.advertise", "ws.advertise"],
        "Address that WebSocket clients are told to connect to.",
        "the listen address",
        "\"nats.example.com:443\"",
        |o, v| put(&mut o.websocket.advertise, v.text().map(Some)),
    ),
    spec(&["websocket.no_tls", "ws.no_tls"], "Speak WebSocket without TLS.", "false", "true", |o, v| {
        put(&mut o.websocket.no_tls, v.boolean())
    })
    .restart(|o| o.websocket.no_tls.to_string()),
    tls_block(&["websocket.tls", "ws.tls"], "TLS for WebSocket clients.", |o| &mut o.websocket.tls),
    spec(
        &["websocket.same_origin", "ws.same_origin"],
        "Whether a page must come from the host that it connects to.",
        "false",
        "true",
        |o, v| put(&mut o.websocket.same_origin, v.boolean()),
    ),
    spec(
        &[
            "websocket.allowed_origins",
            "websocket.allowed_origin",
            "websocket.allow_origins",
            "websocket.allow_origin",
            "websocket.origins",
            "websocket.origin",
            "ws.allowed_origins",
            "ws.allowed_origin",
            "ws.allow_origins",
            "ws.allow_origin",
            "ws.origins",
            "ws.origin",
        ],
        "Origins that a page may come from.",
        "any",
        "[\"https://example.com\"]",
        |o, v| put(&mut o.websocket.allowed_origins, origins(v)),
    ),
    spec(
        &["websocket.handshake_timeout", "ws.handshake_timeout"],
        "Time in which a request must have come.",
        "any",
        "\"5s\"",
        |o, v| put(&mut o.websocket.handshake_timeout, v.duration().map(Some)),
    ),
    spec(
        &["websocket.compression", "websocket.compress", "ws.compression", "ws.compress"],
        "Compress messages for clients that take it.",
        "false",
        "true",
        |o, v| put(&mut o.websocket.compression, v.boolean()),
    ),
    spec(
        &[
            "websocket.authorization.user",
            "websocket.authorization.username",
            "ws.authorization.user",
            "ws.authorization.username",
        ],
        "User that WebSocket clients must be.",
        "as for others",
        "\"alice\"",
        |o, v| put(&mut o.websocket.auth.user, v.text().map(said)),
    ),
    spec(
        &[
            "websocket.authorization.password",
            "websocket.authorization.pass",
            "ws.authorization.password",
            "ws.authorization.pass",
        ],
        "Password of that user.",
        "none",
        "\"s3cret\"",
        |o, v| put(&mut o.websocket.auth.password, v.text().map(|text| Some(Secret::new(text)))),
    ),
    spec(
        &["websocket.authorization.token", "ws.authorization.token"],
        "Token that WebSocket clients must show.",
        "as for others",
        "\"t0ken\"",
        |o, v| put(&mut o.websocket.auth.token, v.text().map(|text| said(text).map(Secret::new))),
    ),
    spec(
        &["websocket.authorization.timeout", "ws.authorization.timeout"],
        "Time in which WebSocket clients must show it.",
        "as for others",
        "2.5",
        |o, v| put(&mut o.websocket.auth.timeout, v.seconds().map(Some)),
    ),
    spec(
        &["websocket.no_auth_user", "ws.no_auth_user"],
        "User or nkey that a WebSocket client is who shows nothing.",
        "none",
        "\"guest\"",
        |o, v| put(&mut o.websocket.no_auth_user, v.text().map(said)),
    ),
    spec(
        &["websocket.user_cookie", "ws.user_cookie"],
        "Cookie with the user's name.",
        "none",
        "\"user\"",
        |o, v| put(&mut o.websocket.cookies.user, v.text()),
    ),
    spec(
        &["websocket.pass_cookie", "ws.pass_cookie"],
        "Cookie with the password.",
        "none",
        "\"pass\"",
        |o, v| put(&mut o.websocket.cookies.password, v.text()),
    ),
    spec(
        &["websocket.token_cookie", "ws.token_cookie"],
        "Cookie with the token.",
        "none",
        "\"token\"",
        |o, v| put(&mut o.websocket.cookies.token, v.text()),
    ),
    spec(
        &["websocket.headers", "ws.headers"],
        "Headers for the answer.",
        "none",
        "{X-Served-By: \"n1\"}",
        |o, v| put(&mut o.websocket.headers, headers(v)),
    ),
    spec(
        &["websocket.ping_interval", "ws.ping_interval"],
        "Time between PINGs to WebSocket clients.",
        "as for others",
        "\"30s\"",
        |o, v| {
            put(&mut o.websocket.ping_interval, v.duration().map(|time| (!time.is_zero()).then_some(time)))
        },
    ),
];

fn origins(value: &Given<'_>) -> Result<Vec<String>, Faults> {
    if let Given::Key(Value::Text(text)) = value {
        return Ok(vec![text.clone()]);
    }
    let Given::Key(Value::List(list)) = value else {
        return Err(value.wrong("an origin or a list of them").into());
    };
    let mut faults = Faults::default();
    let origins =
        list.iter().filter_map(|node| faults.note(node.span, Given::Key(&node.value).text())).collect();
    faults.or(origins)
}

fn headers(value: &Given<'_>) -> Result<Vec<(String, String)>, Faults> {
    let Given::Key(Value::Map(map)) = value else { return Err(value.wrong("a block of headers").into()) };
    let mut faults = Faults::default();
    let mut headers = Vec::new();
    for entry in map.iter() {
        if let Some(text) = faults.note(entry.node.span, Given::Key(&entry.node.value).text()) {
            headers.push((entry.key.clone(), text));
        }
    }
    faults.or(headers)
}
