//! What the servers of a cluster say to each other.
#![no_main]

#[path = "../decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::check::<midge_wire::RouteGrammar>(data));
