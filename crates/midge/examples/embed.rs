//! A server inside a program: no port is open, and no thread is started.
//!
//! A service answers from inside the process; a client asks it over a byte stream, here one in memory. Whatever
//! else carries bytes both ways (a serial line, a WebSocket, a tunnel) takes the duplex stream's place.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use midge::local::Outgoing;
use midge::options::Options;
use midge::{Inside, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let heard = runtime.block_on(ask())?;
    assert!(heard.ends_with("MSG inbox 1 11\r\nhello, joe!\r\n"), "{heard}");
    Ok(())
}

async fn ask() -> Result<String, Box<dyn Error>> {
    let mut options = Options::default();
    options.name = Some("inside".to_owned());
    let server = Server::new(options)?;
    let service = server.join(&server.router().global_account());
    service.subscribe(b"greet.*", b"")?;
    tokio::spawn(greet(service));

    let mut client = connect(&server).await?;
    client.write_all(b"SUB inbox 1\r\nPUB greet.joe inbox 0\r\n\r\n").await?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"!\r\n") {
        client.read_buf(&mut heard).await?;
    }
    server.stop().await;
    Ok(String::from_utf8(heard)?)
}

/// Answers requests until the server stops.
async fn greet(service: Inside) {
    while let Some(request) = service.next().await {
        let name = request.subject.strip_prefix(b"greet.").unwrap_or(b"whoever you are");
        let payload = [b"hello, ", name, b"!"].concat();
        service.publish(
            &Outgoing { subject: &request.reply, payload: &payload, ..Outgoing::default() },
            Instant::now(),
        );
    }
}

/// A client's end of a stream whose other end the server has, after the two have greeted each other.
async fn connect(server: &Arc<Server>) -> Result<DuplexStream, Box<dyn Error>> {
    let (mut client, io) = tokio::io::duplex(64 * 1024);
    tokio::spawn(server.clone().drive(io, "in-memory:1"));
    client.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n").await?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"PONG\r\n") {
        client.read_buf(&mut heard).await?;
    }
    Ok(client)
}

#[test]
fn a_client_over_a_stream_and_a_service_inside_hear_each_other() -> Result<(), Box<dyn Error>> {
    main()
}
