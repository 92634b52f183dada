//! How links behave.

use std::time::Duration;

/// How links behave. Every number of things has a bound, because strangers begin them.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Time without a sign of the other side after which a link has ended.
    pub idle_timeout: Duration,
    /// Pause after which a link that is not used gives a sign of itself.
    pub keep_alive: Duration,
    /// Time in which a link that is dialled must be there.
    pub dial_timeout: Duration,
    /// Pause before a peer is dialled again: after the first failure, and at most. It doubles in between.
    pub redial: (Duration, Duration),
    /// Time in which a new stream must say its protocol.
    pub establish_timeout: Duration,
    /// Most streams that the other side may have open on a link.
    pub max_streams: u32,
    /// Most links. Those to peers that are wanted are taken beyond that.
    pub max_links: usize,
    /// Most links to one peer, those in reserve counted.
    pub max_links_per_peer: usize,
    /// Most handshakes at once that others have begun. From a quarter of them on, whoever begins one must first show that
    /// it receives what is sent to its address.
    pub max_handshakes: usize,
    /// Bytes that a stream may be ahead of its reader.
    pub stream_window: u32,
    /// Bytes that all streams of a link may be ahead, in each direction.
    pub link_window: u32,
    /// What chance is made of, for simulations that must run the same way each time. Whoever knows it knows the secrets
    /// of the links.
    pub seed: Option<u64>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(5),
            redial: (Duration::from_millis(250), Duration::from_secs(5)),
            establish_timeout: Duration::from_secs(5),
            max_streams: 100,
            max_links: 65_536,
            max_links_per_peer: 4,
            max_handshakes: 1024,
            stream_window: 8 * 1024 * 1024,
            link_window: 16 * 1024 * 1024,
            seed: None,
        }
    }
}
