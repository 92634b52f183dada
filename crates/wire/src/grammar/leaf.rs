//! What a leafnode and its hub say to each other: one account, which is named nowhere.

use super::peer::{self, Form, PeerVerb, RoutedHead};
use super::{Found, Grammar, Line, LineEnds, Shape};
use crate::op::{PeerOp, Routed};
use crate::{Limits, WireError};

/// The protocol between a leafnode and its hub; both directions are alike.
#[derive(Debug, Clone, Copy)]
pub struct LeafGrammar;

impl Grammar for LeafGrammar {
    type Verb = PeerVerb;
    type Head<'a> = RoutedHead<'a>;
    type Op<'a> = PeerOp<'a>;
    type Message<'a> = Routed<'a>;

    fn verb(head: &[u8]) -> Found<PeerVerb> {
        peer::verb(head)
    }

    fn shape(verb: PeerVerb) -> Shape {
        peer::shape(verb)
    }

    fn line<'a>(
        verb: PeerVerb,
        args: &'a [u8],
        limits: &Limits,
    ) -> Result<Line<RoutedHead<'a>, PeerOp<'a>>, WireError> {
        let form = |op, headers| Form { op, origin: false, account: false, headers };
        match verb {
            PeerVerb::LSubPlus => {
                Ok(Line::Op(PeerOp::Wanted(peer::interest(args, form("LS+", false), true)?)))
            }
            PeerVerb::LSubMinus => {
                Ok(Line::Op(PeerOp::Unwanted(peer::interest(args, form("LS-", false), false)?)))
            }
            PeerVerb::LMsg => peer::message(args, form("LMSG", false), limits),
            PeerVerb::HMsg => peer::message(args, form("HMSG", true), limits),
            // A route's, which have no meaning here.
            PeerVerb::RSubPlus => Err(WireError::Arguments { op: "RS+" }),
            PeerVerb::RSubMinus => Err(WireError::Arguments { op: "RS-" }),
            PeerVerb::RMsg => Err(WireError::Arguments { op: "RMSG" }),
            _ => Ok(Line::Op(peer::plain(verb, args))),
        }
    }

    #[inline(always)]
    fn message_at_once<'a>(input: &'a [u8], limits: &Limits) -> Option<(Routed<'a>, usize)> {
        let (name, args) = input.split_first_chunk::<5>()?;
        let headers = match name {
            b"LMSG " => false,
            b"HMSG " => true,
            _ => return None,
        };
        let (message, used) = peer::at_once(args, (false, headers), limits)?;
        Some((message, name.len() + used))
    }

    fn message<'a>(head: RoutedHead<'a>, whole: &'a [u8], line: LineEnds) -> PeerOp<'a> {
        peer::whole(head, whole, line)
    }
}
