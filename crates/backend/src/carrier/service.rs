//! What a carrier does beside carrying: it connects, sends what waits, and is the micro service that peers ask for sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::service::error::Error as ServiceError;
use async_nats::service::{Service, ServiceExt};
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use midge_link::Admission;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Inner, Listening, SERVICE, random_bytes};
use crate::nats::Attempt;
use crate::rendezvous::{DialGuard, RendezvousError, WAIT};

const SERVICE_VERSION: &str = "1.0.0";
/// Bytes that a message must be able to have, so that there can be links at all: what QUIC needs.
const LEAST_PAYLOAD: usize = 1200;
/// Time before another client takes the place of one that has ended.
const AGAIN: Duration = Duration::from_millis(250);

impl Inner {
    /// Answers a question of a peer: what to say, and why not if it is not agreed to.
    fn answer(
        &self,
        guard: &mut DialGuard,
        question: &[u8],
        admission: &dyn Admission,
    ) -> (Result<Bytes, ServiceError>, Option<RendezvousError>) {
        let terms = self.terms();
        let unsigned = |why: RendezvousError| {
            let error = ServiceError { status: why.told(), code: why.code().into() };
            (Err(error), Some(why))
        };
        let asked = match guard.look(&terms, question, |peer| admission.admits(peer)) {
            Ok(asked) => asked,
            Err(why) => return unsigned(why),
        };
        let Some(random) = random_bytes() else { return unsigned(RendezvousError::Busy(WAIT)) };
        let (answer, session) = match asked.accept(&terms, &random) {
            Ok(accepted) => accepted,
            Err(why) => return unsigned(why),
        };
        match self.enter(&session, false) {
            Ok(_) => (Ok(answer.into()), None),
            Err(why) => (Ok(asked.reject(&terms, &why).into()), Some(why)),
        }
    }
}

/// Connects, listens, and sends what waits; anew when the client has ended, for whatever reason.
pub(super) async fn run(
    inner: Arc<Inner>,
    attempt: Attempt,
    mut waiting: mpsc::Receiver<(Subject, Bytes)>,
    listening: Listening,
) {
    loop {
        let client = attempt.connect().await;
        if client.max_payload() < LEAST_PAYLOAD {
            let most = client.max_payload();
            tracing::warn!(
                "The NATS server takes messages of {most} bytes at most, and links need {LEAST_PAYLOAD}"
            );
        }
        if let Ok(incoming) = client.subscribe(inner.prefix.join(&format!("d.{}.*", inner.us))).await {
            inner.receive(incoming);
            tokio::select! {
                () = send(&inner, &client, &mut waiting) => {}
                () = offer(&inner, &client, &listening) => {}
                () = inner.ended.notified() => {}
            }
        }
        tracing::warn!("The connection to the NATS deployment has ended, and is made anew");
        sleep(AGAIN).await;
    }
}

/// Sends what waits until the client has ended.
async fn send(inner: &Inner, client: &Client, waiting: &mut mpsc::Receiver<(Subject, Bytes)>) {
    while let Some((subject, datagram)) = waiting.recv().await {
        inner.room.notify_waiters();
        // Too long for this server: a loss, by which QUIC finds out what is not.
        if let Err(why) = client.publish(subject, datagram).await
            && why.kind() == PublishErrorKind::Send
        {
            return;
        }
    }
}

/// Offers links to those who may, until the client has ended.
async fn offer(inner: &Arc<Inner>, client: &Client, listening: &Listening) {
    match listening {
        Listening::To(admission) => {
            if let Err(why) = listen(inner, client, &**admission).await {
                tracing::warn!("Links through NATS are not offered: {why}");
            }
        }
        Listening::No => std::future::pending().await,
    }
}

/// A micro service, which does not end by being forgotten.
struct Offered(Option<Service>);

impl Drop for Offered {
    fn drop(&mut self) {
        if let Some(service) = self.0.take() {
            // It waits for nothing.
            let _ = service.stop().now_or_never();
        }
    }
}

/// Is the micro service that peers ask for sessions.
async fn listen(
    inner: &Arc<Inner>,
    client: &Client,
    admission: &dyn Admission,
) -> Result<(), async_nats::Error> {
    let metadata =
        [("peer".to_owned(), inner.us.to_string()), ("prefix".to_owned(), inner.prefix.to_string())];
    let service = client
        .service_builder()
        .description("Links to a midge peer")
        .metadata(metadata.into_iter().collect())
        .start(SERVICE, SERVICE_VERSION)
        .await?;
    let subject = inner.prefix.join(&format!("link.{}.dial", inner.us));
    let mut questions = service.endpoint_builder().name("dial").add(subject).await?;
    let _offered = Offered(Some(service));
    let mut guard = DialGuard::default();
    while let Some(question) = questions.next().await {
        let (answer, refused) = inner.answer(&mut guard, &question.message.payload, admission);
        let count = if refused.is_none() { &inner.counts.accepted } else { &inner.counts.refused };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(why) = refused {
            tracing::debug!("A dial is refused: {why}");
        }
        if question.message.reply.is_some()
            && let Err(why) = question.respond(answer).await
        {
            tracing::debug!("A dial is not answered: {why}");
        }
    }
    Ok(())
}
