//! The JSON bodies of `INFO` and `CONNECT`.

mod peer;

pub use peer::{PeerConnect, PeerInfo, SubjectLists};

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize as De, Serialize};
use serde_json::error::Category;

/// What a server says of itself. Fields that are false, zero or empty are left out, those without a default
/// always stand, in nats-server 2.15's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, De)]
#[serde(default)]
pub struct Info {
    /// The server's nkey, `N…`.
    pub server_id: String,
    /// Its name; the id where none was given.
    pub server_name: String,
    /// The version of the protocol's reference that is spoken, as clients compare it.
    pub version: String,
    /// Always 1: the server sends further INFO messages.
    pub proto: u32,
    /// What the server was built with; clients only show it.
    pub go: String,
    /// The address that it listens on.
    pub host: String,
    /// The port that it listens on.
    pub port: u16,
    /// Whether messages with headers are taken.
    pub headers: bool,
    /// Whether credentials are asked for.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// Whether the client must begin TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// Whether the client must show a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// Whether the client may begin TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Most bytes of a message from this connection.
    pub max_payload: i64,
    /// Whether JetStream is enabled.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// The client's number on this server.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// The client's address as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// What a client with a key must sign.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Where else the client may connect, as `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Whether the server is about to leave.
    #[serde(rename = "ldm", skip_serializing_if = "is_false")]
    pub lame_duck_mode: bool,
    /// The API level, from 2.11 on.
    #[serde(skip_serializing_if = "is_zero")]
    pub api_lvl: u64,
    /// Set on the INFO that follows a client's first PONG.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account that the client was bound to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// Whether that is the system account.
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
}

impl Info {
    /// The JSON of this INFO.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and booleans into memory: there is nothing in this type that could fail to serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an INFO; unknown fields are ignored.
    ///
    /// # Errors
    /// The text is no JSON, or a field is of the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_false(b: &bool) -> bool {
    !*b
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What a client says of itself.
///
/// A missing key keeps the value that the field has already: the defaults on the first CONNECT, the previous
/// values on a second. Keys are matched whatever their case, unknown ones are ignored, `null` changes nothing
/// (all as Go's `encoding/json` does for nats-server).
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Answer every accepted operation with `+OK`.
    pub verbose: bool,
    /// Complain of publish subjects that are none.
    pub pedantic: bool,
    /// Deliver the client's own messages to its own subscriptions.
    pub echo: bool,
    /// Take and send messages with headers.
    pub headers: bool,
    /// Tell of requests that nobody listens to.
    pub no_responders: bool,
    /// 0, or 1 for a client that takes INFO at any time.
    pub protocol: i64,
    /// The client's own name for itself.
    pub name: Box<str>,
    /// The client library's language.
    pub lang: Box<str>,
    /// The client library's version.
    pub version: Box<str>,
    /// Who the client says that it is, if it says anything of that. Apart, because it is kept for a moment only.
    pub credentials: Option<Box<Credentials>>,
    /// Whether the long-gone wish for an account was expressed, which is refused.
    pub wants_account: bool,
}

/// Who a client says that it is, and its proof. What was not said is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub pass: String,
    /// Token.
    pub auth_token: String,
    /// Public user nkey.
    pub nkey: String,
    /// Signature over the nonce.
    pub sig: String,
    /// User JWT.
    pub jwt: String,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: Box::default(),
            lang: Box::default(),
            version: Box::default(),
            credentials: None,
            wants_account: false,
        }
    }
}

impl fmt::Debug for Connect {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("echo", &self.echo)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .field("protocol", &self.protocol)
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("nkey", &self.nkey)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Forgets password, token, signature and JWT, for those who keep who the client says that it is.
    pub fn hide_secrets(&mut self) {
        let Self { user: _, nkey: _, pass, auth_token, sig, jwt } = self;
        for secret in [pass, auth_token, sig, jwt] {
            *secret = String::new();
        }
    }
}

impl Connect {
    /// Reads the body of a CONNECT over the values that stand already.
    ///
    /// # Errors
    /// The text is no JSON object, has something behind it, or gives a known field a value of the wrong type.
    /// The values may then have changed in part.
    pub fn update(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        // Go replaces what is no UTF-8 where serde_json would refuse it.
        let text: Cow<'_, str> = String::from_utf8_lossy(json);
        let mut reader = serde_json::Deserializer::from_str(&text);
        let read = reader.deserialize_map(ConnectVisitor(self)).and_then(|()| reader.end());
        read.map_err(|why| ConnectError::from(&why))
    }
}

/// Why the body of a CONNECT cannot be read. It names no value: that could be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at column {column}")]
pub struct ConnectError {
    what: &'static str,
    column: usize,
}

impl From<&serde_json::Error> for ConnectError {
    fn from(why: &serde_json::Error) -> Self {
        let what = match why.classify() {
            Category::Data => "a value of the wrong type",
            Category::Eof => "the end of the text too soon",
            Category::Syntax | Category::Io => "no valid JSON",
        };
        Self { what, column: why.column() }
    }
}

struct ConnectVisitor<'c>(&'c mut Connect);

impl<'de> Visitor<'de> for ConnectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            self.0.set(&key.to_ascii_lowercase(), &mut map)?;
        }
        Ok(())
    }
}

impl Connect {
    fn said(&mut self) -> &mut Credentials {
        self.credentials.get_or_insert_default()
    }

    fn set<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "verbose" => put(&mut self.verbose, map),
            "pedantic" => put(&mut self.pedantic, map),
            "echo" => put(&mut self.echo, map),
            "headers" => put(&mut self.headers, map),
            "no_responders" => put(&mut self.no_responders, map),
            "tls_required" => put(&mut false, map),
            "protocol" => put(&mut self.protocol, map),
            "name" => put(&mut self.name, map),
            "lang" => put(&mut self.lang, map),
            "version" => put(&mut self.version, map),
            "user" => put(&mut self.said().user, map),
            "pass" => put(&mut self.said().pass, map),
            "auth_token" => put(&mut self.said().auth_token, map),
            "nkey" => put(&mut self.said().nkey, map),
            "sig" => put(&mut self.said().sig, map),
            "jwt" => put(&mut self.said().jwt, map),
            "proxy_sig" => put(&mut String::new(), map),
            "account" => {
                let mut account = String::new();
                put(&mut account, map)?;
                self.wants_account |= !account.is_empty();
                Ok(())
            }
            "new_account" => {
                let mut wanted = false;
                put(&mut wanted, map)?;
                self.wants_account |= wanted;
                Ok(())
            }
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

fn put<'de, T: Deserialize<'de>, A: MapAccess<'de>>(slot: &mut T, map: &mut A) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *slot = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Connect, ConnectError> {
        let mut connect = Connect::default();
        connect.update(json.as_bytes()).map(|()| connect)
    }

    #[test]
    fn missing_keys_take_the_defaults_and_case_does_not_matter() {
        let connect = read(r#"{"USER":"u","Verbose":false,"unknown":[1,{"x":2}],"lang":null}"#).unwrap();
        let user = connect.credentials.unwrap().user;
        assert_eq!((user.as_str(), connect.verbose, connect.pedantic), ("u", false, true));
        assert_eq!(read("{}").unwrap(), Connect::default());
    }

    #[test]
    fn a_second_connect_builds_on_the_first() {
        let mut connect = read(r#"{"verbose":false,"name":"a"}"#).unwrap();
        connect.update(br#"{"echo":false}"#).unwrap();
        assert_eq!((connect.verbose, connect.echo, &*connect.name), (false, false, "a"));
    }

    #[test]
    fn broken_bodies_are_refused() {
        for bad in ["", "{", "[]", "{}x", "1", r#"{"verbose":"yes"}"#, r#"{"protocol":1.5}"#, r#"{"name":1}"#]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let json = r#"{"user":"u","pass":"hush","auth_token":"hush","sig":"hush","jwt":"hush"}"#;
        let connect = read(json).unwrap();
        assert!(!format!("{connect:?}").contains("hush"));
        let mut credentials = *connect.credentials.unwrap();
        let shown = format!("{credentials:?}");
        assert!(shown.contains("\"u\"") && !shown.contains("hush"), "{shown}");
        credentials.hide_secrets();
        assert_eq!(credentials, Credentials { user: "u".into(), ..Credentials::default() });
    }

    #[test]
    fn info_leaves_out_what_says_nothing() {
        let info = Info { server_id: "N".into(), max_payload: 1, ..Info::default() };
        assert_eq!(
            String::from_utf8(info.to_json()).unwrap(),
            r#"{"server_id":"N","server_name":"","version":"","proto":0,"go":"","host":"","port":0,"headers":false,"max_payload":1}"#
        );
        assert_eq!(Info::from_json(&info.to_json()).unwrap(), info);
    }
}
