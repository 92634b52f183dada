//! Certificates as strangers show them: nothing passes for a certificate of somebody whose key the fuzzer does not have,
//! and what passes at all is of one spelling.
#![no_main]

use midge_identity::KeyPair;
use midge_link::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(peer) = fuzzing::peer_of(data) else { return };
    let key = KeyPair::from_seed(&[1; 32]).unwrap();
    assert_ne!(peer, key.peer_id(), "nobody else has this key");
    // What signs the handshake is there, then, too; and nothing may stand behind it.
    assert!(fuzzing::has_key(data));
    assert_eq!(fuzzing::peer_of(&[data, &[0]].concat()), None);
});
