//! What users of the system account see and may ask, beside nats-server.

use midge_testkit::process::{Process, program};
use midge_testkit::raw::{Frame, Raw};
use serde_json::Value;

use crate::shape::same_shape;

const CONFIG: &str = "accounts {
    A { users: [{user: a, pass: x, permissions: {publish: {allow: [\"a.>\", \"$SYS.>\"], deny: \"b\"}, allow_responses: true}}] }
    $SYS { users: [{user: s, pass: x}] }
  }";

fn both() -> [Process; 2] {
    ["MIDGED", "NATS_SERVER"].map(|name| Process::with_config(&program(name), CONFIG))
}

fn join(server: &Process, user: &str, more: &str) -> Raw {
    let mut client = Raw::connect(server.port());
    client.frame();
    let fields = r#""verbose":false,"headers":true,"name":"n","lang":"l","version":"1""#;
    client.send(format!("CONNECT {{{fields},\"user\":\"{user}\",\"pass\":\"x\"}}\r\n{more}").as_bytes());
    client.sync();
    assert!(!client.is_closed(), "{user}");
    client
}

/// The next message on a subject that begins so, as JSON.
fn heard(client: &mut Raw, subject: &str) -> (String, Value) {
    loop {
        match client.frame() {
            Some(Frame::Message(line, body)) => {
                let on = line.split(' ').nth(1).unwrap_or_default();
                if on.starts_with(subject) {
                    let json = serde_json::from_slice(&body);
                    return (
                        on.to_owned(),
                        json.unwrap_or_else(|why| panic!("{why}: {}", body.escape_ascii())),
                    );
                }
            }
            Some(Frame::Line(_)) => {}
            None => panic!("nothing on {subject}"),
        }
    }
}

#[test]
fn events_tell_who_comes_and_goes() {
    let servers = both();
    let events: Vec<Vec<(String, Value)>> = servers
        .iter()
        .map(|server| {
            let mut system = join(server, "s", "SUB $SYS.> 1\r\n");
            let mut client = join(server, "a", "PUB a.x 5\r\nhello\r\n");
            let connected = heard(&mut system, "$SYS.ACCOUNT.A.CONNECT");
            client.send(b"nonsense\r\n");
            client.rest();
            let gone = heard(&mut system, "$SYS.ACCOUNT.A.DISCONNECT");
            let mut wrong = Raw::connect(server.port());
            wrong.frame();
            wrong.send(b"CONNECT {\"user\":\"nobody\",\"pass\":\"x\"}\r\n");
            wrong.rest();
            let refused = heard(&mut system, "$SYS.SERVER.");
            let refused = if refused.0.ends_with("AUTH.ERR") { refused } else { heard_error(&mut system) };
            vec![connected, gone, refused]
        })
        .collect();
    for ((subject, ours), (_, theirs)) in events[0].iter().zip(&events[1]) {
        same_shape(subject, ours, theirs);
        for key in ["type", "reason"] {
            assert_eq!(ours[key], theirs[key], "{subject}");
        }
        for key in ["acc", "user", "name", "lang", "ver", "kind", "client_type", "name_tag"] {
            assert_eq!(ours["client"][key], theirs["client"][key], "{subject}");
        }
        assert_eq!(ours["sent"], theirs["sent"], "{subject}");
    }
}

fn heard_error(system: &mut Raw) -> (String, Value) {
    loop {
        let (subject, value) = heard(system, "$SYS.SERVER.");
        if subject.ends_with("AUTH.ERR") {
            return (subject, value);
        }
    }
}

/// Asks, and reads the answer.
fn ask(client: &mut Raw, subject: &str, body: &str) -> Value {
    client.send(format!("PUB {subject} _INBOX.x {}\r\n{body}\r\n", body.len()).as_bytes());
    heard(client, "_INBOX.x").1
}

#[test]
fn requests_are_answered() {
    let servers = both();
    let mut systems = servers.each_ref().map(|server| join(server, "s", "SUB _INBOX.x 1\r\n"));
    let _clients = servers.each_ref().map(|server| join(server, "a", "SUB a.* q 7\r\nPUB a.b 2\r\nhi\r\n"));
    let ids = systems.each_mut().map(|system| {
        let answer = ask(system, "$SYS.REQ.SERVER.PING.IDZ", "");
        answer["id"].as_str().unwrap().to_owned()
    });
    for (subject, body) in [
        ("PING", ""),
        ("PING.STATSZ", ""),
        ("PING.VARZ", ""),
        ("PING.CONNZ", r#"{"auth":true,"acc":"A"}"#),
        ("PING.CONNZ", r#"{"subscriptions":true,"acc":"A","limit":1}"#),
        ("PING.CONNZ", r#"{"sort":"nonsense"}"#),
        ("PING.SUBSZ", r#"{"account":"A"}"#),
        ("PING.ACCOUNTZ", ""),
        ("PING.ACCOUNTZ", r#"{"account":"A"}"#),
        ("PING.ACCOUNTZ", r#"{"account":"none"}"#),
        ("PING.ROUTEZ", ""),
        ("PING.LEAFZ", ""),
        ("PING.GATEWAYZ", ""),
        ("PING.HEALTHZ", ""),
        ("ID.VARZ", ""),
        ("ID.KICK", r#"{"cid":99999}"#),
        ("ID.LDM", r#"{"cid":99999}"#),
    ] {
        let mut number = 0;
        let [ours, theirs] = systems.each_mut().map(|system| {
            let subject = subject.replace("ID", &ids[number]);
            number += 1;
            ask(system, &format!("$SYS.REQ.SERVER.{subject}"), body)
        });
        same_shape(&format!("{subject} {body}"), &ours, &theirs);
    }
    for (subject, body) in [
        ("A.INFO", ""),
        ("A.CONNZ", ""),
        ("A.STATZ", ""),
        ("PING.STATZ", r#"{"accounts":["A"]}"#),
        ("none.INFO", ""),
    ] {
        let [ours, theirs] =
            systems.each_mut().map(|system| ask(system, &format!("$SYS.REQ.ACCOUNT.{subject}"), body));
        same_shape(&format!("{subject} {body}"), &ours, &theirs);
    }
    // Meant for another server: nobody answers, and the next question is.
    for system in &mut systems {
        let body = r#"{"server_name":"another"}"#;
        system
            .send(format!("PUB $SYS.REQ.SERVER.PING.VARZ _INBOX.x {}\r\n{body}\r\n", body.len()).as_bytes());
        assert!(ask(system, "$SYS.REQ.SERVER.PING.IDZ", "")["data"].is_null());
    }
}

#[test]
fn everybody_may_ask_who_he_is() {
    let servers = both();
    let [ours, theirs] = servers.each_ref().map(|server| {
        let mut client = join(server, "a", "SUB _INBOX.x 1\r\n");
        ask(&mut client, "$SYS.REQ.USER.INFO", "")
    });
    same_shape("USER.INFO", &ours, &theirs);
    // nats-server lists what is allowed in the order of its tree, which is none.
    let sorted = |mut answer: Value| {
        if let Some(allow) = answer["data"]["permissions"]["publish"]["allow"].as_array_mut() {
            allow.sort_by_key(Value::to_string);
        }
        answer
    };
    let [ours, theirs] = [ours, theirs].map(sorted);
    assert_eq!(ours["data"], theirs["data"]);
    let [ours, theirs] = servers.each_ref().map(|server| {
        let mut client = join(server, "a", "SUB _INBOX.x 1\r\n");
        ask(&mut client, "$SYS.REQ.ACCOUNT.PING.CONNZ", "")
    });
    same_shape("own CONNZ", &ours, &theirs);
    assert!(ours["data"]["connections"].as_array().is_some_and(|list| !list.is_empty()));
}

#[test]
fn a_client_is_kicked_and_a_server_says_goodbye() {
    for mut server in both() {
        let mut system = join(&server, "s", "SUB _INBOX.x 1\r\nSUB $SYS.SERVER.*.SHUTDOWN 2\r\n");
        let mut client = join(&server, "a", "");
        let connections = ask(&mut system, "$SYS.REQ.SERVER.PING.CONNZ", r#"{"acc":"A"}"#);
        let cid = connections["data"]["connections"][0]["cid"].as_u64().unwrap();
        let id = connections["server"]["id"].as_str().unwrap().to_owned();
        let answer = ask(&mut system, &format!("$SYS.REQ.SERVER.{id}.KICK"), &format!("{{\"cid\":{cid}}}"));
        assert!(answer["error"].is_null(), "{answer}");
        client.rest();
        assert!(client.is_closed());
        server.signal("TERM");
        let (subject, body) = heard(&mut system, "$SYS.SERVER.");
        assert_eq!((subject, &body["id"]), (format!("$SYS.SERVER.{id}.SHUTDOWN"), &Value::String(id)));
        system.rest();
        server.wait();
    }
}

#[test]
fn users_of_the_system_account_alone_lock_nobody_out() {
    for (config, open) in [
        ("accounts { $SYS { users: [{user: s, pass: x}] } }", true),
        ("accounts { S { users: [{user: s, pass: x}] } }, system_account: S", true),
        ("accounts { $SYS { users: [{user: s, pass: x}] }, A {} }", false),
        ("accounts { S { users: [{user: s, pass: x}] } }", false),
        ("accounts { $SYS { users: [{user: s, pass: x}] } }, authorization { timeout: 1 }", false),
    ] {
        for (name, first) in
            ["MIDGED", "NATS_SERVER"].iter().flat_map(|name| [(name, "CONNECT {}\r\n"), (name, "")])
        {
            let server = Process::with_config(&program(name), config);
            let mut client = Raw::connect(server.port());
            let Some(Frame::Line(info)) = client.frame() else { panic!("no INFO") };
            assert!(info.contains("\"auth_required\":true"), "{name}: {info}");
            client.send(format!("{first}SUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n").as_bytes());
            let heard = std::iter::from_fn(|| client.frame())
                .take_while(|frame| !matches!(frame, Frame::Line(line) if line == "PONG"))
                .any(|frame| matches!(frame, Frame::Message(..)));
            assert_eq!(heard, open, "{name}, {config}, {first:?}");
        }
    }
}

#[test]
fn a_flood_of_questions_holds_nobody_up() {
    let server = Process::with_config(&program("MIDGED"), "max_pending: 100KB, max_payload: 1KB");
    let mut flood = Raw::client(server.port());
    let question = "PUB $SYS.REQ.SERVER.PING.CONNZ nobody 0\r\n\r\n";
    while !server.log().iter().any(|line| line.contains("asks the server more than it can answer")) {
        flood.send(question.repeat(1000).as_bytes());
        flood.sync();
    }
    let mut client = Raw::client(server.port());
    client.send(b"SUB answer 1\r\n");
    // Between the end of the one and the begin of the next, nobody answers.
    loop {
        client.send(b"PUB $SYS.REQ.SERVER.PING.CONNZ answer 0\r\n\r\n");
        let answered = |frame: &Frame| matches!(frame, Frame::Message(_, body) if body.starts_with(b"{"));
        if client.sync().iter().any(answered) {
            break;
        }
    }
}
