//! What differs between the kinds of peers.

pub(crate) mod client;

use midge_wire::{Decoder, Grammar};

use super::Tick;
use super::core::Core;
use super::event::SessionError;

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
