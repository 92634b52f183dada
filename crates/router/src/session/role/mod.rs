//! What differs between the kinds of peers.

pub(crate) mod client;

use midge_wire::Grammar;

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
