//! What all connections of one server share.

use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use midge_wire::json::Info;

use crate::account::{Account, GLOBAL, SYSTEM};
use crate::cluster::ClusterSettings;
use crate::conn::{Conn, Kind, NewConn, Owner};
use crate::conns::{ConnTable, Conns};
use crate::ended::{self, EndedConns};
use crate::grant::{Arrival, Entrance, Grant};
use crate::interest::{Generations, QueueNames, SubRef, is_subject};
use crate::leaves::LeafSettings;
use crate::limits::Limits;
use crate::reason::CloseReason;
use crate::remote::announced::Step;
use crate::remote::neighbours::Neighbours;
use crate::snapshot::{ConnSnapshot, Totals};
use crate::subs::{Ended, Sid, Subscription};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::worker::{Traffic, Worker};

/// How a router is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What every client is told first; the fields that differ by client are filled in for each.
    pub info: Info,
    /// What clients may do.
    pub limits: Limits,
    /// How clients come in, unless they come by another way.
    pub entrance: Entrance,
    /// What the router's hashes and choices are derived from. A server takes a random one, a test a fixed one.
    pub seed: u64,
    /// Ended connections that are remembered for monitoring.
    pub max_ended: usize,
    /// The cluster that the server is a member of, if it is of one.
    pub cluster: Option<ClusterSettings>,
    /// What leafnodes and hubs are told, if there may be any.
    pub leaves: Option<LeafSettings>,
}

/// The accounts, connections and limits of one server.
#[derive(Debug)]
pub struct Router {
    info: RwLock<Info>,
    limits: RwLock<Arc<Limits>>,
    entrance: RwLock<Arc<Entrance>>,
    /// For connections of which nothing is said, or nothing yet.
    anyone: Arc<Grant>,
    seed: u64,
    accounts: RwLock<Accounts>,
    system: RwLock<Arc<Account>>,
    generations: Arc<Generations>,
    pub(crate) queues: QueueNames,
    conns: ConnTable,
    neighbours: Neighbours,
    clients: Clients,
    next_cid: AtomicU64,
    next_serial: AtomicU32,
    workers: Mutex<Vec<Arc<Mutex<Worker>>>>,
    /// `None` where none shall be remembered.
    ended: Option<Mutex<EndedConns>>,
}

/// The accounts, by place and by name.
#[derive(Debug, Default)]
struct Accounts {
    all: Vec<Arc<Account>>,
    /// Operators choose the names.
    by_name: HashMap<Arc<str>, u32, FixedState>,
}

impl Accounts {
    fn get(&self, name: &str) -> Option<&Arc<Account>> {
        self.all.get(*self.by_name.get(name)? as usize)
    }

    fn add(&mut self, account: Arc<Account>) {
        self.by_name.insert(account.name().clone(), account.index());
        self.all.push(account);
    }
}

/// A subscription to be made.
pub(crate) struct NewSub<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) queue: &'a [u8],
    pub(crate) sid: &'a [u8],
    /// Most subscriptions of the connection; zero for any number.
    pub(crate) limit: usize,
}

/// Why there is no subscription.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The subject has an empty token, or `>` that is not the last.
    #[error("invalid subject")]
    Subject,
    /// The connection has as many subscriptions as it may.
    #[error("maximum subscriptions exceeded")]
    TooMany,
    /// The connection has been closed.
    #[error("connection closed")]
    Closed,
}

/// Most accounts before none is made any more that is not configured: they stay for as long as the server runs.
const MOST_ACCOUNTS: usize = 16_384;

/// Client connections, local ones left out.
#[derive(Debug, Default)]
struct Clients {
    open: AtomicU32,
    /// Those that have gone counted, too.
    ever: AtomicU64,
}

impl Router {
    /// A router with the accounts `$G` and `$SYS` and no connections.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let generations = Arc::new(Generations::new());
        let make = |name, index| Arc::new(Account::new(name, index, settings.seed, generations.clone()));
        let (global, system) = (make(GLOBAL, 0), make(SYSTEM, 1));
        system.set_system(true);
        let mut accounts = Accounts::default();
        [global.clone(), system.clone()].into_iter().for_each(|account| accounts.add(account));
        Arc::new(Self {
            accounts: RwLock::new(accounts),
            system: RwLock::new(system),
            anyone: Arc::new(Grant::of(global)),
            info: RwLock::new(settings.info),
            limits: RwLock::new(Arc::new(settings.limits)),
            entrance: RwLock::new(Arc::new(settings.entrance)),
            seed: settings.seed,
            generations,
            queues: QueueNames::new(settings.seed),
            conns: ConnTable::default(),
            neighbours: Neighbours::new(settings.cluster, settings.leaves, settings.seed),
            clients: Clients::default(),
            next_cid: AtomicU64::new(1),
            next_serial: AtomicU32::new(1),
            workers: Mutex::new(Vec::new()),
            ended: (settings.max_ended > 0).then(|| Mutex::new(EndedConns::new(settings.max_ended))),
        })
    }

    /// A further thread's worker.
    #[must_use]
    pub fn worker(&self) -> Arc<Mutex<Worker>> {
        let mut workers = self.workers.lock();
        let seed = self.seed.wrapping_add((workers.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let worker = Arc::new(Mutex::new(Worker::new(seed)));
        workers.push(worker.clone());
        worker
    }

    /// The account of that name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts.read().get(name).cloned()
    }

    /// The account in that place.
    pub(crate) fn account_at(&self, index: u32) -> Option<Arc<Account>> {
        self.accounts.read().all.get(index as usize).cloned()
    }

    /// The account for connections of which nothing else is said.
    #[must_use]
    pub fn global_account(&self) -> Arc<Account> {
        self.anyone.account.clone()
    }

    /// What connections may do of which nothing is said: everything, in the global account.
    #[must_use]
    pub const fn anyone(&self) -> &Arc<Grant> {
        &self.anyone
    }

    /// The account of that name, made if there is none.
    pub fn add_account(&self, name: &str) -> Arc<Account> {
        let mut accounts = self.accounts.write();
        if let Some(account) = accounts.get(name) {
            return account.clone();
        }
        let index = accounts.all.len() as u32;
        let account = Arc::new(Account::new(name, index, self.seed, self.generations.clone()));
        accounts.add(account.clone());
        account
    }

    /// The same for an account that nobody has configured, unless there are too many.
    #[must_use]
    pub fn add_dynamic_account(&self, name: &str) -> Option<Arc<Account>> {
        let is_known = self.account(name).is_some();
        (is_known || self.accounts.read().all.len() < MOST_ACCOUNTS).then(|| self.add_account(name))
    }

    /// The account for the server's own services.
    #[must_use]
    pub fn system_account(&self) -> Arc<Account> {
        self.system.read().clone()
    }

    /// Makes another account the one for the server's own services.
    pub fn set_system_account(&self, account: &Arc<Account>) {
        let mut system = self.system.write();
        system.set_system(false);
        account.set_system(true);
        *system = account.clone();
    }

    /// All accounts, in the order in which they were made.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.read().all.clone()
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.read().clone()
    }

    /// Changes the limits. Connections that are there take them up when they are revised.
    pub fn set_limits(&self, limits: Limits) {
        let mut info = self.info.write();
        info.max_payload = limits.max_payload as i64;
        info.headers = limits.headers;
        *self.limits.write() = Arc::new(limits);
    }

    /// How clients come in, unless they come by another way.
    #[must_use]
    pub fn entrance(&self) -> Arc<Entrance> {
        self.entrance.read().clone()
    }

    /// Changes how clients come in. Those who are there already are not concerned.
    pub fn set_entrance(&self, entrance: Entrance) {
        *self.entrance.write() = Arc::new(entrance);
    }

    /// What clients are told, without what differs by client.
    #[must_use]
    pub fn info(&self) -> Info {
        self.info.read().clone()
    }

    /// Changes what clients are told from now on. Those who have been told already are not.
    pub fn edit_info(&self, change: impl FnOnce(&mut Info)) {
        change(&mut self.info.write());
    }

    /// Changes what clients are told and tells those who take an INFO at any time.
    pub fn change_info(&self, worker: &mut Worker, now: Instant, change: impl FnOnce(&mut Info)) {
        change(&mut self.info.write());
        let conns: Vec<_> = self.conns.with(|conns| conns.iter().cloned().collect());
        for conn in conns {
            if conn.lock().takes_info {
                let info = self.info_for(&conn);
                conn.append_info(&info, worker);
            }
        }
        worker.flush(now);
    }

    /// Tells clients that this server is about to leave, so that they go elsewhere.
    pub fn enter_lame_duck(&self, worker: &mut Worker, now: Instant) {
        self.change_info(worker, now, |info| info.lame_duck_mode = true);
    }

    /// Closes every connection.
    pub fn close_all(&self, reason: CloseReason) {
        for conn in self.connections() {
            conn.close(reason);
        }
    }

    /// Waits until every worker has been free once: what sessions were doing when this was called is done.
    pub fn wait_for_workers(&self) {
        let workers: Vec<_> = self.workers.lock().clone();
        for worker in workers {
            drop(worker.lock());
        }
    }

    /// All connections.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Conn>> {
        self.conns.with(|conns| conns.iter().cloned().collect())
    }

    /// How many connections there are, local ones included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.conns.with(Conns::len)
    }

    /// Client connections, open ones only.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients.open.load(Ordering::Relaxed)
    }

    /// What the whole server has done and holds.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let here: u32 = self.accounts.read().all.iter().map(|account| account.subscriptions()).sum();
        let mut totals = Totals {
            clients: self.clients(),
            total_connections: self.clients.ever.load(Ordering::Relaxed),
            subscriptions: here + self.remotes().subscriptions(),
            inserts: u64::from(self.next_serial.load(Ordering::Relaxed) - 1),
            ..Totals::default()
        };
        for worker in self.workers.lock().iter() {
            let worker = worker.lock();
            totals.counters.add(&worker.counters());
            totals.cache.add(&worker.cache_figures());
        }
        totals
    }

    /// One account's messages.
    #[must_use]
    pub fn traffic(&self, account: &Account) -> Traffic {
        let mut sum = Traffic::default();
        for worker in self.workers.lock().iter() {
            sum.add(&worker.lock().traffic(account.index()));
        }
        sum
    }

    /// One account's consumers that were closed because they could not keep up.
    #[must_use]
    pub fn slow_consumers(&self, account: &Account) -> u64 {
        self.workers.lock().iter().map(|worker| worker.lock().slow_consumers(account.index())).sum()
    }

    /// The client connection of that number, if it is open.
    #[must_use]
    pub fn client(&self, cid: u64) -> Option<Arc<Conn>> {
        self.conns
            .with(|conns| conns.iter().find(|conn| conn.cid() == cid && conn.kind() == Kind::Client).cloned())
    }

    /// Tells one client that it should go elsewhere; whether it takes such news.
    pub fn send_away(&self, conn: &Arc<Conn>, worker: &mut Worker, now: Instant) -> bool {
        if !conn.lock().takes_info {
            return false;
        }
        let mut info = self.info_for(conn);
        info.lame_duck_mode = true;
        conn.append_info(&info, worker);
        worker.flush(now);
        true
    }

    /// The connections as monitoring shows them, with or without their subscriptions.
    #[must_use]
    pub fn open_connections(&self, subscriptions: bool) -> Vec<ConnSnapshot> {
        let most = if subscriptions { usize::MAX } else { 0 };
        self.connections().iter().map(|conn| ConnSnapshot::of(conn, self, most)).collect()
    }

    /// The last connections that ended, oldest first.
    #[must_use]
    pub fn ended_connections(&self) -> Vec<ConnSnapshot> {
        self.ended.iter().flat_map(|ended| ended.lock().iter().cloned().collect::<Vec<_>>()).collect()
    }

    /// The name of a queue group.
    pub(crate) fn queue_name(&self, queue: u32) -> Arc<[u8]> {
        self.queues.name(queue)
    }

    pub(crate) const fn conns(&self) -> &ConnTable {
        &self.conns
    }

    /// A new connection. Whether there are too many is for its session to say.
    pub(crate) fn connect(
        &self,
        kind: Kind,
        arrival: Arrival<'_>,
        grant: &Arc<Grant>,
        owner: Arc<dyn Owner>,
        now: Instant,
    ) -> Arc<Conn> {
        if kind == Kind::Client {
            self.clients.open.fetch_add(1, Ordering::Relaxed);
            self.clients.ever.fetch_add(1, Ordering::Relaxed);
        }
        grant.account.connected(kind);
        self.conns.add(NewConn {
            cid: self.next_cid.fetch_add(1, Ordering::Relaxed),
            kind,
            peer: arrival.peer.into(),
            entrance: arrival.entrance.unwrap_or_else(|| self.entrance()),
            tag: arrival.tag,
            grant: grant.clone(),
            owner,
            max_pending: self.limits.read().max_pending,
            now,
        })
    }

    /// Forgets a connection and all of its subscriptions.
    pub(crate) fn disconnect(&self, conn: &Conn, account: &Account) {
        if conn.kind() == Kind::Client {
            if let Some(ended) = &self.ended {
                let snapshot = ConnSnapshot::of(conn, self, ended::SUBSCRIPTIONS_EACH);
                ended.lock().push(snapshot);
            }
            self.clients.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.drop_subscriptions(conn, account);
        account.disconnected(conn.kind());
        self.conns.remove(conn);
        conn.retire();
    }

    /// Subscribes. A sid that is in use keeps its old subscription, which is no error.
    pub(crate) fn subscribe(
        &self,
        conn: &Conn,
        account: &Account,
        new: &NewSub<'_>,
    ) -> Result<(), SubscribeError> {
        let serial = self.next_serial();
        let (slot, queue) = {
            let mut state = conn.lock();
            if !state.is_open() {
                return Err(SubscribeError::Closed);
            }
            if new.limit > 0 && state.subs.len() >= new.limit {
                return Err(SubscribeError::TooMany);
            }
            if state.subs.find(new.sid).is_some() {
                return Ok(());
            }
            if !is_subject(new.subject) {
                return Err(SubscribeError::Subject);
            }
            let queue = self.queues.acquire(new.queue);
            let sid = Sid::new(new.sid);
            (state.subs.insert(new.subject, sid, serial, queue), queue)
        };
        let at = SubRef { conn: conn.index(), slot, serial, queue };
        account.interest().insert(new.subject, at);
        account.subscribed();
        self.announce(account, (new.subject, new.queue), Step::Up);
        Ok(())
    }

    pub(crate) const fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The number of the next subscription.
    pub(crate) fn next_serial(&self) -> u32 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of the next connection.
    pub(crate) fn next_publisher(&self) -> u64 {
        self.next_cid.load(Ordering::Relaxed)
    }

    /// Makes stale whatever was found before, in all accounts.
    pub(crate) fn look_again_everywhere(&self) {
        self.accounts.read().all.iter().for_each(|account| account.interest().bump_all());
    }

    /// Ends a subscription now, or when it has had `max` messages in all; whether it has ended.
    pub(crate) fn unsubscribe(&self, conn: &Conn, account: &Account, sid: &[u8], max: u64) -> bool {
        let gone = {
            let mut state = conn.lock();
            let Some(slot) = state.subs.find(sid) else { return false };
            match state.subs.at_mut(slot) {
                Some(sub) if max > sub.delivered => {
                    sub.max = max;
                    return false;
                }
                _ => state.subs.remove(slot),
            }
        };
        let Some(ended) = gone else { return false };
        self.forget(conn.index(), account, &ended);
        true
    }

    /// Ends all subscriptions of a connection.
    pub(crate) fn drop_subscriptions(&self, conn: &Conn, account: &Account) {
        let all = conn.lock().subs.drain();
        for ended in all {
            self.forget(conn.index(), account, &ended);
        }
    }

    /// Takes the subscriptions that ended during delivery out of the interest.
    #[inline]
    pub(crate) fn settle(&self, worker: &mut Worker) {
        while let Some(expired) = worker.expired.pop() {
            self.forget(expired.conn, &expired.account, &expired.ended);
        }
    }

    /// Ends the subscriptions of a connection that its permissions do not allow any more: subject, queue group and
    /// sid of each.
    pub(crate) fn drop_denied(&self, conn: &Conn, grant: &Grant) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        // What cached matches hold was filtered by the old permissions.
        grant.account.interest().bump_all();
        let Some(permissions) = &grant.permissions else { return Vec::new() };
        let denied = |subject: &[u8], sub: &Subscription| {
            !permissions.may_subscribe(subject, &self.queues.name(sub.queue))
        };
        let gone = conn.lock().subs.remove_if(denied);
        let mut told = Vec::new();
        for ended in gone {
            let queue = self.queues.name(ended.queue).to_vec();
            told.push((ended.subject.to_vec(), queue, ended.sid.bytes().to_vec()));
            self.forget(conn.index(), &grant.account, &ended);
        }
        told
    }

    fn forget(&self, conn: u32, account: &Account, ended: &Ended) {
        let at = SubRef { conn, slot: ended.slot, serial: ended.serial, queue: ended.queue };
        account.interest().remove(&ended.subject, at);
        account.unsubscribed(1);
        if self.has_neighbours() {
            self.announce(account, (&ended.subject, &self.queues.name(ended.queue)), Step::Down);
        }
        self.queues.release(ended.queue);
    }

    /// The INFO for one client.
    pub(crate) fn info_for(&self, conn: &Conn) -> Info {
        let mut info = self.info();
        info.client_id = conn.cid();
        info.client_ip = host_of(conn.peer()).to_owned();
        let entrance = conn.entrance();
        info.auth_required = entrance.asks;
        info.tls_required = entrance.tls_required;
        info.tls_available = entrance.tls_available;
        info.tls_verify = entrance.tls_verify;
        if let Some((host, port)) = &entrance.address {
            (info.host, info.port) = (host.clone(), *port);
        }
        if let Some(most) = conn.grant().account.limits().max_payload {
            info.max_payload = info.max_payload.min(most as i64);
        }
        info
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(peer: &str) -> &str {
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
