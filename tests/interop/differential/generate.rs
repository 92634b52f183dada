//! Making up a talk.

use std::fmt;

use crate::dice::Dice;

/// What happens, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// A further connection.
    Connect,
    /// Something that the connection survives, a PING at its end.
    Say { to: usize, pieces: Vec<Vec<u8>> },
    /// Something that the connection may not survive, and its end.
    Last { to: usize, pieces: Vec<Vec<u8>> },
}

/// A talk.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) steps: Vec<Step>,
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |pieces: &[Vec<u8>]| {
            let shown: Vec<String> = pieces.iter().map(|piece| piece.escape_ascii().to_string()).collect();
            shown.join(" \u{2502} ")
        };
        for step in &self.steps {
            match step {
                Step::Connect => writeln!(f, "connect")?,
                Step::Say { to, pieces } => writeln!(f, "{to}: {}", show(pieces))?,
                Step::Last { to, pieces } => writeln!(f, "{to}, and no more: {}", show(pieces))?,
            }
        }
        Ok(())
    }
}

/// Whether a message went to a member of a queue group: their sids begin with a `q`.
pub(super) fn is_queued(line: &str) -> bool {
    (line.starts_with("MSG ") || line.starts_with("HMSG "))
        && line.split(' ').nth(2).is_some_and(|sid| sid.starts_with('q'))
}

/// What the generator knows of a connection.
#[derive(Debug, Default)]
struct Known {
    /// Sids in use, queue members left out.
    sids: Vec<String>,
    pedantic: bool,
    headers: bool,
    ended: bool,
    /// Who it says that it is.
    login: String,
}

struct Maker {
    dice: Dice,
    /// The first token of every subject, so that talks do not hear each other.
    root: String,
    connections: Vec<Known>,
    steps: Vec<Step>,
    /// Whether there are queue groups: then all connections take headers, since it must not matter who is chosen.
    queues: bool,
    logins: Vec<String>,
    /// Whether nothing is said whose outcome depends on how quickly servers tell each other.
    calm: bool,
    next_sid: u32,
}

impl Talk {
    /// `logins` are fields of a CONNECT that say who somebody is, right or wrong; none where nobody is asked.
    pub(super) fn generate(seed: u64, logins: &[&str]) -> Self {
        Self::make(seed, logins, false)
    }

    /// A talk with several servers, none of whose connections ends, nor any subscription by itself: when the other
    /// servers hear of that is a matter of time.
    pub(super) fn between_servers(seed: u64) -> Self {
        Self::make(seed, &[], true)
    }

    fn make(seed: u64, logins: &[&str], calm: bool) -> Self {
        let mut dice = Dice::new(seed);
        for _ in 0..4 {
            dice.below(2);
        }
        let queues = dice.one_in(2);
        let mut maker = Maker {
            dice,
            root: format!("s{seed}"),
            connections: Vec::new(),
            steps: Vec::new(),
            queues,
            logins: logins.iter().map(|login| (*login).to_owned()).collect(),
            calm,
            next_sid: 1,
        };
        maker.make();
        Self { steps: maker.steps }
    }
}

impl Maker {
    fn make(&mut self) {
        let count = if self.calm { 3 } else { 1 + self.dice.below(3) };
        for _ in 0..count {
            self.connect();
        }
        for _ in 0..4 + self.dice.below(12) {
            let open: Vec<usize> =
                (0..self.connections.len()).filter(|n| !self.connections[*n].ended).collect();
            if open.is_empty() {
                break;
            }
            let to = self.dice.pick(&open);
            if !self.calm && self.dice.one_in(14) {
                let mut bytes = self.valid(to);
                bytes.extend(self.broken(to));
                bytes.extend(b"\r\nPING\r\n");
                self.connections[to].ended = true;
                let pieces = self.cut(bytes);
                self.steps.push(Step::Last { to, pieces });
            } else {
                let mut bytes = Vec::new();
                for _ in 0..1 + self.dice.below(4) {
                    bytes.extend(self.valid(to));
                }
                bytes.extend(b"PING\r\n");
                let pieces = self.cut(bytes);
                self.steps.push(Step::Say { to, pieces });
            }
        }
    }

    fn connect(&mut self) {
        let to = self.connections.len();
        self.steps.push(Step::Connect);
        // What holds without a CONNECT.
        self.connections.push(Known { pedantic: true, ..Known::default() });
        if self.queues || !self.dice.one_in(5) {
            let mut bytes = self.connect_line(to);
            bytes.extend(b"PING\r\n");
            let pieces = self.cut(bytes);
            self.steps.push(Step::Say { to, pieces });
        }
    }

    /// Pieces of the bytes, cut at random places, or the bytes as they are.
    fn cut(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if self.dice.one_in(2) {
            return vec![bytes];
        }
        let mut places: Vec<usize> =
            (0..1 + self.dice.below(4)).map(|_| self.dice.below(bytes.len())).collect();
        places.push(0);
        places.push(bytes.len());
        places.sort_unstable();
        places.dedup();
        places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
    }

    fn blank(&mut self) -> &'static str {
        self.dice.pick(&[" ", " ", " ", " ", "  ", "\t", " \t "])
    }

    fn end(&mut self) -> &'static str {
        self.dice.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", " \r\n", "\t\r\n"])
    }

    fn word(&mut self, word: &str) -> String {
        match self.dice.below(5) {
            0 => word.to_lowercase(),
            1 => word
                .chars()
                .enumerate()
                .map(|(n, c)| if n % 2 == 0 { c } else { c.to_ascii_lowercase() })
                .collect(),
            _ => word.to_owned(),
        }
    }

    fn line(&mut self, words: &[&str]) -> Vec<u8> {
        let mut line = self.word(words[0]);
        for word in &words[1..] {
            line += self.blank();
            line += word;
        }
        line += self.end();
        line.into_bytes()
    }

    fn connect_line(&mut self, to: usize) -> Vec<u8> {
        let headers = self.queues || !self.dice.one_in(4);
        let pedantic = self.dice.one_in(3);
        let mut fields =
            vec![format!("\"verbose\":{}", self.dice.one_in(3)), format!("\"pedantic\":{pedantic}")];
        fields.push(format!("\"headers\":{headers}"));
        if self.dice.one_in(3) {
            fields.push(format!("\"echo\":{}", self.dice.one_in(2)));
        }
        if headers && !self.dice.one_in(3) {
            fields.push("\"no_responders\":true".to_owned());
        } else {
            // A CONNECT keeps what it does not mention.
            fields.push("\"no_responders\":false".to_owned());
        }
        if self.dice.one_in(2) {
            fields.push(format!("\"protocol\":{}", self.dice.below(2)));
        }
        let more = [
            "\"name\":\"n\"",
            "\"lang\":\"x\"",
            "\"version\":\"1.0\"",
            "\"unknown\":[1,{}]",
            "\"Name\":null",
            "\"tls_required\":false",
        ];
        if self.dice.one_in(3) {
            fields.push(self.dice.pick(&more).to_owned());
        }
        if !self.logins.is_empty() {
            let login = &mut self.connections[to].login;
            if login.is_empty() || self.dice.one_in(4) {
                login.clone_from(&self.logins[self.dice.below(self.logins.len())]);
            }
            fields.push(login.clone());
        }
        self.connections[to].pedantic = pedantic;
        self.connections[to].headers = headers;
        // A second CONNECT ends all subscriptions.
        self.connections[to].sids.clear();
        let json = format!("{{{}}}", fields.join(","));
        self.line(&["CONNECT", &json])
    }

    fn token(&mut self) -> &'static str {
        self.dice.pick(&["a", "b", "c", "long-token", "x"])
    }

    fn literal(&mut self) -> String {
        let mut subject = self.root.clone();
        for _ in 0..1 + self.dice.below(3) {
            subject += ".";
            subject += self.token();
        }
        subject
    }

    fn pattern(&mut self) -> String {
        if self.dice.one_in(12) {
            let root = &self.root;
            let bad = [
                format!("{root}..a"),
                format!("{root}.a."),
                format!(".{root}"),
                format!("{root}.>.a"),
                format!("{root}."),
            ];
            return bad[self.dice.below(bad.len())].clone();
        }
        let mut subject = self.root.clone();
        for _ in 0..1 + self.dice.below(3) {
            subject += ".";
            subject += match self.dice.below(8) {
                0 | 1 => "*",
                2 => {
                    subject += ">";
                    break;
                }
                3 => self.dice.pick(&["a*", "*b", ">x", "**"]),
                _ => self.token(),
            };
        }
        subject
    }

    /// Something that the connection survives.
    fn valid(&mut self, to: usize) -> Vec<u8> {
        match self.dice.below(20) {
            0..=5 => self.subscribe(to),
            6..=7 => self.unsubscribe(to),
            8..=13 => self.publish(),
            14..=15 if self.connections[to].headers => self.publish_with_headers(),
            14..=15 => self.publish(),
            16 => self
                .dice
                .pick(&[&b"PONG\r\n"[..], b"+OK\r\n", b"PINGxyz\r\n", b"pong \n", b"+oK junk\r\n"])
                .to_vec(),
            17 if !self.queues => self.connect_line(to),
            18 => self.publish_bad_subject(to),
            _ => self.dice.pick(&[&b"PING\r\n"[..], b"ping\n", b"PiNg \r\n"]).to_vec(),
        }
    }

    fn subscribe(&mut self, to: usize) -> Vec<u8> {
        let subject = self.pattern();
        if self.queues && self.dice.one_in(2) {
            let group = self.dice.pick(&["g", "h"]);
            let sid = format!("q{group}-{}", self.next_sid);
            self.next_sid += 1;
            return self.line(&["SUB", &subject, group, &sid]);
        }
        let sid = if self.dice.one_in(8) && !self.connections[to].sids.is_empty() {
            let sids = &self.connections[to].sids;
            sids[self.dice.below(sids.len())].clone()
        } else {
            self.next_sid += 1;
            if self.dice.one_in(6) {
                format!("a-long-sid-{}", self.next_sid)
            } else {
                self.next_sid.to_string()
            }
        };
        self.connections[to].sids.push(sid.clone());
        self.line(&["SUB", &subject, &sid])
    }

    fn unsubscribe(&mut self, to: usize) -> Vec<u8> {
        let sids = &self.connections[to].sids;
        let sid = if sids.is_empty() { "9999".to_owned() } else { sids[self.dice.below(sids.len())].clone() };
        let max = self.dice.pick(&["", "", "1", "2", "3", "0", "x", "-1"]);
        let max = if self.calm { "" } else { max };
        if max.is_empty() { self.line(&["UNSUB", &sid]) } else { self.line(&["UNSUB", &sid, max]) }
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = self.dice.pick(&[0, 1, 2, 5, 20, 100, 1024]);
        (0..len).map(|_| self.dice.pick(b"abc \r\n\0MSG")).collect()
    }

    fn size(&mut self, size: usize) -> String {
        if self.dice.one_in(6) { format!("{size:05}") } else { size.to_string() }
    }

    fn publish(&mut self) -> Vec<u8> {
        let (subject, payload) = (self.literal(), self.payload());
        let size = self.size(payload.len());
        let reply = self.literal();
        let mut bytes = if self.dice.one_in(3) {
            self.line(&["PUB", &subject, &reply, &size])
        } else {
            self.line(&["PUB", &subject, &size])
        };
        bytes.extend(payload);
        bytes.extend(b"\r\n");
        bytes
    }

    fn publish_with_headers(&mut self) -> Vec<u8> {
        let (subject, reply) = (self.literal(), self.literal());
        let headers = self.dice.pick(&[
            &b"NATS/1.0\r\nA: 1\r\n\r\n"[..],
            b"NATS/1.0\r\n\r\n",
            b"not a header",
            b"",
            b"NATS/1.0 503\r\n\r\n",
        ]);
        let mut payload = self.payload();
        payload.truncate(900);
        let (header_size, size) = (self.size(headers.len()), self.size(headers.len() + payload.len()));
        let mut bytes = if self.dice.one_in(3) {
            self.line(&["HPUB", &subject, &reply, &header_size, &size])
        } else {
            self.line(&["HPUB", &subject, &header_size, &size])
        };
        bytes.extend(headers);
        bytes.extend(payload);
        bytes.extend(b"\r\n");
        bytes
    }

    /// Subjects that are none are complained of to pedantic clients, and delivered all the same.
    fn publish_bad_subject(&mut self, to: usize) -> Vec<u8> {
        if self.connections[to].pedantic {
            // nats-server complains twice when such a message comes in two reads (see differences.toml).
            return b"PING\r\n".to_vec();
        }
        let root = self.root.clone();
        let subject = self.dice.pick(&[".a", "..", ".*", ".>", "."]);
        let subject = format!("{root}{subject}");
        let mut bytes = self.line(&["PUB", &subject, "2"]);
        bytes.extend(b"hi\r\n");
        bytes
    }

    /// Something that the connection may not survive.
    fn broken(&mut self, to: usize) -> Vec<u8> {
        let long = "x".repeat(600);
        let root = self.root.clone();
        let text = match self.dice.below(34) {
            0 => "FOO\r\n".to_owned(),
            1 => "\r\n".to_owned(),
            2 => format!("PUB {root}.a -1\r\nx\r\n"),
            3 => format!("PUB {root}.a 1073741824\r\nx\r\n"),
            4 => format!("PUB {root}.a 1025\r\nx\r\n"),
            5 => format!("PUB {root}.a 5\r\nabcdefg\r\n"),
            6 => format!("PUB {root}.a\r\n"),
            7 => format!("PUB {root}.a b c 1\r\nx\r\n"),
            8 => format!("SUB {root}.a\r\n"),
            9 => format!("SUB {root}.a b c d\r\n"),
            10 => "SUB\r\n".to_owned(),
            11 => format!("SUB {long} 1\r\n"),
            12 => format!("PUB {root}.{long} 0\r\n\r\n"),
            13 => "UNSUB\r\n".to_owned(),
            14 => "UNSUB 1 2 3\r\n".to_owned(),
            15 => "CONNECT {\r\n".to_owned(),
            16 => "CONNECT\r\n".to_owned(),
            17 => "CONNECT {\"verbose\":\"yes\"}\r\n".to_owned(),
            18 => "CONNECT {\"protocol\":2}\r\n".to_owned(),
            19 => "CONNECT {\"no_responders\":true,\"headers\":false}\r\n".to_owned(),
            20 => "-ERR 'mine'\r\n".to_owned(),
            21 => "MSG a 1 2\r\nhi\r\n".to_owned(),
            22 if self.connections[to].headers => format!("HPUB {root}.a 10 5\r\nabcde\r\n"),
            22 | 23 => format!("HPUB {root}.a 1 2\r\nab\r\n"),
            24 => format!("PUB {root}.a 99999999999\r\n"),
            25 => format!("PUB {root}.a x\r\n"),
            26 => "PINGPUB a 1\r\nx".to_owned(),
            27 => format!("PUB {root}.a 5\r\nabcde\n"),
            28 => format!("PUB {root}.a 10\r\nab"),
            29 => "INFO {}\r\n".to_owned(),
            30 => "PI\r\n".to_owned(),
            31 => "+OR\r\n".to_owned(),
            32 => "CONNECT {\"verbose\":false} trailing\r\n".to_owned(),
            _ => "\u{1}\u{2}\u{3}\r\n".to_owned(),
        };
        text.into_bytes()
    }
}
