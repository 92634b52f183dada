//! What a router knows of other servers, and tells them.

use std::sync::Arc;

use midge_wire::Interest;

use super::announced::Step;
use super::subs::{Change, Gone, Wanted};
use super::{Remote, RemoteTable};
use crate::account::Account;
use crate::cluster::{Cluster, ClusterSettings};
use crate::interest::{QueueNames, SubRef};
use crate::router::Router;
use crate::snapshot::SubSnapshot;
use crate::sync::RwLock;

/// The connections to other servers.
#[derive(Debug)]
pub(crate) struct Neighbours {
    cluster: Option<Cluster>,
    remotes: RemoteTable,
    /// Those of them that are told of interest.
    told: RwLock<Arc<[Arc<Remote>]>>,
    /// Names of leafnode clusters.
    origins: QueueNames,
}

impl Neighbours {
    pub(crate) fn new(cluster: Option<ClusterSettings>, seed: u64) -> Self {
        Self {
            cluster: cluster.map(Cluster::new),
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
            let servers = self.neighbours().told.read().clone();
            account.announced().count(account, what, step, &servers).iter().for_each(|conn| conn.rouse());
        }
    }

    /// Whether there are other servers, or may be.
    #[inline]
    pub(crate) const fn has_neighbours(&self) -> bool {
        self.neighbours().cluster.is_some()
    }

    /// The cluster that the server is a member of, if it is of one.
    #[must_use]
    pub const fn cluster(&self) -> Option<&Cluster> {
        self.neighbours().cluster.as_ref()
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
        let told = served.filter(|account| account.announced().tell_all(account, remote)).count();
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
        let change = remote.subs.lock().want(wanted, interest.weight, serial);
        match change {
            Change::New(slot) => {
                let at = SubRef::behind(remote.index(), slot, serial, queue);
                account.interest().insert(interest.subject, at);
            }
            Change::Weight(before) => {
                self.queues.release(queue);
                self.neighbours().origins.release(origin);
                if before != interest.weight {
                    account.interest().touch(interest.subject);
                }
            }
        }
    }

    /// Notes that something is not wanted any more behind another server.
    pub(crate) fn unwant(&self, remote: &Remote, account: &Account, interest: &Interest<'_>) {
        let queue = self.queues.acquire(interest.queue);
        let origin = self.neighbours().origins.acquire(interest.origin);
        let wanted = Wanted { account: account.index(), subject: interest.subject, queue, origin };
        let gone = remote.subs.lock().forget(wanted);
        if let Some(gone) = gone {
            self.unwanted(remote, account, &gone);
        }
        self.queues.release(queue);
        self.neighbours().origins.release(origin);
    }

    fn unwanted(&self, remote: &Remote, account: &Account, gone: &Gone) {
        let at = SubRef::behind(remote.index(), gone.slot, gone.serial, gone.queue);
        account.interest().remove(&gone.subject, at);
        self.queues.release(gone.queue);
        self.neighbours().origins.release(gone.origin);
    }

    /// What is wanted behind another server's connection.
    pub(crate) fn wanted_behind(&self, remote: &Remote) -> Vec<SubSnapshot> {
        let subs = remote.subs.lock();
        let snapshot = |wanted: Wanted<'_>| SubSnapshot {
            subject: wanted.subject.to_vec(),
            queue: self.queue_name(wanted.queue).to_vec(),
            sid: [b"R ", wanted.subject].concat(),
            delivered: 0,
            max: 0,
        };
        subs.iter().map(snapshot).collect()
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
        self.neighbours().remotes.remove(remote);
    }
}
