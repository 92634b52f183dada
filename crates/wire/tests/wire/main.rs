//! Properties of the decoder, the encoders and subject matching.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod peers;

use midge_testkit::alloc::{Counting, allocations};
use midge_wire::{
    ClientGrammar, ClientOp, Decoded, Decoder, Grammar, Limits, Pub, ServerGrammar, ServerOp, WireError,
    encode, subject,
};
use proptest::prelude::*;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Decodes all of `input`, offered in pieces that end where `cuts` say, and renders what came out.
fn decode_in_pieces<G: Grammar>(input: &[u8], cuts: &[usize], limits: Limits) -> Vec<String>
where
    for<'a> G::Op<'a>: std::fmt::Debug,
{
    let mut decoder = Decoder::<G>::new(limits);
    let mut held: Vec<u8> = Vec::new();
    let mut seen = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        held.extend_from_slice(&input[from..end]);
        from = end;
        let mut at = 0;
        loop {
            match decoder.decode(&held[at..]) {
                Ok(Decoded::Op { op, used }) => {
                    assert!(used > 0, "an operation takes at least a byte");
                    seen.push(format!("{op:?}"));
                    at += used;
                }
                Ok(Decoded::Incomplete { used, need }) => {
                    at += used;
                    assert!(need > held.len() - at, "asked for what it already has");
                    break;
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

fn client(input: &[u8]) -> Vec<String> {
    decode_in_pieces::<ClientGrammar>(input, &[], Limits::default())
}

fn error_of(input: &[u8], limits: Limits) -> Option<WireError> {
    let mut decoder = Decoder::<ClientGrammar>::new(limits);
    let mut at = 0;
    loop {
        match decoder.decode(&input[at..]) {
            Ok(Decoded::Op { used, .. }) => at += used,
            Ok(Decoded::Incomplete { .. }) => return None,
            Err(error) => return Some(error),
        }
    }
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    "[a-zA-Z0-9._*>$-]{1,24}".prop_map(String::into_bytes)
}

fn maybe_word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), word()]
}

/// Bytes that are often nearly an operation.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "(?i)(pub|hpub|sub|unsub|ping|pong|connect|info|msg|hmsg|rs[+-]|ls[+-]|rmsg|lmsg|\\+ok|-err)"
            .prop_map(String::into_bytes),
        "[ \t]{1,2}".prop_map(String::into_bytes),
        "(\r\n|\n|\r)".prop_map(String::into_bytes),
        "[0-9]{1,3}".prop_map(String::into_bytes),
        word(),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A message, mostly as clients write it, and mostly whole.
fn nearly_published() -> impl Strategy<Value = Vec<u8>> {
    let words = (
        "(PUB|HPUB|PUB|HPUB|pub|PU)( | | |  |\t)",
        "[a-z.é]{1,12}|ü",
        "([a-zä]{1,9} )?( )?",
        "([0-9]{1,2} )?",
        "(0{8})?",
    );
    let ends = ("(\r\n|\r\n|\r\n|\n| \r\n|x\r\n)", "(\r\n|\r\n|\r\n|\n|\r|xx)?");
    (words, 0..70_usize, 0..3_usize, ends).prop_map(|(words, said, len, (line_end, end))| {
        let (start, subject, reply, header, zeros) = words;
        // Mostly as long as was said.
        let payload = "x".repeat((said + len).saturating_sub(1));
        format!("{start}{subject} {reply}{header}{zeros}{said}{line_end}{payload}{end}").into_bytes()
    })
}

proptest! {
    // Most of them are broken in several ways.
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_short_way_is_the_long_way(bytes in nearly_published(), headers in any::<bool>()) {
        let limits = Limits { max_control_line: 18, max_payload: 60, headers, ..Limits::default() };
        let mut decoder = Decoder::<ClientGrammar>::new(limits);
        if let Some((message, len)) = decoder.message_at_once(&bytes) {
            let Ok(Decoded::Op { op, used }) = decoder.decode(&bytes) else { panic!("{}", bytes.escape_ascii()) };
            prop_assert_eq!((op, used), (ClientOp::Pub(message), len));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_published_message_comes_back(
        subject in word(), reply in maybe_word(),
        headers in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, &subject, &reply, &headers, &payload);
        let mut decoder = Decoder::<ClientGrammar>::new(Limits::default());
        let at_once = decoder.message_at_once(&bytes);
        let Ok(Decoded::Op { op: ClientOp::Pub(message), used }) = decoder.decode(&bytes) else { panic!() };
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(at_once, Some((message, used)), "what clients write takes the short way");
        prop_assert_eq!((message.subject, message.reply), (&subject[..], &reply[..]));
        prop_assert_eq!((message.headers(), message.payload()), (&headers[..], &payload[..]));
        // What is handed on unchanged is the input behind "PUB <subject> ".
        prop_assert!(bytes.ends_with(message.onward) && message.onward.ends_with(message.frame));
        prop_assert_eq!(message.onward.len() + subject.len() + 5 + usize::from(!headers.is_empty()), bytes.len());
    }

    #[test]
    fn a_delivered_message_comes_back(
        subject in word(), sid in word(), reply in maybe_word(),
        headers in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = Vec::new();
        let to = encode::MsgTo { subject: &subject, sid: &sid, reply: &reply };
        encode::msg(&mut bytes, to, &headers, &payload);
        let mut decoder = Decoder::<ServerGrammar>::new(Limits::default());
        let Ok(Decoded::Op { op: ServerOp::Msg(message), used }) = decoder.decode(&bytes) else { panic!() };
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!((message.subject, message.sid, message.reply), (&subject[..], &sid[..], &reply[..]));
        prop_assert_eq!((message.headers(), message.payload()), (&headers[..], &payload[..]));
    }

    #[test]
    fn subscriptions_come_back(subject in word(), queue in maybe_word(), sid in word(), max in 0_u64..1000) {
        let sub = midge_wire::Sub { subject: &subject, queue: &queue, sid: &sid };
        let unsub = midge_wire::Unsub { sid: &sid, max };
        let mut bytes = Vec::new();
        encode::sub(&mut bytes, &sub);
        encode::unsub(&mut bytes, &unsub);
        let seen = client(&bytes);
        prop_assert_eq!(seen, [format!("{:?}", ClientOp::Sub(sub)), format!("{:?}", ClientOp::Unsub(unsub))]);
    }

    #[test]
    fn cuts_change_nothing(input in noise(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        // A stray CR is the one thing that the original itself reads differently when cut, so it is left out here.
        let input: Vec<u8> = input.into_iter().filter(|b| *b != b'\r').collect();
        let limits = Limits { max_control_line: 40, max_payload: 120, ..Limits::default() };
        let whole = decode_in_pieces::<ClientGrammar>(&input, &[], limits);
        let cut = decode_in_pieces::<ClientGrammar>(&input, &cuts, limits);
        prop_assert_eq!(kinds(&whole), kinds(&cut));
        let whole = decode_in_pieces::<ServerGrammar>(&input, &[], limits);
        let cut = decode_in_pieces::<ServerGrammar>(&input, &cuts, limits);
        prop_assert_eq!(kinds(&whole), kinds(&cut));
    }

    #[test]
    fn every_single_byte_may_arrive_alone(subject in word(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = b"connect {\"verbose\":false}\r\npInGx\r\nSUB  a\t1 \n".to_vec();
        encode::publish(&mut bytes, &subject, b"r", b"NATS/1.0\r\n\r\n", &payload);
        bytes.extend_from_slice(b"UNSUB 1 5\r\n");
        let cuts: Vec<usize> = (0..bytes.len()).collect();
        let whole = client(&bytes);
        prop_assert_eq!(whole.len(), 5);
        prop_assert_eq!(whole, decode_in_pieces::<ClientGrammar>(&bytes, &cuts, Limits::default()));
    }

    #[test]
    fn no_input_panics(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        client(&input);
        decode_in_pieces::<ServerGrammar>(&input, &[], Limits::default());
        midge_wire::json::Connect::default().update(&input).ok();
        midge_wire::header::fields(&input).count();
        let _ = midge_wire::header::status(&input);
    }

    #[test]
    fn matching_is_what_a_naive_matcher_says(pattern in "[ab*>.]{1,9}", name in "[ab*>.]{1,9}") {
        prop_assume!(subject::is_valid(pattern.as_bytes()));
        prop_assert_eq!(subject::matches(pattern.as_bytes(), name.as_bytes()), naive(&pattern, &name));
        prop_assert_eq!(subject::has_wildcard(pattern.as_bytes()), !subject::is_valid_literal(pattern.as_bytes()));
    }
}

/// Errors carry lengths that depend on how much had come; compare their kinds.
fn kinds(seen: &[String]) -> Vec<String> {
    let kind = |s: &String| {
        if s.starts_with("ControlLineTooLong") { "ControlLineTooLong".into() } else { s.clone() }
    };
    seen.iter().map(kind).collect()
}

fn naive(pattern: &str, name: &str) -> bool {
    let (want, have): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), name.split('.').collect());
    if have.iter().any(|t| t.is_empty()) {
        return false;
    }
    match want.iter().position(|t| *t == ">") {
        Some(at) => have.len() > at && (0..at).all(|i| want[i] == "*" || want[i] == have[i]),
        None => want.len() == have.len() && want.iter().zip(&have).all(|(w, h)| *w == "*" || w == h),
    }
}

#[test]
fn the_original_s_leniency() {
    for (input, want) in [
        ("PUB a 1\r\nx\r\n", 1),
        ("pUb a 1\nx\r\n", 1),
        ("PUB\ta  r\t 0002 \r\nxy\r\n", 1),
        ("CONNECT{}\r\n", 1),
        ("PING whatever\r\nPONGx\n+OK\r\n", 3),
        ("SUB a\r q 1\r\n", 1),
        ("UNSUB 1 x\r\nUNSUB 1 1234567890\r\n", 2),
        ("-ERR 'no'\r\nINFO {}\r\n", 2),
        ("HPUB a 0 0\r\n\r\n", 1),
    ] {
        assert_eq!(client(input.as_bytes()).len(), want, "{input:?}");
        assert_eq!(error_of(input.as_bytes(), Limits::default()), None, "{input:?}");
    }
}

#[test]
fn broken_input_is_named() {
    let limits = Limits { max_control_line: 20, max_payload: 10, ..Limits::default() };
    let unknown = Some("Unknown Protocol Operation");
    for (input, text) in [
        ("X", unknown),
        ("PX", unknown),
        ("PUBS", unknown),
        ("\r\n", unknown),
        ("MSG a 1 0\r\n\r\n", unknown),
        ("RS+ $G a\r\n", unknown),
        ("PUB a 1\r\nxyz", unknown),
        ("PUB a 1\r\nx\rz", unknown),
        ("SUB\r\n", unknown),
        ("PUB a 11\r\n", Some("Maximum Payload Violation")),
        ("HPUB a 1 11\r\n", Some("Maximum Payload Violation")),
        ("SUB aaaaaaaaaaaaaaaaaaa 1\r\n", Some("maximum control line exceeded")),
        ("CONNECT {                     ", Some("maximum control line exceeded")),
        ("PUB a\r\n", None),
        ("PUB a b c d\r\n", None),
        ("PUB a -1\r\n", None),
        ("PUB a 1234567890\r\n", None),
        ("HPUB a 2 1\r\n", None),
        ("HPUB a 1\r\n", None),
        ("SUB a\r\n", None),
        ("SUB a b c d\r\n", None),
        ("UNSUB \r\n", None),
        ("UNSUB 1 2 3\r\n", None),
    ] {
        let error = error_of(input.as_bytes(), limits).unwrap_or_else(|| panic!("{input:?} was taken"));
        assert_eq!(error.err_text(), text, "{input:?} gave {error}");
    }
    let none = Limits { headers: false, ..limits };
    assert_eq!(error_of(b"HPUB a 1 1\r\n", none), Some(WireError::HeadersNotNegotiated));
}

#[test]
fn a_control_line_may_be_exactly_as_long_as_the_limit() {
    let limits = Limits { max_control_line: 8, ..Limits::default() };
    assert_eq!(error_of(b"SUB abcdef 1\r\n", limits), None);
    assert_eq!(error_of(b"SUB abcdef 1\r", limits), None);
    assert!(error_of(b"SUB abcdefg 1\r\n", limits).is_some());
    // A bare LF behind a line with a CR takes a byte of the arguments with it; before it comes, nobody knows.
    let odd = b"INFO ab\rdefg8\n";
    for cut in 0..odd.len() {
        let seen = decode_in_pieces::<ClientGrammar>(odd, &[cut], limits);
        assert!(seen.len() == 1 && seen[0].starts_with("Info"), "{cut}: {seen:?}");
    }
}

#[test]
fn blanks_and_ignored_words_do_not_pile_up() {
    let mut decoder = Decoder::<ClientGrammar>::new(Limits::default());
    for piece in [&b"PUB   "[..], b"   ", b"   "] {
        let Ok(Decoded::Incomplete { used, .. }) = decoder.decode(piece) else { panic!() };
        assert_eq!(used, piece.len());
    }
    assert!(matches!(decoder.decode(b"a 0\r\n\r\nPINGxxx"), Ok(Decoded::Op { used: 7, .. })));
    for piece in [&b"PINGxxx"[..], b"yyy"] {
        assert!(matches!(decoder.decode(piece), Ok(Decoded::Incomplete { used, .. }) if used == piece.len()));
    }
    assert!(matches!(decoder.decode(b"z\n"), Ok(Decoded::Op { op: ClientOp::Ping, used: 2 })));
}

#[test]
fn decoding_allocates_nothing() {
    let mut input = Vec::new();
    for _ in 0..100 {
        encode::publish(&mut input, b"some.subject", b"_INBOX.x.y", b"NATS/1.0\r\nA: b\r\n\r\n", &[7; 300]);
        encode::publish(&mut input, b"some.subject", b"", b"", &[7; 16]);
        input.extend_from_slice(b"SUB a.* q 12\r\nUNSUB 12 3\r\nPING\r\n");
    }
    let mut decoder = Decoder::<ClientGrammar>::new(Limits::default());
    let (count, ops) = allocations(|| {
        let (mut at, mut ops) = (0, 0);
        while let Ok(Decoded::Op { used, .. }) = decoder.decode(&input[at..]) {
            at += used;
            ops += 1;
        }
        ops
    });
    assert_eq!((count, ops), (0, 500));
}

#[test]
fn encoding_into_a_buffer_with_room_allocates_nothing() {
    let mut out = Vec::with_capacity(4096);
    let (count, ()) = allocations(|| {
        encode::publish(&mut out, b"a.b", b"r", b"NATS/1.0\r\n\r\n", b"payload");
        encode::msg(&mut out, encode::MsgTo { subject: b"a", sid: b"1", reply: b"" }, b"", b"x");
        encode::err(&mut out, "Stale Connection");
        encode::decimal(&mut out, u64::MAX);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_message_knows_its_parts() {
    let message = Pub {
        subject: b"s",
        reply: b"",
        header_len: Some(2),
        header_digits: b"2",
        size_digits: b"3",
        frame: b"hhp\r\n",
        onward: b"",
    };
    assert_eq!((message.headers(), message.payload(), message.body()), (&b"hh"[..], &b"p"[..], &b"hhp"[..]));
}
