//! What the servers of one cluster say to each other.

use super::peer::{self, Form, PeerVerb, RoutedHead};
use super::{Found, Grammar, Line, LineEnds, Shape};
use crate::op::{Interest, PeerOp, Routed};
use crate::{Limits, WireError};

/// The protocol between the servers of a cluster; both directions are alike.
#[derive(Debug, Clone, Copy)]
pub struct RouteGrammar;

impl Grammar for RouteGrammar {
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
        let account = limits.names_account;
        let form = |op, origin, headers| Form { op, origin, account, headers };
        match verb {
            PeerVerb::RSubPlus => {
                let wanted = peer::interest(args, form("RS+", false, false), true)?;
                Ok(Line::Op(PeerOp::Wanted(wanted)))
            }
            PeerVerb::LSubPlus => {
                let wanted = peer::interest(args, form("LS+", true, false), true)?;
                Ok(Line::Op(PeerOp::Wanted(Interest { of_leaf: true, ..wanted })))
            }
            PeerVerb::RSubMinus => {
                let unwanted = peer::interest(args, form("RS-", false, false), false)?;
                Ok(Line::Op(PeerOp::Unwanted(unwanted)))
            }
            PeerVerb::LSubMinus => {
                let unwanted = peer::interest(args, form("LS-", limits.names_origin, false), false)?;
                Ok(Line::Op(PeerOp::Unwanted(Interest { of_leaf: true, ..unwanted })))
            }
            PeerVerb::RMsg => peer::message(args, form("RMSG", false, false), limits),
            PeerVerb::LMsg => peer::message(args, form("LMSG", true, true), limits),
            PeerVerb::HMsg => peer::message(args, form("HMSG", false, true), limits),
            _ => Ok(Line::Op(peer::plain(verb, args))),
        }
    }

    #[inline(always)]
    fn message_at_once<'a>(input: &'a [u8], limits: &Limits) -> Option<(Routed<'a>, usize)> {
        let (name, args) = input.split_first_chunk::<5>()?;
        let headers = match name {
            b"RMSG " => false,
            b"HMSG " => true,
            _ => return None,
        };
        let (message, used) = peer::at_once(args, (limits.names_account, headers), limits)?;
        Some((message, name.len() + used))
    }

    fn message<'a>(head: RoutedHead<'a>, whole: &'a [u8], line: LineEnds) -> PeerOp<'a> {
        peer::whole(head, whole, line)
    }
}
