//! What a router knows of other servers, and tells them.

use std::sync::Arc;

use midge_wire::{Interest, encode, subject};

use super::announced::{Elsewhere, Step};
use super::subs::{Change, Gone, Wanted};
use super::{Remote, RemoteTable};
use crate::account::Account;
use crate::cluster::{Cluster, ClusterSettings};
use crate::conn::Kind;
use crate::interest::{QueueNames, SubRef};
use crate::leaves::{LeafSettings, Leaves};
use crate::router::Router;
use crate::snapshot::SubSnapshot;
use crate::sync::RwLock;
use crate::sync::atomic::Ordering;

/// The connections to other servers.
#[derive(Debug)]
pub(crate) struct Neighbours {
    cluster: Option<Cluster>,
    leaves: Option<Leaves>,
    remotes: RemoteTable,
    /// Those of them that are told of interest.
    told: RwLock<Arc<[Arc<Remote>]>>,
    /// Names of leafnode clusters.
    origins: QueueNames,
}

impl Neighbours {
    pub(crate) fn new(cluster: Option<ClusterSettings>, leaves: Option<LeafSettings>, seed: u64) -> Self {
        Self {
            cluster: cluster.map(Cluster::new),
            leaves: leaves.map(Leaves::new),
            remotes: RemoteTable::default(),
            told: RwLock::new(Arc::from([])),
            origins: QueueNames::new(seed),
        }
    }
}

impl Router {
    /// Tells other servers that one more, or one fewer, wants something here.
    #[inline]
    pub(crate) fn announce(&self, account: &Account, what: (&[u8], &[u8]), step: Step) {
        if self.has_neighbours() {
            account.announced().take(self, account, what, step).iter().for_each(|conn| conn.rouse());
        }
    }

    /// The servers that are told of interest.
    pub(crate) fn told(&self) -> Arc<[Arc<Remote>]> {
        self.neighbours().told.read().clone()
    }

    /// Whether there are other servers, or may be.
    #[inline]
    pub(crate) const fn has_neighbours(&self) -> bool {
        self.neighbours().cluster.is_some() || self.neighbours().leaves.is_some()
    }

    /// The cluster that the server is a member of, if it is of one.
    #[must_use]
    pub const fn cluster(&self) -> Option<&Cluster> {
        self.neighbours().cluster.as_ref()
    }

    /// The leafnodes, and the hubs that this server is a leafnode of, if there may be any.
    #[must_use]
    pub const fn leaves(&self) -> Option<&Leaves> {
        self.neighbours().leaves.as_ref()
    }

    /// The number of a leafnode cluster's name, for one more user of it.
    pub(crate) fn acquire_origin(&self, name: &[u8]) -> u32 {
        self.neighbours().origins.acquire(name)
    }

    pub(crate) const fn remotes(&self) -> &RemoteTable {
        &self.neighbours().remotes
    }

    /// Begins to tell another server what is wanted here, all of it first.
    pub(crate) fn introduce(&self, remote: &Arc<Remote>) {
        {
            let mut neighbours = self.neighbours().told.write();
            *neighbours = neighbours.iter().chain([remote]).cloned().collect();
        }
        // What changes meanwhile may be told twice, or before all of it: it is a set, and its numbers are whole ones.
        let accounts = self.accounts();
        let served = accounts.iter().filter(|account| remote.scope.serves(account));
        let mut told = served.filter(|account| account.announced().tell_all(self, account, remote)).count();
        if remote.kind() != Kind::Route
            && let Some(account) = accounts.iter().find(|account| remote.scope.serves(account))
        {
            let mut line = Vec::new();
            let interest = Interest { subject: account.loop_subject(), ..Interest::default() };
            encode::wanted(&mut line, remote.language(), &interest);
            told += usize::from(remote.conn.put(&line));
        }
        if told > 0 {
            remote.conn.rouse();
        }
    }

    /// Notes that something is wanted behind another server.
    pub(crate) fn want(&self, remote: &Remote, account: &Account, interest: &Interest<'_>) {
        let queue = self.queues.acquire(interest.queue);
        let origin = self.neighbours().origins.acquire(interest.origin);
        let wanted = Wanted { account: account.index(), subject: interest.subject, queue, origin };
        let serial = self.next_serial();
        // Without a queue group it is enough that somebody wants it.
        let weight = if queue == 0 { 1 } else { interest.weight };
        let change = remote.subs.lock().want(wanted, weight, serial);
        let what = ((interest.subject, interest.queue), origin);
        match change {
            Change::New(slot) => {
                remote.burden.fetch_add(burden(interest.subject, interest.queue), Ordering::Relaxed);
                let at = SubRef::behind(remote.index(), slot, serial, queue);
                account.interest().insert(interest.subject, at);
                self.announce_behind(remote, account, what, weight);
            }
            Change::Weight(before) => {
                if before != weight {
                    account.interest().touch(interest.subject);
                    self.announce_behind(remote, account, what, weight);
                }
                self.queues.release(queue);
                self.neighbours().origins.release(origin);
            }
        }
    }

    /// Notes that something is not wanted any more behind another server.
    pub(crate) fn unwant(&self, remote: &Remote, account: &Account, interest: &Interest<'_>) {
        let queue = self.queues.acquire(interest.queue);
        let origin = self.neighbours().origins.acquire(interest.origin);
        let wanted = Wanted { account: account.index(), subject: interest.subject, queue, origin };
        let gone = {
            let mut subs = remote.subs.lock();
            // Servers before 2.10.23 do not say whose leafnode it was.
            let anybody = interest.of_leaf && origin == 0;
            if anybody { subs.forget_of_a_leaf(wanted) } else { subs.forget(wanted) }
        };
        if let Some(gone) = gone {
            self.unwanted(remote, account, &gone);
        }
        self.queues.release(queue);
        self.neighbours().origins.release(origin);
    }

    fn unwanted(&self, remote: &Remote, account: &Account, gone: &Gone) {
        let at = SubRef::behind(remote.index(), gone.slot, gone.serial, gone.queue);
        account.interest().remove(&gone.subject, at);
        let queue = self.queues.name(gone.queue);
        remote.burden.fetch_sub(burden(&gone.subject, &queue), Ordering::Relaxed);
        self.announce_behind(remote, account, ((&gone.subject, &queue), gone.origin), 0);
        self.queues.release(gone.queue);
        self.neighbours().origins.release(gone.origin);
    }

    /// Tells leafnodes and their hubs how many want something behind another server. Without leafnodes, nobody need know.
    fn announce_behind(
        &self,
        remote: &Remote,
        account: &Account,
        (what, origin): ((&[u8], &[u8]), u32),
        weight: u32,
    ) {
        if self.neighbours().leaves.is_none() {
            return;
        }
        let there = Elsewhere {
            remote: remote.index(),
            kind: remote.kind(),
            origin: if origin > 0 { origin } else { remote.origin },
            from_leaf: origin > 0 || remote.kind() != Kind::Route,
            weight,
        };
        self.announce(account, what, Step::There(there));
    }

    /// One user fewer of a leafnode cluster's name.
    pub(crate) fn release_origin(&self, origin: u32) {
        self.neighbours().origins.release(origin);
    }

    /// The name of a leafnode cluster.
    pub(crate) fn origin_name(&self, origin: u32) -> Arc<[u8]> {
        self.neighbours().origins.name(origin)
    }

    /// What is wanted behind another server's connection, if that is asked for, and how much it is in any case.
    pub(crate) fn wanted_behind(&self, remote: &Remote, list: bool) -> (usize, Vec<SubSnapshot>) {
        let subs = remote.subs.lock();
        let snapshot = |wanted: Wanted<'_>| SubSnapshot {
            subject: wanted.subject.to_vec(),
            queue: self.queue_name(wanted.queue).to_vec(),
            sid: [b"R ", wanted.subject].concat(),
            delivered: 0,
            max: 0,
        };
        (subs.len(), if list { subs.iter().map(snapshot).collect() } else { Vec::new() })
    }

    /// Forgets another server's connection, and all that is wanted behind it.
    pub(crate) fn part(&self, remote: &Arc<Remote>) {
        {
            let mut neighbours = self.neighbours().told.write();
            *neighbours = neighbours.iter().filter(|other| !Arc::ptr_eq(other, remote)).cloned().collect();
        }
        let all = remote.subs.lock().drain();
        let accounts = self.accounts();
        for gone in all {
            if let Some(account) = accounts.get(gone.account as usize) {
                self.unwanted(remote, account, &gone);
            }
        }
        if self.neighbours().remotes.remove(remote) {
            self.neighbours().origins.release(remote.origin);
        }
    }
}

/// Bytes that something which is wanted takes in the interest and in what other servers are told of, roughly.
fn burden(subject: &[u8], queue: &[u8]) -> usize {
    /// A node of the interest's tree, and its edge.
    const NODE: usize = 128;
    let tokens = subject.iter().filter(|byte| **byte == b'.').count() + 1;
    let nodes = if subject::has_wildcard(subject) { tokens * NODE } else { NODE };
    nodes + subject.len() + 2 * queue.len()
}
