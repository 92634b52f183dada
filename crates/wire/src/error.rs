//! What can be wrong with bytes on the wire.

/// Why a peer's bytes are no valid operation. Every variant ends the connection.
///
/// The texts that a server sends for them (and for which of them it sends none) are nats-server's, observed on
/// 2.9.10, 2.10.27 and 2.15.1; [`WireError::err_text`] has them.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes begin no operation of this grammar, or a payload does not end in CR LF.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// The arguments of a control line exceed the limit, in bytes.
    #[error("control line of at least {len} bytes exceeds the limit of {limit}")]
    ControlLineTooLong {
        /// Bytes of arguments seen so far.
        len: usize,
        /// The limit in force.
        limit: usize,
    },
    /// An operation has too few or too many arguments.
    #[error("wrong number of arguments for {op}")]
    Arguments {
        /// The operation's name.
        op: &'static str,
    },
    /// A size is not a number of one to nine decimal digits.
    #[error("bad or missing size for {op}")]
    Size {
        /// The operation's name.
        op: &'static str,
    },
    /// A header size exceeds the total size of its message.
    #[error("header size {header} exceeds the total size {total}")]
    HeaderSize {
        /// Bytes of headers announced.
        header: usize,
        /// Bytes of headers and payload announced.
        total: usize,
    },
    /// A message with headers from a peer that did not announce support for them.
    #[error("message headers were not negotiated")]
    HeadersNotNegotiated,
    /// A message announces more payload than the limit allows.
    #[error("payload of {size} bytes exceeds the limit of {limit}")]
    PayloadTooLarge {
        /// Bytes announced.
        size: usize,
        /// The limit in force.
        limit: usize,
    },
}

impl WireError {
    /// The text inside the quotes of `-ERR '…'` that nats-server sends before it closes; `None` where it closes
    /// without a word.
    #[must_use]
    pub const fn err_text(&self) -> Option<&'static str> {
        match self {
            Self::UnknownOperation => Some("Unknown Protocol Operation"),
            Self::ControlLineTooLong { .. } => Some("maximum control line exceeded"),
            Self::PayloadTooLarge { .. } => Some("Maximum Payload Violation"),
            Self::Arguments { .. }
            | Self::Size { .. }
            | Self::HeaderSize { .. }
            | Self::HeadersNotNegotiated => None,
        }
    }
}
