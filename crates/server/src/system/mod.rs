//! The system account: what the server tells there, and what it does for those who ask.
//!
//! Subjects and JSON are nats-server 2.15's (`server/events.go`). Everything here is a client inside the process like
//! any other; the router does not know of it.

mod event;
mod serve;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use midge_router::local::{Local, Outgoing};
use midge_router::{CloseReason, Conn, Owner};
use serde::Serialize;

pub(crate) use serve::serve;

use self::event::{Account, Client, Stats};
use crate::monitor::account_stat;
use crate::server::{PROTOCOL_VERSION, Server};

/// Letters of an event's id (nuid's).
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What publishes the server's events.
#[derive(Debug)]
pub(crate) struct System {
    local: Local,
    /// Counts what the server has said of itself.
    said: AtomicU64,
    /// Counts events, for their ids.
    events: AtomicU64,
    seed: u64,
}

/// Nothing is ever delivered to the events' own client.
struct Deaf;

impl Owner for Deaf {
    fn write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wake(&self) {}
}

/// Who a server is, at the head of everything that it says (nats-server's `ServerInfo`).
#[derive(Debug, Serialize)]
pub(crate) struct ServerInfo<'a> {
    name: &'a str,
    host: String,
    id: &'a str,
    ver: &'static str,
    jetstream: bool,
    flags: u64,
    seq: u64,
    time: Timestamp,
}

impl System {
    /// Joins the system account of that server.
    pub(crate) fn join(server: &Server, seed: u64) -> Self {
        let local = server.local(&server.router().system_account(), Arc::new(Deaf));
        Self { local, said: AtomicU64::new(1), events: AtomicU64::new(0), seed }
    }

    /// Publishes what `body` makes, if anybody wants it.
    fn publish<T: Serialize>(&self, subject: &str, body: impl FnOnce() -> T) {
        if self.local.is_wanted(subject.as_bytes()) {
            let text = serde_json::to_string(&body()).unwrap_or_default();
            let out =
                Outgoing { subject: subject.as_bytes(), payload: text.as_bytes(), ..Outgoing::default() };
            self.local.publish(&out, Instant::now());
        }
    }

    /// A new event's id: 22 letters, as NATS's nuids are.
    fn id(&self) -> String {
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        let mut state = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..22)
            .map(|_| {
                // splitmix64
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                char::from(LETTERS.get((mixed >> 33) as usize % LETTERS.len()).copied().unwrap_or(b'0'))
            })
            .collect()
    }
}

impl Server {
    /// Who this server is, for whoever is told next.
    pub(crate) fn introduce(&self) -> ServerInfo<'_> {
        let seq = self.system().map_or(0, |system| system.said.fetch_add(1, Ordering::Relaxed) + 1);
        ServerInfo {
            name: self.name(),
            host: self.setup().options.listen.host.clone(),
            id: self.id(),
            ver: PROTOCOL_VERSION,
            jetstream: false,
            flags: 0,
            seq,
            time: Timestamp::now(),
        }
    }

    /// Tells that a client has been let in.
    pub(crate) fn tell_connect(&self, conn: &Conn) {
        let Some(system) = self.system() else { return };
        let grant = conn.grant();
        let account = grant.account.name();
        self.tell_connections(&grant.account);
        system.publish(&format!("$SYS.ACCOUNT.{account}.CONNECT"), || event::Connected {
            r#type: "io.nats.server.advisory.v1.client_connect",
            id: system.id(),
            timestamp: Timestamp::now(),
            server: self.introduce(),
            client: Client::of(self, conn, &grant.user),
        });
    }

    /// Tells that a client has gone, and of who could not prove to be somebody.
    pub(crate) fn tell_disconnect(
        &self,
        conn: &Conn,
        reason: CloseReason,
        asked: Option<&midge_wire::json::Credentials>,
    ) {
        let Some(system) = self.system() else { return };
        let grant = conn.grant();
        let account = grant.account.name();
        let asked_user = asked.map(event::asked_user);
        let gone = |user: &str| event::Disconnected {
            r#type: "io.nats.server.advisory.v1.client_disconnect",
            id: system.id(),
            timestamp: Timestamp::now(),
            server: self.introduce(),
            client: Client::of(self, conn, user).gone(conn),
            sent: Stats::sent_by(conn),
            received: Stats::received_by(conn),
            reason: reason.text(),
        };
        if reason == CloseReason::AuthenticationViolation {
            let user = asked_user.unwrap_or_default();
            system.publish(&format!("$SYS.SERVER.{}.CLIENT.AUTH.ERR", self.id()), || gone(&user));
            // The same inside the account that the client was in, for those who watch over it.
            self.publish_in(&grant.account, "$SYS.ACCOUNT.CLIENT.AUTH.ERR", || gone(&user));
        }
        system.publish(&format!("$SYS.ACCOUNT.{account}.DISCONNECT"), || gone(&grant.user));
        self.tell_connections(&grant.account);
    }

    /// Tells how many connections an account has. Nobody counts those of the global one.
    pub(crate) fn tell_connections(&self, account: &Arc<midge_router::Account>) {
        let Some(system) = self.system() else { return };
        let name = account.name();
        if **name == *midge_router::GLOBAL {
            return;
        }
        let (id, timestamp) = (system.id(), Timestamp::now());
        for subject in
            [format!("$SYS.SERVER.ACCOUNT.{name}.CONNS"), format!("$SYS.ACCOUNT.{name}.SERVER.CONNS")]
        {
            system.publish(&subject, || Account {
                r#type: "io.nats.server.advisory.v1.account_connections",
                id: id.clone(),
                timestamp,
                server: self.introduce(),
                stat: account_stat(self, account),
            });
        }
    }

    /// Tells what the server has done and holds, if anybody listens.
    pub(crate) fn tell_stats(&self) {
        if let Some(system) = self.system() {
            system.publish(&format!("$SYS.SERVER.{}.STATSZ", self.id()), || event::Statsz::of(self));
        }
    }

    /// Tells that the server is about to end.
    pub(crate) fn tell_shutdown(&self) {
        if let Some(system) = self.system() {
            system.publish(&format!("$SYS.SERVER.{}.SHUTDOWN", self.id()), || self.introduce());
        }
    }

    /// Tells that the server sends its clients away.
    pub(crate) fn tell_lame_duck(&self) {
        if let Some(system) = self.system() {
            system.publish(&format!("$SYS.SERVER.{}.LAMEDUCK", self.id()), || self.introduce());
        }
    }

    /// Publishes in another account, if anybody there wants it.
    fn publish_in<T: Serialize>(
        &self,
        account: &Arc<midge_router::Account>,
        subject: &str,
        body: impl FnOnce() -> T,
    ) {
        if account.is_system() || account.subscriptions() == 0 {
            return;
        }
        let local = self.local(account, Arc::new(Deaf));
        if local.is_wanted(subject.as_bytes()) {
            let text = serde_json::to_string(&body()).unwrap_or_default();
            let out =
                Outgoing { subject: subject.as_bytes(), payload: text.as_bytes(), ..Outgoing::default() };
            local.publish(&out, Instant::now());
        }
    }
}
