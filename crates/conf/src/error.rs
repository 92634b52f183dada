//! What is wrong, and where.

use std::fmt;

/// A stretch of one of the texts that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Which text, as an index into [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The texts that were read, the main one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        self.files.push((name.to_owned(), text.to_owned()));
        (self.files.len() - 1) as u32
    }

    /// The name of the text that `span` lies in.
    #[must_use]
    pub fn name(&self, span: Span) -> &str {
        self.files.get(span.file as usize).map_or("", |(name, _)| name)
    }

    /// Line and column (in characters) of the start of `span`, both from 1.
    #[must_use]
    pub fn position(&self, span: Span) -> (usize, usize) {
        let before = self.before(span);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |text| text.chars().count()) + 1;
        (line, column)
    }

    fn before(&self, span: Span) -> &str {
        let text = self.files.get(span.file as usize).map_or("", |(_, text)| text);
        let mut at = (span.start as usize).min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.get(..at).unwrap_or_default()
    }

    /// Adds the place of `span` to a message.
    #[must_use]
    pub fn explain(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        let (line, column) = self.position(span);
        let text = self.files.get(span.file as usize).map_or("", |(_, text)| text);
        let source = text.split('\n').nth(line - 1).unwrap_or_default().trim_end_matches('\r');
        let width = text.get(span.start as usize..span.end as usize).map_or(1, |part| {
            let first = part.split('\n').next().unwrap_or_default();
            first.chars().count().max(1)
        });
        Diagnostic {
            file: self.name(span).to_owned(),
            line,
            column,
            source: source.to_owned(),
            width,
            message: message.into(),
        }
    }
}

/// One thing that is wrong. Prints as `file:line:column: message`, the line, and a caret below the place; with `{:#}`
/// as the first of these alone, for where others may read it and the line may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text of that line.
    pub source: String,
    /// Characters to underline.
    pub width: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if f.alternate() {
            return Ok(());
        }
        writeln!(f)?;
        let number = self.line.to_string();
        // Tabs are kept, so that the caret stands where the eye expects it.
        let indent: String =
            self.source.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let room = self.source.chars().count().saturating_sub(self.column - 1).max(1);
        writeln!(f, " {number} | {}", self.source)?;
        write!(f, " {:1$} | {indent}{2}", "", number.len(), "^".repeat(self.width.min(room)))
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Errors(pub Vec<Diagnostic>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, diagnostic) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}
