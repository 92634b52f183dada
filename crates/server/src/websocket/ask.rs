//! Asking another server for a WebSocket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use data_encoding::BASE64;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::request::accepted_key;
use super::stream::Manner;
use super::{Socket, WebSocket};
use crate::carrier::Carrier;
use crate::options::ConnectionType;

/// Time in which an answer must have come.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks whoever is at the other end of `io` for a WebSocket on that path.
///
/// # Errors
/// It refuses, or does not answer.
pub(crate) async fn ask<T>(io: T, host: &str, path: &str) -> io::Result<Socket>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut random = [0; 16];
    ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| io::Error::other("no randomness"))?;
    let key = BASE64.encode(&random);
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let upgraded = timeout(PATIENCE, async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        // It ends with the upgrade, or with the request's being given up.
        tokio::task::spawn_local(connection.with_upgrades());
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Err(format!("websocket: it answers with {}", response.status())));
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accept != Some(accepted_key(&key).as_bytes()) {
            return Ok(Err("websocket: its answer is to another request".to_owned()));
        }
        hyper::upgrade::on(response).await.map(Ok)
    });
    let upgraded = upgraded.await.map_err(|_| io::Error::other("websocket: it does not answer"))?;
    let upgraded = upgraded.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let manner = Manner { compresses: false, masked: false, masks: true, most_frame: None, fragments: true };
    let carrier = Arc::new(Carrier::new(ConnectionType::WebSocket));
    Ok(WebSocket::new(TokioIo::new(upgraded), manner, carrier))
}
