//! The bodies of CONNECT and INFO: whatever can be read can be written and read again.
#![no_main]

use midge_wire::json::{Connect, Info};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut connect = Connect::default();
    let _ = connect.update(data);
    if let Ok(info) = Info::from_json(data) {
        let json = info.to_json();
        let again = Info::from_json(&json).expect("what was written can be read");
        assert_eq!(json, again.to_json());
    }
});
