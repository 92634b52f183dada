//! The server that is measured, and what the kernel says of it.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use midge_testkit::carrier::{self, Carrier};
use midge_testkit::process::{Folder, Process};
use midge_testkit::tls::Authority;
use rustix::thread::CpuSet;
use rustls::ClientConfig;

use super::MIDGED;
use super::dialect::{Dialect, Wanted};
use crate::sh::Outcome;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server's program.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// Where its libraries are, if not where all are.
    pub(crate) libraries: Option<PathBuf>,
    pub(crate) dialect: Dialect,
}

/// What a server is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// As it comes, or with this configuration of a NATS server.
    Plain(&'static str),
    /// TLS must be spoken.
    Tls,
    /// Two servers of a cluster: whoever subscribes does it on the second.
    Routed,
    /// The same over something encrypted in between: a link of midge, or a route of nats-server with TLS.
    Linked,
}

/// Keeps the servers' processor from sleeping. Dropped, it ends.
///
/// A hypervisor halts a virtual processor that is idle, and may take milliseconds to wake it: that would be all that is
/// seen of how long messages take.
#[derive(Debug)]
pub(crate) struct Awake(Child);

impl Awake {
    pub(crate) fn start() -> Outcome<Self> {
        pin(Side::Server)?;
        // Whatever else wants the processor has it at once.
        let started = Command::new("chrt").args(["--idle", "0", "sh", "-c", "while :; do :; done"]).spawn();
        pin(Side::Generator)?;
        started.map(Self).map_err(|error| format!("chrt (Debian: util-linux): {error}"))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server, alone on the first processor while the generator has the others.
#[derive(Debug)]
pub(crate) struct Server {
    running: Running,
    /// Another member of its cluster, where there is one.
    second: Option<Process>,
    dialect: Dialect,
    trust: Option<Arc<ClientConfig>>,
}

#[derive(Debug)]
enum Running {
    Nats(Process),
    Broker(Broker),
}

/// A server that says in no way known here when it is ready. Killed when it is dropped.
#[derive(Debug)]
struct Broker {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl Server {
    pub(crate) fn start(kind: &Kind, setup: Setup) -> Outcome<Self> {
        // A child begins where its parent may run.
        pin(Side::Server)?;
        let started = Self::start_here(kind, setup);
        pin(Side::Generator)?;
        started
    }

    fn start_here(kind: &Kind, setup: Setup) -> Outcome<Self> {
        let (mut trust, mut second) = (None, None);
        let running = match (kind.dialect, setup) {
            (Dialect::Nats, Setup::Plain("")) => Running::Nats(Process::start(&kind.program, &[])),
            (Dialect::Nats, Setup::Plain(config)) => {
                Running::Nats(Process::with_config(&kind.program, config))
            }
            (Dialect::Nats, Setup::Tls) => {
                let authority = Authority::new();
                let mut config = (*authority.trusting(None, &[])).clone();
                // Every handshake is a whole one.
                config.resumption = rustls::client::Resumption::disabled();
                trust = Some(Arc::new(config));
                let identity = authority.server("server");
                let (certificate, key) = (&identity.certificate, &identity.key);
                let config =
                    format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", timeout: 10 }}");
                Running::Nats(Process::with_config(&kind.program, &config))
            }
            (Dialect::Nats, Setup::Routed) => {
                let config =
                    |routes: &str| format!("cluster {{ name: bench, listen: \"127.0.0.1:-1\", {routes} }}");
                let first = Process::with_config(&kind.program, &config(""));
                let routes = format!("routes: [\"nats-route://127.0.0.1:{}\"]", first.route_port());
                second = Some(Process::with_config(&kind.program, &config(&routes)));
                Running::Nats(first)
            }
            (Dialect::Nats, Setup::Linked) if kind.name == MIDGED => {
                let folder = Folder::new("bench");
                let file = folder.path().join("peer.key");
                let key = midge_server::mesh::read_or_make_key(&file).map_err(|error| error.to_string())?;
                let config =
                    format!("mesh {{ listen: \"udp://127.0.0.1:-1\", allow: [\"{}\"] }}", key.peer_id());
                let first = Process::with_config(&kind.program, &config);
                let peer = format!("{}@udp://127.0.0.1:{}", first.peer_id(), first.link_port());
                let config = format!("mesh {{ key: \"{}\", peers: [\"{peer}\"] }}", file.display());
                second = Some(Process::with_config(&kind.program, &config));
                Running::Nats(first)
            }
            (Dialect::Nats, Setup::Linked) => {
                let authority = Authority::new();
                let identity = authority.member("server");
                let (certificate, key, trusted) = (&identity.certificate, &identity.key, authority.file());
                let tls = format!(
                    "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{trusted}\", timeout: 5 }}"
                );
                let config = |routes: &str| {
                    format!("cluster {{ name: bench, listen: \"127.0.0.1:-1\"\n{routes}\n{tls} }}")
                };
                let first = Process::with_config(&kind.program, &config(""));
                let routes = format!("routes: [\"nats-route://localhost:{}\"]", first.route_port());
                second = Some(Process::with_config(&kind.program, &config(&routes)));
                Running::Nats(first)
            }
            (Dialect::Mqtt | Dialect::Resp, _) => Running::Broker(Broker::start(kind)?),
        };
        Ok(Self { running, second, dialect: kind.dialect, trust })
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.running {
            Running::Nats(process) => process.pid(),
            Running::Broker(broker) => broker.child.id(),
        }
    }

    pub(crate) const fn port(&self) -> u16 {
        match &self.running {
            Running::Nats(process) => process.port(),
            Running::Broker(broker) => broker.port,
        }
    }

    /// Nanoseconds of processor time that all of its threads have had, and those of the other member.
    pub(crate) fn cpu(&self) -> Outcome<u64> {
        let second = self.second.as_ref().map(|second| cpu_of(second.pid())).transpose()?;
        Ok(cpu_of(self.pid())? + second.unwrap_or(0))
    }

    /// Whether whoever subscribes does it on another server than whoever publishes.
    pub(crate) const fn is_routed(&self) -> bool {
        self.second.is_some()
    }

    /// Resident bytes.
    pub(crate) fn memory(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("{path} has no VmRSS"))
    }

    /// Resident bytes, once they stay what they are.
    pub(crate) fn settled_memory(&self) -> Outcome<u64> {
        let mut last = self.memory()?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(500));
            let now = self.memory()?;
            if now.abs_diff(last) * 200 <= now {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// A client that has connected, subscribed to that, and heard that all of it has been done.
    pub(crate) fn client(&self, wanted: &[Wanted]) -> Outcome<Box<dyn Carrier>> {
        let more: Vec<u8> = wanted.iter().flat_map(|wanted| self.dialect.subscribe(wanted)).collect();
        let open = || -> io::Result<Box<dyn Carrier>> {
            let second = self.second.as_ref().filter(|_| !wanted.is_empty());
            let port = second.map_or_else(|| self.port(), Process::port);
            let mut socket = TcpStream::connect(("127.0.0.1", port))?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut client: Box<dyn Carrier> = match &self.trust {
                None => Box::new(socket),
                Some(trust) => {
                    hear_until(&mut socket, |heard| heard.ends_with(b"\r\n"))?;
                    Box::new(carrier::tls(socket, trust))
                }
            };
            client.write_all(&[self.dialect.hello(), more].concat())?;
            self.sync(&mut *client)?;
            Ok(client)
        };
        open().map_err(|error| format!("a client of {}: {error}", self.port()))
    }

    /// Waits until the server has done everything that this client sent.
    pub(crate) fn sync(&self, client: &mut dyn Carrier) -> io::Result<()> {
        client.write_all(self.dialect.ping())?;
        hear_until(client, |heard| self.dialect.is_answered(heard))
    }
}

/// Nanoseconds of processor time that all threads of a process have had.
fn cpu_of(pid: u32) -> Outcome<u64> {
    let folder = format!("/proc/{}/task", pid);
    let fail = |error: io::Error| format!("{folder}: {error}");
    let mut sum = 0;
    for task in fs::read_dir(&folder).map_err(fail)?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).map_err(fail)?;
        let spent = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        sum += spent.ok_or_else(|| format!("{folder}: the kernel keeps no schedstat"))?;
    }
    Ok(sum)
}

/// Reads until it is enough.
fn hear_until(from: &mut dyn Carrier, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    while !is_enough(&heard) {
        let len = from.read(&mut piece)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(piece.get(..len).unwrap_or_default());
    }
    Ok(())
}

impl Broker {
    fn start(kind: &Kind) -> Outcome<Self> {
        let fail = |error: io::Error| format!("{}: {error}", kind.name);
        // Nobody else takes it within the moment until the server does.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(fail)?.port();
        let folder = Folder::new("broker");
        let config = match kind.dialect {
            Dialect::Mqtt => format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
                 max_queued_bytes 0\nset_tcp_nodelay true\n"
            ),
            _ => format!(
                "bind 127.0.0.1\nport {port}\nsave \"\"\nappendonly no\nmaxclients 20000\n\
                 client-output-buffer-limit pubsub 0 0 0\n"
            ),
        };
        let path = folder.file("broker.conf", &config);
        let mut command = Command::new(&kind.program);
        match kind.dialect {
            Dialect::Mqtt => command.args(["-c", &path]),
            _ => command.arg(&path),
        };
        if let Some(libraries) = &kind.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut broker = Self { child: command.spawn().map_err(fail)?, port, _folder: folder };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if broker.child.try_wait().map_err(fail)?.is_some() || Instant::now() > until {
                return Err(format!("{} does not start", kind.name));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

enum Side {
    Server,
    Generator,
}

/// Keeps this thread, and what it starts from now on, on one side's processors.
fn pin(side: Side) -> Outcome {
    let all = processors();
    if all < 2 {
        return Ok(());
    }
    let mut set = CpuSet::new();
    match side {
        Side::Server => set.set(0),
        Side::Generator => (1..all).for_each(|cpu| set.set(cpu)),
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot pin to processors: {error}"))
}

/// Processors of the machine. What this thread may use says less, once it has been pinned.
fn processors() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count()
}
