use midge_conf::NoFiles;
use midge_router::{Entrance, Limits, Settings};
use midge_wire::json::Info;

use midge_wire::json::Connect;

use super::*;
use crate::options::apply_file;

fn directory(text: &str) -> (Directory, Arc<Router>) {
    let document = midge_conf::parse("t", text, &NoFiles).unwrap();
    let mut options = Options::default();
    apply_file(&mut options, &document).unwrap();
    options.check().unwrap();
    let settings = Settings {
        info: Info::default(),
        limits: Limits::default(),
        entrance: Entrance::default(),
        seed: 1,
        max_ended: 0,
        cluster: None,
        leaves: None,
    };
    let router = Router::new(settings);
    (Directory::new(&options, &router), router)
}

fn credentials(json: &str) -> Credentials {
    let mut connect = Connect::default();
    connect.update(json.as_bytes()).unwrap();
    connect.credentials.map(|credentials| *credentials).unwrap_or_default()
}

/// The account and user that somebody is let in as.
fn decide(directory: &Directory, json: &str, carrier: Option<&Carrier>) -> Option<(String, String)> {
    let verdict =
        match directory.decide(&credentials(json), Caller { peer: "127.0.0.1:1", nonce: "nonce", carrier }) {
            Decision::Now(verdict) => verdict,
            Decision::Later(verdict) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(verdict)
            }
        };
    match verdict {
        Verdict::Welcome(grant) => Some((grant.account.name().to_string(), grant.user.to_string())),
        Verdict::Refused => None,
    }
}

fn known(account: &str, user: &str) -> Option<(String, String)> {
    Some((account.to_owned(), user.to_owned()))
}

#[test]
fn nobody_is_asked_when_nothing_is_said() {
    let (directory, _) = directory("port: 4222");
    assert!(!directory.asks(ConnectionType::Standard));
    assert_eq!(decide(&directory, r#"{"user":"x","pass":"y"}"#, None), known("$G", ""));
}

#[test]
fn whoever_may_come_as_a_client_only_is_no_leafnode() {
    let users = "{user: any, password: p}, {user: some, password: p, allowed_connection_types: [STANDARD]}";
    let (directory, _) = directory(&format!("authorization {{ users: [{users}] }}"));
    let block = LeafnodeOptions::default();
    let decide = |user: &str| {
        let claim = credentials(&format!(r#"{{"user":"{user}","pass":"p"}}"#));
        let caller = Caller { peer: "127.0.0.1:1", nonce: "nonce", carrier: None };
        matches!(directory.decide_leaf(&block, &claim, caller), Decision::Now(Verdict::Welcome(_)))
    };
    assert_eq!((decide("any"), decide("some"), decide("nobody")), (true, false, false));
}

#[test]
fn tokens_and_single_users_are_compared() {
    let (by_token, _) = directory("authorization { token: t0k }");
    assert_eq!(decide(&by_token, r#"{"auth_token":"t0k"}"#, None), known("$G", "[REDACTED]"));
    for wrong in [r#"{"auth_token":"t0"}"#, r#"{"auth_token":"t0kk"}"#, r#"{"pass":"t0k"}"#, "{}"] {
        assert_eq!(decide(&by_token, wrong, None), None, "{wrong}");
    }
    let (by_name, _) = directory("authorization { user: u, pass: p }");
    assert_eq!(decide(&by_name, r#"{"user":"u","pass":"p"}"#, None), known("$G", "u"));
    for wrong in [
        r#"{"user":"u"}"#,
        r#"{"user":"U","pass":"p"}"#,
        r#"{"user":"u","pass":"P"}"#,
        r#"{"auth_token":"p"}"#,
    ] {
        assert_eq!(decide(&by_name, wrong, None), None, "{wrong}");
    }
}

#[test]
fn hashes_are_compared_by_hashing() {
    let hash = bcrypt::hash("s3cret", 4).unwrap();
    let text = format!("authorization {{ users: [{{ user: u, pass: \"{hash}\" }}] }}");
    let (directory, _) = directory(&text);
    assert_eq!(decide(&directory, r#"{"user":"u","pass":"s3cret"}"#, None), known("$G", "u"));
    for wrong in ["s3cre", "", hash.as_str()] {
        assert_eq!(decide(&directory, &format!(r#"{{"user":"u","pass":"{wrong}"}}"#), None), None, "{wrong}");
    }
}

#[test]
fn users_belong_to_accounts() {
    let (directory, _) = directory(
        "accounts { A { users: [{ user: a, pass: x }] }, B { users: [{ user: b, pass: y }] } }
         authorization { users: [{ user: g, pass: z }] }
         no_auth_user: b",
    );
    assert_eq!(decide(&directory, r#"{"user":"a","pass":"x"}"#, None), known("A", "a"));
    assert_eq!(decide(&directory, r#"{"user":"g","pass":"z"}"#, None), known("$G", "g"));
    assert_eq!(decide(&directory, "{}", None), known("B", "b"), "who says nothing is somebody");
    assert_eq!(decide(&directory, r#"{"user":"b","pass":"x"}"#, None), None, "but not with a wrong password");
    assert_eq!(decide(&directory, r#"{"auth_token":"x"}"#, None), None);
    assert!(directory.takes_strangers(ConnectionType::Standard));
}

#[test]
fn nkeys_must_sign_this_connections_nonce() {
    let pair = nkeys::KeyPair::new_user();
    let other = nkeys::KeyPair::new_user();
    let key = pair.public_key();
    let (directory, _) = directory(&format!("authorization {{ users: [{{ nkey: {key} }}] }}"));
    assert!(directory.has_nkeys());
    let claim = |key: &str, signer: &nkeys::KeyPair, nonce: &str| {
        let signature = data_encoding::BASE64URL_NOPAD.encode(&signer.sign(nonce.as_bytes()).unwrap());
        format!(r#"{{"nkey":"{key}","sig":"{signature}"}}"#)
    };
    assert_eq!(decide(&directory, &claim(&key, &pair, "nonce"), None), known("$G", &key));
    for (wrong, why) in [
        (claim(&key, &pair, "other"), "another connection's nonce"),
        (claim(&key, &other, "nonce"), "another's signature"),
        (claim(&other.public_key(), &other, "nonce"), "a key that is not listed"),
        (format!(r#"{{"nkey":"{key}"}}"#), "no signature"),
        (format!(r#"{{"user":"{key}"}}"#), "a key as a name"),
        ("{}".to_owned(), "nothing"),
    ] {
        assert_eq!(decide(&directory, &wrong, None), None, "{why}");
    }
}

#[test]
fn users_come_by_the_connections_they_may() {
    let (directory, _) = directory(
        "authorization { users: [{ user: w, pass: x, connection_types: [WEBSOCKET] }, { user: s, pass: x, connection_types: STANDARD }] }",
    );
    let websocket = Carrier::new(ConnectionType::WebSocket);
    for (user, carrier, may) in
        [("w", None, false), ("w", Some(&websocket), true), ("s", None, true), ("s", Some(&websocket), false)]
    {
        let claim = format!(r#"{{"user":"{user}","pass":"x"}}"#);
        assert_eq!(decide(&directory, &claim, carrier).is_some(), may, "{user}");
    }
}

#[test]
fn websocket_may_ask_for_something_of_its_own() {
    let (directory, _) = directory("websocket { port: -1, no_tls: true, authorization { token: w } }");
    let websocket = Carrier::new(ConnectionType::WebSocket);
    assert!(!directory.asks(ConnectionType::Standard) && directory.asks(ConnectionType::WebSocket));
    assert_eq!(decide(&directory, "{}", None), known("$G", ""));
    assert_eq!(decide(&directory, "{}", Some(&websocket)), None);
    assert_eq!(decide(&directory, r#"{"auth_token":"w"}"#, Some(&websocket)), known("$G", "[REDACTED]"));
}

#[test]
fn a_change_of_the_options_meets_those_who_are_there() {
    let text = |pass: &str, more: &str| {
        format!("authorization {{ users: [{{ user: a, pass: {pass} {more} }}, {{ user: b, pass: y }}] }}")
    };
    let (before, router) = directory(&text("x", ""));
    let Decision::Now(Verdict::Welcome(grant)) = before.decide(
        &credentials(r#"{"user":"a","pass":"x"}"#),
        Caller { peer: "127.0.0.1:1", nonce: "", carrier: None },
    ) else {
        panic!("a is known")
    };
    let after = |text: &str| {
        let document = midge_conf::parse("t", text, &NoFiles).unwrap();
        let mut options = Options::default();
        apply_file(&mut options, &document).unwrap();
        Directory::new(&options, &router).again(&grant, ConnectionType::Standard)
    };
    let Again::Stays(new) = after(&text("x", ", permissions: { pub: q }")) else { panic!("a stays") };
    assert!(!new.permissions.as_ref().unwrap().may_publish(b"z"), "with other permissions");
    assert!(matches!(after(&text("other", "")), Again::Refused));
    assert!(matches!(after(&text("x", ", connection_types: WEBSOCKET")), Again::Refused));
    assert!(matches!(after("authorization { users: [{ user: b, pass: y }] }"), Again::Moved));
    assert!(matches!(after("accounts { A { users: [{ user: a, pass: x }] } }"), Again::Moved));
    let stranger = router.anyone().clone();
    let asked = Directory::new(&Options::default(), &router).again(&stranger, ConnectionType::Standard);
    assert!(matches!(asked, Again::Stays(_)));
    assert!(matches!(before.again(&stranger, ConnectionType::Standard), Again::Refused));
}

#[test]
fn nothing_secret_is_printed() {
    let (directory, _) =
        directory("authorization { users: [{ user: a, pass: hush }] }, websocket { port: 1, no_tls: true }");
    assert!(!format!("{directory:?}").contains("hush"));
    assert_eq!(claimed(&credentials(r#"{"auth_token":"hush"}"#)).as_deref(), Some("Token \"[REDACTED]\""));
}

#[test]
fn users_of_the_system_account_alone_lock_nobody_out() {
    for text in [
        "accounts { $SYS { users: [{ user: s, pass: x }] } }",
        "accounts { S { users: [{ user: s, pass: x }] } }, system_account: S",
    ] {
        let (directory, _) = directory(text);
        assert!(directory.asks(ConnectionType::Standard));
        assert!(directory.takes_strangers(ConnectionType::Standard));
        assert_eq!(decide(&directory, "{}", None), known("$G", ""), "{text}");
        assert_eq!(decide(&directory, r#"{"user":"s","pass":"y"}"#, None), None, "{text}");
        assert_eq!(decide(&directory, r#"{"user":"y","pass":""}"#, None), None, "{text}");
    }
    for text in [
        "accounts { $SYS { users: [{ user: s, pass: x }] }, A {} }",
        "accounts { S { users: [{ user: s, pass: x }] } }",
        "accounts { $SYS { users: [{ user: s, pass: x }] } }, authorization { timeout: 1 }",
    ] {
        let (directory, _) = directory(text);
        assert!(!directory.takes_strangers(ConnectionType::Standard), "{text}");
        assert_eq!(decide(&directory, "{}", None), None, "{text}");
    }
}

#[test]
fn whom_only_a_certificate_names_no_other_door_lets_in() {
    let text = |more: &str| {
        format!(
            "tls {{ cert_file: c, key_file: k, ca_file: a, verify_and_map: true }}
             websocket {{ port: 1, no_tls: true }}
             authorization {{ users: [{{ user: \"CN=alice\" }}, {{ user: bob, pass: x }}] {more} }}"
        )
    };
    let browser = Carrier::new(ConnectionType::WebSocket);
    let come = |text: &str, json: &str| decide(&directory(text).0, json, Some(&browser));
    assert_eq!(come(&text(""), r#"{"user":"CN=alice"}"#), None);
    assert_eq!(come(&text(""), r#"{"user":"bob","pass":"x"}"#), known("$G", "bob"));
    let guest = text("}, no_auth_user: \"CN=alice\" #");
    assert_eq!(come(&guest, r#"{"user":"CN=alice"}"#), known("$G", "CN=alice"), "anybody is this user");
    let elsewhere = text("").replace("verify_and_map", "verify");
    assert_eq!(
        come(&elsewhere, r#"{"user":"CN=alice"}"#),
        known("$G", "CN=alice"),
        "no password is one, too"
    );
}

#[test]
fn empty_credentials_are_none() {
    let (directory, _) = directory(
        "authorization { token: t }
         websocket { port: 1, no_tls: true, authorization { token: \"\" }, no_auth_user: \"\" }",
    );
    let browser = Carrier::new(ConnectionType::WebSocket);
    assert_eq!(decide(&directory, "{}", Some(&browser)), None);
    assert_eq!(decide(&directory, r#"{"auth_token":"t"}"#, Some(&browser)), known("$G", "[REDACTED]"));
}
