//! Messages as the client library has them.

use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;

use crate::error::BusError;

/// A message on its way out.
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) reply: Option<Subject>,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

/// Has the client send it.
pub(crate) async fn publish(client: &Client, message: Outgoing) -> Result<(), async_nats::PublishError> {
    let Outgoing { subject, reply, headers, payload } = message;
    match (headers, reply) {
        (None, None) => client.publish(subject, payload).await,
        (None, Some(reply)) => client.publish_with_reply(subject, reply, payload).await,
        (Some(headers), None) => client.publish_with_headers(subject, headers, payload).await,
        (Some(headers), Some(reply)) => {
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        }
    }
}

/// Headers as the client takes them; `None` if there are none.
///
/// # Errors
/// One of them cannot be sent.
pub(crate) fn headers<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<HeaderMap>, BusError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let wrong = || BusError::Header(name.escape_debug().to_string());
        let key: HeaderName = name.parse().map_err(|_| wrong())?;
        let value: HeaderValue = value.parse().map_err(|_| wrong())?;
        map.append(key, value);
    }
    Ok((!map.is_empty()).then_some(map))
}

/// Names and values of a message's headers.
pub(crate) fn fields(message: &async_nats::Message) -> impl Iterator<Item = (&str, &str)> {
    let all = message.headers.iter().flat_map(HeaderMap::iter);
    all.flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
}
