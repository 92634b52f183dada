//! Subjects: matching agrees with a walk over tokens.
#![no_main]

use midge_wire::subject;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (pattern, name) = data.split_at(data.len() / 2);
    let matched = subject::matches(pattern, name);
    if subject::is_valid(pattern) && subject::is_valid_literal(name) {
        assert_eq!(matched, naive(pattern, name));
    }
});

fn naive(pattern: &[u8], name: &[u8]) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.split(|b| *b == b'.').collect(), name.split(|b| *b == b'.').collect());
    for (at, token) in pattern.iter().enumerate() {
        match (*token, name.get(at)) {
            (b">", Some(_)) => return true,
            (b"*", Some(_)) => {}
            (token, Some(word)) if token == *word => {}
            _ => return false,
        }
    }
    pattern.len() == name.len()
}
