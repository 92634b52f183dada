//! How a stream says its protocol: a length as a varint and a message, as Bifrost v0.12.5 writes it
//! (`transport/controller/establish-header.go`).

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::link::Ended;
use crate::proto::StreamEstablish;

/// Most bytes of the message.
pub const MOST: usize = 100_000;
/// Most bytes of a protocol's name that is sent.
const MOST_NAME: usize = 1024;
/// Bytes of the longest length.
const MOST_LENGTH: usize = 3;

/// Why a stream has no protocol.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EstablishError {
    /// The link has ended.
    #[error("the link has ended: {0}")]
    Ended(Ended),
    /// The name is too short for those at the other side, too long, or has other letters than are printed.
    #[error("'{0}' is no name of a protocol")]
    Name(String),
    /// The message is too long, or its length is none.
    #[error("a message of no length that there could be")]
    Length,
    /// It is no such message.
    #[error("not the message that begins a stream: {0}")]
    Message(#[from] prost::DecodeError),
    /// The stream ended before.
    #[error("{0}")]
    Read(#[from] std::io::Error),
}

impl From<Ended> for EstablishError {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

/// Whether a stream can be for a protocol of that name.
fn check(name: &str) -> Result<(), EstablishError> {
    // Bifrost reads four bytes before it looks at any.
    let fits = (3..=MOST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(EstablishError::Name(name.chars().take(MOST_NAME).collect())) }
}

/// What a stream for that protocol begins with.
///
/// # Errors
/// It is no name of a protocol.
pub fn head(protocol: &str) -> Result<Vec<u8>, EstablishError> {
    check(protocol)?;
    Ok(StreamEstablish { protocol_id: protocol.to_owned() }.encode_length_delimited_to_vec())
}

/// Reads what a stream begins with, and not a byte more; the protocol.
///
/// # Errors
/// It begins with something else, or ends before.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, EstablishError> {
    let name = read_message::<StreamEstablish>(stream, MOST).await?.protocol_id;
    check(&name).map(|()| name)
}

/// Reads a message of at most so many bytes behind its length, and not a byte more.
pub(crate) async fn read_message<T: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<T, EstablishError> {
    let mut len = 0;
    for at in 0..MOST_LENGTH {
        let byte = stream.read_u8().await?;
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // A length has one spelling.
            if (byte == 0 && at > 0) || len == 0 || len > most {
                return Err(EstablishError::Length);
            }
            let mut message = Vec::new();
            // Room is made for what has come, not for what is said.
            stream.take(len as u64).read_to_end(&mut message).await?;
            if message.len() < len {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            return Ok(T::decode(message.as_slice())?);
        }
    }
    Err(EstablishError::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(bytes: &[u8]) -> Result<(String, usize), EstablishError> {
        let mut rest = bytes;
        let name = read(&mut rest).await?;
        Ok((name, rest.len()))
    }

    /// As Bifrost writes them.
    #[tokio::test]
    async fn streams_begin_as_bifrosts_do() {
        for (name, bytes) in [
            ("nats.io/2/router", &b"\x12\x0a\x10nats.io/2/router"[..]),
            ("nats.io/2/client", b"\x12\x0a\x10nats.io/2/client"),
        ] {
            assert_eq!(head(name).unwrap(), bytes);
            let more = [bytes, b"INFO"].concat();
            assert_eq!(parse(&more).await.unwrap(), (name.to_owned(), 4), "what follows is left");
        }
        let long = "x".repeat(MOST_NAME);
        assert_eq!(parse(&head(&long).unwrap()).await.unwrap(), (long, 0));
    }

    #[tokio::test]
    async fn what_is_no_beginning_is_refused() {
        assert!(matches!(parse(b"\x00").await, Err(EstablishError::Length)));
        assert!(matches!(parse(b"\xff\xff\xff\x01").await, Err(EstablishError::Length)));
        assert!(matches!(parse(b"\xff\xff\x7f").await, Err(EstablishError::Length)));
        assert!(matches!(parse(b"\x92\x00\x0a\x10nats.io/2/router").await, Err(EstablishError::Length)));
        assert!(matches!(parse(b"\x03\xff\xff\xff").await, Err(EstablishError::Message(_))));
        assert!(matches!(parse(b"\x03\x0a\x01a").await, Err(EstablishError::Name(_))), "too short");
        assert!(matches!(parse(b"\x05\x0a\x03a\nb").await, Err(EstablishError::Name(_))));
        let whole = head("nats.io/2/router").unwrap();
        for cut in 0..whole.len() {
            assert!(matches!(parse(&whole[..cut]).await, Err(EstablishError::Read(_))), "{cut}");
        }
        for name in ["", "ab", "a b c", "\u{e4}\u{e4}", &"x".repeat(MOST_NAME + 1)] {
            assert!(matches!(head(name), Err(EstablishError::Name(_))));
        }
    }
}
