//! What stands before the subjects of those who share somebody else's deployment.

use std::fmt;
use std::str::FromStr;

use midge_wire::subject;

/// The first token of subjects that are not below the prefix, as programs see them.
///
/// A stock client asks with a reply subject of its own, such as `_INBOX.x`, and is answered there and nowhere below the
/// prefix. A program sees `$OUTSIDE._INBOX.x`, and what it publishes there goes to `_INBOX.x`.
pub const OUTSIDE: &str = "$OUTSIDE";

/// What all subjects begin with on the deployment. Empty, they are what they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Prefix(String);

/// Why a text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no prefix of subjects: it must be a subject without wildcards, such as acme.midge")]
pub struct PrefixError(String);

impl Prefix {
    /// Most letters of one that links take: it stands in a message of bounded length, and in every datagram's subject.
    pub const MOST: usize = 128;

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A subject below it.
    #[must_use]
    pub fn join(&self, subject: &str) -> String {
        if self.0.is_empty() { subject.to_owned() } else { format!("{}.{subject}", self.0) }
    }

    /// The subject on the deployment that a program's subject to publish to stands for.
    #[must_use]
    pub fn outward(&self, subject: &str) -> String {
        match outside(subject) {
            Some(subject) if !self.0.is_empty() => subject.to_owned(),
            _ => self.join(subject),
        }
    }

    /// The subject that a program sees; `None` if it is one that the program could not tell from another.
    #[must_use]
    pub fn inward(&self, subject: &str) -> Option<String> {
        if self.0.is_empty() {
            return Some(subject.to_owned());
        }
        match subject.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('.')) {
            Some(rest) => outside(rest).is_none().then(|| rest.to_owned()),
            None => Some(format!("{OUTSIDE}.{subject}")),
        }
    }
}

fn outside(subject: &str) -> Option<&str> {
    subject.strip_prefix(OUTSIDE)?.strip_prefix('.')
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let is_subject = subject::is_word(text.as_bytes()) && subject::is_valid_literal(text.as_bytes());
        if !text.is_empty() && (!is_subject || text.len() > Self::MOST) {
            return Err(PrefixError(text.chars().take(Self::MOST).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_go_out_and_come_in_as_they_were() {
        let prefix: Prefix = "acme.x".parse().unwrap();
        for (inside, on_deployment) in [
            ("a", "acme.x.a"),
            ("a.*.>", "acme.x.a.*.>"),
            (">", "acme.x.>"),
            ("$OUTSIDE._INBOX.7", "_INBOX.7"),
            ("$OUTSIDE.acme", "acme"),
            ("$OUTSIDE.acme.xy", "acme.xy"),
            ("$OUTSIDE", "acme.x.$OUTSIDE"),
            ("$OUTSIDEx.a", "acme.x.$OUTSIDEx.a"),
        ] {
            assert_eq!(prefix.outward(inside), on_deployment);
            assert_eq!(prefix.inward(on_deployment).as_deref(), Some(inside));
        }
        // Nobody outside makes up what looks like a way out.
        assert_eq!(prefix.inward("acme.x.$OUTSIDE.a"), None);
    }

    #[test]
    fn without_a_prefix_subjects_are_what_they_are() {
        let none = Prefix::default();
        for subject in ["a", "$OUTSIDE.a", "_INBOX.x"] {
            assert_eq!(none.outward(subject), subject);
            assert_eq!(none.inward(subject).as_deref(), Some(subject));
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for bad in ["a.", ".a", "a..b", "a.*", ">", "a b", "a\tb", "a\r\nb", &"x".repeat(129)] {
            let error = bad.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.contains("is no prefix of subjects"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_mistaken_for_something_else(subject in "[a-c$OUTSIDE.]{1,14}", prefix in "[a-c]{1,2}") {
            let prefix: Prefix = prefix.parse().unwrap();
            if subject::is_valid_literal(subject.as_bytes()) && let Some(inside) = prefix.inward(&subject) {
                assert_eq!(prefix.outward(&inside), subject);
            }
        }
    }
}
