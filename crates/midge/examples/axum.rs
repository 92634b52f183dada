//! NATS on a route of an axum application, on the same port as its pages.
//!
//! Browsers and other WebSocket clients connect to `ws://127.0.0.1:8080/nats`; services inside the program are heard
//! by them, and hear them. Run it with `cargo run -p midge --example axum`.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::get;
use midge::Server;
use midge::options::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let server = Server::new(Options::default())?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
        Ok(axum::serve(listener, app(server).into_make_service_with_connect_info::<SocketAddr>()).await?)
    })
}

fn app(server: Arc<Server>) -> Router {
    Router::new().route("/", get(async || "NATS is at /nats\n")).route("/nats", get(nats)).with_state(server)
}

async fn nats(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    server.websocket(request, &peer.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use tungstenite::{Message, WebSocket};

    use super::*;

    /// Reads messages until what they say together ends so.
    fn hear(socket: &mut WebSocket<TcpStream>, end: &str) -> String {
        let mut heard = String::new();
        while !heard.ends_with(end) {
            match socket.read() {
                Ok(Message::Binary(bytes)) => heard += &String::from_utf8_lossy(&bytes),
                Ok(_) => {}
                Err(why) => panic!("{why} after {heard:?}"),
            }
        }
        heard
    }

    fn talk(address: SocketAddr) -> String {
        let stream = TcpStream::connect(address).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{address}/nats"), stream).unwrap();
        hear(&mut socket, "\r\n");
        let said =
            "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB a 1\r\nPUB a 5\r\nhello\r\nPING\r\n";
        socket.send(Message::binary(said)).unwrap();
        hear(&mut socket, "PONG\r\n")
    }

    #[tokio::test]
    async fn a_client_on_a_route_is_a_client_of_the_server() {
        let server = Server::new(Options::default()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app(server.clone()).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let heard = tokio::task::spawn_blocking(move || talk(address)).await.unwrap();
        assert_eq!(heard, "MSG a 1 5\r\nhello\r\nPONG\r\n");
        assert_eq!(server.router().totals().total_connections, 1);
        server.stop().await;
    }
}
