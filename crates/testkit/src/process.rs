//! Real servers: midged and nats-server, each in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take that should take no time at all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program that an environment variable names. `cargo xtask interop` sets them.
///
/// # Panics
/// The variable is not set, or names no file: a missing peer is a failure, never a skipped test.
#[must_use]
pub fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let Some(path) = path else { panic!("{variable} is not set: run these tests by cargo xtask interop") };
    assert!(path.exists(), "{variable} names {}, which is not there", path.display());
    path
}

/// All versions of nats-server, oldest first, which the variable `NATS_SERVERS` names.
///
/// # Panics
/// It is not set, or names something that is not there.
#[must_use]
pub fn nats_servers() -> Vec<PathBuf> {
    let list = std::env::var_os("NATS_SERVERS");
    let Some(list) = list else { panic!("NATS_SERVERS is not set: run these tests by cargo xtask interop") };
    let all: Vec<PathBuf> = std::env::split_paths(&list).collect();
    assert!(all.iter().all(|path| path.exists()), "NATS_SERVERS names something that is not there: {all:?}");
    all
}

/// Raises this process's limit of open files as far as the system lets it.
///
/// # Panics
/// The system does not say what the limit is.
pub fn many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder, empty.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("midge-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it; the file's path.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server in a process of its own. Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    port: u16,
    monitor: Option<u16>,
    websocket: Option<u16>,
    routes: OnceLock<u16>,
    leafnodes: OnceLock<u16>,
    folder: Option<Folder>,
}

impl Process {
    /// Starts a server on a free port of 127.0.0.1, with further arguments, and waits until it is ready.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        Self::start_on(program, -1, arguments)
    }

    /// Starts a server with a configuration file of this text.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn with_config(program: &Path, text: &str) -> Self {
        Self::with_config_on(program, -1, text)
    }

    /// The same on this port; -1 for a free one.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn with_config_on(program: &Path, port: i32, text: &str) -> Self {
        let folder = Folder::new("conf");
        let path = folder.file("server.conf", text);
        let mut server = Self::start_on(program, port, &["-c", &path]);
        server.folder = Some(folder);
        server
    }

    /// Starts a server on this port; -1 for a free one.
    ///
    /// # Panics
    /// It does not become ready.
    #[must_use]
    pub fn start_on(program: &Path, port: i32, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().unwrap();
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
                if sender.send(line).is_err() {
                    // Nobody waits for lines any more, but the pipe must not fill up.
                }
            }
        });
        let mut server = Self {
            child,
            lines,
            log,
            port: 0,
            monitor: None,
            websocket: None,
            routes: OnceLock::new(),
            leafnodes: OnceLock::new(),
            folder: None,
        };
        server.wait_until_ready(program);
        server
    }

    fn wait_until_ready(&mut self, program: &Path) {
        loop {
            let line = self.next_line(Instant::now() + PATIENCE);
            let Some(line) = line else { panic!("{} is not ready: {:#?}", program.display(), self.log()) };
            let port = || line.rsplit(':').next()?.trim().parse().ok();
            if line.contains("Listening for client connections on") {
                self.port = port().unwrap();
            } else if line.contains("Starting http monitor on") || line.contains("Starting https monitor on")
            {
                self.monitor = port();
            } else if line.contains("Listening for websocket clients on") {
                self.websocket = port();
            } else if line.ends_with("Server is ready") {
                return;
            }
        }
    }

    fn next_line(&self, until: Instant) -> Option<String> {
        self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// Waits for a line of the log that contains this; the line.
    ///
    /// # Panics
    /// None comes.
    pub fn wait_for_line(&self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.next_line(until) {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("no log line with '{part}': {:#?}", self.log()),
            }
        }
    }

    /// All that has been logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The port for clients.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The port for monitoring.
    #[must_use]
    pub const fn monitor_port(&self) -> Option<u16> {
        self.monitor
    }

    /// The port for WebSocket clients.
    #[must_use]
    pub const fn websocket_port(&self) -> Option<u16> {
        self.websocket
    }

    /// The port for other servers of the cluster.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn route_port(&self) -> u16 {
        *self.routes.get_or_init(|| self.port_in("Listening for route connections on"))
    }

    /// The port for leafnodes.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn leafnode_port(&self) -> u16 {
        *self.leafnodes.get_or_init(|| self.port_in("Listening for leafnode connections on"))
    }

    /// The port for links of other peers.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn link_port(&self) -> u16 {
        self.port_in("Listening for links on")
    }

    /// What other peers call it.
    ///
    /// # Panics
    /// It has no key.
    #[must_use]
    pub fn peer_id(&self) -> String {
        let line = self.log().into_iter().find(|line| line.contains("Peer id is "));
        line.and_then(|line| line.rsplit(' ').next().map(ToOwned::to_owned)).unwrap()
    }

    /// The port that a line of the log ends with. nats-server is ready before it listens for other servers.
    fn port_in(&self, line: &str) -> u16 {
        let seen = self.log().into_iter().find(|seen| seen.contains(line));
        let line = seen.unwrap_or_else(|| self.wait_for_line(line));
        line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).unwrap()
    }

    /// The folder with the configuration file that this server was started with, if it was made for it.
    #[must_use]
    pub const fn folder(&self) -> Option<&Folder> {
        self.folder.as_ref()
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// It does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        // The log's end is the process's end, which needs no looking again and again.
        while self.next_line(until).is_some() {}
        assert!(Instant::now() < until, "the process does not end: {:#?}", self.log());
        self.child.wait().unwrap()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// The process has gone.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
