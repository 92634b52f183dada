//! A client that sends and receives bytes, and knows as little as possible of what they mean.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::carrier::{self, Carrier, Framed};
use crate::process::PATIENCE;

/// A connection, and what has come from it.
#[derive(Debug)]
pub struct Raw {
    carrier: Box<dyn Carrier>,
    received: Vec<u8>,
    closed: bool,
}

/// Something that a server said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frame {
    /// A line, its end left out.
    Line(String),
    /// A MSG or HMSG: its line and its body.
    Message(String, Vec<u8>),
}

impl Frame {
    /// The line.
    #[must_use]
    pub fn line(&self) -> &str {
        match self {
            Self::Line(line) | Self::Message(line, _) => line,
        }
    }
}

fn socket(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Raw {
    /// Connects to a port of this machine.
    ///
    /// # Panics
    /// There is nobody.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        Self::over(Box::new(socket(port)))
    }

    /// A client whose bytes are carried by this.
    #[must_use]
    pub fn over(carrier: Box<dyn Carrier>) -> Self {
        Self { carrier, received: Vec::new(), closed: false }
    }

    /// Connects, takes the INFO, and goes on with TLS. The INFO is the first frame all the same.
    ///
    /// # Panics
    /// There is nobody.
    #[must_use]
    pub fn connect_tls(port: u16, config: &Arc<ClientConfig>) -> Self {
        let mut plain = Self::connect(port);
        let info = plain.next_line().unwrap_or_default();
        let mut secure = Self::over(Box::new(carrier::tls(plain.stream().try_clone().unwrap(), config)));
        secure.received = format!("{info}\r\n").into_bytes();
        secure
    }

    /// Connects and begins with TLS.
    ///
    /// # Panics
    /// There is nobody.
    #[must_use]
    pub fn connect_tls_first(port: u16, config: &Arc<ClientConfig>) -> Self {
        Self::over(Box::new(carrier::tls(socket(port), config)))
    }

    /// Connects by WebSocket, with further headers and TLS if wanted.
    ///
    /// # Errors
    /// The server refuses.
    ///
    /// # Panics
    /// There is nobody.
    pub fn connect_websocket(
        port: u16,
        headers: &[(&'static str, &str)],
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let stream = socket(port);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let carrier: Box<dyn Carrier> = match config {
            Some(config) => Box::new(Framed::ask(carrier::tls(stream, config), headers)?),
            None => Box::new(Framed::ask(stream, headers)?),
        };
        Ok(Self::over(carrier))
    }

    /// Connects, takes the INFO, and sends a CONNECT without verbose and pedantic.
    ///
    /// # Panics
    /// There is nobody.
    #[must_use]
    pub fn client(port: u16) -> Self {
        let mut client = Self::connect(port);
        client.expect_line("INFO ");
        client.send(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n",
        );
        client
    }

    /// The stream itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.carrier.socket()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.carrier.finish();
        let _ = self.stream().shutdown(std::net::Shutdown::Write);
    }

    /// Sends bytes. A server that has hung up takes none, which is no error here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.carrier.write_all(bytes).and_then(|()| self.carrier.flush());
    }

    /// Waits for more bytes; whether some came. At the end of the connection none come any more.
    fn fill(&mut self, until: Instant) -> bool {
        if self.closed {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let _ = self.stream().set_read_timeout(Some(left));
        let mut buffer = [0; 64 * 1024];
        match self.carrier.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
        false
    }

    /// The next frame that has come already.
    fn parsed(&mut self) -> Option<Frame> {
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&self.received[..end]).trim_end_matches('\r').to_owned();
        if !line.starts_with("MSG ") && !line.starts_with("HMSG ") {
            self.received.drain(..=end);
            return Some(Frame::Line(line));
        }
        let size: usize = line.rsplit(' ').next()?.parse().ok()?;
        let body = self.received.get(end + 1..end + 1 + size)?.to_vec();
        if self.received.len() < end + 1 + size + 2 {
            return None;
        }
        self.received.drain(..end + 1 + size + 2);
        Some(Frame::Message(line, body))
    }

    /// The next line, whether it is one of the protocol or of a payload; none at the end of the connection.
    ///
    /// # Panics
    /// None comes, and the connection does not end.
    pub fn next_line(&mut self) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if !self.fill(until) {
                assert!(self.closed, "nothing comes");
                return None;
            }
        }
    }

    /// The next frame; none at the end of the connection, or when none comes in time.
    pub fn frame_within(&mut self, time: Duration) -> Option<Frame> {
        let until = Instant::now() + time;
        loop {
            if let Some(frame) = self.parsed() {
                return Some(frame);
            }
            if !self.fill(until) && (self.closed || Instant::now() >= until) {
                return None;
            }
        }
    }

    /// The next frame; none at the end of the connection.
    ///
    /// # Panics
    /// None comes, and the connection does not end.
    pub fn frame(&mut self) -> Option<Frame> {
        let frame = self.frame_within(PATIENCE);
        assert!(frame.is_some() || self.closed, "nothing comes");
        frame
    }

    /// Takes frames up to a line that begins so; the line.
    ///
    /// # Panics
    /// It does not come.
    pub fn expect_line(&mut self, begin: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.frame() {
                Some(frame) if frame.line().starts_with(begin) => return frame.line().to_owned(),
                Some(frame) => seen.push(frame),
                None => panic!("no line '{begin}' before the end, only {seen:?}"),
            }
        }
    }

    /// Takes the next message; its body.
    ///
    /// # Panics
    /// It does not come.
    pub fn expect_message(&mut self) -> Vec<u8> {
        loop {
            match self.frame() {
                Some(Frame::Message(_, body)) => return body,
                Some(Frame::Line(_)) => {}
                None => panic!("no message before the end"),
            }
        }
    }

    /// Sends a PING and takes everything up to its PONG: what was sent before has been done.
    pub fn sync(&mut self) -> Vec<Frame> {
        self.send(b"PING\r\n");
        let mut seen = Vec::new();
        while let Some(frame) = self.frame() {
            if frame.line() == "PONG" {
                break;
            }
            seen.push(frame);
        }
        seen
    }

    /// Takes everything up to the end of the connection.
    ///
    /// # Panics
    /// It does not end.
    pub fn rest(&mut self) -> Vec<Frame> {
        let mut seen = Vec::new();
        while let Some(frame) = self.frame() {
            seen.push(frame);
        }
        seen
    }

    /// Whether the server has hung up.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
}
