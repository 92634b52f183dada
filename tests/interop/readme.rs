//! What the README shows, as it stands there.

use std::process::Command;

use midge_testkit::process::{Process, program};
use midge_testkit::raw::Raw;

use crate::servers::subscribe;

/// The first block of that language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let start = format!("```{language}\n");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("the README has no {language}"));
    rest.split_once("```").unwrap().0
}

#[test]
fn the_first_five_minutes() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let server = Process::start(&program("MIDGED"), &["-m", "-1"]);
    let code = block(&readme, "python").replace("nats://127.0.0.1:4222", &server.url());
    let output = Command::new(program("PEER_PYTHON")).args(["-c", &code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello, joe\n", "{output:?}");
    let shown = block(&readme, "console");
    assert!(shown.contains("cargo run --release") && shown.contains("cargo xtask verify"));
}

/// The log lines that it shows are those that are logged.
#[test]
fn the_start_of_the_log() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let server = Process::start(&program("MIDGED"), &[]);
    let log = server.log();
    let message = |line: &str| line.split_once("[INF] ").map(|(_, message)| message.to_owned());
    for line in readme.lines().filter_map(message) {
        let line = line.replace("0.0.0.0:4222", &format!("127.0.0.1:{}", server.port()));
        assert!(
            log.iter().filter_map(|logged| message(logged)).any(|logged| logged == line),
            "{line}: {log:#?}"
        );
    }
}

/// The configuration joins the cluster that the command line beside it begins.
#[test]
fn joining_a_cluster() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, rest) = readme.split_once("`nats-server ").unwrap();
    let line = rest.split_once('`').unwrap().0.replace("127.0.0.1:6222", "127.0.0.1:-1");
    let first = Process::start(&program("NATS_SERVER"), &line.split(' ').collect::<Vec<_>>());
    let conf = block(&readme, "conf")
        .replace("port: 4223\n", "")
        .replace("127.0.0.1:6223", "127.0.0.1:-1")
        .replace("127.0.0.1:6222", &format!("127.0.0.1:{}", first.route_port()));
    let second = Process::with_config(&program("MIDGED"), &conf);
    let (mut here, mut there) = (Raw::client(first.port()), Raw::client(second.port()));
    subscribe(&mut here, &mut there, "one", "1");
    subscribe(&mut there, &mut here, "two", "1");
}

/// The configuration that the chapter on deployments shows is one.
#[test]
fn the_block_of_a_deployment() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/backend.md")).unwrap();
    let folder = midge_testkit::process::Folder::new("backend-doc");
    let path = folder.file("backend.conf", block(&text, "conf"));
    let output = Command::new(program("MIDGED")).args(["-t", "-c", &path]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
