//! The beginning of a stream as strangers write it: what is read is what would be written, but for fields that are not
//! known, and never a byte more.
#![no_main]

use futures_util::FutureExt;
use midge_link::establish::{head, read};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let Some(Ok(name)) = read(&mut rest).now_or_never() else { return };
    let read_bytes = data.len() - rest.len();
    let written = head(&name).unwrap();
    assert!(written.len() <= read_bytes);
    let mut again = written.as_slice();
    assert_eq!(read(&mut again).now_or_never().unwrap().unwrap(), name);
    assert!(again.is_empty());
});
