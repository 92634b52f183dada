//! HTTP of whoever connects to the WebSocket port: no input makes a server panic, and every answer is HTTP.
#![no_main]

use midge_server::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let answer = fuzzing::upgraded(data);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
});
