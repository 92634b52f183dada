//! midged as operators meet it: files, signals, checks.

use std::net::TcpStream;
use std::process::Command;

use midge_testkit::process::{Folder, Process, program};
use midge_testkit::raw::Raw;
use serde_json::Value;

#[test]
fn files_name_the_process_and_its_ports() {
    let folder = Folder::new("files");
    let pid = folder.path().join("pid").display().to_string();
    let dir = folder.path().display().to_string();
    let mut server = Process::start(&program("MIDGED"), &["-P", &pid, "--ports_file_dir", &dir, "-m", "-1"]);
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), server.pid().to_string());
    let ports = folder.path().join(format!("midged_{}.ports", server.pid()));
    let ports: Value = serde_json::from_str(&std::fs::read_to_string(&ports).unwrap()).unwrap();
    assert_eq!(ports["nats"][0], server.url());
    assert_eq!(ports["monitoring"][0], format!("http://127.0.0.1:{}", server.monitor_port().unwrap()));
    // Told by the pid file to end.
    let told = Command::new(program("MIDGED")).args(["--signal", &format!("quit={pid}")]).status().unwrap();
    assert!(told.success() && server.wait().success());
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pid"], "the ports file goes with the server");
}

#[test]
fn a_configuration_is_checked_without_a_start() {
    let folder = Folder::new("check");
    let good = folder.file("good.conf", "listen: 127.0.0.1:-1\nmax_payload: 1KB\n");
    for name in ["MIDGED", "NATS_SERVER"] {
        let output = Command::new(program(name)).args(["-t", "-c", &good]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && said.contains(&format!("configuration file {good} is valid (sha256:")),
            "{said}"
        );
    }
    let bad = folder.file("bad.conf", "port: 4222\nmax_paylod: 1KB\nhost: [\n");
    let output = Command::new(program("MIDGED")).args(["-t", "-c", &bad]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains(&format!("{bad}:3:7: this '[' is never closed")), "{said}");
    let bad = folder.file("bad.conf", "port: 4222\n  max_paylod: 1KB\n");
    let output = Command::new(program("MIDGED")).args(["-c", &bad]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let want = format!(
        "{bad}:2:3: unknown field 'max_paylod' (did you mean 'max_payload'?)\n 2 |   max_paylod: 1KB\n   |   ^^^^^^^^^^"
    );
    assert!(!output.status.success() && said.contains(&want), "{said}");
}

#[test]
fn an_address_that_is_taken_is_a_clear_error() {
    let server = Process::start(&program("MIDGED"), &[]);
    let output = Command::new(program("MIDGED"))
        .args(["-a", "127.0.0.1", "-p", &server.port().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let want = format!("[FTL] Error listening on port: 127.0.0.1:{}, Address already in use", server.port());
    assert!(!output.status.success() && said.contains(&want), "{said}");
}

#[test]
fn what_was_accepted_is_delivered_before_the_end() {
    for signal in ["TERM", "INT"] {
        let mut server = Process::start(&program("MIDGED"), &[]);
        let mut subscriber = Raw::client(server.port());
        subscriber.send(b"SUB a 1\r\n");
        subscriber.sync();
        let mut publisher = Raw::client(server.port());
        for n in 0..2000 {
            publisher.send(format!("PUB a 1000\r\n{n:01000}\r\n").as_bytes());
        }
        publisher.sync();
        server.signal(signal);
        for n in 0..2000 {
            assert_eq!(subscriber.expect_message(), format!("{n:01000}").as_bytes());
        }
        subscriber.rest();
        assert!(server.wait().success());
        assert!(server.log().last().unwrap().ends_with("[INF] Server Exiting.."));
    }
}

#[test]
fn a_lame_duck_tells_its_clients_and_lets_them_go() {
    let folder = Folder::new("ldm");
    let config = folder.file("c", "lame_duck_duration: \"30s\", lame_duck_grace_period: \"1ms\"");
    let mut server = Process::start(&program("MIDGED"), &["-c", &config]);
    let mut told = Raw::connect(server.port());
    told.frame();
    told.send(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\n");
    told.sync();
    let mut old = Raw::connect(server.port());
    old.frame();
    old.send(b"CONNECT {\"verbose\":false,\"protocol\":0}\r\n");
    old.sync();
    let status = Command::new(program("MIDGED"))
        .args(["--signal", &format!("ldm={}", server.pid())])
        .status()
        .unwrap();
    assert!(status.success());
    server.wait_for_line("Entering lame duck mode, stop accepting new clients");
    let lines: Vec<String> = told.rest().iter().map(|frame| frame.line().to_owned()).collect();
    assert!(lines.iter().any(|line| line.starts_with("INFO ") && line.contains("\"ldm\":true")), "{lines:?}");
    assert!(
        old.rest().iter().all(|frame| !frame.line().contains("\"ldm\":true")),
        "protocol 0 takes no INFO"
    );
    assert!(server.wait().success());
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
}

#[test]
fn a_log_file_is_begun_anew_on_a_signal() {
    let folder = Folder::new("log");
    let path = folder.path().join("log");
    let log = path.display().to_string();
    // With a log file, standard error says nothing: the ports file tells when the server is there.
    let mut child = Command::new(program("MIDGED"))
        .args([
            "-a",
            "127.0.0.1",
            "-p",
            "-1",
            "-l",
            &log,
            "--ports_file_dir",
            &folder.path().display().to_string(),
        ])
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let until = |done: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + midge_testkit::process::PATIENCE;
        while !done() {
            assert!(std::time::Instant::now() < end, "it does not happen");
            std::thread::yield_now();
        }
    };
    until(&|| folder.path().join(format!("midged_{pid}.ports")).is_file());
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    let status =
        Command::new(program("MIDGED")).args(["--signal", &format!("reopen={pid}")]).status().unwrap();
    assert!(status.success());
    until(&|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("[INF] File log re-opened")));
    let status = Command::new(program("MIDGED")).args(["--signal", &format!("stop={pid}")]).status().unwrap();
    assert!(status.success() && !child.wait().unwrap().success(), "stop kills");
    assert!(std::fs::read_to_string(folder.path().join("old")).unwrap().contains("[INF] Server is ready"));
}

#[test]
fn traces_read_like_the_originals() {
    for arguments in [&["-V"][..], &["-DV", "--max_traced_msg_len", "4"], &["-VV", "-max_traced_msg_len=100"]]
    {
        let [ours, theirs] = ["MIDGED", "NATS_SERVER"].map(|name| {
            let server = Process::start(&program(name), arguments);
            let mut client = Raw::connect(server.port());
            client.frame();
            client.send(b"CONNECT {\"verbose\":false,\"name\":\"n\",\"lang\":\"l\",\"version\":\"1\",\"headers\":true,\"pass\":\"x\"}\r\n");
            client.send(b"SUB a 1\r\nSUB b q 2\r\nPUB a r 8\r\nab\"\x01\xffgh\\\r\nPUB c 0\r\n\r\n");
            client.send(b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 2 3\r\nUNSUB 1\r\nSUB d 3\r\nUNSUB 3 1\r\nPUB d 2\r\nhi\r\n");
            client.sync();
            client.send(b"nonsense\r\n");
            client.rest();
            server.wait_for_line("parser ERROR");
            let traced = server.log().into_iter().filter_map(|line| {
                let (_, rest) = line.split_once("[TRC] ")?;
                let (_, rest) = rest.split_once("cid:")?;
                Some(rest.split_once(" - ")?.1.to_owned())
            });
            // What subscriptions are left is nobody's concern once the connection ends.
            let mut ended = false;
            traced.take_while(|line| !std::mem::replace(&mut ended, line.contains("-ERR"))).collect::<Vec<_>>()
        });
        assert!(ours.len() > 10, "{ours:#?}");
        assert_eq!(ours, theirs, "{arguments:?}");
    }
}

#[test]
fn secrets_stay_out_of_the_log() {
    let folder = Folder::new("secrets");
    let config =
        folder.file("c", "authorization { user: alice, password: s3cr3t }\ntrace: true\ndebug: true");
    let server = Process::start(&program("MIDGED"), &["-c", &config]);
    for (password, answer) in [("s3cr3t", "PONG"), ("wr0ng", "-ERR 'Authorization Violation'")] {
        let mut client = Raw::connect(server.port());
        client.frame();
        let line =
            format!("CONNECT {{\"verbose\":false,\"user\":\"alice\",\"pass\":\"{password}\"}}\r\nPING\r\n");
        client.send(line.as_bytes());
        client.expect_line(answer);
    }
    server.wait_for_line("authentication error");
    let log = server.log().join("\n");
    assert!(log.contains("[REDACTED]") && !log.contains("s3cr3t") && !log.contains("wr0ng"), "{log}");
}
