//! What a client says: any bytes, cut anywhere, give the same operations.
#![no_main]

#[path = "../decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::check::<midge_wire::ClientGrammar>(data));
