//! Routes and leafnode connections.

use midge_testkit::alloc::allocations;
use midge_wire::encode::{self, Peer, RoutedTo};
use midge_wire::{
    Decoded, Decoder, Grammar, Interest, LeafGrammar, Limits, PeerOp, RouteGrammar, Routed, WireError,
};
use proptest::prelude::*;

use crate::{decode_in_pieces, maybe_word, noise, word};

fn limits() -> Limits {
    Limits { max_control_line: 65_536, max_payload: Limits::NO_PAYLOAD_LIMIT, ..Limits::default() }
}

fn one<G: for<'a> Grammar<Op<'a> = PeerOp<'a>>>(
    line: &[u8],
    limits: Limits,
) -> Result<PeerOp<'_>, WireError> {
    match Decoder::<G>::new(limits).decode(line)? {
        Decoded::Op { op, used } => {
            assert_eq!(used, line.len());
            Ok(op)
        }
        Decoded::Incomplete { .. } => panic!("incomplete: {}", line.escape_ascii()),
    }
}

fn route(line: &str) -> Result<PeerOp<'_>, WireError> {
    one::<RouteGrammar>(line.as_bytes(), limits())
}

fn leaf(line: &str) -> Result<PeerOp<'_>, WireError> {
    one::<LeafGrammar>(line.as_bytes(), limits())
}

fn interest<'a>(words: [&'a str; 4], weight: u32) -> Interest<'a> {
    let [origin, account, subject, queue] = words.map(str::as_bytes);
    Interest { origin, of_leaf: !origin.is_empty(), account, subject, queue, weight }
}

#[test]
fn interest_as_real_servers_announce_it() {
    assert_eq!(route("RS+ A mix\r\n"), Ok(PeerOp::Wanted(interest(["", "A", "mix", ""], 0))));
    assert_eq!(route("rs+ A wq g 12\r\n"), Ok(PeerOp::Wanted(interest(["", "A", "wq", "g"], 12))));
    assert_eq!(route("RS- A wq g\r\n"), Ok(PeerOp::Unwanted(interest(["", "A", "wq", "g"], 0))));
    assert_eq!(route("LS+ LC A s\r\n"), Ok(PeerOp::Wanted(interest(["LC", "A", "s", ""], 0))));
    assert_eq!(route("LS- LC A s q\r\n"), Ok(PeerOp::Unwanted(interest(["LC", "A", "s", "q"], 0))));
    assert_eq!(leaf("LS+ hub.q g 2\r\n"), Ok(PeerOp::Wanted(interest(["", "", "hub.q", "g"], 2))));
    assert_eq!(leaf("LS- spoke.q w\r\n"), Ok(PeerOp::Unwanted(interest(["", "", "spoke.q", "w"], 0))));

    let dedicated = Limits { names_account: false, ..limits() };
    let op = one::<RouteGrammar>(b"RS+ pinned\r\n", dedicated);
    assert_eq!(op, Ok(PeerOp::Wanted(interest(["", "", "pinned", ""], 0))));
    let older = Limits { names_origin: false, ..limits() };
    let op = one::<RouteGrammar>(b"LS- A s\r\n", older);
    let unwanted = Interest { of_leaf: true, ..interest(["", "A", "s", ""], 0) };
    assert_eq!(op, Ok(PeerOp::Unwanted(unwanted)));
}

#[test]
fn messages_as_real_servers_route_them() {
    let parts = |op: Result<PeerOp<'_>, WireError>| {
        let Ok(PeerOp::Msg(m)) = op else { panic!("{op:?}") };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let queues: Vec<String> = m.queues.iter().map(text).collect();
        [
            text(m.origin),
            text(m.account),
            text(m.message.subject),
            text(m.message.reply),
            queues.join("+"),
            text(m.message.body()),
        ]
    };
    let want = |words: [&str; 6]| words.map(str::to_owned);
    assert_eq!(parts(route("RMSG A s 5\r\nhello\r\n")), want(["", "A", "s", "", "", "hello"]));
    assert_eq!(parts(route("RMSG A s r 2\r\nhi\r\n")), want(["", "A", "s", "r", "", "hi"]));
    assert_eq!(parts(route("RMSG A s | g1 g2 1\r\nm\r\n")), want(["", "A", "s", "", "g1+g2", "m"]));
    assert_eq!(parts(route("RMSG A s + r g 2\r\nq2\r\n")), want(["", "A", "s", "r", "g", "q2"]));
    assert_eq!(parts(route("RMSG A s | 1\r\nm\r\n")), want(["", "A", "s", "|", "", "m"]));
    assert_eq!(parts(route("LMSG LC A s 0 2\r\nhi\r\n")), want(["LC", "A", "s", "", "", "hi"]));
    let headers = "HMSG A q + r w 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
    assert_eq!(parts(route(headers)), want(["", "A", "q", "r", "w", "NATS/1.0\r\n\r\nhi"]));
    assert_eq!(parts(leaf("LMSG s + r g h 2\r\nq2\r\n")), want(["", "", "s", "r", "g+h", "q2"]));
    assert_eq!(
        parts(leaf("HMSG s 12 12\r\nNATS/1.0\r\n\r\n\r\n")),
        want(["", "", "s", "", "", "NATS/1.0\r\n\r\n"])
    );
}

/// What is read at once must be what is read step by step, but for what only the former knows.
fn the_same_both_ways<G>(bytes: &[u8], limits: Limits)
where
    G: for<'a> Grammar<Op<'a> = PeerOp<'a>, Message<'a> = Routed<'a>>,
{
    let mut decoder = Decoder::<G>::new(limits);
    let Some((mut short, len)) = decoder.message_at_once(bytes) else { return };
    let whole = [short.message.subject, b" ", short.message.onward].concat();
    assert!(bytes[..len].ends_with(&whole), "{}", bytes.escape_ascii());
    short.message.onward = &[];
    let Ok(Decoded::Op { op: PeerOp::Msg(long), used }) = decoder.decode(bytes) else {
        panic!("{}", bytes.escape_ascii());
    };
    assert_eq!((short, len), (long, used));
}

#[test]
fn most_messages_are_read_at_once() {
    for line in
        ["RMSG A s 5\r\nhello\r\n", "RMSG A s r 2\r\nhi\r\n", "HMSG A q r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"]
    {
        assert!(Decoder::<RouteGrammar>::new(limits()).message_at_once(line.as_bytes()).is_some(), "{line}");
    }
    for line in ["LMSG s 2\r\nhi\r\n", "HMSG q r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"] {
        assert!(Decoder::<LeafGrammar>::new(limits()).message_at_once(line.as_bytes()).is_some(), "{line}");
    }
}

#[test]
fn what_is_broken_is_named() {
    let arguments = |op| Err(WireError::Arguments { op });
    assert_eq!(route("RS+ A\r\n"), arguments("RS+"));
    assert_eq!(route("RS+ A s g\r\n"), arguments("RS+"), "a group without its weight");
    assert_eq!(route("RS+ A s g 1 2\r\n"), arguments("RS+"));
    assert_eq!(route("RS+ A s g x\r\n"), Err(WireError::Size { op: "RS+" }));
    assert_eq!(leaf("LS+ s g\r\n"), arguments("LS+"));
    assert_eq!(leaf("LS- s g 1\r\n"), arguments("LS-"));
    assert_eq!(route("RMSG A s a b 1\r\nx\r\n"), arguments("RMSG"), "neither + nor |");
    assert_eq!(route("RMSG A 1\r\nx\r\n"), arguments("RMSG"));
    assert_eq!(route("HMSG A s 3 2\r\nxx\r\n"), Err(WireError::HeaderSize { header: 3, total: 2 }));
    assert_eq!(leaf("RS+ A s\r\n"), arguments("RS+"), "a route's");
    let small = Limits { max_payload: 2, ..limits() };
    let too_large = one::<LeafGrammar>(b"LMSG s 3\r\nabc\r\n", small);
    assert_eq!(too_large, Err(WireError::PayloadTooLarge { size: 3, limit: 2 }));
}

#[test]
fn nothing_is_allocated() {
    let input = b"RS+ A s g 2\r\nLS- LC A s\r\nRMSG A s + r g h 2\r\nhi\r\nPING\r\n";
    let (count, ops) = allocations(|| {
        let (mut decoder, mut at, mut ops) = (Decoder::<RouteGrammar>::new(limits()), 0, 0);
        while let Ok(Decoded::Op { used, op }) = decoder.decode(&input[at..]) {
            if let PeerOp::Msg(m) = op {
                assert_eq!(m.queues.iter().count(), 2);
            }
            at += used;
            ops += 1;
        }
        ops
    });
    assert_eq!((count, ops), (0, 4));
}

proptest! {
    #[test]
    fn what_is_wanted_comes_back(
        origin in maybe_word(), account in word(), subject in word(), queue in maybe_word(), weight in 0_u32..1000,
    ) {
        let weight = if queue.is_empty() { 0 } else { weight };
        let of_leaf = !origin.is_empty();
        let on_route = Interest { origin: &origin, of_leaf, account: &account, subject: &subject, queue: &queue, weight };
        let on_leaf = Interest { origin: b"", of_leaf: false, account: b"", ..on_route };
        let mut bytes = Vec::new();
        encode::wanted(&mut bytes, Peer::Route, &on_route);
        prop_assert_eq!(one::<RouteGrammar>(&bytes, limits()), Ok(PeerOp::Wanted(on_route)));
        bytes.clear();
        encode::wanted(&mut bytes, Peer::Leaf, &on_leaf);
        prop_assert_eq!(one::<LeafGrammar>(&bytes, limits()), Ok(PeerOp::Wanted(on_leaf)));
        bytes.clear();
        encode::unwanted(&mut bytes, Peer::Route, &on_route);
        let gone = PeerOp::Unwanted(Interest { weight: 0, ..on_route });
        let names_origin = !origin.is_empty();
        prop_assert_eq!(one::<RouteGrammar>(&bytes, Limits { names_origin, ..limits() }), Ok(gone));
        bytes.clear();
        encode::unwanted(&mut bytes, Peer::Leaf, &on_leaf);
        prop_assert_eq!(one::<LeafGrammar>(&bytes, limits()), Ok(PeerOp::Unwanted(Interest { weight: 0, ..on_leaf })));
    }

    #[test]
    fn a_routed_message_comes_back(
        (origin, account, subject, reply) in (maybe_word(), word(), word(), maybe_word()),
        queues in proptest::collection::vec(word(), 0..4),
        headers in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let names: Vec<&[u8]> = queues.iter().map(Vec::as_slice).collect();
        for peer in [Peer::Route, Peer::Leaf] {
            let (origin, account): (&[u8], &[u8]) = if peer == Peer::Route { (&origin, &account) } else { (b"", b"") };
            let mut bytes = Vec::new();
            let to = RoutedTo { origin, account, subject: &subject, reply: &reply, queues: &names };
            encode::routed(&mut bytes, peer, to, &headers, &payload);
            let op = match peer {
                Peer::Route => one::<RouteGrammar>(&bytes, limits()),
                Peer::Leaf => one::<LeafGrammar>(&bytes, limits()),
            };
            let Ok(PeerOp::Msg(m)) = op else { panic!("{op:?}: {}", bytes.escape_ascii()) };
            prop_assert_eq!((m.origin, m.account), (origin, account));
            prop_assert_eq!((m.message.subject, m.message.reply), (&subject[..], &reply[..]));
            prop_assert_eq!(m.queues.iter().collect::<Vec<_>>(), names.clone());
            prop_assert_eq!(m.message.body(), [&headers[..], &payload[..]].concat());
            prop_assert_eq!(m.message.headers(), headers.as_slice());
        }
    }

    #[test]
    fn the_short_way_is_the_long_way(
        start in "(RMSG|HMSG|LMSG|HMSG|rmsg)( | | |  )", words in "([a-z+|]{1,3} ){1,5}( )?", header in "([0-9]{1,2} )?",
        (said, more, end) in (0..40_usize, 0..3_usize, "(\r\n|\r\n|\r\n|\n)"),
    ) {
        let payload = "x".repeat((said + more).saturating_sub(1));
        let bytes = format!("{start}{words}{header}{said}{end}{payload}\r\n").into_bytes();
        let small = Limits { max_control_line: 18, max_payload: 36, ..limits() };
        for limits in [small, Limits { names_account: false, ..small }] {
            the_same_both_ways::<RouteGrammar>(&bytes, limits);
            the_same_both_ways::<LeafGrammar>(&bytes, limits);
        }
    }

    #[test]
    fn cuts_change_nothing(input in noise(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let whole = decode_in_pieces::<RouteGrammar>(&input, &[], limits());
        prop_assert_eq!(decode_in_pieces::<RouteGrammar>(&input, &cuts, limits()), whole);
        let whole = decode_in_pieces::<LeafGrammar>(&input, &[], limits());
        prop_assert_eq!(decode_in_pieces::<LeafGrammar>(&input, &cuts, limits()), whole);
    }
}
