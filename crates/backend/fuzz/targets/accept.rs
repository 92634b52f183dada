//! What somebody answers whom a link was asked for: only the peer that was asked can agree.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use midge_backend::Prefix;
use midge_backend::rendezvous::{DialRequest, RandomBytes, Terms};
use midge_identity::KeyPair;

fuzz_target!(|bytes: &[u8]| {
    let key = KeyPair::from_seed(&std::array::from_fn(|n| n as u8)).unwrap();
    let target = KeyPair::from_seed(&[0xaa; 32]).unwrap().peer_id();
    let prefix: Prefix = "midge".parse().unwrap();
    let now = Duration::from_millis(1_700_000_000_000);
    let terms = Terms { key: &key, prefix: &prefix, now, max_datagram: 16_000 };
    let mut random = RandomBytes::new([0x33; 64]);
    random[32..].fill(0x11);
    let request = DialRequest::new(&terms, target, &random);
    if let Ok(session) = request.answered(bytes) {
        assert_eq!(session.peer, target);
        assert!(session.max_datagram >= 1200);
    }
});
