//! What async-nats's published tests expect of a helper crate that is not published: functions that start the
//! `nats-server` found on the path. Written from what those tests call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const LISTENING: &str = "Listening for client connections on";

/// A running server. Ends, with its files, when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: PathBuf,
    config: String,
    port: Option<String>,
}

/// Three servers that know each other.
#[derive(Debug)]
pub struct Cluster {
    /// The servers.
    pub servers: Vec<Server>,
}

impl Cluster {
    /// The URL of one of them.
    #[must_use]
    pub fn client_url(&self) -> String {
        self.servers.first().expect("a cluster has servers").client_url()
    }
}

impl Server {
    fn launch(config: &str, port: Option<&str>, further: &[String]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("async-nats-suite-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the server's files");
        let child = spawn(&folder, config, port, further);
        let mut server = Self { child, folder, config: config.to_owned(), port: port.map(str::to_owned) };
        server.wait_until_ready();
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !(self.log().contains(LISTENING) && self.folder.join("pid").is_file()) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("nats-server ended with {status}: {}", self.log());
            }
            assert!(Instant::now() < end, "nats-server is not ready: {}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// The port that the log names.
    #[must_use]
    pub fn client_port(&self) -> u16 {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(LISTENING)).expect("the line has been seen");
        line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("the line ends with a port")
    }

    /// The URL for clients. A server with a certificate must be asked by the name that it stands for.
    #[must_use]
    pub fn client_url(&self) -> String {
        let config = fs::read_to_string(&self.config).unwrap_or_default();
        let scheme = if config.contains("tls") { "tls" } else { "nats" };
        format!("{scheme}://localhost:{}", self.client_port())
    }

    /// The process number.
    #[must_use]
    pub fn client_pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server and starts it anew.
    pub fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.folder.join("log"));
        let _ = fs::remove_file(self.folder.join("pid"));
        self.child = spawn(&self.folder, &self.config, self.port.as_deref(), &[]);
        self.wait_until_ready();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &Path, config: &str, port: Option<&str>, further: &[String]) -> Child {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("nats-server");
    command.args(["--store_dir", &file("store"), "-p", port.unwrap_or("-1"), "-l", &file("log"), "-P", &file("pid")]);
    if !config.is_empty() {
        command.args(["-c", config]);
    }
    command.args(further).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("nats-server on the path")
}

/// A server without a configuration, on a free port.
#[must_use]
pub fn run_basic_server() -> Server {
    Server::launch("", None, &[])
}

/// A server with a configuration file, on a free port.
#[must_use]
pub fn run_server(config: &str) -> Server {
    Server::launch(config, None, &[])
}

/// A server on a port of its own.
#[must_use]
pub fn run_server_with_port(config: &str, port: Option<&str>) -> Server {
    Server::launch(config, port, &[])
}

/// Three servers that know each other.
///
/// The tests of clusters that are run here enable JetStream by their configuration and do not use it, so it is left out.
#[must_use]
pub fn run_cluster(config: &str) -> Cluster {
    let text = fs::read_to_string(config).unwrap_or_default();
    let config = if text.trim_start().starts_with("jetstream") { "" } else { config };
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let ports = [free(), free(), free()];
    let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(",");
    let start = |(number, port): (usize, &u16)| {
        let further = [
            "--cluster_name".to_owned(), "suite".to_owned(),
            "--server_name".to_owned(), format!("suite-{number}"),
            "--cluster".to_owned(), format!("nats://127.0.0.1:{port}"),
            "--routes".to_owned(), routes.clone(),
        ];
        Server::launch(config, None, &further)
    };
    Cluster { servers: ports.iter().enumerate().map(start).collect() }
}

/// Tells a server to send its clients elsewhere.
pub fn set_lame_duck_mode(server: &Server) {
    let status = Command::new("nats-server").args(["--signal", &format!("ldm={}", server.client_pid())]).status();
    assert!(status.expect("nats-server on the path").success());
}
