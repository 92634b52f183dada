//! What must hold for every decoder.

use std::fmt::Debug;

use midge_wire::{Decoded, Decoder, Grammar, Limits, WireError};

/// The first byte says where the rest is cut: what comes out must not depend on it.
pub(crate) fn check<G: Grammar>(data: &[u8])
where
    for<'a> G::Op<'a>: Debug,
    for<'a> G::Message<'a>: Debug,
{
    let Some((cut, input)) = data.split_first() else { return };
    let whole = decode::<G>(input, input.len());
    let pieces = decode::<G>(input, usize::from(*cut).max(1));
    assert_eq!(whole, pieces, "in pieces of {cut}");
}

fn decode<G: Grammar>(input: &[u8], piece: usize) -> Vec<String>
where
    for<'a> G::Op<'a>: Debug,
    for<'a> G::Message<'a>: Debug,
{
    let limits = Limits { max_control_line: 256, max_payload: 1024, ..Limits::default() };
    let mut decoder = Decoder::<G>::new(limits);
    let (mut held, mut seen) = (Vec::new(), Vec::new());
    for bytes in input.chunks(piece.max(1)) {
        held.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let at_once = decoder.message_at_once(&held[at..]).map(|(op, used)| (format!("{op:?}"), used));
            let decoded = decoder.decode(&held[at..]);
            if let Some((message, len)) = at_once {
                let Ok(Decoded::Op { op, used }) = &decoded else { panic!("only the short way finds {message}") };
                let long = format!("{op:?}");
                // The long way has nothing to hand on as it came.
                let (what, _) = message.split_once(", onward: ").unwrap_or((&message, ""));
                assert!(long.contains(what) && *used == len, "{message} of {len}, or {long} of {used}");
            }
            match decoded {
                Ok(Decoded::Op { op, used }) => {
                    assert!(used > 0 && used <= held.len() - at);
                    seen.push(format!("{op:?}"));
                    at += used;
                }
                Ok(Decoded::Incomplete { used, need }) => {
                    at += used;
                    assert!(need > held.len() - at);
                    break;
                }
                // How long a line is that is too long depends on how much of it has been seen.
                Err(WireError::ControlLineTooLong { .. }) => {
                    seen.push("ControlLineTooLong".to_owned());
                    return seen;
                }
                Err(error) => {
                    seen.push(format!("{error:?}"));
                    return seen;
                }
            }
        }
        held.drain(..at);
    }
    seen
}
