//! From text to tree.
//!
//! The methods follow the states of nats-server's `conf/lex.go`: what may stand where, what ends a bare word, and
//! what is skipped between, differ at the top, in a block and in a list.

mod value;

use crate::error::{Diagnostic, Errors, Sources, Span};
use crate::load::Loader;
use crate::tree::{Document, Entry, Map, Node, Value};

/// Blocks and lists inside each other, and files that include each other.
const MAX_DEPTH: usize = 64;
/// After so many errors, the rest of the text tells nobody anything.
const MAX_ERRORS: usize = 32;

/// Reads a configuration. `name` stands in errors and is what includes are relative to.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse(name: &str, text: &str, loader: &dyn Loader) -> Result<Document, Errors> {
    let mut all = Shared { sources: Sources::default(), errors: Vec::new(), loader, variables: Vec::new() };
    let root = read(&mut all, name, text, 0);
    if all.errors.is_empty() {
        return Ok(Document { root, sources: all.sources });
    }
    Err(Errors(all.errors))
}

/// What a text and the texts that it includes share.
struct Shared<'a> {
    sources: Sources,
    errors: Vec<Diagnostic>,
    loader: &'a dyn Loader,
    /// Environment variables that are being read, for cycles.
    variables: Vec<String>,
}

fn read(all: &mut Shared<'_>, name: &str, text: &str, depth: usize) -> Map {
    let file = all.sources.add(name, text);
    let mut parser = Parser { all, text, file, at: 0, maps: vec![Map::default()], depth };
    parser.top();
    parser.maps.pop().unwrap_or_default()
}

/// The place that is being read, and the blocks that are open there, outermost first.
struct Parser<'a, 'b> {
    all: &'a mut Shared<'b>,
    text: &'a str,
    file: u32,
    at: usize,
    maps: Vec<Map>,
    depth: usize,
}

/// An error has been noted; go on after it.
struct Failed;

type Parsed<T> = Result<T, Failed>;

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

const fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

const fn is_separator(c: char) -> bool {
    matches!(c, '=' | ':')
}

impl Parser<'_, '_> {
    // The cursor.

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn skip_while(&mut self, mut skip: impl FnMut(char) -> bool) {
        while self.peek().is_some_and(&mut skip) {
            self.bump();
        }
    }

    fn take_while(&mut self, take: impl FnMut(char) -> bool) -> String {
        let from = self.at;
        self.skip_while(take);
        self.text.get(from..self.at).unwrap_or_default().to_owned()
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Skips a comment, if one begins here.
    fn comment(&mut self) -> bool {
        let found = self.eat("#") || self.eat("//");
        if found {
            self.skip_while(|c| !is_line_end(c));
        }
        found
    }

    fn span_from(&self, start: usize) -> Span {
        Span { file: self.file, start: start as u32, end: self.at as u32 }
    }

    fn here(&self) -> Span {
        let end = self.at + self.peek().map_or(0, char::len_utf8);
        Span { file: self.file, start: self.at as u32, end: end as u32 }
    }

    fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Parsed<T> {
        let error = self.all.sources.explain(span, message);
        self.all.errors.push(error);
        Err(Failed)
    }

    fn fail_here<T>(&mut self, expected: &str) -> Parsed<T> {
        let got = self
            .peek()
            .map_or_else(|| "the end of the text".to_owned(), |c| format!("'{}'", c.escape_debug()));
        self.fail(self.here(), format!("expected {expected}, but got {got}"))
    }

    fn given_up(&self) -> bool {
        self.all.errors.len() >= MAX_ERRORS
    }

    /// Goes on with the next line, or the end of the block, so that one error does not hide the next.
    fn recover(&mut self, place: Place) {
        self.skip_while(|c| !is_line_end(c) && (c != '}' || place == Place::Top));
    }

    // The top and blocks around it.

    fn top(&mut self) {
        loop {
            self.skip_while(char::is_whitespace);
            if self.comment() {
                continue;
            }
            match self.peek() {
                None => return,
                Some(_) if self.given_up() => return,
                Some('{') => {
                    let start = self.at;
                    self.bump();
                    self.top_block(start);
                }
                Some(_) => {
                    if self.entry(Place::Top).is_err() {
                        self.recover(Place::Top);
                    }
                }
            }
        }
    }

    /// Braces around the whole: its keys are the outermost keys all the same.
    fn top_block(&mut self, start: usize) {
        loop {
            self.skip_while(|c| c.is_whitespace() || c == ',' || c == ';');
            if self.comment() {
                continue;
            }
            match self.peek() {
                None => {
                    let _ = self.fail::<()>(self.opening(start), "this '{' is never closed");
                    return;
                }
                Some(_) if self.given_up() => return,
                Some('}') => {
                    self.bump();
                    return self.skip_while(|c| c == ',' || c == ';');
                }
                Some(_) => {
                    if self.entry(Place::Block).is_err() {
                        self.recover(Place::Block);
                    }
                }
            }
        }
    }

    const fn opening(&self, start: usize) -> Span {
        Span { file: self.file, start: start as u32, end: start as u32 + 1 }
    }

    // Keys.

    /// A key with its value, or an include, and what must follow it.
    fn entry(&mut self, place: Place) -> Parsed<()> {
        let start = self.at;
        if place != Place::Map && self.peek() == Some('/') {
            return self.fail_here("a key");
        }
        let (key, quoted) = self.key()?;
        let span = self.span_from(start);
        if !quoted && key.eq_ignore_ascii_case("include") && self.peek().is_some_and(char::is_whitespace) {
            self.include()?;
        } else {
            self.skip_while(char::is_whitespace);
            if self.peek().is_some_and(is_separator) {
                self.bump();
                self.skip_while(|c| is_blank(c) || (place == Place::Map && c.is_whitespace()));
            }
            let ends = match place {
                Place::Top => "",
                Place::Block => "}",
                Place::Map => "},",
            };
            if self.peek().is_none_or(|c| ends.contains(c)) {
                return self.fail(span, format!("'{key}' has no value"));
            }
            let node = self.value()?;
            self.set(Entry { key, span, node, used: false });
        }
        self.entry_end(place)
    }

    fn key(&mut self) -> Parsed<(String, bool)> {
        match self.peek() {
            Some(c) if is_separator(c) || matches!(c, ']' | ')') => self.fail_here("a key"),
            Some(quote @ ('"' | '\'')) => {
                let start = self.at;
                self.bump();
                let key = self.take_while(|c| c != quote);
                if self.peek().is_none() {
                    return self.fail(self.opening(start), "this quote is never closed");
                }
                self.bump();
                Ok((key, true))
            }
            _ => {
                let key = self.take_while(|c| !c.is_whitespace() && !is_separator(c));
                Ok((key, false))
            }
        }
    }

    fn set(&mut self, entry: Entry) {
        if let Some(map) = self.maps.last_mut() {
            map.set(entry);
        }
    }

    /// Half a comment sign after a value is a blank to the original, and an end in a map or list.
    fn entry_end(&mut self, place: Place) -> Parsed<()> {
        loop {
            self.skip_while(is_blank);
            if self.comment() {
                return Ok(());
            }
            if !self.eat("/") {
                break;
            }
            if place == Place::Map {
                return Ok(());
            }
        }
        match self.peek() {
            None => Ok(()),
            Some(c) if is_line_end(c) || c == ',' || c == ';' => {
                self.bump();
                Ok(())
            }
            Some('}') if place != Place::Top => Ok(()),
            // The original takes a stray brace after a value at the top.
            Some('}') => {
                self.bump();
                Ok(())
            }
            Some(_) => self.fail_here("a new line, ',' or ';' after the value"),
        }
    }

    fn include(&mut self) -> Parsed<()> {
        self.skip_while(is_blank);
        let start = self.at;
        let name = match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.bump();
                let name = self.take_while(|c| c != quote);
                if self.peek().is_none() {
                    return self.fail(self.opening(start), "this quote is never closed");
                }
                self.bump();
                name
            }
            Some(c) if matches!(c, '[' | '{' | '(' | '-' | '\\') || is_line_end(c) || c.is_ascii_digit() => {
                return self.fail_here("the name of the file to include");
            }
            _ => self.take_while(|c| !is_line_end(c) && !is_blank(c) && !matches!(c, ';' | '}')),
        };
        let span = self.span_from(start);
        if self.depth >= MAX_DEPTH {
            return self.fail(span, "files include each other without an end");
        }
        let from = self.all.sources.name(span).to_owned();
        let loaded = match self.all.loader.include(&from, &name) {
            Ok(loaded) => loaded,
            Err(why) => return self.fail(span, format!("cannot include '{name}': {why}")),
        };
        let map = read(self.all, &loaded.name, &loaded.text, self.depth + 1);
        for entry in map.iter() {
            self.set(entry.clone());
        }
        Ok(())
    }

    // Values.

    fn value(&mut self) -> Parsed<Node> {
        let start = self.at;
        let value = match self.peek() {
            Some('[') => self.list()?,
            Some('{') => self.map()?,
            Some('\'') => self.raw_text()?,
            Some('"') => self.quoted_text()?,
            Some('(') => self.block_text()?,
            Some('-') => self.negative()?,
            Some(c) if c.is_ascii_digit() => self.number()?,
            Some('.') => return self.fail_here("a value (numbers begin with a digit)"),
            Some(c) if is_line_end(c) => return self.fail_here("a value"),
            _ => self.word(start)?,
        };
        Ok(Node { value, span: self.span_from(start) })
    }

    fn enter(&mut self, start: usize) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(self.opening(start), "blocks and lists are nested too deeply");
        }
        self.bump();
        Ok(())
    }

    fn map(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.enter(start)?;
        self.maps.push(Map::default());
        let done = self.map_entries(start);
        self.depth -= 1;
        let map = self.maps.pop().unwrap_or_default();
        done.map(|()| Value::Map(map))
    }

    fn map_entries(&mut self, start: usize) -> Parsed<()> {
        loop {
            self.skip_while(char::is_whitespace);
            if self.comment() {
                continue;
            }
            match self.peek() {
                None => return self.fail(self.opening(start), "this '{' is never closed"),
                Some(_) if self.given_up() => return Err(Failed),
                Some('}') => {
                    self.bump();
                    return Ok(());
                }
                Some(_) => {
                    if self.entry(Place::Map).is_err() {
                        self.recover(Place::Map);
                    }
                }
            }
        }
    }

    fn list(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.enter(start)?;
        let mut list = Vec::new();
        let done = self.list_values(start, &mut list);
        self.depth -= 1;
        done.map(|()| Value::List(list))
    }

    fn list_values(&mut self, start: usize, list: &mut Vec<Node>) -> Parsed<()> {
        loop {
            self.skip_while(char::is_whitespace);
            if self.comment() {
                continue;
            }
            match self.peek() {
                None => return self.fail(self.opening(start), "this '[' is never closed"),
                Some(']') => {
                    self.bump();
                    return Ok(());
                }
                Some(',') => return self.fail_here("a value or ']'"),
                // The original takes it for the beginning of a comment that is none.
                Some('/') => return self.fail_here("a value or ']' (a path in a list needs quotes)"),
                Some(_) => list.push(self.value()?),
            }
            loop {
                self.skip_while(is_blank);
                if !self.comment() {
                    break;
                }
            }
            match self.peek() {
                Some(c) if c == ',' || c == '/' || is_line_end(c) => self.bump(),
                Some(']') => {}
                None => return self.fail(self.opening(start), "this '[' is never closed"),
                Some(_) => return self.fail_here("',' or ']' after the value"),
            }
        }
    }
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    /// Inside braces around the whole text.
    Block,
    Map,
}
