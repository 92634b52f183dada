//! What carries a bare client's bytes.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message, WebSocket};

/// Reads and writes, and says when nothing more will be written.
pub trait Carrier: Read + Write + Debug + Send {
    /// What carries it all in the end.
    fn socket(&self) -> &TcpStream;

    /// Says so, where that takes more than the socket's own end.
    fn finish(&mut self) {}
}

impl Carrier for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Carrier for Secure {
    fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn finish(&mut self) {
        self.connection.send_close_notify();
        // Whoever has hung up does not want to know.
        let _ = self.flush();
    }
}

impl<T: Carrier> Carrier for Framed<T> {
    fn socket(&self) -> &TcpStream {
        self.0.get_ref().socket()
    }

    fn finish(&mut self) {
        let _ = self.0.close(None).and_then(|()| self.0.flush());
    }
}

/// TLS around a socket. Unlike rustls's own stream, it reads what has come even when nothing can be written any more.
#[derive(Debug)]
pub struct Secure {
    connection: ClientConnection,
    socket: TcpStream,
}

/// TLS around a socket. The handshake happens with the first byte.
///
/// # Panics
/// The client's rules do not go together.
#[must_use]
pub fn tls(socket: TcpStream, config: &Arc<ClientConfig>) -> Secure {
    let name = "localhost".try_into().unwrap();
    Secure { connection: ClientConnection::new(config.clone(), name).unwrap(), socket }
}

impl Read for Secure {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end without a goodbye is an end all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            let written = self.flush();
            if self.connection.is_handshaking() {
                written?;
            }
            if self.connection.read_tls(&mut self.socket)? == 0 && self.connection.is_handshaking() {
                return Ok(0);
            }
            self.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Secure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        let taken = self.connection.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// A WebSocket whose messages are one stream of bytes.
pub struct Framed<T>(WebSocket<T>, Vec<u8>);

impl<T> Debug for Framed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Framed")
    }
}

impl<T: Read + Write> Framed<T> {
    /// Asks for a WebSocket, with further headers.
    ///
    /// # Errors
    /// It is refused.
    ///
    /// # Panics
    /// A header is none.
    pub fn ask(io: T, headers: &[(&'static str, &str)]) -> Result<Self, String> {
        let mut request = "ws://localhost/".into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tungstenite::client(request, io).map_err(|why| why.to_string())?;
        Ok(Self(socket, Vec::new()))
    }
}

/// What a byte stream would have said.
fn plain(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<T: Read + Write> Read for Framed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            match self.0.read() {
                Ok(Message::Binary(bytes)) => self.1 = bytes.to_vec(),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Ok(0),
                Err(Error::Protocol(_)) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(plain(error)),
            }
        }
        let take = self.1.len().min(buffer.len());
        buffer[..take].copy_from_slice(&self.1[..take]);
        self.1.drain(..take);
        Ok(take)
    }
}

impl<T: Read + Write> Write for Framed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Message::binary(bytes.to_vec())).map_err(plain)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(plain)
    }
}
