//! Frames of a WebSocket client: no input makes the reader panic or spin, and what comes out does not depend on how
//! the input is cut or on how much is read at once.
#![no_main]

use midge_server::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((manner, input)) = data.split_first() else { return };
    let cut = usize::from(*manner >> 2).max(1);
    let (whole, why) = fuzzing::unframed(*manner, input, usize::MAX, 4096);
    let (pieces, also) = fuzzing::unframed(*manner, input, cut, cut + 1);
    assert_eq!(why, also, "in pieces of {cut}");
    // Of a compressed message that breaks off or is broken, one may hear more than the other, but nothing else.
    let compresses = manner & 1 != 0;
    let same = whole == pieces || compresses && (pieces.starts_with(&whole) || whole.starts_with(&pieces));
    assert!(same, "in pieces of {cut}: {} and {}", whole.escape_ascii(), pieces.escape_ascii());
});
