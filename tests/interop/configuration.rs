//! Random configurations, read by midge and by nats-server.
//!
//! `nats-server -t` prints a digest of what it read, so that two readings can be compared whole. Texts are made of
//! keys that it knows, in every form that the format has, and every third one is broken somewhere.

use std::fmt::Write;
use std::process::Command;

use midge_conf::{NoFiles, parse};
use midge_testkit::process::{Folder, program};
use sha2::{Digest, Sha256};

use crate::dice::Dice;

/// What nats-server makes of a file.
#[derive(Debug, PartialEq)]
enum Reading {
    Digest(String),
    /// The text cannot be read.
    Broken,
    /// It was read, but what it says is not allowed.
    Refused,
}

fn theirs(path: &str) -> (Reading, String) {
    let output = Command::new(program("NATS_SERVER")).args(["-t", "-c", path]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let digest = said.split_once("(sha256:").and_then(|(_, rest)| rest.split_once(')'));
    let reading = match digest {
        Some((digest, _)) => Reading::Digest(digest.to_owned()),
        None if said.contains("Parse error") || said.contains("variable reference") => Reading::Broken,
        None => Reading::Refused,
    };
    (reading, said)
}

fn ours(path: &str, text: &str) -> Reading {
    match parse(path, text, &NoFiles) {
        Ok(document) => {
            let digest = Sha256::digest(document.root.to_json() + "\n");
            Reading::Digest(digest.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        Err(_) => Reading::Broken,
    }
}

struct Maker {
    dice: Dice,
    text: String,
}

impl Maker {
    /// A text, and whether it has been broken.
    fn generate(seed: u64) -> (String, bool) {
        let mut maker = Self { dice: Dice::new(seed), text: String::new() };
        let wrapped = maker.dice.one_in(6);
        if wrapped {
            maker.text.push('{');
            maker.gap();
        }
        for _ in 0..=maker.dice.below(6) {
            maker.entry();
        }
        if wrapped {
            maker.text.push('}');
        }
        if maker.dice.one_in(3) { (maker.broken(), true) } else { (maker.text, false) }
    }

    /// The text, with a character more or less, or another.
    fn broken(mut self) -> String {
        let mut chars: Vec<char> = self.text.chars().collect();
        let at = self.dice.below(chars.len());
        let other = self
            .dice
            .pick(&['{', '}', '[', ']', '"', '\'', '(', ')', ',', '#', '$', ' ', '\n', 'x', '-', '.', ':']);
        match self.dice.below(3) {
            0 => {
                chars.remove(at);
            }
            1 => chars.insert(at, other),
            _ => chars[at] = other,
        }
        chars.into_iter().collect()
    }

    fn add(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// White space and comments between entries.
    fn gap(&mut self) {
        let gap =
            self.dice.pick(&["", "", " ", "\t", "\n", "\n\n", " # a comment\n", "\n// another\n", "\r\n"]);
        self.add(gap);
    }

    fn key(&mut self, name: &str) {
        let quote = self.dice.pick(&["", "", "", "\"", "'"]);
        let separator = self.dice.pick(&[": ", " = ", "=", " ", ":", " : ", "\t"]);
        write!(self.text, "{quote}{name}{quote}{separator}").unwrap();
    }

    fn end(&mut self) {
        let end = self.dice.pick(&["\n", "\n", "\n", ",\n", ", ", ",", " # why\n", " // why\n", "\r\n"]);
        self.add(end);
    }

    fn entry(&mut self) {
        self.gap();
        match self.dice.below(9) {
            0 => {
                let key =
                    self.dice.pick(&["max_payload", "max_control_line", "MAX_CONNECTIONS", "lame_duck_x"]);
                self.key(key);
                self.number();
            }
            1 => {
                let key = self.dice.pick(&["debug", "trace", "logtime", "no_fast_producer_stall"]);
                self.key(key);
                let value = self.dice.pick(&["true", "false", "yes", "no", "on", "off", "TRUE", "Off", "1"]);
                self.add(value);
            }
            2 => {
                let key =
                    self.dice.pick(&["server_name", "pid_file", "log_file", "host", "client_advertise"]);
                self.key(key);
                self.word();
            }
            3 => self.list(),
            4 => self.block(),
            5 => self.variable(),
            6 => {
                let key = self.dice.pick(&["ping_interval", "write_deadline", "lame_duck_duration"]);
                self.key(key);
                let value = self.dice.pick(&["\"2m\"", "10s", "'1h30m'", "30", "\"500ms\"", "1.5s"]);
                self.add(value);
            }
            7 => {
                let users = self.dice.pick(&[
                    "authorization { user: a, password: b, timeout: 1.5 }",
                    "authorization: {token: \"t\" }",
                    "authorization {\n  token: $2a$11$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n}",
                    "listen: 127.0.0.1:4222",
                    "listen = \"localhost:-1\"",
                    "listen: 4222",
                ]);
                self.add(users);
            }
            _ => {
                self.key("server_name");
                let value = self.dice.pick(&[
                    "a.b-c_d",
                    "\"a\\tb\\\"c\\x41\\\\\"",
                    "'a\"b'",
                    "1x",
                    "-5s",
                    "2024-01-02T03:04:05Z",
                    "é",
                    "(\na\n b\n)",
                    "foo bar",
                    "5.",
                    "-",
                    "a:b",
                    "a=b",
                    "a#b",
                    "\"\"",
                    "8kk",
                    "1e3",
                    "0x10",
                    "a//b",
                    "https://x/y",
                ]);
                self.add(value);
            }
        }
        self.end();
    }

    fn number(&mut self) {
        let digits = self.dice.pick(&["0", "1", "8", "42", "1024", "007"]);
        let unit = self.dice.pick(&["", "", "k", "K", "kb", "KB", "Ki", "KiB", "m", "MB", "mib", "g", "x"]);
        write!(self.text, "{digits}{unit}").unwrap();
    }

    fn word(&mut self) {
        let word = self.dice.pick(&["a", "name", "x.y", "/tmp/f", "h:1", "A-1", "t1", "yes_1", "\u{fc}"]);
        let quote = self.dice.pick(&["", "", "\"", "'"]);
        write!(self.text, "{quote}{word}{quote}").unwrap();
    }

    fn list(&mut self) {
        self.key("server_tags");
        self.add("[");
        for _ in 0..self.dice.below(4) {
            self.gap();
            self.word();
            let end = self.dice.pick(&[",", ", ", "\n", ",\n", " # c\n"]);
            self.add(end);
        }
        self.gap();
        self.add("]");
    }

    fn block(&mut self) {
        let name = self.dice.pick(&["server_metadata", "default_js_domain"]);
        let open = self.dice.pick(&["{", " {", ": {", " = {", "{\n"]);
        write!(self.text, "{name}{open}").unwrap();
        for n in 0..self.dice.below(4) {
            self.gap();
            self.key(&format!("k{n}"));
            self.word();
            self.end();
        }
        self.gap();
        self.add("}");
    }

    /// A variable, of any shape, and its use.
    fn variable(&mut self) {
        let shape = self.dice.below(3);
        self.key("V");
        match shape {
            0 => self.number(),
            1 => self.word(),
            _ => self.add("[a, \"b\"]"),
        }
        self.end();
        self.key(["max_payload", "server_name", "server_tags"][shape]);
        self.add("$V");
    }
}

#[test]
fn random_configurations_are_read_as_nats_server_does() {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("MIDGE_SEED").unwrap_or(1);
    let count = number("MIDGE_CONFIGURATIONS").unwrap_or(300);
    let folder = Folder::new("configurations");
    let (mut read, mut broken) = (0, 0);
    for seed in first..first + count {
        let (text, tampered) = Maker::generate(seed);
        let path = folder.file("random.conf", &text);
        let (theirs, said) = theirs(&path);
        let ours = ours(&path, &text);
        match theirs {
            Reading::Digest(_) => read += 1,
            Reading::Broken => broken += 1,
            Reading::Refused => continue,
        }
        // The original lets a last key without a value pass, and what looks like one. We do not.
        if tampered && ours == Reading::Broken {
            continue;
        }
        assert!(
            ours == theirs,
            "seed {seed}: midge {ours:?}, nats-server {theirs:?} ({said})\n---\n{text}\n---"
        );
    }
    // A generator of nothing but rubbish, or of nothing broken, would prove little.
    assert!(read > count / 4 && broken > count / 40, "{read} read and {broken} broken of {count}");
}
