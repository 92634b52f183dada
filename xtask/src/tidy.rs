//! House rules that no compiler knows: arrows between crates, sizes of files and functions, words that must not
//! stand in the project.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sh::{self, Outcome, cargo, cmd, root};

/// Which crate may use which others of ours (docs/architecture.md, "Arrows"). Dev-dependencies are not looked at.
const MAY_USE: &[(&str, &[&str])] = &[
    ("midge-wire", &[]),
    ("midge-identity", &[]),
    ("midge-conf", &[]),
    ("midge-router", &["midge-wire"]),
    ("midge-link", &["midge-identity"]),
    ("midge-backend", &["midge-wire", "midge-identity", "midge-link"]),
    (
        "midge-server",
        &["midge-router", "midge-link", "midge-backend", "midge-conf", "midge-identity", "midge-wire"],
    ),
    (
        "midge",
        &["midge-server", "midge-router", "midge-link", "midge-backend", "midge-identity", "midge-wire"],
    ),
    ("midge-cli", &["midge"]),
    ("midged", &["midge", "midge-conf", "midge-server"]),
    (
        "midge-testkit",
        &["midge-wire", "midge-router", "midge-server", "midge", "midge-link", "midge-identity"],
    ),
    (
        "midge-tests",
        &[
            "midge-testkit",
            "midge-wire",
            "midge-router",
            "midge-server",
            "midge",
            "midge-link",
            "midge-identity",
        ],
    ),
    ("xtask", &["midge-server", "midge-testkit", "midge-link", "midge-backend", "midge-identity"]),
];

/// Crates without I/O, clock or threads; each has a clippy.toml that says so to the compiler.
const PURE: &[&str] = &["wire", "identity", "conf", "router"];

/// Most lines of a file, its tests left out; of a function; fields of a struct; parameters, `self` left out.
const MOST: Budget = Budget { file: 600, function: 80, fields: 16, parameters: 5 };

struct Budget {
    file: usize,
    function: usize,
    fields: usize,
    parameters: usize,
}

/// Parts of words that would point outside the project. Split, so that this file does not hold them itself.
const BANNED: &[(&str, &str)] = &[
    (concat!("../", "shared"), "the project stands alone"),
    (concat!("/work", "/main"), "no path of one machine"),
    (concat!("artifact", "ory"), "no registry's host"),
    (concat!("#[", "allow("), "use #[expect(…, reason)], which dies when it is stale"),
];

pub(crate) fn run() -> Outcome {
    let mut faults = Vec::new();
    arrows(&mut faults)?;
    purity(&mut faults);
    for path in tracked()? {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        words(&path, &text, &mut faults);
        if path.extension().is_some_and(|extension| extension == "rs") {
            sizes(&path, &text, &mut faults);
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("\n  {}", faults.join("\n  "))) }
}

fn tracked() -> Outcome<Vec<PathBuf>> {
    let list = sh::read(&mut cmd("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    Ok(list.lines().map(PathBuf::from).collect())
}

fn arrows(faults: &mut Vec<String>) -> Outcome {
    let text = sh::read(&mut cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may_use) = allowed.get(name) else {
            faults.push(format!("{name} has no line in xtask/src/tidy.rs that says what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency["path"].is_string();
            if ours && dependency["kind"].is_null() && !may_use.contains(&to) {
                faults.push(format!("{name} may not use {to}: see docs/architecture.md, \"Arrows\""));
            }
        }
    }
    Ok(())
}

fn purity(faults: &mut Vec<String>) {
    for name in PURE {
        let path = format!("crates/{name}/clippy.toml");
        let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
        for banned in ["std::time::Instant::now", "std::thread::spawn", "std::net::TcpStream"] {
            if !text.contains(banned) {
                faults.push(format!("{path} must ban {banned}: {name} is a pure crate"));
            }
        }
    }
}

fn words(path: &Path, text: &str, faults: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        for (banned, why) in BANNED {
            if line.contains(banned) {
                faults.push(format!("{}:{}: '{banned}': {why}", path.display(), number + 1));
            }
        }
    }
}

/// The part of a file before its unit tests.
fn without_tests(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines.take_while(|line| *line != "#[cfg(test)]").collect()
}

fn sizes(path: &Path, text: &str, faults: &mut Vec<String>) {
    let is_test = path.components().any(|part| part.as_os_str() == "tests");
    let lines = without_tests(text);
    if lines.len() > MOST.file {
        faults.push(format!("{}: {} lines, {} are allowed", path.display(), lines.len(), MOST.file));
    }
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        if is_function(body) {
            let (parameters, length) = function(&lines[at..], indent);
            let place = format!("{}:{}", path.display(), at + 1);
            if length > MOST.function && !is_test {
                faults.push(format!("{place}: a function of {length} lines, {} are allowed", MOST.function));
            }
            if parameters > MOST.parameters {
                faults.push(format!("{place}: {parameters} parameters, {} are allowed", MOST.parameters));
            }
        } else if body.contains("struct ") && body.ends_with('{') && !body.starts_with("//") {
            let close = format!("{}}}", " ".repeat(indent));
            let inside = lines[at..].iter().take_while(|line| **line != close);
            let depth = indent + 4;
            let fields = inside.filter(|line| is_field(line, depth)).count();
            // What a format or protocol prescribes is not ours to shorten.
            let prescribed = at > 0
                && lines[..at]
                    .iter()
                    .rev()
                    .take_while(|line| line.trim_start().starts_with("#["))
                    .any(|line| line.contains("Serialize"));
            if fields > MOST.fields && !prescribed && !is_exempt(&lines, at) {
                let place = format!("{}:{}", path.display(), at + 1);
                faults.push(format!("{place}: {fields} fields, {} are allowed", MOST.fields));
            }
        }
        at += 1;
    }
}

/// Whether the lines above a struct say that something else sets its shape.
fn is_exempt(lines: &[&str], at: usize) -> bool {
    lines[..at]
        .iter()
        .rev()
        .take_while(|line| {
            let line = line.trim_start();
            line.starts_with("#[") || line.starts_with("///")
        })
        .any(|line| line.contains("/// Shape: "))
}

fn is_field(line: &str, depth: usize) -> bool {
    let body = line.trim_start();
    line.len() - body.len() == depth && !body.starts_with(['/', '#', '}']) && body.contains(": ")
}

fn is_function(body: &str) -> bool {
    let body =
        body.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
    let body = body.trim_start_matches("const ").trim_start_matches("async ");
    body.starts_with("fn ")
}

/// How many parameters a function has, and how many lines.
fn function(lines: &[&str], indent: usize) -> (usize, usize) {
    let close = format!("{}}}", " ".repeat(indent));
    let length = lines
        .iter()
        .position(|line| {
            let here = line.len() - line.trim_start().len() == indent;
            *line == close || here && (line.ends_with(';') || line.ends_with("{}"))
        })
        .unwrap_or(0)
        + 1;
    let text = lines.iter().take(length).copied().collect::<Vec<_>>().join(" ");
    let mut depth = 0_i32;
    let mut count = 0;
    let mut some = false;
    let from = text.find("fn ").map_or(0, |at| at + 3);
    let name_end = text[from..].find(['(', '<']).map_or(text.len(), |at| from + at);
    let mut seen = false;
    let mut previous = ' ';
    for c in text[name_end..].chars() {
        match c {
            '(' | '[' | '{' => {
                depth += 1;
                seen |= c == '(' && depth == 1;
            }
            '<' => depth += 1,
            '>' if previous != '-' && previous != '=' => depth -= 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 && seen && c == ')' {
                    break;
                }
            }
            ',' if depth == 1 && seen => {
                count += usize::from(some);
                some = false;
            }
            c if depth == 1 && seen && !c.is_whitespace() => some = true,
            _ => {}
        }
        previous = c;
    }
    count += usize::from(some);
    let first = text[name_end..].split_once('(').map_or("", |(_, parameters)| parameters.trim_start());
    let has_self = ["self", "&self", "&mut self", "mut self"].iter().any(|own| first.starts_with(own))
        || text.contains("(self: ");
    (count - usize::from(has_self && count > 0), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        sizes(Path::new("x.rs"), text, &mut faults);
        words(Path::new("x.rs"), text, &mut faults);
        faults
    }

    #[test]
    fn what_is_too_large_is_found() {
        let long = format!("fn f() {{\n{}}}\n", "    x();\n".repeat(90));
        assert!(faults(&long)[0].contains("a function of 92 lines"));
        assert!(
            faults("fn f(a: A, b: B<C, D>, c: (E, F), d: G, e: H, f: I) {\n}\n")[0].contains("6 parameters")
        );
        assert!(faults("fn f(&self, a: A, b: B, c: C, d: D, e: E) {\n}\n").is_empty());
        assert!(
            faults("fn f(\n    &self,\n    a: A,\n    b: B,\n    c: C,\n    d: D,\n    e: E,\n) {\n}\n")
                .is_empty()
        );
        assert!(faults(&format!("fn f() {{}}\n{}}}\n", "x\n".repeat(90))).is_empty());
        let fields: String = (0..17).map(|n| format!("    f{n}: u8,\n")).collect();
        assert!(faults(&format!("struct S {{\n{fields}}}\n"))[0].contains("17 fields"));
        assert!(faults(&"x\n".repeat(601))[0].contains("601 lines"));
        let tests = format!("x\n#[cfg(test)]\n{}", "y\n".repeat(900));
        assert!(faults(&tests).is_empty(), "tests do not count");
    }

    #[test]
    fn banned_words_are_found_with_their_place() {
        let text = format!("a\n{}unused)]\n", concat!("#[", "allow("));
        assert!(faults(&text)[0].starts_with("x.rs:2: '#[al"));
    }
}
