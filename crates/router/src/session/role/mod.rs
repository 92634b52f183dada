//! What differs between the kinds of peers.

pub(crate) mod client;
pub(crate) mod leaf;
mod peer;
pub(crate) mod route;

use std::time::Duration;

use midge_wire::{Decoder, Grammar};

use super::Tick;
use super::core::Core;
use super::event::SessionError;
use crate::sync::atomic::Ordering;

/// One kind of peer: its language, and what its operations do. Everything else is [`Core`]'s.
pub trait Role: sealed::Sealed + Send + Sized + 'static {
    /// What the peer says.
    type Grammar: Grammar;

    /// Says the first word.
    fn greet(&mut self, core: &mut Core, tick: &mut Tick<'_>);

    /// Does what one operation asks for.
    ///
    /// # Errors
    /// The connection cannot go on.
    fn on_op(
        &mut self,
        core: &mut Core,
        op: <Self::Grammar as Grammar>::Op<'_>,
        tick: &mut Tick<'_>,
    ) -> Result<Flow, SessionError>;

    /// Does what [`Role::on_op`] would do with the messages that `input` begins with, up to one that needs a closer
    /// look, or one after which the peer must wait or go; how many bytes they were. This is where a router spends its
    /// time.
    fn on_messages(
        &mut self,
        core: &mut Core,
        decoder: &Decoder<Self::Grammar>,
        input: &[u8],
        tick: &mut Tick<'_>,
    ) -> usize;

    /// Goes on with a peer that was found to be somebody.
    ///
    /// # Errors
    /// The peer may not stay.
    fn on_welcome(&mut self, core: &mut Core, tick: &mut Tick<'_>) -> Result<(), SessionError>;

    /// What the decoder must know of the negotiation.
    fn limits(&self, core: &Core) -> midge_wire::Limits;

    /// Why a peer is sent away that has not said in time who it is.
    fn late(&self) -> SessionError {
        SessionError::AuthTimeout
    }

    /// Takes back what the role has done elsewhere: the connection has ended. May be called more than once.
    fn on_end(&mut self, _core: &mut Core) {}

    /// Time between PINGs.
    fn ping_interval(&self, core: &Core) -> Duration {
        core.ping_interval()
    }
}

/// Takes a PONG.
pub(crate) fn pong(core: &mut Core, tick: &Tick<'_>) {
    if let Some(rtt) = core.timers.pong(tick.now) {
        core.conn.incoming().rtt.store(rtt.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Words with blanks between them, empty ones left out.
pub(crate) fn join(words: &[&[u8]]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    words.join(&b' ')
}

/// Whether to go on with the next operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Go,
    /// Yes, with other limits.
    Limits,
    /// Not before the verdict.
    Verdict,
}

pub(crate) mod sealed {
    /// Keeps roles inside this crate.
    pub trait Sealed {}
}
