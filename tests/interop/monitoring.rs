//! What midged tells of itself over HTTP, beside nats-server.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use midge_testkit::carrier::tls;
use midge_testkit::process::{Process, program};
use midge_testkit::raw::{Frame, Raw};
use midge_testkit::tls::Authority;
use serde_json::Value;

use crate::shape::same_shape;

/// Asks for a page: its status line and its body.
fn get(port: u16, path: &str) -> (String, String) {
    ask(TcpStream::connect(("127.0.0.1", port)).unwrap(), path)
}

fn ask(mut stream: impl Read + Write, path: &str) -> (String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.flush().unwrap();
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}"),
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    (head.lines().next().unwrap().to_owned(), body)
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

pub(crate) fn json(server: &Process, path: &str) -> Value {
    let (status, body) = get(server.monitor_port().unwrap(), path);
    assert!(status.contains("200"), "{path}: {status} {body}");
    serde_json::from_str(&body).unwrap_or_else(|why| panic!("{path}: {why}\n{body}"))
}

fn both(config: &str) -> [Process; 2] {
    ["MIDGED", "NATS_SERVER"].map(|name| Process::with_config(&program(name), config))
}

const HELLO: &str = r#""verbose":false,"name":"n","lang":"l","version":"1""#;

/// Waits until the server has noticed that a client is gone.
fn with_one_gone(server: &Process) -> Value {
    loop {
        let closed = json(server, "/connz?state=closed&auth=1");
        if closed["num_connections"] == 1 {
            return closed;
        }
    }
}

#[test]
fn pages_have_the_originals_fields() {
    let servers = both("http: 127.0.0.1:-1");
    let clients = servers.each_ref().map(|server| {
        let mut client = Raw::connect(server.port());
        client.frame();
        client.send(format!("CONNECT {{{HELLO}}}\r\nSUB a.* q 7\r\nPUB a.b 2\r\nhi\r\n").as_bytes());
        client.sync();
        let mut gone = Raw::client(server.port());
        gone.send(b"nonsense\r\n");
        gone.rest();
        client
    });
    let [ours, theirs] = servers.each_ref().map(with_one_gone);
    same_shape("closed", &ours, &theirs);
    assert_eq!(ours["connections"][0]["reason"], theirs["connections"][0]["reason"]);
    for path in [
        "/varz",
        "/connz",
        "/connz?subs=1",
        "/connz?subs=detail&auth=1",
        "/connz?state=any&sort=start&limit=1&offset=1",
        "/connz?cid=1",
        "/subsz",
        "/subsz?subs=1&acc=$G&test=a.b",
        "/subscriptionsz?subs=1&acc=$G",
        "/accountz",
        "/accountz?acc=$G",
        "/accountz?acc=$SYS",
        "/accstatz",
        "/accstatz?unused=1",
        "/routez",
        "/leafz",
        "/gatewayz",
        "/healthz",
    ] {
        let [ours, theirs] = servers.each_ref().map(|server| json(server, path));
        same_shape(path, &ours, &theirs);
        if path == "/subsz?subs=1&acc=$G&test=a.b" {
            for key in ["subject", "qgroup", "sid", "msgs", "account"] {
                assert_eq!(ours["subscriptions_list"][0][key], theirs["subscriptions_list"][0][key], "{key}");
            }
        }
        if path == "/connz?subs=1" {
            for key in ["subscriptions_list", "in_msgs", "in_bytes", "out_msgs", "out_bytes", "name", "lang"]
            {
                assert_eq!(ours["connections"][0][key], theirs["connections"][0][key], "{key}");
            }
        }
    }
    drop(clients);
}

#[test]
fn connections_of_every_kind_have_the_originals_fields() {
    let authority = Authority::new();
    let server = authority.server("server");
    let alice = authority.client("client", "alice", &[]);
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true, timeout: 5 }}",
        server.certificate,
        server.key,
        authority.file()
    );
    let config = format!(
        "http: 127.0.0.1:-1, http_base_path: /base, {tls}
         websocket {{ listen: \"127.0.0.1:-1\", no_tls: true, compression: true }}
         accounts {{
           A {{ users: [{{user: a, pass: x, permissions: {{publish: \"a.>\"}}}}], limits {{ max_conn: 5, max_subs: 9 }} }}
           $SYS {{ users: [{{user: s, pass: x}}] }}
         }}"
    );
    let servers = both(&config);
    let trust = authority.trusting(Some(&alice), &[]);
    let clients = servers.each_ref().map(|server| {
        let secure = Raw::connect_tls(server.port(), &trust);
        let browser = Raw::connect_websocket(server.websocket_port().unwrap(), &[], None);
        [secure, browser.unwrap()].map(|mut client| {
            if let Some(Frame::Line(info)) = client.frame() {
                assert!(info.starts_with("INFO "), "{info}");
            }
            client.send(
                format!("CONNECT {{{HELLO},\"user\":\"a\",\"pass\":\"x\"}}\r\nSUB a.* 7\r\n").as_bytes(),
            );
            client.sync();
            client
        })
    });
    for path in [
        "/base/varz",
        "/base/connz?auth=1&sort=cid",
        "/base/connz?user=a&acc=A",
        "/base/accountz",
        "/base/accountz?acc=A",
        "/base/accstatz",
        "/base/accstatz?unused=1",
        "/base/subsz?subs=1&acc=A",
    ] {
        let [ours, theirs] = servers.each_ref().map(|server| json(server, path));
        same_shape(path, &ours, &theirs);
        if path.contains("sort=cid") {
            for number in 0..2 {
                let [ours, theirs] = [&ours, &theirs].map(|connz| &connz["connections"][number]);
                same_shape(&format!("connection {number}"), ours, theirs);
                for key in
                    ["kind", "type", "authorized_user", "account", "tls_version", "tls_first", "name_tag"]
                {
                    assert_eq!(ours[key], theirs[key], "connection {number}, {key}");
                }
            }
        }
    }
    for server in &servers {
        let port = server.monitor_port().unwrap();
        let (status, page) = get(port, "/base");
        assert!(status.contains("200"), "{status}");
        for path in ["/varz", "/connz", "/accountz", "/accstatz", "/subsz", "/routez", "/leafz", "/gatewayz"]
        {
            assert!(page.contains(path), "{path}: {page}");
        }
        assert!(get(port, "/varz").0.contains("404"), "outside of the base");
    }
    drop(clients);
}

#[test]
fn wrong_questions_are_refused() {
    let servers = both("http: 127.0.0.1:-1");
    for server in &servers {
        let port = server.monitor_port().unwrap();
        for path in
            ["/connz?limit=x", "/connz?sort=nonsense", "/connz?cid=x", "/subsz?limit=x", "/accountz?acc=none"]
        {
            assert!(get(port, path).0.contains("400"), "{path}: {:?}", get(port, path));
        }
        assert!(get(port, "/nothing").0.contains("404"));
        let healthz = get(port, "/healthz?callback=f").1;
        assert_eq!(healthz, "{\"status\":\"ok\"}", "no page on another site gets it as a script");
    }
}

#[test]
fn monitoring_may_speak_tls() {
    let authority = Authority::new();
    let server = authority.server("server");
    let config = format!(
        "https: 127.0.0.1:-1, tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        server.certificate,
        server.key,
        authority.file()
    );
    let trust = authority.trusting(None, &[]);
    for server in both(&config) {
        let socket = TcpStream::connect(("127.0.0.1", server.monitor_port().unwrap())).unwrap();
        let (status, body) = ask(tls(socket, &trust), "/varz");
        assert!(status.contains("200"), "nobody needs a certificate to look: {status}");
        let varz: Value = serde_json::from_str(&body).unwrap();
        assert_ne!(varz["https_port"], 0, "{varz:#}");
    }
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let server = Process::with_config(
        &program("MIDGED"),
        "http: 127.0.0.1:-1, server_name: 'a\"b'
         accounts { A { users: [{user: a, pass: x}] } }",
    );
    let mut client = Raw::connect(server.port());
    client.frame();
    client.send(b"CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"x\"}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n");
    client.sync();
    let (status, page) = get(server.monitor_port().unwrap(), "/metrics");
    assert!(status.contains("200"), "{status}");
    let mut announced = "";
    for line in page.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, ..] => {
                assert!(name.starts_with("midge_"), "{line}");
                announced = name;
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(*name, announced, "{line}");
                assert!(["gauge", "counter"].contains(kind), "{line}");
                assert_eq!(*kind == "counter", name.ends_with("_total"), "{line}");
            }
            [.., value] => {
                assert!(line.starts_with(announced), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
            [] => panic!("an empty line"),
        }
    }
    for sample in [
        "midge_connections 1\n",
        "midge_connections_total 1\n",
        "midge_account_subscriptions{account=\"A\"} 5\n",
        "midge_messages_total{direction=\"in\"} 1\n",
        "midge_messages_total{direction=\"out\"} 1\n",
        "midge_bytes_total{direction=\"in\"} 2\n",
        "server_name=\"a\\\"b\"",
        "account=\"A\"} 1\n",
    ] {
        assert!(page.contains(sample), "{sample}: {page}");
    }
}
