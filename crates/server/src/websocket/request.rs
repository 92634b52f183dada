//! Which requests become WebSockets.

use std::fmt;
use std::net::IpAddr;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use data_encoding::BASE64;
use sha1::{Digest, Sha1};

use super::stream::Manner;
use crate::carrier::CookieValues;
use crate::options::{Cookies, WebSocketOptions};

/// What is hashed behind the client's key (RFC 6455, section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The extension for compression, always without memory of earlier messages (RFC 7692, section 7.1).
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// Most bytes in a frame to a browser, some of which take no larger ones well.
const BROWSER_FRAME: usize = 4096;
const NO_MASKING: HeaderName = HeaderName::from_static("nats-no-masking");

/// A request that becomes a WebSocket.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) response: Response<Body>,
    pub(super) manner: Manner,
    /// Whether a leafnode asks, and no client.
    pub(super) leafnode: bool,
    pub(super) cookies: CookieValues,
    /// Whom a proxy says that it forwards, for log lines only.
    pub(super) forwarded_for: Option<IpAddr>,
}

/// Why a request does not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    status: StatusCode,
    why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    pub(super) fn response(&self) -> Response<Body> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut response = Response::new(Body::from(format!("{reason}\n")));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// Looks at a request in nats-server's order (`wsUpgrade`). `secure` says whether it came by TLS, if that is known, and
/// `leafnodes` whether any may come.
pub(super) fn check<B>(
    options: &WebSocketOptions,
    request: &Request<B>,
    (secure, leafnodes): (Option<bool>, bool),
) -> Result<Accepted, Refused> {
    let bad = |why: &str| Refused::new(StatusCode::BAD_REQUEST, why);
    let headers = request.headers();
    if request.uri().path().ends_with("/mqtt") {
        return Err(Refused::new(StatusCode::NOT_FOUND, "mqtt websocket endpoint not enabled"));
    }
    let leafnode = request.uri().path().ends_with("/leafnode");
    if leafnode && !leafnodes {
        return Err(Refused::new(StatusCode::NOT_FOUND, "leafnode websocket endpoint not enabled"));
    }
    if request.method() != Method::GET {
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "request method must be GET"));
    }
    if text(headers, &header::HOST).is_empty() {
        return Err(bad("'Host' missing in request"));
    }
    if !lists(headers, &header::UPGRADE, "websocket") {
        return Err(bad("invalid value for header 'Upgrade'"));
    }
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(bad("invalid value for header 'Connection'"));
    }
    let key = text(headers, &header::SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(bad("key missing"));
    }
    if BASE64.decode(key.as_bytes()).map_or(0, |key| key.len()) != 16 {
        return Err(bad("invalid websocket key"));
    }
    if !lists(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(bad("invalid version"));
    }
    origin(options, headers, secure)
        .map_err(|why| Refused::new(StatusCode::FORBIDDEN, format!("origin not allowed: {why}")))?;
    let manner = manner(options, headers);
    Ok(Accepted {
        response: switching(options, key, manner),
        manner,
        leafnode,
        cookies: cookies(&options.cookies, headers),
        forwarded_for: text(headers, &HeaderName::from_static("x-forwarded-for")).trim().parse().ok(),
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a header has a word among those that commas separate.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// A scheme, host and port.
fn place(text: &str) -> Option<(String, String, u16)> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let host = uri.host().filter(|host| !host.is_empty())?.to_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, host, port))
}

/// Whether a page of that origin may connect. Who sends no origin is no page.
fn origin(options: &WebSocketOptions, headers: &HeaderMap, secure: Option<bool>) -> Result<(), String> {
    let origin = match text(headers, &header::ORIGIN) {
        "" => text(headers, &HeaderName::from_static("sec-websocket-origin")),
        origin => origin,
    };
    if origin.is_empty() || (!options.same_origin && options.allowed_origins.is_empty()) {
        return Ok(());
    }
    let page = place(origin).ok_or_else(|| format!("\"{origin}\" is no origin"))?;
    if options.same_origin {
        // Where nobody knows, the page is taken at its word: hosts and ports are what matters.
        let scheme = match secure {
            Some(true) => "https",
            Some(false) => "http",
            None => &page.0,
        };
        let here = place(&format!("{scheme}://{}", text(headers, &header::HOST)));
        if here.as_ref() != Some(&page) {
            return Err("not same origin".to_owned());
        }
    }
    let allowed = |origin: &String| place(origin).as_ref() == Some(&page);
    if !options.allowed_origins.is_empty() && !options.allowed_origins.iter().any(allowed) {
        return Err("not in the allowed list".to_owned());
    }
    Ok(())
}

/// How messages are written and read.
fn manner(options: &WebSocketOptions, headers: &HeaderMap) -> Manner {
    let offered = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let deflates =
        |offer: &str| offer.split(';').next().is_some_and(|name| name.trim() == "permessage-deflate");
    let compresses = options.compression && offered.into_iter().any(deflates);
    let agent = text(headers, &header::USER_AGENT);
    let is_browser = agent.starts_with("Mozilla/");
    let is_safari = agent.contains("Version/") && agent.contains("Safari/");
    Manner {
        compresses,
        masks: false,
        masked: !text(headers, &NO_MASKING).eq_ignore_ascii_case("true"),
        most_frame: is_browser.then_some(BROWSER_FRAME),
        fragments: !is_safari,
    }
}

/// What a key is answered with.
pub(super) fn accepted_key(key: &str) -> String {
    BASE64.encode(&Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize())
}

fn switching(options: &WebSocketOptions, key: &str, manner: Manner) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accepted_key(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if manner.compresses {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(DEFLATE));
    }
    if !manner.masked {
        headers.insert(NO_MASKING, HeaderValue::from_static("true"));
    }
    for (name, value) in &options.headers {
        // Both were looked at when the options were read.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.insert(name, value);
        }
    }
    response
}

/// Who somebody is by the cookies that the options name.
fn cookies(names: &Cookies, headers: &HeaderMap) -> CookieValues {
    let mut values = CookieValues::default();
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    for (name, value) in all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
    {
        let value = value.trim_matches('"').to_owned();
        let is = |wanted: &str| !wanted.is_empty() && wanted == name;
        if is(&names.user) {
            values.user = value;
        } else if is(&names.password) {
            values.password = value;
        } else if is(&names.token) {
            values.token = value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(more: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/").header("host", "h:8080");
        let base = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        for (name, value) in base {
            if !more.iter().any(|(other, _)| *other == name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn refused(options: &WebSocketOptions, more: &[(&str, &str)]) -> String {
        check(options, &request(more), (Some(false), false)).unwrap_err().why
    }

    #[test]
    fn a_request_is_answered_as_the_standard_says() {
        let accepted = check(&WebSocketOptions::default(), &request(&[]), (Some(false), false)).unwrap();
        let headers = accepted.response.headers();
        // The example of RFC 6455, section 1.3.
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!headers.contains_key("sec-websocket-extensions") && accepted.manner.masked);
    }

    #[test]
    fn what_is_no_websocket_is_refused() {
        let options = WebSocketOptions::default();
        for (more, why) in [
            (("upgrade", "h2c"), "invalid value for header 'Upgrade'"),
            (("upgrade", ""), "invalid value for header 'Upgrade'"),
            (("connection", "close"), "invalid value for header 'Connection'"),
            (("sec-websocket-key", ""), "key missing"),
            (("sec-websocket-key", "c2hvcnQ="), "invalid websocket key"),
            (("sec-websocket-version", "8"), "invalid version"),
        ] {
            assert_eq!(refused(&options, &[more]), why, "{more:?}");
        }
        let post = Request::builder().method("POST").uri("/").body(()).unwrap();
        assert_eq!(
            check(&options, &post, (Some(false), false)).unwrap_err().status,
            StatusCode::METHOD_NOT_ALLOWED
        );
        for path in ["/mqtt", "/leafnode"] {
            let other = Request::builder().uri(path).body(()).unwrap();
            assert_eq!(
                check(&options, &other, (Some(false), false)).unwrap_err().status,
                StatusCode::NOT_FOUND
            );
        }
    }

    #[test]
    fn pages_come_from_allowed_origins() {
        let same = WebSocketOptions { same_origin: true, ..WebSocketOptions::default() };
        assert!(check(&same, &request(&[("origin", "http://h:8080")]), (Some(false), false)).is_ok());
        assert!(check(&same, &request(&[]), (Some(false), false)).is_ok(), "who is no page has no origin");
        for other in ["http://h", "https://h:8080", "http://evil:8080", "null"] {
            assert!(refused(&same, &[("origin", other)]).starts_with("origin not allowed"), "{other}");
        }
        for (page, is_same) in [("https://h:8080", true), ("http://h:8080", true), ("https://h", false)] {
            let result = check(&same, &request(&[("origin", page)]), (None, false));
            assert_eq!(result.is_ok(), is_same, "{page}, with or without TLS");
        }
        let list = vec!["https://Example.com".to_owned()];
        let listed = WebSocketOptions { allowed_origins: list, ..WebSocketOptions::default() };
        assert!(
            check(&listed, &request(&[("origin", "https://example.com:443")]), (Some(false), false)).is_ok()
        );
        assert_eq!(
            refused(&listed, &[("origin", "http://example.com")]),
            "origin not allowed: not in the allowed list"
        );
    }

    #[test]
    fn leafnodes_are_told_from_clients_by_the_path() {
        for (path, leafnode) in [("/", false), ("/leafnode", true), ("/behind/a/proxy/leafnode", true)] {
            let mut asked = request(&[]);
            *asked.uri_mut() = path.parse().unwrap();
            let accepted = check(&WebSocketOptions::default(), &asked, (Some(false), true)).unwrap();
            assert_eq!(accepted.leafnode, leafnode, "{path}");
        }
    }

    #[test]
    fn cookies_and_extensions_are_read() {
        let cookies = Cookies { user: "u".into(), password: "p".into(), token: "t".into() };
        let options = WebSocketOptions { cookies, compression: true, ..WebSocketOptions::default() };
        let accepted = check(
            &options,
            &request(&[
                ("cookie", "x=1; u=alice; p=\"hush\"; u=bob"),
                ("sec-websocket-extensions", "other, permessage-deflate; client_max_window_bits"),
                ("user-agent", "Mozilla/5.0 Chrome/1 Safari/5"),
                ("nats-no-masking", "true"),
                ("x-forwarded-for", "10.0.0.1"),
            ]),
            (Some(false), false),
        );
        let accepted = accepted.unwrap();
        assert_eq!((accepted.cookies.user.as_str(), accepted.cookies.password.as_str()), ("bob", "hush"));
        assert_eq!(accepted.response.headers()["sec-websocket-extensions"], DEFLATE);
        let manner = Manner {
            compresses: true,
            masks: false,
            masked: false,
            most_frame: Some(BROWSER_FRAME),
            fragments: true,
        };
        assert_eq!((accepted.manner, accepted.forwarded_for), (manner, Some("10.0.0.1".parse().unwrap())));
    }
}
