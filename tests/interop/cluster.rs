//! Clusters of midged and nats-server, in all versions and in every mixture.

use std::path::{Path, PathBuf};

use midge_testkit::process::{Process, nats_servers};
use midge_testkit::raw::{Frame, Raw};

use crate::servers::{message, midged, settled, subscribe, wait_for_interest, wait_for_silence};

/// A member of a cluster that can be started again where it was.
struct Member {
    program: PathBuf,
    name: String,
    /// What its configuration says besides names and addresses.
    more: String,
    seed: Option<u16>,
    process: Option<Process>,
    ports: (u16, u16),
}

impl Member {
    fn start(program: PathBuf, number: usize, more: &str, seed: Option<u16>) -> Self {
        let mut member = Self {
            program,
            name: format!("n{number}"),
            more: more.to_owned(),
            seed,
            process: None,
            ports: (0, 0),
        };
        member.run(-1, "-1");
        member.ports = (member.process().port(), member.process().route_port());
        member
    }

    fn run(&mut self, port: i32, cluster_port: &str) {
        let Self { name, more, seed, .. } = self;
        let routes = seed.map(|port| format!("routes: [nats-route://127.0.0.1:{port}]")).unwrap_or_default();
        let config = format!(
            "server_name: {name}\ncluster {{ name: C, listen: \"127.0.0.1:{cluster_port}\", {routes} }}\n{more}"
        );
        self.process = Some(Process::with_config_on(&self.program, port, &config));
    }

    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    fn stop(&mut self) {
        self.process = None;
    }

    fn start_again(&mut self) {
        let (port, routes) = self.ports;
        self.run(port.into(), &routes.to_string());
    }

    fn client(&self) -> Raw {
        self.client_as("")
    }

    fn client_as(&self, login: &str) -> Raw {
        let mut client = Raw::connect(self.process().port());
        client.expect_line("INFO ");
        let options = r#""verbose":false,"pedantic":false,"headers":true,"no_responders":true"#;
        client.send(format!("CONNECT {{{options}{login}}}\r\n").as_bytes());
        client.sync();
        assert!(!client.is_closed(), "{login}");
        client
    }
}

/// A cluster: the first is the one that all others are configured to connect to.
fn cluster(programs: &[PathBuf], more: &str) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let seed = members.first().map(|member| member.ports.1);
        members.push(Member::start(program.clone(), number, more, seed));
    }
    converge(&members);
    members
}

/// Every mixture of three with that version: two stock and one midged, one stock and two midged; midged joins, and is
/// joined.
fn mixtures(stock: &Path) -> [[PathBuf; 3]; 4] {
    let (s, m) = (|| stock.to_owned(), midged);
    [[s(), s(), m()], [m(), s(), s()], [s(), m(), m()], [m(), s(), m()]]
}

/// Waits until each server knows what is wanted on each other.
#[track_caller]
fn converge(members: &[Member]) {
    for (at, there) in members.iter().enumerate() {
        let subject = format!("converge.{at}");
        let mut responder = there.client();
        responder.send(format!("SUB {subject} 1\r\n").as_bytes());
        responder.sync();
        for here in members.iter().filter(|here| !std::ptr::eq(*here, there)) {
            wait_for_interest(&mut here.client(), &subject);
        }
    }
}

/// Everything that two servers do for each other's clients.
fn everything_between(from: &Member, to: &Member, tag: &str) {
    let (mut here, mut there) = (from.client(), to.client());
    // Plain and wildcards; the same message once for each subscription.
    subscribe(&mut there, &mut here, &format!("{tag}.plain"), "1");
    subscribe(&mut there, &mut here, &format!("{tag}.*.x"), "2");
    here.send(
        format!("PUB {tag}.plain 2\r\np1\r\nPUB {tag}.a.x 2\r\nw1\r\nPUB {tag}.a.y 2\r\nno\r\n").as_bytes(),
    );
    here.send(format!("PUB {tag}.plain {tag}.reply 2\r\np2\r\n").as_bytes());
    let frames: Vec<Frame> = (0..3).map(|_| message(&mut there)).collect();
    let want = [
        Frame::Message(format!("MSG {tag}.plain 1 2"), b"p1".to_vec()),
        Frame::Message(format!("MSG {tag}.a.x 2 2"), b"w1".to_vec()),
        Frame::Message(format!("MSG {tag}.plain 1 {tag}.reply 2"), b"p2".to_vec()),
    ];
    assert_eq!(frames, want, "{tag}");
    // Headers, and a request with its reply.
    here.send(format!("SUB {tag}.inbox 9\r\n").as_bytes());
    here.send(format!("HPUB {tag}.plain {tag}.inbox 21 24\r\nNATS/1.0\r\nK: some\r\n\r\nask\r\n").as_bytes());
    let asked = message(&mut there);
    let want = Frame::Message(
        format!("HMSG {tag}.plain 1 {tag}.inbox 21 24"),
        b"NATS/1.0\r\nK: some\r\n\r\nask".to_vec(),
    );
    assert_eq!(asked, want, "{tag}");
    there.send(format!("PUB {tag}.inbox 6\r\nanswer\r\n").as_bytes());
    assert_eq!(message(&mut here), Frame::Message(format!("MSG {tag}.inbox 9 6"), b"answer".to_vec()));
    // A megabyte.
    let large = vec![b'x'; 1024 * 1024];
    here.send(format!("PUB {tag}.plain {}\r\n", large.len()).as_bytes());
    here.send(&[&large[..], b"\r\n"].concat());
    assert!(there.expect_message() == large, "{tag}: a megabyte");
    // Nobody.
    there.send(b"UNSUB 1\r\n");
    wait_for_silence(&mut here, &format!("{tag}.plain"));
    here.send(format!("PUB {tag}.nobody {tag}.inbox 0\r\n\r\n").as_bytes());
    let nobody = message(&mut here);
    assert!(nobody.line().starts_with(&format!("HMSG {tag}.inbox 9 ")), "{nobody:?}");
}

/// Messages in order, none lost and none twice.
fn many_in_order(from: &Member, to: &Member, count: u32, tag: &str) {
    let (mut here, mut there) = (from.client(), to.client());
    subscribe(&mut there, &mut here, &format!("{tag}.many"), "1");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while at < count {
                let end = (at + 1000).min(count);
                let block: String = (at..end).map(|n| format!("PUB {tag}.many 8\r\n{n:08}\r\n")).collect();
                here.send(block.as_bytes());
                at = end;
            }
            here.sync();
        });
        for n in 0..count {
            assert_eq!(there.expect_message(), format!("{n:08}").as_bytes(), "{tag}");
        }
    });
    assert_eq!(settled(&mut there), [], "{tag}: too many");
}

/// A queue group with a member on each of these servers: each message to exactly one, whoever publishes.
fn exactly_one(members: &[Member], tag: &str) {
    const EACH: usize = 100;
    let mut listening: Vec<Raw> = members
        .iter()
        .map(|member| {
            let mut client = member.client();
            client.send(
                format!("SUB {tag}.work group 1\r\nSUB {tag}.work other 2\r\nSUB {tag}.done 3\r\n")
                    .as_bytes(),
            );
            client.sync();
            client
        })
        .collect();
    let mut publishers: Vec<Raw> = members.iter().map(Member::client).collect();
    // The number of members that each server knows of cannot be seen; that all know of all can.
    converge(members);
    for publisher in &mut publishers {
        let block: String = (0..EACH).map(|n| format!("PUB {tag}.work 4\r\n{n:04}\r\n")).collect();
        publisher.send(block.as_bytes());
        publisher.send(format!("PUB {tag}.done 0\r\n\r\n").as_bytes());
        publisher.sync();
    }
    let mut had = [vec![0; members.len()], vec![0; members.len()]];
    for (at, client) in listening.iter_mut().enumerate() {
        // What a server sends about work it sends before what it sends about its end.
        let mut ends = 0;
        while ends < members.len() {
            match message(client).line().split(' ').nth(2) {
                Some("1") => had[0][at] += 1,
                Some("2") => had[1][at] += 1,
                _ => ends += 1,
            }
        }
    }
    for group in had {
        assert_eq!(group.iter().sum::<usize>(), EACH * members.len(), "{tag}: {group:?}");
        assert!(group.iter().all(|count| *count > 0), "{tag}: {group:?}");
    }
}

/// All of that, between all of them.
fn all_pairs(programs: &[PathBuf], count: u32) {
    let members = cluster(programs, "");
    for (at, from) in members.iter().enumerate() {
        for (to_at, to) in members.iter().enumerate().filter(|(to_at, _)| *to_at != at) {
            let tag = format!("t{at}{to_at}");
            everything_between(from, to, &tag);
            many_in_order(from, to, count, &tag);
        }
    }
    exactly_one(&members, "q");
}

fn stock(version: usize) -> PathBuf {
    nats_servers()[version].clone()
}

/// A server goes and comes back, each in turn: the others notice, and what is wanted is known again.
fn restarts(programs: &[PathBuf]) {
    let mut members = cluster(programs, "");
    for at in 0..members.len() {
        let mut lost = members[at].client();
        lost.send(b"SUB lost.one 1\r\nSUB lost.group g 2\r\n");
        lost.sync();
        let other = (at + 1) % members.len();
        let mut witness = members[other].client();
        wait_for_interest(&mut witness, "lost.one");
        members[at].stop();
        wait_for_silence(&mut witness, "lost.one");
        wait_for_silence(&mut witness, "lost.group");
        members[at].start_again();
        converge(&members);
        // Those who stayed know what was wanted all the time.
        let mut back = members[at].client();
        witness.send(b"SUB stays 5\r\n");
        wait_for_interest(&mut back, "stays");
    }
    exactly_one(&members, "after");
}

macro_rules! for_each_version {
    ($($name:ident $version:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn two_stock_and_one_midged() {
                let [first, last, ..] = mixtures(&stock($version));
                all_pairs(&first, 100_000);
                all_pairs(&last, 20_000);
            }

            #[test]
            fn one_stock_and_two_midged() {
                let [_, _, first, last] = mixtures(&stock($version));
                all_pairs(&first, 100_000);
                all_pairs(&last, 20_000);
            }

            #[test]
            fn members_go_and_come_back() {
                let [joins, is_joined, two, ..] = mixtures(&stock($version));
                [joins, is_joined, two].iter().for_each(|programs| restarts(programs));
            }
        })*
    };
}

for_each_version! {
    with_2_9 0;
    with_2_10 1;
    with_2_15 2;
}

#[test]
fn three_midged() {
    all_pairs(&[midged(), midged(), midged()], 100_000);
}

#[test]
fn three_midged_go_and_come_back() {
    restarts(&[midged(), midged(), midged()]);
}
