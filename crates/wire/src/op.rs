//! Operations, borrowed from the bytes that they came in.

/// What a client says to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// `CONNECT`: its JSON, not yet read (see [`crate::json::Connect`]).
    Connect(&'a [u8]),
    /// `PUB` or `HPUB`.
    Pub(Pub<'a>),
    /// `SUB`.
    Sub(Sub<'a>),
    /// `UNSUB`.
    Unsub(Unsub<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`, which a server ignores.
    Ok,
    /// `-ERR` with its text, quotes included.
    Err(&'a [u8]),
    /// `INFO`: its JSON, which a server ignores.
    Info(&'a [u8]),
}

/// A message on its way in: `PUB subject [reply] size` or `HPUB subject [reply] header-size size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pub<'a> {
    /// The subject, not validated.
    pub subject: &'a [u8],
    /// The reply subject, empty when there is none (an empty one cannot be written).
    pub reply: &'a [u8],
    /// Bytes of headers at the beginning of the frame; `None` for a `PUB`.
    pub header_len: Option<usize>,
    /// The header size as the sender wrote it (leading zeros are echoed); empty for a `PUB`.
    pub header_digits: &'a [u8],
    /// The total size as the sender wrote it.
    pub size_digits: &'a [u8],
    /// Headers, payload and the closing CR LF.
    pub frame: &'a [u8],
    /// Everything behind the subject and its blank (reply, sizes, line end, frame), where those bytes can stand
    /// in a `MSG` as they are; empty where the sender's spacing was its own.
    pub onward: &'a [u8],
}

impl<'a> Pub<'a> {
    /// Headers and payload, without the closing CR LF.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.frame.get(..self.frame.len().saturating_sub(2)).unwrap_or_default()
    }

    /// The header block; empty when there is none.
    #[must_use]
    pub fn headers(&self) -> &'a [u8] {
        self.body().get(..self.header_len.unwrap_or(0)).unwrap_or_default()
    }

    /// What follows the header block.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.body().get(self.header_len.unwrap_or(0)..).unwrap_or_default()
    }
}

/// `SUB subject [queue] sid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sub<'a> {
    /// The subject, not validated; may hold wildcards.
    pub subject: &'a [u8],
    /// The queue group; empty when there is none.
    pub queue: &'a [u8],
    /// The client's own name for the subscription.
    pub sid: &'a [u8],
}

/// `UNSUB sid [max]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsub<'a> {
    /// The client's own name for the subscription.
    pub sid: &'a [u8],
    /// Deliveries since the subscription began after which it ends; zero (which a number that is none also
    /// means) ends it at once.
    pub max: u64,
}

/// What a server says to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// `INFO`: its JSON, not yet read (see [`crate::json::Info`]).
    Info(&'a [u8]),
    /// `MSG` or `HMSG`.
    Msg(Msg<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR` with its text, quotes included.
    Err(&'a [u8]),
}

/// A message on its way out: `MSG subject sid [reply] size` or `HMSG subject sid [reply] header-size size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msg<'a> {
    /// The subject that the message was published on.
    pub subject: &'a [u8],
    /// The subscription that it is for.
    pub sid: &'a [u8],
    /// The reply subject, empty when there is none.
    pub reply: &'a [u8],
    /// Bytes of headers at the beginning of the frame; `None` for a `MSG`.
    pub header_len: Option<usize>,
    /// The total size as the server wrote it.
    pub size_digits: &'a [u8],
    /// Headers, payload and the closing CR LF.
    pub frame: &'a [u8],
}

impl<'a> Msg<'a> {
    /// Headers and payload, without the closing CR LF.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.frame.get(..self.frame.len().saturating_sub(2)).unwrap_or_default()
    }

    /// The header block; empty when there is none.
    #[must_use]
    pub fn headers(&self) -> &'a [u8] {
        self.body().get(..self.header_len.unwrap_or(0)).unwrap_or_default()
    }

    /// What follows the header block.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.body().get(self.header_len.unwrap_or(0)..).unwrap_or_default()
    }
}

/// What another server says, over a route or a leafnode connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOp<'a> {
    /// `CONNECT`: its JSON, not yet read.
    Connect(&'a [u8]),
    /// `INFO`: its JSON, not yet read.
    Info(&'a [u8]),
    /// `RS+` or `LS+`: somebody behind the peer wants this.
    Wanted(Interest<'a>),
    /// `RS-` or `LS-`: nobody does any more.
    Unwanted(Interest<'a>),
    /// `RMSG`, `LMSG` or `HMSG`.
    Msg(Routed<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`, which is ignored.
    Ok,
    /// `-ERR` with its text, quotes included.
    Err(&'a [u8]),
}

/// What is wanted behind another server: `RS+ account subject [queue weight]` on a route,
/// `LS+ origin account subject [queue weight]` there for a leafnode's, `LS+ subject [queue weight]` on a leafnode
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest<'a> {
    /// The cluster of the leafnode that wants it; empty where no leafnode does.
    pub origin: &'a [u8],
    /// Whether a leafnode wants it, on a route, even where its cluster is not named.
    pub of_leaf: bool,
    /// The account; empty on a connection that serves one account only.
    pub account: &'a [u8],
    /// The subject, not validated; may hold wildcards.
    pub subject: &'a [u8],
    /// The queue group; empty when there is none.
    pub queue: &'a [u8],
    /// The queue group's members behind the peer, in all; zero without a group, and where it is unwanted.
    pub weight: u32,
}

/// A message from another server: `RMSG account subject …` on a route, `LMSG origin account subject …` there for
/// a leafnode's, `LMSG subject …` on a leafnode connection, `HMSG` on either where there are headers. After the
/// subject come `[reply]`, `+ reply queue…` or `| queue…`, and the sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed<'a> {
    /// The cluster of the leafnode that published it; empty where no leafnode did.
    pub origin: &'a [u8],
    /// The account; empty on a connection that serves one account only.
    pub account: &'a [u8],
    /// The queue groups of which one member each shall get it.
    pub queues: Queues<'a>,
    /// The message itself, as a client would have published it. A size of headers that is zero is left out.
    pub message: Pub<'a>,
}

/// Names of queue groups, as they stand in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues<'a>(pub(crate) &'a [u8]);

impl<'a> Queues<'a> {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        // Blanks alone are cut off where the line is read.
        self.0.is_empty()
    }

    /// The names, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.split(|byte| matches!(byte, b' ' | b'\t')).filter(|name| !name.is_empty())
    }
}
