//! Who gets a message: the immutable outcome of a look-up, and where such outcomes are kept.

use std::sync::Arc;

use hashbrown::HashTable;

use super::generation::Stamp;
use super::{Interest, SubRef};
use crate::account::Account;
use crate::conn::{Conn, Kind};
use crate::permissions::Permissions;
use crate::remote::subs::Facts;
use crate::remote::{Lanes, Peer, Remote};
use crate::router::Router;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A subscription that is to receive a message, found before and to be checked again under its connection's lock.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) conn: Arc<Conn>,
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

/// The members of one queue group, of which one is to receive a message.
#[derive(Debug)]
pub(crate) struct Group {
    queue: u32,
    pub(crate) members: Vec<Target>,
    /// Members elsewhere.
    pub(crate) away: Vec<Away>,
    /// Its name; empty where there are no other servers.
    pub(crate) name: Arc<[u8]>,
}

/// Members of a queue group behind another server.
#[derive(Debug)]
pub(crate) struct Away {
    /// The server's place among the set's.
    pub(crate) bundle: u32,
    pub(crate) weight: u32,
    /// The cluster of the leafnodes that they are behind; zero for none.
    pub(crate) origin: u32,
}

/// Another server behind which somebody wants a message. It gets one copy, whoever there wants it.
#[derive(Debug)]
pub(crate) struct Bundle {
    remote: Arc<Remote>,
    lanes: Arc<Lanes>,
    /// Whether somebody wants it who is in no queue group, and behind no leafnode of the server's.
    plain: bool,
    /// The clusters of its leafnodes behind which somebody does.
    plain_of: Vec<u32>,
}

impl Bundle {
    /// The connection for what this publisher says.
    #[inline]
    pub(crate) fn lane(&self, publisher: u64) -> Option<&Arc<Conn>> {
        self.lanes.pick(publisher)
    }

    /// How operations for that server are spelled.
    pub(crate) fn language(&self) -> midge_wire::encode::Peer {
        self.remote.language()
    }

    pub(crate) fn names_account(&self) -> bool {
        self.remote.manner.names_account
    }

    /// Whether that server is told which leafnode's cluster a message comes from.
    pub(crate) fn takes_origin(&self) -> bool {
        self.remote.manner.takes_origin && self.remote.kind() == Kind::Route
    }

    pub(crate) fn kind(&self) -> Kind {
        self.remote.kind()
    }

    /// Whether that connection is one to the same server.
    pub(crate) fn is_to(&self, peer: &Peer) -> bool {
        std::ptr::eq(&*self.remote.peer, peer)
    }

    /// Whether that server may hand on to this one what it got for a member of a queue group who has gone. By turns that go
    /// down only, no message goes round for ever.
    pub(crate) fn is_below(&self, peer: Option<&Peer>) -> bool {
        peer.is_none_or(|peer| *self.remote.peer.id < *peer.id)
    }

    /// Whether messages from the leafnodes of that cluster may go there.
    pub(crate) fn may_hear_of(&self, origin: u32) -> bool {
        self.remote.may_hear_of(origin)
    }

    /// Whether somebody there wants messages from the leafnodes of that cluster who is in no queue group.
    pub(crate) fn wants(&self, origin: u32) -> bool {
        self.plain || self.plain_of.iter().any(|of| *of != origin)
    }
}

/// Everybody who is to receive what is published on one subject of one account.
#[derive(Debug, Default)]
pub(crate) struct MatchSet {
    account: u32,
    account_name: Option<Arc<str>>,
    hash: u64,
    stamp: Stamp,
    /// `HMSG <subject> `, the beginning of every line that is sent for this set.
    line: Vec<u8>,
    pub(crate) plain: Vec<Target>,
    pub(crate) groups: Vec<Group>,
    /// Other servers, in no order.
    pub(crate) bundles: Vec<Bundle>,
    /// Whether no connection may get a message more than once.
    one_each: bool,
    /// The permissions that were last found to allow publishing here; zero for none.
    allowed_by: AtomicU64,
}

const LINE_START: &[u8] = b"HMSG ";

impl MatchSet {
    /// `HMSG <subject> `.
    pub(crate) const fn line_with_headers(&self) -> &[u8] {
        self.line.as_slice()
    }

    /// `MSG <subject> `.
    pub(crate) fn line(&self) -> &[u8] {
        self.line.get(1..).unwrap_or_default()
    }

    /// `<subject> `.
    pub(crate) fn routed_line(&self) -> &[u8] {
        self.line.get(LINE_START.len()..).unwrap_or_default()
    }

    /// The name of the account, where some other server wants to know it.
    pub(crate) fn account_name(&self) -> &[u8] {
        self.account_name.as_deref().unwrap_or_default().as_bytes()
    }

    fn subject(&self) -> &[u8] {
        self.line.get(LINE_START.len()..self.line.len().saturating_sub(1)).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty() && self.bundles.is_empty()
    }

    /// Whether more than one receiver may get the same message.
    pub(crate) fn is_for_several(&self) -> bool {
        self.plain.len() + self.groups.len() + self.bundles.len() > 1
    }

    /// Whether `permissions` allow publishing here. Asked again and again, mostly of the same ones.
    #[inline]
    pub(crate) fn is_allowed_by(&self, permissions: &Permissions) -> bool {
        if self.allowed_by.load(Ordering::Relaxed) == permissions.id() {
            return true;
        }
        let allowed = permissions.may_publish(self.subject());
        if allowed {
            self.allowed_by.store(permissions.id(), Ordering::Relaxed);
        }
        allowed
    }

    /// Whether every receiver is another connection.
    pub(crate) const fn is_one_each(&self) -> bool {
        self.one_each
    }

    /// Whether this set is for that subject of its account.
    #[inline]
    pub(crate) fn is_for(&self, subject: &[u8]) -> bool {
        self.subject() == subject
    }

    /// Whether this set is of that account, and nothing has changed since it was made.
    pub(crate) fn is_current(&self, account: &Account) -> bool {
        self.account == account.index() && account.interest().is_current(&self.stamp)
    }

    /// What it costs to keep this set, in bytes, roughly.
    fn cost(&self) -> usize {
        let members = self.groups.iter().map(|g| g.members.len() + g.away.len() + 4);
        let targets = self.plain.len() + 2 * self.bundles.len() + members.sum::<usize>();
        200 + self.line.len() + targets * size_of::<Target>()
    }

    /// Fills an empty or used set anew.
    fn fill(&mut self, account: &Account, subject: &[u8], hash: u64, look: &mut LookUp<'_>) {
        let interest: &Interest = account.interest();
        self.account = account.index();
        self.allowed_by = AtomicU64::new(0);
        self.hash = hash;
        let keys = interest.keys(subject, hash);
        self.stamp = interest.stamp(&keys);
        self.line.clear();
        midge_wire::encode::parts(&mut self.line, &[LINE_START, subject, b" "]);
        self.plain.clear();
        self.groups.clear();
        self.bundles.clear();
        look.found.clear();
        let hashed = interest.collect(&keys, look.found);
        self.one_each = true;
        if look.found.is_empty() {
            return;
        }
        look.conns.clear();
        let here = look.found.iter().filter(|sub| sub.remote().is_none());
        look.conns.extend(here.map(|sub| sub.conn));
        look.conns.sort_unstable();
        let twice = look.conns.windows(2).any(|two| matches!(two, [a, b] if a == b));
        self.one_each = !twice;
        look.router.conns().with(|conns| {
            for (at, sub) in look.found.iter().enumerate() {
                if let Some(remote) = sub.remote() {
                    let hashed_for = (at < hashed).then_some(subject);
                    self.add_remote(remote, *sub, hashed_for, account, look.router);
                    continue;
                }
                let queue = || look.router.queue_name(sub.queue);
                if let Some(conn) = conns.get(sub.conn)
                    && (at >= hashed || conn.wants(subject, sub.slot, sub.serial))
                    && conn.may_receive(subject, queue)
                {
                    self.add(conn.clone(), *sub, look.router);
                }
            }
        });
    }

    fn add(&mut self, conn: Arc<Conn>, sub: SubRef, router: &Router) {
        let target = Target { conn, slot: sub.slot, serial: sub.serial };
        if sub.queue == 0 {
            self.plain.push(target);
            return;
        }
        match self.groups.iter_mut().find(|group| group.queue == sub.queue) {
            Some(group) => group.members.push(target),
            None => {
                // Only other servers say it.
                let name =
                    if router.has_neighbours() { router.queue_name(sub.queue) } else { Arc::default() };
                let group = Group { queue: sub.queue, members: vec![target], away: Vec::new(), name };
                self.groups.push(group);
            }
        }
    }

    /// Adds what is wanted behind another server.
    #[cold]
    fn add_remote(
        &mut self,
        remote: u32,
        sub: SubRef,
        hashed_for: Option<&[u8]>,
        account: &Account,
        router: &Router,
    ) {
        let Some(remote) = router.remotes().get(remote) else { return };
        let facts = remote.subs.lock().facts(sub.slot, sub.serial, hashed_for);
        let Some(facts) = facts.filter(|_| remote.may_send(self.subject())) else { return };
        let known = self.bundles.iter().position(|bundle| bundle.is_to(&remote.peer));
        let at = known.unwrap_or_else(|| {
            self.account_name = Some(account.name().clone());
            let lanes = remote.lanes();
            self.bundles.push(Bundle { remote, lanes, plain: false, plain_of: Vec::new() });
            self.bundles.len() - 1
        });
        let bundle = at as u32;
        if sub.queue == 0 {
            match self.bundles.get_mut(at) {
                Some(bundle) if facts.origin == 0 => bundle.plain = true,
                Some(bundle) => bundle.plain_of.push(facts.origin),
                None => {}
            }
            return;
        }
        // Which of them gets a message differs from message to message.
        self.one_each = false;
        let at = self.groups.iter().position(|group| group.queue == sub.queue).unwrap_or_else(|| {
            let (members, away) = (Vec::new(), Vec::new());
            self.groups.push(Group { queue: sub.queue, members, away, name: router.queue_name(sub.queue) });
            self.groups.len() - 1
        });
        let Some(group) = self.groups.get_mut(at) else { return };
        // Over several lanes, a server says the same several times.
        let Facts { weight, origin } = facts;
        match group.away.iter_mut().find(|away| (away.bundle, away.origin) == (bundle, origin)) {
            Some(away) => away.weight = away.weight.max(weight),
            None => group.away.push(Away { bundle, weight, origin }),
        }
    }
}

/// What a look-up needs besides the account.
struct LookUp<'w> {
    router: &'w Router,
    found: &'w mut Vec<SubRef>,
    conns: &'w mut Vec<u32>,
}

/// Bytes of sets that one worker keeps.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
const DOORKEEPER: usize = 1 << 12;

/// One worker's match sets. Nobody else touches it, so it needs no lock; sets that have become stale are replaced
/// when they are next asked for.
#[derive(Debug)]
pub(crate) struct MatchCache {
    sets: HashTable<Arc<MatchSet>>,
    bytes: usize,
    /// Hashes of subjects seen once. Only a second sighting earns a place: replies go to subjects that are used
    /// once, and would drive out what is useful.
    doorkeeper: Box<[u32]>,
    /// Filled again and again for subjects that are not kept.
    passing: Arc<MatchSet>,
    found: Vec<SubRef>,
    conns: Vec<u32>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stale: u64,
    sweep: bool,
}

impl MatchCache {
    pub(crate) fn figures(&self) -> crate::worker::CacheFigures {
        let mut figures = crate::worker::CacheFigures::default();
        for set in &self.sets {
            let fanout = set.plain.len() + set.groups.iter().map(|group| group.members.len()).sum::<usize>();
            let one =
                crate::worker::CacheFigures { sets: 1, max_fanout: fanout as u64, fanout: fanout as u64 };
            figures.add(&one);
        }
        figures
    }

    pub(crate) fn new() -> Self {
        Self {
            sets: HashTable::new(),
            bytes: 0,
            doorkeeper: vec![0; DOORKEEPER].into(),
            passing: Arc::default(),
            found: Vec::new(),
            conns: Vec::new(),
            hits: 0,
            misses: 0,
            stale: 0,
            sweep: false,
        }
    }

    /// The set for a subject, kept or made.
    pub(crate) fn get(&mut self, account: &Account, subject: &[u8], router: &Router) -> Arc<MatchSet> {
        let hash = account.interest().subject_hash(subject);
        let is_it = |set: &Arc<MatchSet>| {
            set.hash == hash && set.account == account.index() && set.subject() == subject
        };
        if let Some(kept) = self.sets.find_mut(hash, is_it) {
            if account.interest().is_current(&kept.stamp) {
                self.hits += 1;
                return kept.clone();
            }
            self.stale += 1;
            let mut fresh = MatchSet::default();
            fresh.fill(
                account,
                subject,
                hash,
                &mut LookUp { router, found: &mut self.found, conns: &mut self.conns },
            );
            self.bytes = self.bytes + fresh.cost() - kept.cost();
            *kept = Arc::new(fresh);
            return kept.clone();
        }
        self.misses += 1;
        let set = self.make(account, subject, hash, router);
        let tag = (hash as u32).max(1);
        if let Some(seen) = self.doorkeeper.get_mut((hash >> 32) as usize % DOORKEEPER) {
            if *seen == tag {
                *seen = 0;
                self.keep(set.clone());
                self.passing = Arc::default();
            } else {
                *seen = tag;
            }
        }
        set
    }

    fn make(&mut self, account: &Account, subject: &[u8], hash: u64, router: &Router) -> Arc<MatchSet> {
        let mut look = LookUp { router, found: &mut self.found, conns: &mut self.conns };
        if let Some(free) = Arc::get_mut(&mut self.passing) {
            free.fill(account, subject, hash, &mut look);
        } else {
            let mut fresh = MatchSet::default();
            fresh.fill(account, subject, hash, &mut look);
            self.passing = Arc::new(fresh);
        }
        self.passing.clone()
    }

    fn keep(&mut self, set: Arc<MatchSet>) {
        self.bytes += set.cost();
        self.sets.insert_unique(set.hash, set, |set| set.hash);
        if self.bytes > CACHE_BYTES {
            self.evict();
        }
    }

    /// Drops half of the sets, chosen by a bit of their hash that changes each time.
    fn evict(&mut self) {
        let keep = u64::from(self.sweep);
        self.sweep = !self.sweep;
        self.sets.retain(|set| (set.hash >> 17) & 1 == keep);
        self.bytes = self.sets.iter().map(|set| set.cost()).sum();
    }
}
