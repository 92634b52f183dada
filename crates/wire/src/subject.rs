//! Subjects: dot-separated tokens, of which `*` and `>` may stand for others.
//!
//! Any byte but a blank may occur in a token (UTF-8 is not asked for). A wildcard counts only when it is a whole
//! token: `foo*` is an ordinary literal. See "Subject-based messaging" in the NATS documentation; where that is
//! silent, nats-server 2.15 decides.

/// The byte between tokens.
pub const SEPARATOR: u8 = b'.';

/// Most bytes of a subject or queue group: a line of the protocol has no room for more.
const MOST_WORD: usize = 2048;

/// The tokens of a subject, empty ones included.
pub fn tokens(subject: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    subject.split(|b| *b == SEPARATOR)
}

/// Whether `token` stands for exactly one token.
#[must_use]
pub fn is_star(token: &[u8]) -> bool {
    token == b"*"
}

/// Whether `token` stands for one or more tokens up to the subject's end.
#[must_use]
pub fn is_tail(token: &[u8]) -> bool {
    token == b">"
}

/// Whether a text can stand in a line of the protocol as one word, as subjects and queue groups do.
#[must_use]
pub fn is_word(text: &[u8]) -> bool {
    (1..=MOST_WORD).contains(&text.len()) && !text.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
}

/// Whether a subscription on `subject` is possible: no empty token, and `>` only at the end.
#[must_use]
pub fn is_valid(subject: &[u8]) -> bool {
    let mut ended = false;
    for token in tokens(subject) {
        if token.is_empty() || ended {
            return false;
        }
        ended = is_tail(token);
    }
    true
}

/// Whether `subject` names one subject only: no empty token and no wildcard.
#[must_use]
pub fn is_valid_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| !token.is_empty() && !is_star(token) && !is_tail(token))
}

/// Whether any token of `subject` is a wildcard.
#[must_use]
pub fn has_wildcard(subject: &[u8]) -> bool {
    tokens(subject).any(|token| is_star(token) || is_tail(token))
}

/// Whether `pattern` (valid, may hold wildcards) matches `subject`, whose tokens are all taken literally.
/// A subject with an empty token is matched by nothing.
#[must_use]
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut wanted = tokens(pattern);
    let mut given = tokens(subject);
    if tokens(subject).any(<[u8]>::is_empty) {
        return false;
    }
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), Some(_)) if is_tail(want) => return true,
            (Some(want), Some(have)) if is_star(want) || want == have => {}
            _ => return false,
        }
    }
}

/// Whether everything that `narrow` matches is matched by `wide`, too. Both may hold wildcards.
#[must_use]
pub fn covers(wide: &[u8], narrow: &[u8]) -> bool {
    let mut wanted = tokens(wide);
    let mut given = tokens(narrow);
    if tokens(narrow).any(<[u8]>::is_empty) {
        return false;
    }
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), Some(_)) if is_tail(want) => return true,
            (Some(_), Some(have)) if is_tail(have) => return false,
            (Some(want), Some(have)) if is_star(want) || want == have => {}
            _ => return false,
        }
    }
}

/// Whether some subject is matched by both. Both may hold wildcards.
#[must_use]
pub fn collide(a: &[u8], b: &[u8]) -> bool {
    let (mut a, mut b) = (tokens(a), tokens(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if is_tail(a) || is_tail(b) => return true,
            (Some(a), Some(b)) if is_star(a) || is_star(b) || a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_that_of_the_original() {
        for valid in ["a", "a.b", "*", ">", "a.*", "a.>", "a.*.c", "foo*", "fo>o.x", "a.>b", "\u{e4}.b"] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b"] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
        assert!(is_valid_literal(b"foo*.b>"));
        assert!(!is_valid_literal(b"foo.*"));
        assert!(!is_valid_literal(b"foo..x"));
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        for (wide, narrow) in [("a.>", "a.*"), (">", "a.>"), ("*.b", "a.b"), ("a.*", "a.*"), ("a.>", "a.>")] {
            assert!(covers(wide.as_bytes(), narrow.as_bytes()), "{wide} {narrow}");
        }
        for (wide, narrow) in [("a.*", "a.>"), ("a.b", "a.*"), ("*", "a.b"), ("a.>", "a"), ("*", ">")] {
            assert!(!covers(wide.as_bytes(), narrow.as_bytes()), "{wide} {narrow}");
        }
    }

    #[test]
    fn patterns_collide_when_something_is_matched_by_both() {
        for (a, b) in [("a.*", "*.b"), ("a.>", "*.b.c"), (">", "x"), ("a", "a")] {
            assert!(collide(a.as_bytes(), b.as_bytes()) && collide(b.as_bytes(), a.as_bytes()), "{a} {b}");
        }
        for (a, b) in [("a.*", "b.*"), ("a.>", "a"), ("a.*", "a.b.c")] {
            assert!(!collide(a.as_bytes(), b.as_bytes()) && !collide(b.as_bytes(), a.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn a_tail_needs_at_least_one_token() {
        assert!(matches(b"a.>", b"a.b"));
        assert!(matches(b"a.>", b"a.b.c"));
        assert!(!matches(b"a.>", b"a"));
        assert!(matches(b"*.b", b"*.b"));
        assert!(!matches(b"a.*", b"a."));
    }
}
