//! What links cost: bytes and echoes beside TCP, handshakes, and memory while nothing happens. Written to
//! `docs/bench/links.md`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_backend::{Carrier, Deployment, Listening};
use midge_identity::{KeyPair, PeerId};
use midge_link::{Address, Anybody, IncomingStream, Link, LinkConfig, LinkEvent, LinkTable, UdpPath};
use midge_testkit::process::Process;
use midge_testkit::tls::Authority;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::peers;
use crate::sh::{self, Outcome, cargo, cmd, root};

/// Bytes in one direction by one stream, and how many are written at once.
const MUCH: usize = 512 << 20;
const PIECE: usize = 64 << 10;
const ROUNDS: usize = 7;
/// Bytes that are echoed, one after the other.
const ECHOES: usize = 2000;
/// Peers that link to one server, and how many of them at a time.
const PEERS: usize = 1024;
const AT_A_TIME: usize = 16;
const PROTOCOL: &str = "bench/1";

/// What carries the bytes that are measured.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// A link by UDP.
    Udp,
    /// A link through a NATS server: its version, and the program.
    Nats(String, PathBuf),
    /// TCP with TLS 1.3, AES-128.
    Tls,
    /// TCP.
    Tcp,
}

impl Way {
    fn name(&self) -> String {
        match self {
            Self::Udp => "a link, by UDP".to_owned(),
            Self::Nats(version, _) => format!("a link, through nats-server {version}"),
            Self::Tls => "TCP with TLS 1.3 (AES-128)".to_owned(),
            Self::Tcp => "TCP".to_owned(),
        }
    }

    async fn measure(&self) -> Outcome<Figure> {
        match self {
            Self::Udp => link(None).await,
            Self::Nats(_, program) => link(Some(program)).await,
            Self::Tls => tls().await,
            Self::Tcp => tcp().await,
        }
    }
}

pub(super) fn run() -> Outcome {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().map_err(|error| error.to_string())?;
    let servers = peers::fetch()?.servers;
    let (oldest, newest) = (servers.first().cloned(), servers.last().cloned());
    let mut ways = vec![Way::Udp];
    ways.extend([oldest, newest].into_iter().flatten().map(|(version, program)| Way::Nats(version, program)));
    ways.extend([Way::Tls, Way::Tcp]);
    let mut figures = vec![Vec::new(); ways.len()];
    for round in 0..ROUNDS {
        // Which is first changes.
        let mut turns: Vec<usize> = (0..ways.len()).collect();
        if round % 2 != 0 {
            turns.reverse();
        }
        for turn in turns {
            let (Some(way), Some(figures)) = (ways.get(turn), figures.get_mut(turn)) else { continue };
            let figure = runtime.block_on(way.measure())?;
            eprintln!("{} {figure:?}", way.name());
            figures.push(figure);
        }
    }
    sh::run(&mut cargo(&["build", "--quiet", "--release", "--package", "midged"]))?;
    let Costs { rate, handshake, memory } = runtime.block_on(crowd())?;
    let row = |(way, figures): (&Way, &Vec<Figure>)| {
        let figure = median(figures);
        let server =
            if matches!(way, Way::Nats(..)) { format!("{:.2}", figure.server) } else { String::new() };
        format!(
            "| {} | {:.0} | {:.2} | {server} | {:.0} |\n",
            way.name(),
            figure.rate,
            figure.cpu,
            figure.echo * 1e6
        )
    };
    let rows: String = ways.iter().zip(&figures).map(row).collect();
    let text = format!(
        "# Links, measured\n\n\
         Made by `cargo xtask bench --links`: {}.\n\n\
         | | MB/s | CPU s for each GB, both ends | the server's | echo, µs |\n|---|---|---|---|---|\n{rows}\n\
         One stream, one direction, both ends in one process with two threads; a NATS server beside it on the same processors. Medians of {ROUNDS} rounds of {} MB, taking turns. An echo is one byte there and one back, the median of {ECHOES}. A datagram by UDP has 1452 bytes at most here, one through a NATS server 16,000; the cost is for each datagram.\n\n\
         | {PEERS} peers that link to one `midged` | |\n|---|---|\n\
         | links each second, {AT_A_TIME} peers at a time, on the same processors as `midged` | {rate:.0} |\n\
         | processor time of `midged` for each: handshake, log line | {:.0} µs |\n\
         | memory of `midged` for each idle link | {:.1} KiB |\n\n\
         Messages over a link beside nats-server's route with TLS: rows L1 and L2 in [the table](README.md).\n",
        machine()?,
        MUCH >> 20,
        handshake / 1000.0,
        memory / 1024.0
    );
    print!("{text}");
    let path = root().join("docs/bench/links.md");
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What it was measured on.
fn machine() -> Outcome<String> {
    let commit = sh::read(&mut cmd("git", &["rev-parse", "--short", "HEAD"]))?;
    let kernel = sh::read(&mut cmd("uname", &["-sr"]))?;
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let date = sh::read(&mut cmd("date", &["+%F"]))?;
    Ok(format!(
        "commit {}, release build, {count} processors, {model}; {}; {}",
        commit.trim(),
        kernel.trim(),
        date.trim()
    ))
}

/// What a way does.
#[derive(Debug, Clone, Copy)]
struct Figure {
    /// MB/s.
    rate: f64,
    /// Processor seconds for each GB at both ends, and of the server between them.
    cpu: f64,
    server: f64,
    /// Seconds there and back.
    echo: f64,
}

fn median(figures: &[Figure]) -> Figure {
    let middle = |pick: fn(&Figure) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(pick).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Figure {
        rate: middle(|figure| figure.rate),
        cpu: middle(|figure| figure.cpu),
        server: middle(|figure| figure.server),
        echo: middle(|figure| figure.echo),
    }
}

/// Nanoseconds of processor time that a process has had.
fn cpu_of(pid: &str) -> Outcome<f64> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    Ok(tasks.flatten().filter_map(of).sum())
}

fn memory_of(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("{path} has no VmRSS"))
}

/// Has one end echo single bytes, then sends much to it; what that took.
async fn transfer<T>(mut near: T, mut far: T, server: Option<&Process>) -> Outcome<Figure>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: std::io::Error| error.to_string();
    let echoing = tokio::spawn(async move {
        for _ in 0..ECHOES {
            let byte = far.read_u8().await?;
            far.write_u8(byte).await?;
            far.flush().await?;
        }
        Ok::<_, std::io::Error>(far)
    });
    let mut times = Vec::new();
    for _ in 0..ECHOES {
        let begin = Instant::now();
        near.write_u8(1).await.map_err(text)?;
        near.flush().await.map_err(text)?;
        near.read_u8().await.map_err(text)?;
        times.push(begin.elapsed());
    }
    let mut far = echoing.await.map_err(|error| error.to_string())?.map_err(text)?;
    let cpu_of_server = || server.map_or(Ok(0.0), |server| cpu_of(&server.pid().to_string()));
    let (begin, cpu, cpu_between) = (Instant::now(), cpu_of("self")?, cpu_of_server()?);
    let sending = tokio::spawn(async move {
        let piece = vec![7; PIECE];
        for _ in 0..MUCH / PIECE {
            near.write_all(&piece).await?;
        }
        near.shutdown().await?;
        // Closed with something unread, it would be reset.
        Ok::<_, std::io::Error>(near)
    });
    let (mut room, mut got) = (vec![0; 4 * PIECE], 0);
    while got < MUCH {
        match far.read(&mut room).await.map_err(text)? {
            0 => return Err(format!("it ends after {got} bytes")),
            more => got += more,
        }
    }
    let (time, cpu) = (begin.elapsed().as_secs_f64(), cpu_of("self")? - cpu);
    let between = cpu_of_server()? - cpu_between;
    // It may be told of the other side's end before its own.
    drop(sending.await);
    let bytes = MUCH as f64;
    let echo = super::part(&mut times, 0.5) / 1e9;
    Ok(Figure { rate: bytes / 1e6 / time, cpu: cpu / bytes, server: between / bytes, echo })
}

struct Peer {
    table: LinkTable,
    events: midge_link::LinkEvents,
    streams: mpsc::Receiver<IncomingStream>,
    address: String,
}

fn peer(seed: u64) -> Outcome<Peer> {
    let (key, mut peer) = table(seed)?;
    drop(key);
    let any = "127.0.0.1:0".parse().map_err(|error| format!("{error}"))?;
    let path = UdpPath::bind(any).map_err(|error| error.to_string())?;
    peer.address = format!("udp://{}", midge_link::PacketPath::local_address(&*path));
    peer.table.add_path(path).map_err(|error| error.to_string())?;
    Ok(peer)
}

/// A peer that reaches others through that server.
fn peer_through(url: &str, seed: u64) -> Outcome<Peer> {
    let (key, peer) = table(seed)?;
    let carrier = Carrier::start(&Deployment::at(&[url]), &key, Listening::To(Arc::new(Anybody)));
    peer.table.add_path(carrier.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    Ok(Peer { address: "nats:".to_owned(), ..peer })
}

/// A peer without a network.
fn table(seed: u64) -> Outcome<(KeyPair, Peer)> {
    let mut bytes = [9; 32];
    bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
    let key = KeyPair::from_seed(&bytes).map_err(|error| error.to_string())?;
    let (table, events, streams) = LinkTable::new(key.clone(), Arc::new(Anybody), LinkConfig::default())
        .map_err(|error| error.to_string())?;
    table.serve(PROTOCOL);
    Ok((key, Peer { table, events, streams, address: String::new() }))
}

async fn up(peer: &mut Peer) -> Outcome<Link> {
    loop {
        match peer.events.next().await {
            Some(LinkEvent::Up(link)) => return Ok(link),
            Some(_) => {}
            None => return Err("no link".to_owned()),
        }
    }
}

/// By UDP, or through a server of that program.
async fn link(server: Option<&PathBuf>) -> Outcome<Figure> {
    let server = server.map(|program| Process::with_config(program, ""));
    let make = |seed| server.as_ref().map_or_else(|| peer(seed), |server| peer_through(&server.url(), seed));
    let (mut one, mut other) = (make(1)?, make(2)?);
    let there = other.address.parse().map_err(|error| format!("{error}"))?;
    one.table.want(other.table.peer(), vec![there]);
    let link = up(&mut one).await?;
    let mut out = link.open(PROTOCOL).await.map_err(|error| error.to_string())?;
    out.write_all(b"!").await.map_err(|error| error.to_string())?;
    let mut incoming = other.streams.recv().await.ok_or("no stream")?.stream;
    let _ = incoming.read_u8().await;
    let figure = transfer(out, incoming, server.as_ref()).await;
    one.table.close().await;
    other.table.close().await;
    figure
}

async fn tcp() -> Outcome<Figure> {
    let text = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let accepting = tokio::spawn(async move { listener.accept().await });
    let out = TcpStream::connect(address).await.map_err(text)?;
    let (incoming, _) = accepting.await.map_err(|error| error.to_string())?.map_err(text)?;
    for socket in [&out, &incoming] {
        socket.set_nodelay(true).map_err(text)?;
    }
    transfer(out, incoming, None).await
}

async fn tls() -> Outcome<Figure> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let authority = Authority::new();
    let identity = authority.member("server");
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = Arc::new(provider);
    let read = |path: &str| fs::read(path).map_err(|error| format!("{path}: {error}"));
    let chain =
        vec![CertificateDer::from_pem_slice(&read(&identity.certificate)?).map_err(|error| text(&error))?];
    let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?).map_err(|error| text(&error))?;
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| text(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| text(&error))?;
    let mut roots = rustls::RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(&read(&authority.file())?).map_err(|error| text(&error))?;
    roots.add(trusted).map_err(|error| text(&error))?;
    let trust = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| text(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| text(&error))?;
    let address = listener.local_addr().map_err(|error| text(&error))?;
    let accepting = tokio::spawn(async move {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        TlsAcceptor::from(Arc::new(config)).accept(socket).await
    });
    let socket = TcpStream::connect(address).await.map_err(|error| text(&error))?;
    socket.set_nodelay(true).map_err(|error| text(&error))?;
    let name = ServerName::try_from("localhost").map_err(|error| text(&error))?;
    let out =
        TlsConnector::from(Arc::new(trust)).connect(name, socket).await.map_err(|error| text(&error))?;
    let incoming = accepting.await.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
    transfer(TlsStream::from(out), TlsStream::from(incoming), None).await
}

/// What peers cost that link to one server.
struct Costs {
    /// Links each second.
    rate: f64,
    /// Nanoseconds of midged's processor time for each.
    handshake: f64,
    /// Bytes of midged's for each that is there.
    memory: f64,
}

async fn crowd() -> Outcome<Costs> {
    midge_testkit::process::many_files();
    let config = "mesh { listen: \"udp://127.0.0.1:-1\", allow: any }";
    let server = Process::with_config(&root().join("target/release/midged"), config);
    let id: PeerId = server.peer_id().parse().map_err(|error| format!("{error}"))?;
    let there: Address =
        format!("udp://127.0.0.1:{}", server.link_port()).parse().map_err(|error| format!("{error}"))?;
    // Later links cost what those do that are not the first.
    let mut first = peer(1000)?;
    first.table.want(id, vec![there.clone()]);
    up(&mut first).await?;
    let mut groups = Vec::new();
    for group in 0..AT_A_TIME {
        let seeds = (0..PEERS / AT_A_TIME).map(|number| 2000 + (group * PEERS + number) as u64);
        groups.push(seeds.map(peer).collect::<Outcome<Vec<Peer>>>()?);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, memory) = (cpu_of(&server.pid().to_string())?, memory_of(server.pid())?);
    let begin = Instant::now();
    let dial = |mut group: Vec<Peer>, there: Address| async move {
        for one in &mut group {
            one.table.want(id, vec![there.clone()]);
            up(one).await?;
        }
        Ok::<_, String>(group)
    };
    let dialling: Vec<_> = groups.into_iter().map(|group| tokio::spawn(dial(group, there.clone()))).collect();
    let mut all = Vec::new();
    for group in dialling {
        all.push(group.await.map_err(|error| error.to_string())??);
    }
    let time = begin.elapsed().as_secs_f64();
    let handshakes = cpu_of(&server.pid().to_string())? - cpu;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = memory_of(server.pid())? - memory;
    let each = |sum: f64| sum / PEERS as f64;
    Ok(Costs { rate: PEERS as f64 / time, handshake: each(handshakes), memory: each(grown) })
}
