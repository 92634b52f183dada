//! What strangers send who ask for a link through a deployment: whatever it is, it is answered, refused, and never taken twice.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use midge_backend::Prefix;
use midge_backend::rendezvous::{DialGuard, RandomBytes, RendezvousError, Terms};
use midge_identity::KeyPair;

fuzz_target!(|bytes: &[u8]| {
    let key = KeyPair::from_seed(&[0xaa; 32]).unwrap();
    let prefix: Prefix = "midge".parse().unwrap();
    let now = Duration::from_millis(1_700_000_000_000);
    let terms = Terms { key: &key, prefix: &prefix, now, max_datagram: 16_000 };
    let mut guard = DialGuard::default();
    match guard.look(&terms, bytes, |_| true) {
        Ok(asked) => {
            let answer = asked.accept(&terms, &RandomBytes::new([0x22; 64]));
            assert!(answer.is_ok() || matches!(answer, Err(RendezvousError::Key)));
            assert!(matches!(guard.look(&terms, bytes, |_| true), Err(RendezvousError::Replayed)));
        }
        Err(why) => assert!(why.code() >= 400 && !why.to_string().contains('\n')),
    }
});
