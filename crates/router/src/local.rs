//! Publishers and subscribers inside this process.
//!
//! A local peer has the same subscriptions and gets its messages by the same delivery as a client, without a
//! byte stream between. The server's own services are local peers, so the core need not grow for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use midge_wire::Pub;
use midge_wire::subject::is_word;

use crate::account::Account;
use crate::conn::{Conn, Kind, Owner};
use crate::deliver::{Delivery, Groups, Source};
use crate::grant::{Arrival, Grant};
use crate::reason::CloseReason;
use crate::router::{NewSub, Router, SubscribeError};
use crate::sync::Mutex;
use crate::worker::Worker;

/// A message for a local subscriber.
#[derive(Debug, Clone)]
pub struct Message {
    /// The subscription that it is for, as [`Local::subscribe`] numbered it.
    pub sid: u64,
    /// Who published it.
    pub from: Arc<Conn>,
    /// The subject that it was published on.
    pub subject: Bytes,
    /// The subject for replies; empty when there is none.
    pub reply: Bytes,
    /// The header block; empty when there is none.
    pub headers: Bytes,
    /// What follows the headers.
    pub payload: Bytes,
}

impl Message {
    fn cost(&self) -> usize {
        128 + self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()
    }
}

/// Messages that wait for a local peer. Bounded by the connection's `max_pending`.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Mailbox {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message; how many bytes of headers and payload it has.
    pub(crate) fn push(&mut self, message: &Pub<'_>, sid: &[u8], from: &Arc<Conn>) -> usize {
        let all = Bytes::copy_from_slice(message.frame);
        let len = message.body().len();
        let header_len = message.header_len.unwrap_or(0).min(len);
        let message = Message {
            sid: sid.iter().fold(0, |n, digit| n * 10 + u64::from(digit.wrapping_sub(b'0'))),
            from: from.clone(),
            subject: Bytes::copy_from_slice(message.subject),
            reply: Bytes::copy_from_slice(message.reply),
            headers: all.slice(..header_len),
            payload: all.slice(header_len..len),
        };
        self.bytes += message.cost();
        self.messages.push_back(message);
        len
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.cost();
        Some(message)
    }
}

/// What a local peer publishes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// Where to.
    pub subject: &'a [u8],
    /// Where replies shall go; empty for nowhere.
    pub reply: &'a [u8],
    /// A whole header block; empty for none.
    pub headers: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
}

/// A publisher and subscriber inside this process, bound to one account. Its connection ends when it is dropped.
#[derive(Debug)]
pub struct Local {
    router: Arc<Router>,
    worker: Arc<Mutex<Worker>>,
    account: Arc<Account>,
    conn: Arc<Conn>,
    next_sid: Mutex<u64>,
}

impl Local {
    /// Joins `account` of `router`. `owner` is woken when messages have come; `worker` is what publishing uses,
    /// and may be shared with others.
    #[must_use]
    pub fn new(
        router: &Arc<Router>,
        worker: Arc<Mutex<Worker>>,
        account: &Arc<Account>,
        owner: Arc<dyn Owner>,
        now: Instant,
    ) -> Self {
        let grant = Arc::new(Grant::of(account.clone()));
        let conn = router.connect(Kind::Local, Arrival::from("local"), &grant, owner, now);
        {
            let mut state = conn.lock();
            state.mailbox = Some(Box::default());
            state.headers = true;
        }
        Self { router: router.clone(), worker, account: account.clone(), conn, next_sid: Mutex::new(1) }
    }

    /// Subscribes; an empty `queue` is none. The number that its messages carry.
    ///
    /// # Errors
    /// The subject is not valid, or the peer has been closed.
    pub fn subscribe(&self, subject: &[u8], queue: &[u8]) -> Result<u64, SubscribeError> {
        if !is_word(subject) || !(queue.is_empty() || is_word(queue)) {
            return Err(SubscribeError::Subject);
        }
        let sid = {
            let mut next = self.next_sid.lock();
            *next += 1;
            *next
        };
        let text = sid.to_string();
        let new = NewSub { subject, queue, sid: text.as_bytes(), limit: 0 };
        self.router.subscribe(&self.conn, &self.account, &new)?;
        Ok(sid)
    }

    /// Ends a subscription, or lets it end when it has had `max` messages in all; zero ends it now.
    pub fn unsubscribe(&self, sid: u64, max: u64) {
        self.router.unsubscribe(&self.conn, &self.account, sid.to_string().as_bytes(), max);
    }

    /// Publishes, and writes to whoever wants it. To how many subscriptions it went: none, if a subject could not stand in
    /// a line of the protocol.
    pub fn publish(&self, out: &Outgoing<'_>, now: Instant) -> u64 {
        if !is_word(out.subject) || !(out.reply.is_empty() || is_word(out.reply)) {
            return 0;
        }
        let mut frame = Vec::with_capacity(out.headers.len() + out.payload.len() + 2);
        for piece in [out.headers, out.payload, b"\r\n"] {
            frame.extend_from_slice(piece);
        }
        let size = (frame.len() - 2).to_string();
        let header_size = out.headers.len().to_string();
        let message = Pub {
            subject: out.subject,
            reply: out.reply,
            header_len: (!out.headers.is_empty()).then_some(out.headers.len()),
            header_digits: header_size.as_bytes(),
            size_digits: size.as_bytes(),
            frame: &frame,
            onward: &[],
        };
        let worker = &mut *self.worker.lock();
        worker.received(self.account.index(), 1, message.body().len() as u64);
        let set = worker.matches(&self.account, out.subject, &self.router);
        let delivery = Delivery {
            from: &self.conn,
            echo: true,
            skip_crowded: false,
            now,
            source: Source::here(Kind::Local),
        };
        let sent = delivery.run(&message, Groups::All, &set, worker);
        worker.sent(self.account.index(), sent);
        self.router.settle(worker);
        worker.flush(now);
        sent.msgs
    }

    /// Whether anybody else would get a message on `subject`. It may be otherwise a moment later.
    #[must_use]
    pub fn is_wanted(&self, subject: &[u8]) -> bool {
        !self.worker.lock().matches(&self.account, subject, &self.router).is_empty()
    }

    /// The next message, if one has come.
    #[must_use]
    pub fn take(&self) -> Option<Message> {
        self.conn.lock().mailbox.as_mut()?.pop()
    }

    /// Why the router closed this peer, if it did (it did not take its messages in time, or the server stopped).
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.conn.closed()
    }

    /// The account that this peer belongs to.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.conn.close(CloseReason::ClientClosed);
        self.router.disconnect(&self.conn, &self.account);
    }
}
