//! Messages that are handed over together.

use arrayvec::ArrayVec;
use midge_wire::Pub;

use super::parcel::SHARE_BYTES;
use crate::interest::MatchSet;

/// Most messages that are handed over together: as many as a `u32` has bits.
pub(super) const LENGTH: usize = u32::BITS as usize;
/// Bytes of a line behind the subject, at most, if there is no reply subject.
const HEAD: usize = 300;

/// Messages on one subject, none of them large, that one publisher sent without asking for replies.
#[derive(Debug, Default)]
pub(crate) struct Train<'a> {
    messages: ArrayVec<Pub<'a>, LENGTH>,
    bytes: usize,
}

impl<'a> Train<'a> {
    /// Whether a message may be part of one.
    #[inline]
    pub(crate) const fn takes(message: &Pub<'_>) -> bool {
        message.reply.is_empty() && message.frame.len() < SHARE_BYTES
    }

    #[inline]
    pub(crate) fn push(&mut self, message: Pub<'a>) {
        self.bytes += message.frame.len();
        self.messages.push(message);
    }

    /// Whether it should be handed over. A receiver is looked at once for all of it, so all of it must be little
    /// beside the `max_pending` bytes that may wait there.
    #[inline]
    pub(crate) fn is_full(&self, set: &MatchSet, max_pending: usize) -> bool {
        self.messages.is_full() || self.most(set) >= max_pending / 8
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn iter<'t>(&'t self) -> std::slice::Iter<'t, Pub<'a>> {
        self.messages.iter()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// More bytes than they take in an outbox.
    pub(super) fn most(&self, set: &MatchSet) -> usize {
        self.bytes + self.messages.len() * (set.line_with_headers().len() + set.account_name().len() + HEAD)
    }
}
