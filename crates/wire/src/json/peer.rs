//! What servers say of themselves to each other, on routes and leafnode connections.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ConnectError, is_false, is_zero};

/// The INFO of a server to another one: what a client is told, too, and what only servers need. Fields that are false,
/// zero or empty are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerInfo {
    /// The server's id: what tells it from every other.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// The version of the protocol's reference that is spoken.
    pub version: String,
    /// The version of the protocol between servers: 1 on a leafnode connection, 2 on a route that knows accounts, 3
    /// where messages are traced.
    pub proto: u32,
    /// What the server was built with.
    pub go: String,
    /// The address that it listens on for servers.
    pub host: String,
    /// The port that it listens on for servers.
    pub port: u16,
    /// Whether it takes messages with headers.
    pub headers: bool,
    /// Whether it asks who its peers are.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// Whether it wants TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// Whether it wants a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// Most bytes of a message from a client.
    pub max_payload: i64,
    /// Whether it has JetStream.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// Where others reach it, as `nats-route://host:port/` on routes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The connection's number; tells a leafnode that it has found a port for leafnodes.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// What a peer with a key must sign.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Whether that was made up by a server, and gives way to one that was not.
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    /// JetStream's domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Where clients reach the server, as `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub connect_urls: Vec<String>,
    /// Where WebSocket clients reach it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Whether it is about to leave.
    #[serde(rename = "ldm", skip_serializing_if = "is_false")]
    pub lame_duck_mode: bool,
    /// How the connection may be compressed, or will be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// What it takes in, of subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<SubjectLists>,
    /// What it lets out, of subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<SubjectLists>,
    /// Whether it knows what came from a leafnode's cluster (`LS+`, `LMSG`).
    #[serde(skip_serializing_if = "is_false")]
    pub lnoc: bool,
    /// Whether it names that cluster in `LS-`, too.
    #[serde(skip_serializing_if = "is_false")]
    pub lnocu: bool,
    /// Whether it says `LS+ _` for leafnodes without a cluster.
    #[serde(skip_serializing_if = "is_false")]
    pub ln: bool,
    /// Connections between two servers, dedicated ones left out.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub route_pool_size: i64,
    /// Which of them this is.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub route_pool_idx: i64,
    /// The account that this connection is dedicated to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_account: String,
    /// Names a request to move an account to a connection of its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_acc_add_reqid: String,
    /// How what is told of other servers spreads.
    #[serde(skip_serializing_if = "is_zero")]
    pub gossip_mode: u64,
    /// Whether messages are spread over the connections by who publishes them, and each connection hears of all
    /// interest (midge only).
    #[serde(skip_serializing_if = "is_false")]
    pub pool_by_publisher: bool,
    /// The gateway that this is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Where leafnodes reach the server, or its cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leafnode_urls: Option<Vec<String>>,
    /// Whether another INFO follows the CONNECT of a leafnode.
    #[serde(skip_serializing_if = "is_false")]
    pub info_on_connect: bool,
    /// Set on that one.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account that the leafnode was bound to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
}

/// Subjects that are allowed and denied. No `allow` is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectLists {
    /// What is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// What is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<String>>,
}

impl PeerInfo {
    /// The JSON of this INFO.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // There is nothing in this type that could fail to serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an INFO; unknown fields are ignored.
    ///
    /// # Errors
    /// The text is no JSON, or a field is of the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, ConnectError> {
        read(json)
    }
}

/// The CONNECT of a server to another one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerConnect {
    /// The version of the protocol's reference that is spoken.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Always true from a server: it never hears its own messages anyway.
    pub echo: bool,
    /// Never true from a server.
    pub verbose: bool,
    /// Never true from a server.
    pub pedantic: bool,
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// Token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    /// Public user nkey.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    /// User JWT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Signature over the nonce.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sig: String,
    /// Whether the peer wants TLS.
    pub tls_required: bool,
    /// The server's id, on leafnode connections.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_id: String,
    /// Whether it takes messages with headers.
    pub headers: bool,
    /// The server's id on routes, its name on leafnode connections.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Whether that was made up by a server, and gives way to one that was not.
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    /// See [`PeerInfo::lnoc`].
    #[serde(skip_serializing_if = "is_false")]
    pub lnoc: bool,
    /// See [`PeerInfo::ln`].
    #[serde(skip_serializing_if = "is_false")]
    pub ln: bool,
    /// A client says this, and has come to the wrong port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// A gateway says this, and has come to the wrong port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Whether a leafnode claims to be the hub.
    #[serde(skip_serializing_if = "is_false")]
    pub is_hub: bool,
    /// Whether a leafnode does not want to hear of other leafnodes.
    #[serde(skip_serializing_if = "is_false")]
    pub isolate: bool,
    /// What a leafnode will not take in.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub deny_pub: Vec<String>,
    /// How a leafnode connection is compressed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compress_mode: String,
    /// A leafnode's own account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
}

impl PeerConnect {
    /// The JSON of this CONNECT.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // There is nothing in this type that could fail to serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a CONNECT; unknown fields are ignored.
    ///
    /// # Errors
    /// The text is no JSON, or a field is of the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, ConnectError> {
        read(json)
    }
}

impl fmt::Debug for PeerConnect {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConnect")
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Go's decoder takes what is no UTF-8, and so must this.
fn read<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T, ConnectError> {
    serde_json::from_str(&String::from_utf8_lossy(json)).map_err(|why| ConnectError::from(&why))
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(from).map(Option::unwrap_or_default)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_zero_signed(n: &i64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_left_out_and_comes_back() {
        let info = PeerInfo { server_id: "N".into(), route_pool_size: 3, lnoc: true, ..PeerInfo::default() };
        let json = info.to_json();
        assert_eq!(
            String::from_utf8_lossy(&json),
            r#"{"server_id":"N","server_name":"","version":"","proto":0,"go":"","host":"","port":0,"headers":false,"max_payload":0,"lnoc":true,"route_pool_size":3}"#
        );
        assert_eq!(PeerInfo::from_json(&json).unwrap(), info);
        assert_eq!(PeerInfo::from_json(br#"{"connect_urls":null}"#).unwrap(), PeerInfo::default());
        assert!(PeerInfo::from_json(br#"{"port":"x"}"#).is_err());
        assert!(PeerInfo::from_json(b"{} {}").is_err());
    }

    #[test]
    fn secrets_are_not_printed_and_errors_do_not_quote() {
        let connect =
            PeerConnect::from_json(br#"{"user":"u","pass":"hush","jwt":"hush","sig":"hush"}"#).unwrap();
        assert!(connect.pass == "hush" && !format!("{connect:?}").contains("hush"));
        let why = PeerConnect::from_json(br#"{"pass":"hush","headers":"hush"}"#).unwrap_err();
        assert!(!why.to_string().contains("hush"), "{why}");
    }
}
