//! The real servers and clients that interop needs: found below target/peers, or fetched there.
//!
//! Servers are Debian's packages, unpacked without root; the mirror is the one that the system's own apt uses.
//! Clients come from their registries, by the tools' own configuration, in the versions that stand beside the
//! tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sh::{self, Outcome, cmd, root};

/// Debian's suites, and what the version of nats-server there begins with.
const SERVERS: [(&str, &str); 3] = [("bookworm", "2.9.10"), ("trixie", "2.10."), ("sid", "2.15.")];
/// Go and quic-go: the suite, and the packages that the peer is built with.
const GO: (&str, &[&str]) = (
    "bookworm",
    &[
        "golang-1.19-go",
        "golang-1.19-src",
        "golang-github-lucas-clemente-quic-go-dev",
        "golang-github-marten-seemann-qtls-go1-19-dev",
        "golang-golang-x-crypto-dev",
        "golang-golang-x-exp-dev",
        "golang-golang-x-net-dev",
        "golang-golang-x-sys-dev",
    ],
);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Peers {
    /// Version and program, oldest first.
    pub(crate) servers: Vec<(String, PathBuf)>,
    /// A Python with nats-py.
    pub(crate) python: PathBuf,
    /// A folder with node_modules.
    pub(crate) node: PathBuf,
    /// A peer in Go.
    pub(crate) go: PathBuf,
    /// A browser.
    pub(crate) chromium: PathBuf,
}

impl Peers {
    /// The newest server, which decides what is right.
    pub(crate) fn newest(&self) -> Outcome<&(String, PathBuf)> {
        self.servers.last().ok_or_else(|| "there is no nats-server".to_owned())
    }
}

pub(crate) fn run() -> Outcome {
    let peers = fetch()?;
    for (version, path) in &peers.servers {
        println!("nats-server {version}: {}", path.display());
    }
    let python = sh::read(&mut cmd(
        &peers.python.display().to_string(),
        &["-c", "import importlib.metadata as m; print(m.version('nats-py'))"],
    ))?;
    println!("nats-py {}: {}", python.trim(), peers.python.display());
    let manifest = peers.node.join("node_modules/@nats-io/transport-node/package.json");
    let manifest =
        fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).map_err(|error| error.to_string())?;
    println!(
        "@nats-io/transport-node {}: {}",
        manifest["version"].as_str().unwrap_or("?"),
        peers.node.display()
    );
    let browser = sh::read(&mut cmd(&peers.chromium.display().to_string(), &["--version"]))?;
    println!("{}: {}", browser.trim(), peers.chromium.display());
    println!("quic-go 0.29.0, a peer built with it: {}", peers.go.display());
    println!("async-nats {}: a dependency of the tests", async_nats_version()?);
    Ok(())
}

/// The version of async-nats that the lock file names.
pub(crate) fn async_nats_version() -> Outcome<String> {
    let lock =
        fs::read_to_string(root().join("Cargo.lock")).map_err(|error| format!("Cargo.lock: {error}"))?;
    let lock: toml::Table = lock.parse().map_err(|error| format!("Cargo.lock: {error}"))?;
    let packages = lock.get("package").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let found = packages
        .iter()
        .find(|package| package.get("name").and_then(toml::Value::as_str) == Some("async-nats"));
    let version = found.and_then(|package| package.get("version")).and_then(toml::Value::as_str);
    version.map(str::to_owned).ok_or_else(|| "Cargo.lock names no async-nats".to_owned())
}

/// Finds the peers, or fetches those that are missing.
pub(crate) fn fetch() -> Outcome<Peers> {
    let folder = root().join("target/peers");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut servers = Vec::new();
    for (suite, begins) in SERVERS {
        servers.push(
            server(&folder, suite, begins)
                .map_err(|why| format!("nats-server {begins} of Debian's {suite}: {why}"))?,
        );
    }
    Ok(Peers {
        servers,
        python: python(&folder)?,
        node: node(&folder)?,
        go: go(&folder)?,
        chromium: chromium()?,
    })
}

/// The address of the Debian mirror that this system uses.
fn mirror() -> Outcome<String> {
    let mut files: Vec<PathBuf> = vec!["/etc/apt/sources.list".into()];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        // What apt itself reads; everything else there has been switched off.
        let is_read =
            |path: &PathBuf| path.extension().is_some_and(|kind| kind == "list" || kind == "sources");
        files.extend(entries.flatten().map(|entry| entry.path()).filter(is_read));
    }
    let texts = files.iter().filter_map(|path| fs::read_to_string(path).ok());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let is_main = |url: &&str| url.contains("://") && url.trim_end_matches('/').ends_with("/debian");
    lines
        .iter()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .find_map(|line| line.split_whitespace().find(is_main).map(str::to_owned))
        .ok_or_else(|| "no Debian mirror in /etc/apt: this needs a Debian system".to_owned())
}

fn version_of(program: &Path) -> Outcome<String> {
    let line = sh::read(&mut cmd(&program.display().to_string(), &["--version"]))?;
    let version = line.trim().rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned();
    if version.is_empty() { Err(format!("{} prints no version", program.display())) } else { Ok(version) }
}

fn server(folder: &Path, suite: &str, begins: &str) -> Outcome<(String, PathBuf)> {
    let home = folder.join(format!("debian-{suite}"));
    let program = home.join("root/usr/sbin/nats-server");
    if !program.is_file() {
        download(&home, suite, &["nats-server"])?;
    }
    let version = version_of(&program)?;
    if version.starts_with(begins) {
        return Ok((version, program));
    }
    Err(format!(
        "the package holds {version}: name the new version in xtask/src/peers.rs, and read what changed"
    ))
}

/// Downloads and unpacks packages by apt, with lists of its own, so that nothing of the system is touched. What is left of
/// an earlier attempt goes.
pub(crate) fn download(home: &Path, suite: &str, packages: &[&str]) -> Outcome {
    eprintln!("fetching {} of Debian's {suite}", packages.join(", "));
    let fail = |error: std::io::Error| format!("{}: {error}", home.display());
    if home.exists() {
        fs::remove_dir_all(home).map_err(fail)?;
    }
    for part in ["lists/partial", "cache/archives/partial", "root"] {
        fs::create_dir_all(home.join(part)).map_err(fail)?;
    }
    let list = home.join("sources.list");
    let signed = if Path::new(KEYRING).is_file() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    fs::write(&list, format!("deb {signed}{} {suite} main\n", mirror()?)).map_err(fail)?;
    let path = |part: &str| home.join(part).display().to_string();
    let options = [
        format!("-oDir::Etc::sourcelist={}", list.display()),
        "-oDir::Etc::sourceparts=/dev/null".to_owned(),
        format!("-oDir::State={}", home.display()),
        format!("-oDir::State::lists={}", path("lists")),
        format!("-oDir::Cache={}", path("cache")),
        "-oDir::State::status=/var/lib/dpkg/status".to_owned(),
        "-oAPT::Sandbox::User=".to_owned(),
    ];
    let apt = |verb: &[&str]| {
        let mut command = cmd("apt-get", verb);
        command.args(&options).current_dir(home);
        sh::read(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["download"], packages].concat())?;
    let files = fs::read_dir(home).map_err(fail)?.flatten().map(|entry| entry.path());
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let files: Vec<PathBuf> = files.filter(is_package).collect();
    if files.len() < packages.len() {
        return Err(format!("apt downloaded {} of {} packages", files.len(), packages.len()));
    }
    for file in files {
        sh::read(&mut cmd("dpkg", &["-x", &file.display().to_string(), &path("root")]))?;
    }
    Ok(())
}

fn python(folder: &Path) -> Outcome<PathBuf> {
    let home = folder.join("python");
    let program = home.join("bin/python3");
    let wanted = root().join("tests/interop/python/requirements.txt");
    if !is_current(&home, &wanted) {
        let needs = "Python 3 with venv is needed (Debian: python3-venv)";
        sh::read(&mut cmd("python3", &["-m", "venv", &home.display().to_string()]))
            .map_err(|why| format!("{needs}: {why}"))?;
        let mut pip = cmd(
            &program.display().to_string(),
            &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"],
        );
        sh::read(pip.arg(&wanted))?;
        mark_current(&home, &wanted)?;
    }
    Ok(program)
}

/// A browser for the tests that need one. Too large, and too much bound to the system, to be fetched beside it.
fn chromium() -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|program| program.is_file());
    found.ok_or_else(|| "Chromium is needed (Debian: apt-get install chromium)".to_owned())
}

fn node(folder: &Path) -> Outcome<PathBuf> {
    let home = folder.join("node");
    let wanted = root().join("tests/interop/node/package.json");
    if !is_current(&home, &wanted) {
        fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        fs::copy(&wanted, home.join("package.json"))
            .map_err(|error| format!("{}: {error}", wanted.display()))?;
        let needs = "Node.js with npm is needed (Debian: npm)";
        let mut npm = cmd("npm", &["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]);
        sh::read(npm.current_dir(&home)).map_err(|why| format!("{needs}: {why}"))?;
        mark_current(&home, &wanted)?;
    }
    Ok(home)
}

/// A peer in Go, with quic-go: Go and its packages as Debian has them, and our program built with them.
fn go(folder: &Path) -> Outcome<PathBuf> {
    let home = folder.join("go");
    let wanted = root().join("tests/interop/go/peer.go");
    let program = home.join("peer");
    if !is_current(&home, &wanted) {
        download(&home, GO.0, GO.1).map_err(|why| format!("Go of Debian's {}: {why}", GO.0))?;
        let go = home.join("root/usr/lib/go-1.19");
        let built = program.display().to_string();
        let mut build = cmd(&go.join("bin/go").display().to_string(), &["build", "-o", &built]);
        build.arg(&wanted).env("GOROOT", &go).env("GOPATH", home.join("root/usr/share/gocode"));
        sh::read(build.env("GO111MODULE", "off").env("GOCACHE", home.join("cache")).env("GOFLAGS", ""))?;
        mark_current(&home, &wanted)?;
    }
    Ok(program)
}

/// Whether what was installed is what is wanted now.
fn is_current(home: &Path, wanted: &Path) -> bool {
    let installed = fs::read_to_string(home.join("installed"));
    installed.is_ok_and(|installed| fs::read_to_string(wanted).is_ok_and(|wanted| wanted == installed))
}

fn mark_current(home: &Path, wanted: &Path) -> Outcome {
    fs::copy(wanted, home.join("installed"))
        .map(|_| ())
        .map_err(|error| format!("{}: {error}", home.display()))
}
