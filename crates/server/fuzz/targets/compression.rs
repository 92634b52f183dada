//! What another server says by a compressed connection: no input makes the reader panic or spin, and what comes out does not
//! depend on how the input is cut or on how much is read at once.
#![no_main]

use midge_server::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((cut, rest)) = data.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    // Most inputs are to get past the agreement.
    let agreement: &[u8] = if cut % 8 == 0 { b"" } else { b"INFO {\"compression\":\"s2_fast\"}\r\n\xff\x06\0\0S2sTwO" };
    let input = [agreement, rest].concat();
    let whole = fuzzing::uncompressed(&input, usize::MAX, 4096);
    let pieces = fuzzing::uncompressed(&input, cut, cut + 1);
    assert_eq!(whole.1, pieces.1, "in pieces of {cut}");
    assert!(whole.0 == pieces.0, "in pieces of {cut}: {} and {} bytes", whole.0.len(), pieces.0.len());
});
