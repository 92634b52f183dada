//! Certificates: none makes whoever looks for a user in it panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| midge_server::fuzzing::certificate(data));
