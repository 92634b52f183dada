//! What a configuration says, and where it says it.

use std::fmt::Write;

use crate::error::{Sources, Span};

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The outermost keys.
    pub root: Map,
    /// The texts, for pointing at places.
    pub sources: Sources,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number, its unit applied.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// A time like `2016-05-04T18:53:41Z`.
    Date(String),
    /// Values in brackets.
    List(Vec<Node>),
    /// Keys in braces.
    Map(Map),
}

impl Value {
    /// What the value is, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Map(_) => "a block",
        }
    }
}

/// Keys with their values, in the order in which they were first given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, as written.
    pub key: String,
    /// Where the key stands.
    pub span: Span,
    /// Its value.
    pub node: Node,
    /// Whether a variable refers to it. Such a key may have any name.
    pub used: bool,
}

impl Map {
    /// The value of a key, spelled exactly so.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether there are no keys.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a key; a later value replaces an earlier one.
    pub(crate) fn set(&mut self, new: Entry) {
        match self.entries.iter_mut().find(|entry| entry.key == new.key) {
            Some(entry) => *entry = new,
            None => self.entries.push(new),
        }
    }

    pub(crate) fn refer(&mut self, key: &str) -> Option<Node> {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.used = true;
        Some(entry.node.clone())
    }

    /// The keys and values as JSON, as Go's `encoding/json` writes a map: keys sorted, `<`, `>` and `&` escaped.
    /// nats-server hashes this text, with a line end, to show whether two servers have the same configuration.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        write_map(&mut out, self);
        out
    }
}

fn write_map(out: &mut String, map: &Map) {
    let mut entries: Vec<&Entry> = map.iter().collect();
    entries.sort_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
    write_all(out, ('{', '}'), entries, |out, entry| {
        write_text(out, &entry.key);
        out.push(':');
        write_value(out, &entry.node.value);
    });
}

fn write_all<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl IntoIterator<Item = T>,
    each: impl Fn(&mut String, T),
) {
    out.push(open);
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(close);
}

fn write_value(out: &mut String, value: &Value) {
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Bool(b) => write!(out, "{b}"),
        Value::Int(n) => write!(out, "{n}"),
        Value::Float(n) => write!(out, "{n}"),
        Value::Text(text) | Value::Date(text) => {
            write_text(out, text);
            Ok(())
        }
        Value::List(list) => {
            write_all(out, ('[', ']'), list, |out, node| write_value(out, &node.value));
            Ok(())
        }
        Value::Map(map) => {
            write_map(out, map);
            Ok(())
        }
    };
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
