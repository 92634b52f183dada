//! What a decoder lets through.

/// The limits of one connection's decoder. Plain numbers: where they come from is the session's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of arguments on one control line, the operation's name and the line end not counted.
    pub max_control_line: usize,
    /// Most bytes of headers and payload together in one message.
    pub max_payload: usize,
    /// Whether messages with headers are taken from this client. Routes and leafnodes always may send them.
    pub headers: bool,
    /// Whether a route's operations name their account. One that is dedicated to an account leaves it out.
    pub names_account: bool,
    /// Whether a route's `LS-` names the leafnode cluster that the interest came from (INFO's `lnocu`).
    pub names_origin: bool,
}

impl Limits {
    /// nats-server's default for `max_control_line`, in bytes.
    pub const DEFAULT_MAX_CONTROL_LINE: usize = 4096;
    /// nats-server's default for `max_payload`, in bytes.
    pub const DEFAULT_MAX_PAYLOAD: usize = 1024 * 1024;
    /// The largest size that nine decimal digits can express: no payload limit at all.
    pub const NO_PAYLOAD_LIMIT: usize = 999_999_999;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_control_line: Self::DEFAULT_MAX_CONTROL_LINE,
            max_payload: Self::DEFAULT_MAX_PAYLOAD,
            headers: true,
            names_account: true,
            names_origin: true,
        }
    }
}
