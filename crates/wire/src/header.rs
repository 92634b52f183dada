//! Message headers: `NATS/1.0[ status[ text]]`, then `Key: Value` lines, then an empty line (ADR-4).
//!
//! Routing never looks inside them; these are helpers for those who make or read them.

/// The first line of a header block.
pub const VERSION: &[u8] = b"NATS/1.0";

/// Appends a header block with these keys and values.
pub fn write(out: &mut Vec<u8>, fields: &[(&str, &str)]) {
    out.extend_from_slice(VERSION);
    out.extend_from_slice(b"\r\n");
    for (key, value) in fields {
        crate::encode::parts(out, &[key.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The keys and values of a header block, in their order; lines without a colon are left out.
pub fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block.split(|b| *b == b'\n').skip(1).filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr::memchr(b':', line)?;
        let (key, rest) = line.split_at_checked(colon)?;
        Some((key, rest.get(1..)?.trim_ascii()))
    })
}

/// The status code on the block's first line, such as 503.
#[must_use]
pub fn status(block: &[u8]) -> Option<u16> {
    let line = block.split(|b| *b == b'\n').next()?.strip_prefix(VERSION)?;
    let code = line.trim_ascii().split(u8::is_ascii_whitespace).next()?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut block = Vec::new();
        write(&mut block, &[("A", "1"), ("B", "two words")]);
        let read: Vec<_> = fields(&block).collect();
        assert_eq!(read, [(&b"A"[..], &b"1"[..]), (b"B", b"two words")]);
        assert_eq!(status(&block), None);
        assert_eq!(status(b"NATS/1.0 503\r\nNats-Subject: a\r\n\r\n"), Some(503));
        assert_eq!(status(b"garbage"), None);
    }
}
