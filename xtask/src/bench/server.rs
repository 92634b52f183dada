//! The server that is measured, and what the kernel says of it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use midge_testkit::process::Process;
use midge_testkit::raw::Raw;
use midge_testkit::tls::Authority;
use rustix::thread::CpuSet;
use rustls::ClientConfig;

use crate::sh::Outcome;

const HELLO: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":1,\
                     \"user\":\"bench\",\"pass\":\"bench\"}\r\n";

/// A server's program.
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
}

/// A running server, alone on the first processor while the generator has the others.
pub(crate) struct Server(Process);

impl Server {
    /// A server with that configuration, or without one.
    pub(crate) fn start(kind: &Kind, config: &str) -> Outcome<Self> {
        Self::apart(|| match config {
            "" => Process::start(&kind.program, &[]),
            config => Process::with_config(&kind.program, config),
        })
    }

    /// A server to which TLS must be spoken.
    pub(crate) fn with_tls(kind: &Kind, authority: &Authority) -> Outcome<Self> {
        let identity = authority.server("server");
        let (certificate, key) = (&identity.certificate, &identity.key);
        let config = format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", timeout: 10 }}");
        Self::apart(|| Process::with_config(&kind.program, &config))
    }

    fn apart(start: impl FnOnce() -> Process) -> Outcome<Self> {
        // A child begins where its parent may run.
        pin(Side::Server)?;
        let process = start();
        pin(Side::Generator)?;
        Ok(Self(process))
    }

    /// A client that speaks TLS, has connected, and heard a PONG.
    pub(crate) fn tls_client(&self, trust: &Arc<ClientConfig>) -> Raw {
        let mut client = Raw::connect_tls(self.0.port(), trust);
        client.send(HELLO.as_bytes());
        client.sync();
        client
    }

    /// Nanoseconds of processor time that all of its threads have had.
    pub(crate) fn cpu(&self) -> Outcome<u64> {
        let folder = format!("/proc/{}/task", self.0.pid());
        let fail = |error: io::Error| format!("{folder}: {error}");
        let mut sum = 0;
        for task in fs::read_dir(&folder).map_err(fail)?.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).map_err(fail)?;
            let spent = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            sum += spent.ok_or_else(|| format!("{folder}: the kernel keeps no schedstat"))?;
        }
        Ok(sum)
    }

    /// Resident bytes, once they stay what they are.
    pub(crate) fn settled_memory(&self) -> u64 {
        let mut last = self.0.memory();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(500));
            let now = self.0.memory();
            if now.abs_diff(last) * 200 <= now {
                return now;
            }
            last = now;
        }
        last
    }

    /// A client that has connected, sent `more`, and heard the PONG after it.
    pub(crate) fn client(&self, more: &str) -> Outcome<TcpStream> {
        let open = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.0.port()))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(format!("{HELLO}{more}PING\r\n").as_bytes())?;
            wait_for_pong(&mut stream)?;
            stream.set_read_timeout(None)?;
            Ok(stream)
        };
        open().map_err(|error| format!("a client of {:?}: {error}", self.0.pid()))
    }
}

/// Reads up to the PONG. What follows it (an INFO) is read as part of the traffic before the counting begins.
fn wait_for_pong(stream: &mut TcpStream) -> io::Result<()> {
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    while !heard.windows(6).any(|window| window == b"PONG\r\n") {
        let len = stream.read(&mut piece)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(piece.get(..len).unwrap_or_default());
    }
    Ok(())
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
