//! What the fuzz targets need of this module.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Manner, WebSocket, speak};
use crate::carrier::Carrier;
use crate::options::{ConnectionType, Options};
use crate::server::Server;

/// A WebSocket whose manner is in the lowest bits.
pub(crate) fn socket<T>(io: T, manner: u8) -> WebSocket<T> {
    let manner = Manner {
        compresses: manner & 1 != 0,
        masks: false,
        masked: manner & 2 != 0,
        most_frame: None,
        fragments: true,
    };
    WebSocket::new(io, manner, Arc::new(Carrier::new(ConnectionType::WebSocket)))
}

/// Options under which as much as possible of a request matters.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    let websocket = &mut options.websocket;
    websocket.no_tls = true;
    websocket.compression = true;
    websocket.same_origin = true;
    websocket.allowed_origins = vec!["https://example.com".to_owned(), "http://other.example:81".to_owned()];
    websocket.cookies.user = "user".to_owned();
    websocket.cookies.password = "pass".to_owned();
    options
}

/// Answers HTTP, and hangs up on whoever becomes a WebSocket.
pub(crate) async fn answer<T>(server: &Arc<Server>, io: T)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = ([127, 0, 0, 1], 1).into();
    speak(server, io, (peer, None), Duration::from_secs(10), |_| {}).await;
}
