//! Keys and signatures as strangers send them: a text is a key in one spelling only, and nothing passes for the
//! signature of somebody whose private half the fuzzer does not have.
#![no_main]

use midge_identity::{PublicNkey, challenge};

/// Somebody's key.
const KEY: &str = "UALBUYLOUZQDM35KZTK7Y5DLM7RXEEE4ITBTFGFTG6KTANJZ5Z67SKNG";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = text.parse::<PublicNkey>() {
        assert_eq!(key.as_str(), text);
        assert_eq!(key.bytes(), key.to_string().parse::<PublicNkey>().unwrap().bytes());
    }
    let key: PublicNkey = KEY.parse().unwrap();
    assert!(challenge::verify(&key, "nonce", &text).is_err());
});
