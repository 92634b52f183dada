//! Values that are no maps or lists: texts, numbers, dates, words and variables.

use super::{Parsed, Parser, is_blank, is_line_end, read};
use crate::scalar;
use crate::tree::Value;

/// What bcrypt hashes look like after the first `$`: they are texts, not variables.
const BCRYPT: &str = "2a$";

impl Parser<'_, '_> {
    pub(super) fn raw_text(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.bump();
        let text = self.take_while(|c| c != '\'');
        if !self.eat("'") {
            return self.fail(self.opening(start), "this quote is never closed");
        }
        Ok(Value::Text(text))
    }

    pub(super) fn quoted_text(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.bump();
        let mut text = String::new();
        loop {
            text.push_str(&self.take_while(|c| c != '"' && c != '\\'));
            match self.peek() {
                None => return self.fail(self.opening(start), "this quote is never closed"),
                Some('"') => {
                    self.bump();
                    return Ok(Value::Text(text));
                }
                Some(_) => self.escape(&mut text)?,
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Parsed<()> {
        let start = self.at;
        self.bump();
        let escape = self.peek();
        self.bump();
        match escape {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some(c @ ('"' | '\\')) => text.push(c),
            Some('x') => {
                let digits = self.rest().get(..2).unwrap_or_default();
                let code = u8::from_str_radix(digits, 16);
                match code {
                    Ok(code) if code < 128 && !digits.starts_with('+') => {
                        self.at += 2;
                        text.push(char::from(code));
                    }
                    Ok(_) if !digits.starts_with('+') => {
                        self.at += 2;
                        return self.fail(self.span_from(start), "only \\x00 to \\x7f can stand in a text");
                    }
                    _ => {
                        return self.fail(self.span_from(start), "expected two hexadecimal digits after \\x");
                    }
                }
            }
            _ => {
                let known = "unknown escape; the known ones are \\xXX, \\t, \\n, \\r, \\\" and \\\\";
                return self.fail(self.span_from(start), known);
            }
        }
        Ok(())
    }

    /// Text in parentheses, closed by one that stands alone on its line.
    pub(super) fn block_text(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.bump();
        let text = self.rest();
        let closes = |at: &usize| {
            let behind = text.get(at + 2..).unwrap_or_default();
            behind.is_empty() || behind.starts_with('\n')
        };
        let Some(end) = text.match_indices("\n)").map(|(at, _)| at).find(closes) else {
            return self.fail(self.opening(start), "this '(' is never closed by a ')' alone on its line");
        };
        let value = text.get(..=end).unwrap_or_default().to_owned();
        self.at += end + 2;
        Ok(Value::Text(value))
    }

    pub(super) fn negative(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.bump();
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return self.fail_here("a digit after '-'");
        }
        self.skip_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            return self.fraction(start);
        }
        self.skip_while(|c| c.is_ascii_alphabetic());
        self.integer(start)
    }

    /// A number, or anything else that begins with a digit.
    pub(super) fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.skip_while(|c| c.is_ascii_digit());
        match self.peek() {
            Some('-') => return self.date(start),
            Some('.') => return self.fraction(start),
            Some(c) if "kKmMgGtTpPeE".contains(c) => {
                self.bump();
                self.skip_while(|c| "bBiI".contains(c));
            }
            _ => {}
        }
        if self.peek().is_none_or(|c| is_line_end(c) || is_blank(c) || matches!(c, '}' | ';' | ',' | ']')) {
            return self.integer(start);
        }
        self.word(start)
    }

    fn integer(&mut self, start: usize) -> Parsed<Value> {
        let text = self.text.get(start..self.at).unwrap_or_default();
        match scalar::integer(text) {
            Ok(number) => Ok(Value::Int(number)),
            Err(why) => self.fail(self.span_from(start), why),
        }
    }

    fn date(&mut self, start: usize) -> Parsed<Value> {
        self.skip_while(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | 'T' | 'Z'));
        let text = self.text.get(start..self.at).unwrap_or_default();
        if scalar::is_date(text) {
            return Ok(Value::Date(text.to_owned()));
        }
        self.fail(
            self.span_from(start),
            "expected a time like 2016-05-04T18:53:41Z (quote it if it is a text)",
        )
    }

    /// A number with a fraction, or the start of an IP address.
    fn fraction(&mut self, start: usize) -> Parsed<Value> {
        self.bump();
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return self.fail_here("a digit after '.'");
        }
        self.skip_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            self.skip_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
            return Ok(Value::Text(self.text.get(start..self.at).unwrap_or_default().to_owned()));
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => self.fail(self.span_from(start), format!("float '{text}' is out of the range")),
        }
    }

    /// A bare word: a boolean, a variable or a text.
    pub(super) fn word(&mut self, start: usize) -> Parsed<Value> {
        let mut text = self.text.get(start..self.at).unwrap_or_default().to_owned();
        let mut escaped = false;
        loop {
            text.push_str(&self.take_while(|c| {
                !is_line_end(c) && !is_blank(c) && !matches!(c, ';' | ',' | ']' | '}' | '\'' | '\\')
            }));
            match self.peek() {
                Some('\\') => {
                    escaped = true;
                    self.escape(&mut text)?;
                }
                // A quote ends a word, and goes with it.
                Some('\'') => {
                    self.bump();
                    return Ok(Value::Text(text));
                }
                _ => break,
            }
        }
        if escaped {
            return Ok(Value::Text(text));
        }
        if let Some(truth) = scalar::boolean(&text) {
            return Ok(Value::Bool(truth));
        }
        match text.strip_prefix('$') {
            Some(name) if !name.starts_with(BCRYPT) => self.variable(start, name),
            _ => Ok(Value::Text(text)),
        }
    }

    fn variable(&mut self, start: usize, name: &str) -> Parsed<Value> {
        for map in self.maps.iter_mut().rev() {
            if let Some(node) = map.refer(name) {
                return Ok(node.value);
            }
        }
        let span = self.span_from(start);
        if self.all.variables.iter().any(|open| open == name) {
            return self.fail(span, format!("variable reference cycle for '{name}'"));
        }
        let Some(text) = self.all.loader.variable(name) else {
            let message = format!(
                "variable reference for '{name}' can not be found: define it above this place or in the environment"
            );
            return self.fail(span, message);
        };
        self.all.variables.push(name.to_owned());
        let map = read(self.all, &format!("${name}"), &format!("pk={text}"), self.depth + 1);
        self.all.variables.pop();
        map.get("pk").map_or_else(
            || self.fail(span, format!("the environment variable '{name}' has no value that can be read")),
            |node| Ok(node.value.clone()),
        )
    }
}
