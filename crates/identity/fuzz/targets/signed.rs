//! Signed messages as strangers send them: nothing is believed that the one key did not sign.
#![no_main]

use midge_identity::KeyPair;
use midge_identity::signed::headers::{self, Message};
use midge_identity::signed::record::seal;
use midge_identity::signed::{HashType, Receiver, UnixTime};

const CHANNEL: &str = "a";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let now = UnixTime::from_nanos(0);
    // Whose signature it is cannot be known from outside, so nothing that the fuzzer makes up is believed but what
    // this key has signed: the payload follows from the record.
    let key = KeyPair::from_seed(&[1; 32]).unwrap();
    let record = seal(&key, CHANNEL, data, now, HashType::Sha256);
    let opened = Receiver::default().open_record(&record, CHANNEL, now).unwrap();
    assert_eq!(opened.0, data);
    if let Ok((_, verified)) = Receiver::default().open_record(data, CHANNEL, now) {
        assert_ne!(verified.sender, key.peer_id());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let headers: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).collect();
    let message = Message { channel: CHANNEL, reply: "", headers: &headers, payload: data };
    if let Ok(verified) = Receiver::default().open_headers(&message, now) {
        assert_ne!(verified.sender, key.peer_id());
    }
    if let Ok(added) = headers::sign(&key, &message, now, [0; 16]) {
        let added: Vec<(&str, &str)> = added.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let headers = [headers.as_slice(), &added].concat();
        let message = Message { headers: &headers, ..message };
        assert_eq!(Receiver::default().open_headers(&message, now).unwrap().sender, key.peer_id());
    }
});
