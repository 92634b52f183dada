//! Configuration files: no text makes the parser panic, and every error has a place.
#![no_main]

use midge_conf::{NoFiles, parse};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match parse("fuzz.conf", &text, &NoFiles) {
        Ok(document) => {
            let _ = document.root.to_json();
        }
        Err(errors) => assert!(errors.to_string().contains("fuzz.conf:"), "{errors}"),
    }
});
