//! From bytes to operations.

use crate::grammar::{Found, Grammar, Line, LineEnds, Shape};
use crate::{Limits, WireError};

/// Decodes one direction of one connection.
///
/// Call [`Decoder::decode`] with everything received and not yet used, again and again, dropping the bytes that
/// it says were used. It keeps only where it stands (never bytes), so the input may be cut at any byte and no
/// byte is examined twice for its line's end.
#[derive(Debug)]
pub struct Decoder<G: Grammar> {
    limits: Limits,
    state: State<G::Verb>,
    /// Bytes of the current line that are known to hold no line end.
    scanned: usize,
}

/// Where in an operation the unused input begins.
#[derive(Debug, Clone, Copy)]
enum State<V> {
    /// At an operation's name.
    Verb,
    /// Among the blanks after the name.
    Blanks(V),
    /// At the first byte of the arguments, whose end has not come yet.
    Args(V),
    /// At the first byte of a message's arguments, which end there.
    Message(V, LineEnds),
    /// In what follows a PING, which is ignored up to the line's end.
    Junk(V),
}

/// What [`Decoder::decode`] found.
#[derive(Debug)]
pub enum Decoded<O> {
    /// An operation, and how many bytes of the input it and what preceded it took.
    Op {
        /// The operation.
        op: O,
        /// Bytes to drop from the input's front.
        used: usize,
    },
    /// No whole operation yet.
    Incomplete {
        /// Bytes to drop from the input's front all the same (blanks, ignored words, an operation's name).
        used: usize,
        /// Length that the rest of the input must reach before another call can do more.
        need: usize,
    },
}

impl<G: Grammar> Decoder<G> {
    /// A decoder at the beginning of a connection.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, state: State::Verb, scanned: 0 }
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the limits, for the operations whose control line has not been read yet.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the last operation was complete and nothing of a next one has been used.
    #[must_use]
    pub const fn is_at_start(&self) -> bool {
        matches!(self.state, State::Verb)
    }

    /// The message that `input` begins with, if all of it is there and it is written as nearly all are, and its length.
    /// For everything else, [`Decoder::decode`] decides.
    #[inline(always)]
    pub fn message_at_once<'a>(&self, input: &'a [u8]) -> Option<(G::Message<'a>, usize)> {
        if self.is_at_start() { G::message_at_once(input, &self.limits) } else { None }
    }

    /// Decodes the first operation in `input`.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit. Nothing after that can be understood: close the connection.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<G::Op<'a>>, WireError> {
        let (verb, at, known) = match self.state {
            State::Verb => {
                if input.is_empty() {
                    return Ok(Decoded::Incomplete { used: 0, need: 1 });
                }
                match G::verb(input) {
                    Found::Verb(verb, len) => match self.after_verb(verb, input, len)? {
                        Ok(at) => (verb, at, None),
                        Err(done) => return Ok(done),
                    },
                    Found::Partial => {
                        return Ok(Decoded::Incomplete { used: 0, need: input.len() + 1 });
                    }
                    Found::Unknown => return Err(WireError::UnknownOperation),
                }
            }
            State::Blanks(verb) => match self.blanks(verb, input, 0) {
                Ok(at) => (verb, at, None),
                Err(done) => return Ok(done),
            },
            State::Junk(verb) => return self.junk(verb, input, 0),
            State::Args(verb) => (verb, 0, None),
            State::Message(verb, line) => (verb, 0, Some(line)),
        };
        self.args(verb, input, at, known)
    }

    /// What follows the name: `Ok` with where the arguments begin, `Err` with what to answer already.
    #[inline]
    fn after_verb<'a>(
        &mut self,
        verb: G::Verb,
        input: &'a [u8],
        at: usize,
    ) -> Result<Result<usize, Decoded<G::Op<'a>>>, WireError> {
        match G::shape(verb) {
            Shape::Junk => return self.junk(verb, input, at).map(Err),
            Shape::LooseArgs => {}
            Shape::Args => match input.get(at) {
                None => return Ok(Err(Decoded::Incomplete { used: 0, need: at + 1 })),
                Some(b' ' | b'\t') => {}
                Some(_) => return Err(WireError::UnknownOperation),
            },
        }
        Ok(self.blanks(verb, input, at))
    }

    /// Skips blanks. They are used up even when nothing follows yet, so that they never pile up.
    #[inline]
    fn blanks<'a>(&mut self, verb: G::Verb, input: &'a [u8], at: usize) -> Result<usize, Decoded<G::Op<'a>>> {
        let rest = input.get(at..).unwrap_or_default();
        match rest.iter().position(|b| *b != b' ' && *b != b'\t') {
            Some(blanks) => Ok(at + blanks),
            None => {
                self.state = State::Blanks(verb);
                Err(Decoded::Incomplete { used: input.len(), need: 1 })
            }
        }
    }

    fn junk<'a>(
        &mut self,
        verb: G::Verb,
        input: &'a [u8],
        at: usize,
    ) -> Result<Decoded<G::Op<'a>>, WireError> {
        let rest = input.get(at..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.state = State::Junk(verb);
            return Ok(Decoded::Incomplete { used: input.len(), need: 1 });
        };
        self.state = State::Verb;
        match G::line(verb, &[], &self.limits)? {
            Line::Op(op) => Ok(Decoded::Op { op, used: at + end + 1 }),
            Line::Message(..) => Err(WireError::UnknownOperation),
        }
    }

    /// Reads the arguments that begin at `at`, and the payload when they announce one.
    #[inline]
    fn args<'a>(
        &mut self,
        verb: G::Verb,
        input: &'a [u8],
        at: usize,
        known: Option<LineEnds>,
    ) -> Result<Decoded<G::Op<'a>>, WireError> {
        let rest = input.get(at..).unwrap_or_default();
        let line = match known {
            Some(line) => line,
            None => match self.line_end(rest)? {
                Some(found) => found,
                None => {
                    self.state = State::Args(verb);
                    self.scanned = rest.len();
                    return Ok(Decoded::Incomplete { used: at, need: rest.len() + 1 });
                }
            },
        };
        let args = rest.get(..line.args).unwrap_or_default();
        match G::line(verb, args, &self.limits)? {
            Line::Op(op) => {
                self.restart();
                Ok(Decoded::Op { op, used: at + line.line })
            }
            Line::Message(head, size) => {
                let message = line.line + size + 2;
                if let Some([cr, lf]) = rest.get(message - 2..message) {
                    if (*cr, *lf) != (b'\r', b'\n') {
                        return Err(WireError::UnknownOperation);
                    }
                    self.restart();
                    let whole = rest.get(..message).unwrap_or_default();
                    return Ok(Decoded::Op { op: G::message(head, whole, line), used: at + message });
                }
                if rest.get(message - 2).is_some_and(|b| *b != b'\r') {
                    return Err(WireError::UnknownOperation);
                }
                self.state = State::Message(verb, line);
                Ok(Decoded::Incomplete { used: at, need: message })
            }
        }
    }

    const fn restart(&mut self) {
        self.state = State::Verb;
        self.scanned = 0;
    }

    /// Finds where the arguments end and where the next line begins. The first byte always belongs to the
    /// arguments, whatever it is, as in the original.
    #[inline]
    fn line_end(&self, rest: &[u8]) -> Result<Option<LineEnds>, WireError> {
        let from = self.scanned.max(1);
        let Some(found) = rest.get(from..).and_then(|tail| memchr::memchr(b'\n', tail)) else {
            // The last byte may turn out not to belong to the arguments.
            self.check_line(rest.len().saturating_sub(1))?;
            return Ok(None);
        };
        let newline = from + found;
        let line = rest.get(..newline).unwrap_or_default();
        let args = match line.split_last() {
            Some((b'\r', before)) if newline > 1 => before.len(),
            // A bare LF. The original cuts the last byte when any CR was seen behind the first byte.
            _ if line.get(1..).is_some_and(|tail| memchr::memchr(b'\r', tail).is_some()) => newline - 1,
            _ => newline,
        };
        self.check_line(args)?;
        Ok(Some(LineEnds { args, line: newline + 1 }))
    }

    const fn check_line(&self, len: usize) -> Result<(), WireError> {
        if len > self.limits.max_control_line {
            return Err(WireError::ControlLineTooLong { len, limit: self.limits.max_control_line });
        }
        Ok(())
    }
}
