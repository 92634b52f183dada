//! What a server says to a client.
#![no_main]

#[path = "../decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::check::<midge_wire::ServerGrammar>(data));
