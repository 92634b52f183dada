//! A `tls` block, which stands in several places.
//!
//! Keys are nats-server 2.15's (`server/opts.go`, `parseTLS`).

use std::path::PathBuf;
use std::time::Duration;

use midge_conf::{Map, Value};
use rustls::crypto::ring::cipher_suite;
use rustls::{ProtocolVersion, SupportedCipherSuite};

use super::Given;
use super::faults::Faults;
use super::table::put;

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsOptions {
    /// Certificates with their keys, the one that fits a client's wishes first.
    pub certificates: Vec<CertificateFiles>,
    /// The file with the authorities that clients' certificates must come from.
    pub ca_file: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub verify: bool,
    /// Whether the certificate says which user a client is.
    pub map: bool,
    /// Digests (SHA-256) of the public keys that a client's certificate must have one of; empty for any.
    pub pinned: Vec<[u8; 32]>,
    /// The oldest version spoken.
    pub min_version: ProtocolVersion,
    /// Cipher suites, best first; empty for the library's choice.
    pub cipher_suites: Vec<SupportedCipherSuite>,
    /// Time in which a client must have finished the handshake.
    pub timeout: Duration,
    /// Whether the handshake comes before the first INFO.
    pub first: HandshakeFirst,
    /// Most handshakes in a second; zero for any number.
    pub rate_limit: u64,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFiles {
    /// The file with the chain of certificates, the server's first.
    pub certificate: PathBuf,
    /// The file with the key.
    pub key: PathBuf,
}

/// Whether the handshake comes before the first INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandshakeFirst {
    /// After it, as old clients expect.
    #[default]
    Never,
    /// Before it.
    Always,
    /// Before it, if the client begins within that time.
    Within(Duration),
}

/// How long an `auto` server waits for a client's handshake (nats-server's `DEFAULT_TLS_HANDSHAKE_FIRST_FALLBACK_DELAY`).
const AUTO: Duration = Duration::from_millis(50);

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            ca_file: None,
            verify: false,
            map: false,
            pinned: Vec::new(),
            min_version: ProtocolVersion::TLSv1_2,
            cipher_suites: Vec::new(),
            timeout: Duration::from_secs(2),
            first: HandshakeFirst::Never,
            rate_limit: 0,
        }
    }
}

impl TlsOptions {
    /// The first certificate, made where there is none.
    pub(super) fn first_certificate(&mut self) -> &mut CertificateFiles {
        if self.certificates.is_empty() {
            self.certificates.push(CertificateFiles::default());
        }
        // Just made sure of.
        #[expect(clippy::indexing_slicing, reason = "there is one")]
        &mut self.certificates[0]
    }
}

/// One key of a block.
#[derive(Debug)]
pub struct TlsSpec {
    /// Its names.
    pub keys: &'static [&'static str],
    /// What it does.
    pub doc: &'static str,
    /// What holds when nothing is said.
    pub default: &'static str,
    /// A value, as a file writes it.
    pub example: &'static str,
    /// Sets it.
    pub set: fn(&mut TlsOptions, &Given<'_>) -> Result<(), Faults>,
}

const fn spec(
    keys: &'static [&'static str],
    doc: &'static str,
    default: &'static str,
    example: &'static str,
    set: fn(&mut TlsOptions, &Given<'_>) -> Result<(), Faults>,
) -> TlsSpec {
    TlsSpec { keys, doc, default, example, set }
}

/// What can stand in a `tls` block.
pub static TLS_TABLE: &[TlsSpec] = &[
    spec(
        &["cert_file"],
        "File with the server's certificate chain (PEM).",
        "none",
        "\"server.pem\"",
        |o, v| put(&mut o.first_certificate().certificate, v.text().map(PathBuf::from)),
    ),
    spec(&["key_file"], "File with its private key (PEM).", "none", "\"server-key.pem\"", |o, v| {
        put(&mut o.first_certificate().key, v.text().map(PathBuf::from))
    }),
    spec(
        &["certs", "certificates"],
        "Several certificates; the first that a client can use is shown.",
        "none",
        "[{cert_file: \"server.pem\", key_file: \"server-key.pem\"}]",
        |o, v| put(&mut o.certificates, certificates(v)),
    ),
    spec(
        &["ca_file"],
        "File with the authorities of clients' certificates (PEM).",
        "none",
        "\"ca.pem\"",
        |o, v| put(&mut o.ca_file, v.text().map(|path| Some(path.into()))),
    ),
    spec(&["verify"], "Whether clients must show a certificate.", "false", "true", |o, v| {
        put(&mut o.verify, v.boolean())
    }),
    spec(
        &["verify_and_map"],
        "Whether clients must show a certificate that says which user they are, by SAN or DN.",
        "false",
        "true",
        |o, v| {
            o.map = v.boolean()?;
            o.verify |= o.map;
            Ok(())
        },
    ),
    spec(
        &["pinned_certs"],
        "Digests (hex SHA-256 of the SubjectPublicKeyInfo) of which a client's certificate must have one.",
        "any",
        "[\"a8f407340dcc719864214b85ed96f98d16cbffa8f509d9fa4ca237b7bb3f9c32\"]",
        |o, v| put(&mut o.pinned, pinned(v)),
    ),
    spec(&["min_version"], "The oldest version spoken, \"1.2\" or \"1.3\".", "\"1.2\"", "\"1.3\"", |o, v| {
        o.min_version = match v.text()?.trim_start_matches(['T', 'L', 'S', 't', 'l', 's', ' ', 'v', 'V']) {
            "1.2" => ProtocolVersion::TLSv1_2,
            "1.3" => ProtocolVersion::TLSv1_3,
            other => return Err(format!("expected \"1.2\" or \"1.3\", but got \"{other}\"").into()),
        };
        Ok(())
    }),
    spec(
        &["cipher_suites"],
        "Cipher suites by their IANA names.",
        "all secure ones",
        "[\"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"]",
        |o, v| put(&mut o.cipher_suites, suites(v)),
    ),
    spec(
        &["timeout"],
        "Time in which a client must have finished the handshake; not looked at for WebSocket.",
        "2s",
        "5",
        |o, v| put(&mut o.timeout, v.seconds()),
    ),
    spec(
        &["handshake_first", "first", "immediate"],
        "Whether the handshake comes before INFO: true, false, \"auto\", or how long to wait for a client that begins with it.",
        "false",
        "\"auto\"",
        |o, v| put(&mut o.first, first(v)),
    ),
    spec(&["connection_rate_limit"], "Most handshakes in a second; 0 for any number.", "0", "100", |o, v| {
        put(&mut o.rate_limit, v.size().map(|most| most as u64))
    }),
];

/// Keys that nats-server knows and that are refused by name.
const LATER: &[(&str, &str)] = &[
    ("insecure", "it only concerns connections that a server makes itself"),
    ("verify_cert_and_check_known_urls", "it only concerns connections between servers"),
    ("curve_preferences", "the library chooses, best first"),
    ("allow_insecure_cipher_suites", "no insecure cipher suite is built in"),
    ("ocsp_peer", "OCSP"),
    ("cert_store", "certificate stores of Windows"),
    ("cert_match_by", "certificate stores of Windows"),
    ("cert_match", "certificate stores of Windows"),
    ("ca_certs_match", "certificate stores of Windows"),
    ("cert_match_skip_invalid", "certificate stores of Windows"),
];

/// Reads a block over what stands already.
pub(super) fn apply(options: &mut TlsOptions, map: &Map) -> Result<(), Faults> {
    let mut faults = Faults::default();
    for entry in map.iter() {
        let key = entry.key.to_lowercase();
        if let Some(spec) = TLS_TABLE.iter().find(|spec| spec.keys.contains(&key.as_str())) {
            let set = (spec.set)(options, &Given::Key(&entry.node.value));
            faults.note(entry.node.span, set.map_err(|inner| inner.named(&key)));
        } else if let Some((_, why)) = LATER.iter().find(|(later, _)| *later == key) {
            faults.add(entry.span, format!("'tls.{key}' is not supported: {why}"));
        } else if !entry.used {
            faults.add(entry.span, format!("unknown field '{}' in a tls block", entry.key));
        }
    }
    let half = |files: &CertificateFiles| {
        files.certificate.as_os_str().is_empty() != files.key.as_os_str().is_empty()
    };
    if options.certificates.iter().any(half) {
        faults
            .0
            .push(super::Fault { at: None, why: "cert_file and key_file go together: set both".to_owned() });
    }
    faults.or(())
}

fn certificates(value: &Given<'_>) -> Result<Vec<CertificateFiles>, Faults> {
    let Given::Key(Value::List(list)) = value else { return Err(value.wrong("a list of blocks").into()) };
    let mut faults = Faults::default();
    let mut all = Vec::new();
    for node in list {
        let mut files = CertificateFiles::default();
        let Value::Map(map) = &node.value else {
            faults.add(node.span, format!("expected a block, but got {}", node.value.kind()));
            continue;
        };
        for entry in map.iter() {
            let path = faults.note(entry.node.span, Given::Key(&entry.node.value).text());
            match (entry.key.to_lowercase().as_str(), path) {
                (_, None) => {}
                ("cert_file", Some(path)) => files.certificate = path.into(),
                ("key_file", Some(path)) => files.key = path.into(),
                _ => faults.add(entry.span, format!("unknown field '{}' in a certificate", entry.key)),
            }
        }
        if files.certificate.as_os_str().is_empty() || files.key.as_os_str().is_empty() {
            faults.add(node.span, "a certificate needs both cert_file and key_file");
        }
        all.push(files);
    }
    faults.or(all)
}

/// The texts of a list that is not empty.
fn list(value: &Given<'_>, what: &str) -> Result<Vec<(String, midge_conf::Span)>, Faults> {
    let Given::Key(Value::List(list)) = value else {
        return Err(value.wrong(&format!("a list of {what}")).into());
    };
    let mut faults = Faults::default();
    let texts = list
        .iter()
        .filter_map(|node| Some((faults.note(node.span, Given::Key(&node.value).text())?, node.span)));
    let texts = texts.collect();
    faults.or(texts)
}

fn pinned(value: &Given<'_>) -> Result<Vec<[u8; 32]>, Faults> {
    let mut faults = Faults::default();
    let mut pins = Vec::new();
    for (text, at) in list(value, "digests")? {
        match digest(&text) {
            Some(pin) => pins.push(pin),
            None => faults.add(
                at,
                format!("'{text}' does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"),
            ),
        }
    }
    faults.or(pins)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// What ring offers, by IANA name; TLS 1.3's names have no key exchange in them.
const SUITES: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

fn suites(value: &Given<'_>) -> Result<Vec<SupportedCipherSuite>, Faults> {
    let mut faults = Faults::default();
    let mut suites = Vec::new();
    for (text, at) in list(value, "cipher suites")? {
        // Two names are also known without the hash.
        let name = text.replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305");
        let known = SUITES
            .iter()
            .find(|(known, _)| known.replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305") == name);
        match known {
            Some((_, suite)) => suites.push(*suite),
            None => {
                let names: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
                faults.add(at, format!("unrecognized cipher {text}: there are {}", names.join(", ")));
            }
        }
    }
    if suites.is_empty() && faults.0.is_empty() {
        return Err("'cipher_suites' cannot be empty".to_owned().into());
    }
    // Without one for TLS 1.3, that version would silently be gone.
    let has_13 = suites.iter().any(|suite| suite.tls13().is_some());
    if !has_13 {
        suites.extend(SUITES.iter().map(|(_, suite)| *suite).filter(|suite| suite.tls13().is_some()));
    }
    faults.or(suites)
}

fn first(value: &Given<'_>) -> Result<HandshakeFirst, String> {
    if let Ok(always) = value.boolean() {
        return Ok(if always { HandshakeFirst::Always } else { HandshakeFirst::Never });
    }
    let text = value.text().map_err(|_| value.wrong("true, false, \"auto\" or a time"))?;
    Ok(match text.to_lowercase().as_str() {
        "true" | "on" => HandshakeFirst::Always,
        "false" | "off" => HandshakeFirst::Never,
        "auto" | "auto_fallback" => HandshakeFirst::Within(AUTO),
        _ => HandshakeFirst::Within(value.duration()?),
    })
}

#[cfg(test)]
mod tests {
    use midge_conf::NoFiles;

    use super::*;

    fn read(text: &str) -> Result<TlsOptions, String> {
        let document = midge_conf::parse("t", text, &NoFiles).unwrap();
        let mut options = TlsOptions::default();
        apply(&mut options, &document.root).map_err(|faults| faults.to_string())?;
        Ok(options)
    }

    #[test]
    fn a_block_is_read_whole() {
        let pin = "ab".repeat(32);
        let text = format!(
            "cert_file: c, key_file: k, ca_file: a, verify_and_map: true, timeout: 1.5, first: 300ms,
             min_version: \"1.3\", pinned_certs: [\"{pin}\"], connection_rate_limit: 7,
             cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305, TLS_AES_128_GCM_SHA256]"
        );
        let options = read(&text).unwrap();
        let files = CertificateFiles { certificate: "c".into(), key: "k".into() };
        assert_eq!((options.certificates, options.ca_file), (vec![files], Some("a".into())));
        assert!(options.verify && options.map);
        assert_eq!((options.timeout, options.rate_limit), (Duration::from_millis(1500), 7));
        assert_eq!(options.first, HandshakeFirst::Within(Duration::from_millis(300)));
        assert_eq!((options.pinned, options.cipher_suites.len()), (vec![[0xab; 32]], 2));
        assert_eq!(read("first: auto").unwrap().first, HandshakeFirst::Within(AUTO));
        assert_eq!(read("first: true").unwrap().first, HandshakeFirst::Always);
        assert!(
            read("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]").unwrap().cipher_suites.len() > 1
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("cert_file: c", "cert_file and key_file go together"),
            ("cert_fil: c", "unknown field 'cert_fil' in a tls block"),
            ("ocsp_peer: true", "'tls.ocsp_peer' is not supported: OCSP"),
            ("min_version: \"1.1\"", "min_version: expected \"1.2\" or \"1.3\", but got \"1.1\""),
            ("cipher_suites: []", "cipher_suites: 'cipher_suites' cannot be empty"),
            ("cipher_suites: [RC4]", "cipher_suites: unrecognized cipher RC4"),
            ("pinned_certs: [xyz]", "pinned_certs: 'xyz' does not look like hex-encoded sha256"),
            ("certs: [{cert_file: a}]", "certs: a certificate needs both"),
            ("first: soon", "first: expected a time like"),
            ("timeout: []", "timeout: expected"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
