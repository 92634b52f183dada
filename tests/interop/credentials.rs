//! Stock clients with credentials, over TLS and over WebSocket, as their registries ship them.

use std::process::Command;

use midge_testkit::process::{Process, program};
use midge_testkit::tls::{Authority, Identity};

/// Two servers: one with users, one with TLS that asks for a certificate and with a token.
struct Servers {
    users: Process,
    tls: Process,
    authority: Authority,
    client: Identity,
    seed: String,
}

impl Servers {
    fn start() -> Self {
        let pair = nkeys::KeyPair::new_user();
        let hash = bcrypt::hash("s3cret", 5).unwrap();
        let users = format!(
            "authorization {{ users: [
               {{ user: alice, password: secret }}
               {{ user: hashed, password: \"{hash}\" }}
               {{ nkey: {} }}
             ] }}
             websocket {{ listen: \"127.0.0.1:-1\", no_tls: true, compression: true }}",
            pair.public_key()
        );
        let authority = Authority::new();
        let (server, client) = (authority.server("server"), authority.client("client", "client", &[]));
        let files = format!("cert_file: \"{}\", key_file: \"{}\"", server.certificate, server.key);
        let tls = format!(
            "authorization {{ token: t0ken }}
             tls {{ {files}, ca_file: \"{}\", verify: true, timeout: 20 }}
             websocket {{ listen: \"127.0.0.1:-1\", compression: true, tls {{ {files} }} }}",
            authority.file()
        );
        Self {
            users: Process::with_config(&program("MIDGED"), &users),
            tls: Process::with_config(&program("MIDGED"), &tls),
            seed: pair.seed().unwrap(),
            authority,
            client,
        }
    }

    /// Runs a client's script; it must print this, and no more.
    fn run(&self, command: &mut Command, want: &[&str]) {
        let websocket = |server: &Process| server.websocket_port().unwrap();
        let output = command
            .env("NATS_URL", self.users.url())
            .env("TLS_URL", format!("tls://localhost:{}", self.tls.port()))
            .env("WS_URL", format!("ws://127.0.0.1:{}", websocket(&self.users)))
            .env("WSS_URL", format!("wss://localhost:{}", websocket(&self.tls)))
            .env("CA_FILE", self.authority.file())
            .env("CLIENT_CERT", &self.client.certificate)
            .env("CLIENT_KEY", &self.client.key)
            .env("NKEY_SEED", &self.seed)
            .output()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().collect();
        let logs = [self.users.log(), self.tls.log()];
        assert!(output.status.success(), "{}: {said:#?}\n{complaint}\n{logs:#?}", output.status);
        assert_eq!(said, want);
    }
}

const PASSED: [&str; 10] = [
    "user",
    "bcrypt",
    "nkey",
    "wrong password",
    "no password",
    "tls",
    "tls without a certificate",
    "tls with a wrong token",
    "websocket",
    "websocket over tls",
];

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/interop")
}

/// A command that runs a script beside the modules that it needs.
fn node(script: &str) -> Command {
    let home = program("PEER_NODE");
    let path = home.join(script);
    std::fs::copy(format!("{}/node/{script}", folder()), &path).unwrap();
    let mut command = Command::new("node");
    command.arg(path).current_dir(home);
    command
}

#[test]
fn nats_py_with_credentials() {
    let script = format!("{}/python/access.py", folder());
    Servers::start().run(Command::new(program("PEER_PYTHON")).arg(script), &PASSED);
}

#[test]
fn nats_io_with_credentials() {
    Servers::start().run(&mut node("access.mjs"), &PASSED);
}

#[test]
fn nats_io_in_a_browser() {
    let want = [
        "the page is answered",
        "the page is told of missing responders",
        "the page answers",
        "the page sends what is large",
    ];
    Servers::start().run(node("browser.mjs").env("CHROMIUM", program("PEER_CHROMIUM")), &want);
}
