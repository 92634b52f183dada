//! The files that tell others about this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::listen::StartError;

/// A file with the process number. Stays when the server ends, as nats-server's does.
#[derive(Debug)]
pub(crate) struct PidFile;

impl PidFile {
    pub(crate) fn write(path: Option<&Path>) -> Result<Option<Self>, StartError> {
        let Some(path) = path else { return Ok(None) };
        write(path, &std::process::id().to_string())?;
        Ok(Some(Self))
    }
}

/// A file with all addresses that are listened on. Goes when the server ends.
#[derive(Debug)]
pub(crate) struct PortsFile(PathBuf);

/// What is listened on, and whether TLS is spoken there.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) clients: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) monitor: Option<(SocketAddr, bool)>,
    pub(crate) websocket: Option<(SocketAddr, bool)>,
    pub(crate) routes: Option<SocketAddr>,
    pub(crate) leafnodes: Option<(SocketAddr, bool)>,
    pub(crate) links: Vec<SocketAddr>,
}

/// nats-server's `Ports` (`server/server.go`).
#[derive(Serialize)]
struct Urls {
    nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    monitoring: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    websocket: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leafnodes: Vec<String>,
    /// Ours: nats-server has no links.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<String>,
}

impl PortsFile {
    /// Writes `<program>_<pid>.ports`.
    pub(crate) fn write(folder: Option<&Path>, ports: &Ports) -> Result<Option<Self>, StartError> {
        let Some(folder) = folder else { return Ok(None) };
        let program = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = folder.join(format!("{program}_{}.ports", std::process::id()));
        let listed = |port: Option<(SocketAddr, bool)>, plain, secure| {
            port.map(|(address, tls)| urls(if tls { secure } else { plain }, address)).unwrap_or_default()
        };
        let urls = Urls {
            nats: urls(if ports.tls { "tls" } else { "nats" }, ports.clients),
            monitoring: listed(ports.monitor, "http", "https"),
            cluster: ports.routes.map(|address| urls("nats", address)).unwrap_or_default(),
            websocket: listed(ports.websocket, "ws", "wss"),
            leafnodes: listed(ports.leafnodes, "nats", "tls"),
            links: ports.links.iter().flat_map(|address| urls("udp", *address)).collect(),
        };
        write(&path, &serde_json::to_string(&urls).unwrap_or_default())?;
        Ok(Some(Self(path)))
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The address as a URL. One that stands for all of the machine's is shown as the machine itself.
fn urls(scheme: &str, mut address: SocketAddr) -> Vec<String> {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    vec![format!("{scheme}://{address}")]
}

/// Writes beside the place first, so that whoever waits for the file never reads half of it.
fn write(path: &Path, text: &str) -> Result<(), StartError> {
    let refuse = |source| StartError::File { path: path.display().to_string(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text).map_err(refuse)?;
    std::fs::rename(&beside, path).map_err(refuse)
}
