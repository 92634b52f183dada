//! What `/varz` says of how the server is connected to others.

use serde::Serialize;

use crate::options::{LeafRemote, Options, ServerUrl};
use crate::server::Server;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_false(b: &bool) -> bool {
    !*b
}

/// nats-server 2.15's `ClusterOptsVarz`.
#[derive(Serialize, Default)]
pub(super) struct ClusterVarz {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_timeout: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_size: Option<i64>,
}

impl ClusterVarz {
    pub(super) fn of(server: &Server, options: &Options) -> Self {
        let Some(cluster) = server.router().cluster() else { return Self::default() };
        let block = &options.cluster;
        let tls = block.tls.as_ref();
        Self {
            name: Some(cluster.name()),
            addr: Some(block.host().to_owned()),
            cluster_port: Some(cluster.port()),
            auth_timeout: Some(crate::cluster::auth_timeout(block).as_secs_f64()),
            urls: block.routes.iter().map(ServerUrl::address).collect(),
            tls_timeout: Some(tls.map_or(2.0, |tls| tls.timeout.as_secs_f64())),
            tls_required: tls.is_some(),
            tls_verify: tls.is_some(),
            pool_size: Some(if block.pool_size == 0 { -1 } else { block.pool_size.into() }),
        }
    }
}

/// nats-server 2.15's `LeafNodeOptsVarz`.
#[derive(Serialize, Default)]
pub(super) struct LeafVarz {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_timeout: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remotes: Vec<RemoteVarz>,
}

/// nats-server 2.15's `RemoteLeafOptsVarz`.
#[derive(Serialize)]
struct RemoteVarz {
    local_account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_timeout: Option<f64>,
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<Denied>,
}

/// nats-server 2.15's `DenyRules`.
#[derive(Serialize)]
struct Denied {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imports: Vec<String>,
}

impl LeafVarz {
    pub(super) fn of(server: &Server, options: &Options) -> Self {
        let block = &options.leafnodes;
        if !block.is_on() {
            return Self::default();
        }
        let tls = block.tls.as_ref();
        let listens = *server.leafnode_address.read();
        let timeout = tls.map_or(2.0, |tls| tls.timeout.as_secs_f64());
        Self {
            host: listens.map(|_| block.host().to_owned()),
            port: listens.map(|address| address.port()),
            auth_timeout: listens.map(|_| crate::leafnode::auth_timeout(block).as_secs_f64()),
            tls_timeout: listens.map(|_| timeout),
            tls_required: tls.is_some(),
            tls_verify: tls.is_some_and(|tls| tls.verify),
            remotes: block.remotes.iter().map(RemoteVarz::of).collect(),
        }
    }
}

impl RemoteVarz {
    fn of(remote: &LeafRemote) -> Self {
        let LeafRemote { deny_exports, deny_imports, .. } = remote;
        let denied = !deny_exports.is_empty() || !deny_imports.is_empty();
        Self {
            local_account: remote.account.clone().unwrap_or_else(|| midge_router::GLOBAL.to_owned()),
            tls_timeout: remote.tls.as_ref().map(|tls| tls.timeout.as_secs_f64()),
            urls: remote.urls.iter().map(ServerUrl::address).collect(),
            deny: denied.then(|| Denied { exports: deny_exports.clone(), imports: deny_imports.clone() }),
        }
    }
}
