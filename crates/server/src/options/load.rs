//! From a file and flags to options.

use std::path::Path;

use midge_conf::{Diagnostic, Document, Entry, Errors, Loaded, Loader, Map, Sources, Value};
use sha2::{Digest, Sha256};

use super::{ConfigFile, Given, Later, OptionSpec, Options, UNSUPPORTED_FLAGS, UNSUPPORTED_KEYS, table};

/// Why there are no options.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("error opening config file: {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something wrong.
    #[error("{0}")]
    Config(#[from] Errors),
    /// There is no such flag.
    #[error("flag provided but not defined: -{flag}{}", .near.map(|near| format!(" (did you mean -{near}?)")).unwrap_or_default())]
    UnknownFlag {
        /// The flag.
        flag: String,
        /// The flag that was perhaps meant.
        near: Option<&'static str>,
    },
    /// The flag stands for something that is not built yet.
    #[error("flag -{flag} is not supported yet: {what}")]
    UnsupportedFlag {
        /// The flag.
        flag: String,
        /// What it stands for.
        what: &'static str,
    },
    /// The flag's value is wrong.
    #[error("invalid value \"{value}\" for flag -{flag}: {why}")]
    FlagValue {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Included files from the file system, and variables from the environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl Loader for Files {
    fn include(&self, from: &str, name: &str) -> Result<Loaded, String> {
        // Like the original's, an include is below the including file's folder even when it looks absolute.
        let folder = Path::new(from).parent().unwrap_or_else(|| Path::new(""));
        let path = folder.join(name.trim_start_matches('/'));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Loaded { name: path.display().to_string(), text })
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Reads a configuration file over `options`.
///
/// # Errors
/// The file cannot be read, or everything that is wrong with it.
pub fn load_file(options: &mut Options, path: &str) -> Result<(), LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let document = midge_conf::parse(path, &text, &Files)?;
    apply_file(options, &document)?;
    let digest = Sha256::digest(document.root.to_json() + "\n");
    let digest = format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    options.config = Some(ConfigFile { path: path.to_owned(), digest });
    Ok(())
}

/// Sets what a configuration says.
///
/// # Errors
/// Every key that is not known or not supported, and every value that does not fit.
pub fn apply_file(options: &mut Options, document: &Document) -> Result<(), Errors> {
    let mut errors = Vec::new();
    apply_map(options, &document.root, "", &document.sources, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(Errors(errors)) }
}

fn apply_map(
    options: &mut Options,
    map: &Map,
    prefix: &str,
    sources: &Sources,
    errors: &mut Vec<Diagnostic>,
) {
    for entry in map.iter() {
        let key = format!("{prefix}{}", entry.key.to_lowercase());
        let block = format!("{key}.");
        let is_block = table().any(|spec| spec.keys.iter().any(|known| known.starts_with(&block)));
        if let (true, Value::Map(inner)) = (is_block, &entry.node.value) {
            apply_map(options, inner, &block, sources, errors);
        } else if is_block {
            let kind = entry.node.value.kind();
            errors.push(
                sources.explain(entry.node.span, format!("expected a block for '{key}', but got {kind}")),
            );
        } else if let Some(spec) = table().find(|spec| spec.keys.contains(&key.as_str())) {
            if let Err(faults) = spec.apply(options, &Given::Key(&entry.node.value)) {
                errors.extend(faults.0.into_iter().map(|fault| match fault.at {
                    Some(at) => sources.explain(at, fault.why),
                    None => sources.explain(entry.node.span, format!("{key}: {}", fault.why)),
                }));
            }
        } else if !entry.used {
            errors.push(unknown(entry, &key, prefix, sources));
        }
    }
}

fn unknown(entry: &Entry, key: &str, prefix: &str, sources: &Sources) -> Diagnostic {
    if let Some(later) = named(UNSUPPORTED_KEYS, key) {
        return sources.explain(entry.span, format!("'{key}' is not supported yet: {}", later.what));
    }
    let known = table().flat_map(|spec| spec.keys).copied();
    let all = known.chain(UNSUPPORTED_KEYS.iter().flat_map(|later| later.names).copied());
    let near = nearest(key, all).and_then(|near| near.strip_prefix(prefix));
    let hint = near.map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
    sources.explain(entry.span, format!("unknown field '{}'{hint}", entry.key))
}

/// What a key of nats-server stands for that is refused by name.
pub(crate) fn unsupported_key(key: &str) -> Option<&'static str> {
    named(UNSUPPORTED_KEYS, key).map(|later| later.what)
}

fn named<'a>(list: &'a [Later], name: &str) -> Option<&'a Later> {
    list.iter().find(|later| later.names.contains(&name))
}

/// The option that a flag sets.
///
/// # Errors
/// There is none, or it is not supported yet.
pub fn flag(name: &str) -> Result<&'static OptionSpec, LoadError> {
    if let Some(spec) = table().find(|spec| spec.flags.contains(&name)) {
        return Ok(spec);
    }
    if let Some(later) = named(UNSUPPORTED_FLAGS, name) {
        return Err(LoadError::UnsupportedFlag { flag: name.to_owned(), what: later.what });
    }
    let near = nearest(name, table().flat_map(|spec| spec.flags).copied());
    Err(LoadError::UnknownFlag { flag: name.to_owned(), near })
}

/// Sets what a flag says.
///
/// # Errors
/// The value does not fit.
pub fn apply_flag(
    options: &mut Options,
    spec: &OptionSpec,
    name: &str,
    value: &str,
) -> Result<(), LoadError> {
    spec.apply(options, &Given::Flag(value)).map_err(|faults| LoadError::FlagValue {
        flag: name.to_owned(),
        value: value.to_owned(),
        why: faults.to_string(),
    })
}

/// The name that is most like `name`, if one is near enough to have been meant.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = name.len() / 3;
    known
        .map(|known| (distance(name, known), known))
        .filter(|(far, _)| *far <= allowed)
        .min()
        .map(|(_, near)| near)
}

/// Letters to add, drop or change to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let here = (diagonal + usize::from(x != y)).min(*above + 1).min(left + 1);
            diagonal = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use midge_conf::NoFiles;

    use super::*;
    use crate::options::{Compression, Reload};

    pub(in crate::options) fn load(text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        let document = midge_conf::parse("t", text, &NoFiles).map_err(|errors| errors.to_string())?;
        apply_file(&mut options, &document).map_err(|errors| errors.to_string())?;
        Ok(options)
    }

    #[test]
    fn every_key_takes_its_example_and_refuses_nonsense() {
        for spec in table() {
            for key in spec.keys {
                let (blocks, name) = key.rsplit_once('.').unwrap_or(("", key));
                let blocks = blocks.split('.').filter(|block| !block.is_empty());
                let open: String = blocks.clone().map(|block| format!("{block} {{ ")).collect();
                let close: String = blocks.map(|_| " }").collect();
                let options = load(&format!("{open}{name}: {}{close}", spec.example));
                assert!(options.is_ok(), "{key}: {options:?}");
                // What takes lists or blocks takes no number, and the others no list.
                let nonsense = if spec.example.starts_with(['[', '{']) { "7" } else { "[]" };
                let error = load(&format!("{open}{name}: {nonsense}{close}")).unwrap_err();
                assert!(error.contains("expected"), "{key}: {error}");
            }
            for flag_name in spec.flags {
                let example = spec.example.trim_matches(['[', ']', '"']).replace("MB", "000000");
                let spec = flag(flag_name).unwrap();
                apply_flag(&mut Options::default(), spec, flag_name, &example).unwrap();
            }
            assert!(spec.doc.ends_with('.') && !spec.default.is_empty(), "{:?}", spec.keys);
        }
    }

    #[test]
    fn what_cannot_change_live_is_marked() {
        let restart = |key: &str| table().find(|spec| spec.keys.contains(&key)).unwrap().reload;
        assert_eq!((restart("port"), restart("max_payload")), (Reload::Restart, Reload::Live));
    }

    #[test]
    fn no_name_stands_twice() {
        let mut keys: Vec<&str> = table().flat_map(|spec| spec.keys).copied().collect();
        keys.extend(UNSUPPORTED_KEYS.iter().flat_map(|later| later.names));
        let mut flags: Vec<&str> = table().flat_map(|spec| spec.flags).copied().collect();
        flags.extend(UNSUPPORTED_FLAGS.iter().flat_map(|later| later.names));
        for mut names in [keys, flags] {
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, want) in [
            ("max_paylod: 1", "t:1:1: unknown field 'max_paylod' (did you mean 'max_payload'?)"),
            ("authorization { tokn: x }", "t:1:17: unknown field 'tokn' (did you mean 'token'?)"),
            ("xyzzy: 1", "t:1:1: unknown field 'xyzzy'\n"),
            ("jetstream: {}", "t:1:1: 'jetstream' is not supported yet: JetStream"),
            ("authorization { users: [{}] }", "t:1:25: a user entry requires a user"),
            ("accounts { A { users: [{ user: a, pas: b }] } }", "t:1:35: unknown field 'pas' in a user"),
            ("tls { cert_file: a, key_fil: b }", "t:1:21: unknown field 'key_fil' in a tls block"),
            ("websocket { tls { verify: 3 } }", "t:1:27: verify: expected true or false, but got a number"),
            ("authorization: 3", "t:1:16: expected a block for 'authorization', but got a number"),
            ("port: 70000", "t:1:7: port: expected a number from -1 to 65535, but got 70000"),
            (
                "cluster { compression: s2_uncompressed }",
                "t:1:24: cluster.compression: expected off, accept, s2_auto, s2_fast, s2_better or s2_best, but got 's2_uncompressed'",
            ),
            ("cluster { compression { mod: off } }", "t:1:25: unknown field 'mod' in compression"),
            (
                "leafnodes { compression { rtt_thresholds: [50ms, 10ms] } }",
                "t:1:44: expected round-trip times that grow",
            ),
            (
                "leafnodes { authorization { users: [{user: a}] } }",
                "t:1:37: a leafnode user requires a user and a password",
            ),
            ("leafnodes { remotes: [{account: A}] }", "t:1:23: a hub requires a url, or urls"),
            ("a: 1\nmax_payload: 3GB", "t:1:1: unknown field 'a'"),
            ("lame_duck_duration: 5s", "t:1:21: lame_duck_duration: invalid lame_duck_duration of 5s"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.starts_with(want), "{text}: {error}");
        }
        assert_eq!(load("a: 1\nmax_payload: 3GB").unwrap_err().matches(" | ^").count(), 1);
        assert!(
            load("size: 2k\nmax_payload: $size").is_ok(),
            "a key that a variable refers to may have any name"
        );
    }

    #[test]
    fn compression_is_said_in_many_ways() {
        let read =
            |text: &str| load(&format!("cluster {{ compression: {text} }}")).unwrap().cluster.compression;
        let ms = Duration::from_millis;
        for (text, want) in [
            ("off", Compression::Off),
            ("disabled", Compression::Off),
            ("false", Compression::Off),
            ("true", Compression::Fast),
            ("on", Compression::Fast),
            ("accept", Compression::Accept),
            ("s2_better", Compression::Better),
            ("best", Compression::Best),
            ("auto", Compression::auto()),
            ("{ mode: s2_auto }", Compression::auto()),
            ("{ rtt_thresholds: [0s, 50ms] }", Compression::Auto(vec![ms(0), ms(50)])),
            ("{ mode: s2_fast, rtt_thresholds: [5ms] }", Compression::Fast),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        let leaf = load("leafnodes { compression: on }").unwrap().leafnodes.compression;
        assert_eq!(leaf, Compression::auto());
    }

    #[test]
    fn zero_is_no_time() {
        let text = "cluster { authorization { timeout: 0 } }, leafnodes { reconnect: 0s, authorization { timeout: 0 } }";
        let options = load(text).unwrap();
        let leafnodes = &options.leafnodes;
        assert_eq!(
            [options.cluster.auth.timeout, leafnodes.auth.timeout, leafnodes.reconnect],
            [None; 3],
            "as if nothing were said"
        );
    }

    #[test]
    fn changed_secrets_show_and_say_nothing() {
        let show = |key: &str, text: &str| {
            let spec = table().find(|spec| spec.keys.contains(&key)).unwrap();
            spec.show.unwrap()(&load(text).unwrap())
        };
        for (key, text) in [
            ("cluster.authorization.password", "cluster { authorization { password: X } }"),
            ("cluster.routes", "cluster { routes: [\"nats://u:X@h:1\"] }"),
            ("leafnodes.remotes", "leafnodes { remotes: [{url: \"nats://u:X@h:1\"}] }"),
            (
                "leafnodes.authorization.users",
                "leafnodes { authorization { users: [{user: u, password: X}] } }",
            ),
        ] {
            let [one, same, other] =
                ["hush", "hush", "psst"].map(|secret| show(key, &text.replace('X', secret)));
            assert!(one == same && one != other && !one.contains("hush"), "{one} and {other}");
        }
        let rules = |deny: &str| {
            show(
                "leafnodes.remotes",
                &format!("leafnodes {{ remotes: [{{url: \"nats://h:1\", deny_exports: {deny}}}] }}"),
            )
        };
        assert_ne!(rules("a"), rules("b"));
    }

    #[test]
    fn flags_are_found_or_explained() {
        assert!(matches!(flag("js"), Err(LoadError::UnsupportedFlag { .. })));
        assert_eq!(flag("prot").unwrap_err().to_string(), "flag provided but not defined: -prot");
        let near = flag("server_nam").unwrap_err().to_string();
        assert_eq!(near, "flag provided but not defined: -server_nam (did you mean -server_name?)");
        let spec = flag("p").unwrap();
        let error = apply_flag(&mut Options::default(), spec, "p", "x").unwrap_err().to_string();
        assert_eq!(error, "invalid value \"x\" for flag -p: expected a whole number, but got 'x'");
    }

    #[test]
    fn options_must_go_together() {
        for text in [
            "max_payload: 2MB, max_pending: 1MB",
            "server_name: 'a b'",
            "lame_duck_duration: 30s, lame_duck_grace_period: 30s",
            "authorization { user: a, pass: b, token: c }",
            "authorization { user: a }",
            "authorization { user: a, pass: b, users: [{user: c}] }",
            "authorization { token: b }, accounts { A { users: [{user: c}] } }",
            "authorization { users: [{user: c}] }, accounts { A { users: [{user: c}] } }",
            "no_auth_user: a",
            "system_account: A",
            "http: 1, https: 2",
            "https: 2",
            "websocket { port: 1 }",
            "websocket { port: 1, no_tls: true, allowed_origins: \"example.com\" }",
            "websocket { port: 1, no_tls: true, headers { Upgrade: x } }",
            "websocket { port: 1, no_tls: true, authorization { token: t } }, authorization { users: [{user: c}] }",
            "remote_syslog: \"nowhere\"",
            "cluster { port: 1, tls { cert_file: c, key_file: k, ca_file: a, verify_and_map: true } }",
            "leafnodes { port: 1, tls { cert_file: c, key_file: k, ca_file: a, verify_and_map: true } }",
            "leafnodes { remotes: [{urls: [\"ws://a:1\", \"nats://b:2\"]}] }",
            "leafnodes { port: 1, authorization { user: a } }",
            "cluster { port: 1, authorization { user: a } }",
        ] {
            assert!(load(text).unwrap().check().is_err(), "{text}");
        }
        assert_eq!(load("authorization { user: a, pass: b }").unwrap().check(), Ok(()));
    }
}
