//! A subscription's subject, as it is kept.

use std::fmt;
use std::ops::Deref;

use triomphe::ThinArc;

/// A subject that a connection and the interest table share. One word, since there may be millions.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Subject(ThinArc<(), u8>);

impl Subject {
    /// Whether both are one piece of memory.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        std::ptr::eq(ThinArc::as_ptr(&self.0), ThinArc::as_ptr(&other.0))
    }
}

impl From<&[u8]> for Subject {
    fn from(bytes: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), bytes))
    }
}

impl Deref for Subject {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}
