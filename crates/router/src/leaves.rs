//! The leafnodes of this server, and the hubs that it is a leafnode of.
//!
//! Rules are those of nats-server's `server/leafnode.go`.

use std::sync::Arc;

use midge_wire::json::{PeerConnect, PeerInfo, SubjectLists};

use crate::account::Account;
use crate::conn::{Conn, Kind};
use crate::permissions::{Permissions, SubjectRules};
use crate::remote::{Dialled, Filter, Manner, NewRemote, Peer, Remote, Scope};
use crate::router::Router;
use crate::session::event::{LeafError, SessionError};
use crate::snapshot::SubSnapshot;
use crate::sync::Mutex;
use crate::worker::Worker;

/// Subjects that do not cross a leafnode connection: each side has a JetStream of its own, or none.
const JETSTREAM: [&str; 3] = ["$JS.API.>", "$KV.>", "$OBJ.>"];

/// What leafnodes and hubs are told.
#[derive(Debug, Clone, Default)]
pub struct LeafSettings {
    /// What leafnodes are told, without what differs by connection.
    pub info: PeerInfo,
    /// The name of the cluster that this server is a member of; its own name where it is of none.
    pub cluster: String,
    /// The oldest version of a leafnode's protocol reference that is taken: its numbers.
    pub min_version: Option<[u32; 3]>,
    /// Whether leafnodes hear nothing of each other.
    pub isolated: bool,
}

/// How this server is a leafnode of another one.
#[derive(Clone, Default)]
pub struct LeafRules {
    /// Whether this side is the hub all the same.
    pub is_hub: bool,
    /// Whether it does not want to hear of the hub's other leafnodes.
    pub isolated: bool,
    /// What it takes in of nothing, of subjects.
    pub deny_imports: Vec<String>,
    /// What it lets out nothing of.
    pub deny_exports: Vec<String>,
}

/// The leafnodes and hubs of a server.
#[derive(Debug)]
pub struct Leaves {
    settings: LeafSettings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The port that is listened on, once it is known.
    port: Option<u16>,
    /// Where leafnodes may connect to this server's cluster.
    urls: Vec<String>,
    all: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    remote: Arc<Remote>,
    who: LeafName,
}

/// Who is at the other end of a leafnode connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeafName {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) cluster: String,
    /// Its own account.
    pub(crate) account: String,
}

/// A leafnode connection, for those who look on.
#[derive(Debug, Clone)]
pub struct LeafSnapshot {
    /// The other server's id, if it said so.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The connection.
    pub conn: Arc<Conn>,
    /// This server's account.
    pub account: Arc<str>,
    /// Whether the other server is the leafnode.
    pub is_spoke: bool,
    /// How the connection was made, if from this side.
    pub dialled: Option<Dialled>,
    /// Whether it does not want to hear of other leafnodes.
    pub isolated: bool,
    /// How much is wanted behind it.
    pub subscription_count: usize,
    /// What is wanted behind it, if that was asked for.
    pub subscriptions: Vec<SubSnapshot>,
}

/// A connection that is to be one to a leafnode or hub.
pub(crate) struct NewLeaf<'a> {
    pub(crate) conn: &'a Arc<Conn>,
    pub(crate) account: &'a Account,
    /// What the other server is to this one.
    pub(crate) kind: Kind,
    pub(crate) who: LeafName,
    pub(crate) filter: Filter,
    pub(crate) isolated: bool,
    pub(crate) dialled: Option<Dialled>,
}

impl Leaves {
    pub(crate) fn new(settings: LeafSettings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    pub(crate) const fn settings(&self) -> &LeafSettings {
        &self.settings
    }

    /// Says where leafnodes may connect: on which port to this server, and by which addresses to its cluster.
    /// Whether that is new.
    pub fn set_addresses(&self, port: u16, urls: Vec<String>) -> bool {
        let mut state = self.state.lock();
        state.port = Some(port);
        let is_new = state.urls != urls;
        state.urls = urls;
        is_new
    }

    /// Tells leafnodes where else they may connect.
    pub fn tell_urls(&self, worker: &mut Worker) {
        let info = PeerInfo { client_id: 0, ..self.info() }.to_json();
        let spokes: Vec<Arc<Conn>> = {
            let state = self.state.lock();
            let ours = state.all.iter().filter(|entry| entry.remote.dialled.is_none());
            ours.map(|entry| entry.remote.conn.clone()).collect()
        };
        spokes.iter().for_each(|conn| conn.append_json_info(&info, worker));
    }

    /// What leafnodes are told.
    pub(crate) fn info(&self) -> PeerInfo {
        let state = self.state.lock();
        PeerInfo {
            port: state.port.unwrap_or(self.settings.info.port),
            leafnode_urls: Some(state.urls.clone()),
            ..self.settings.info.clone()
        }
    }

    /// How many connections to leafnodes and hubs there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.lock().all.len()
    }

    /// How many of them belong to that account.
    #[must_use]
    pub fn count_of(&self, account: &Account) -> usize {
        let state = self.state.lock();
        state.all.iter().filter(|entry| entry.remote.scope.serves(account)).count()
    }

    /// The connections, and what is wanted behind each if that is asked for.
    #[must_use]
    pub fn all(&self, router: &Router, subscriptions: bool) -> Vec<LeafSnapshot> {
        let state = self.state.lock();
        let snapshot = |Entry { remote, who }: &Entry| {
            let (subscription_count, subscriptions) = router.wanted_behind(remote, subscriptions);
            LeafSnapshot {
                id: who.id.clone(),
                name: who.name.clone(),
                conn: remote.conn.clone(),
                account: remote.conn.grant().account.name().clone(),
                is_spoke: remote.kind() == Kind::Spoke,
                dialled: remote.dialled,
                isolated: remote.manner.isolated,
                subscription_count,
                subscriptions,
            }
        };
        state.all.iter().map(snapshot).collect()
    }

    /// Whether a server that says this may be a leafnode here.
    pub(crate) fn check(&self, hello: &PeerConnect) -> Result<(), LeafError> {
        if !hello.lang.is_empty() {
            return Err(LeafError::WrongPort);
        }
        if !hello.gateway.is_empty() {
            return Err(LeafError::Gateway(hello.gateway.clone()));
        }
        if hello.cluster.contains(char::is_whitespace) {
            return Err(LeafError::ClusterName);
        }
        if hello.cluster == "_" {
            return Err(LeafError::ReservedName);
        }
        if !hello.cluster.is_empty() && hello.cluster == self.settings.cluster {
            return Err(LeafError::SameCluster);
        }
        if let Some(least) = self.settings.min_version
            && version(&hello.version).is_none_or(|theirs| theirs < least)
        {
            let [major, minor, patch] = least;
            return Err(LeafError::Version(format!("{major}.{minor}.{patch}")));
        }
        Ok(())
    }

    /// Makes a connection one to a leafnode or hub. Nobody hears of interest by it yet.
    pub(crate) fn register(&self, router: &Router, new: NewLeaf<'_>) -> Arc<Remote> {
        let NewLeaf { conn, account, kind, who, filter, isolated, dialled } = new;
        // A leafnode's name for itself is no cluster's.
        let origin = if who.cluster == who.name { "" } else { who.cluster.as_str() };
        let remote = router.remotes().add(NewRemote {
            conn: conn.clone(),
            kind,
            peer: Arc::new(Peer::new(&who.id)),
            scope: Scope::One(account.index()),
            manner: Manner { isolated, ..Manner::default() },
            origin: router.acquire_origin(origin.as_bytes()),
            filter,
            seed: router.seed(),
            dialled,
        });
        let mut state = self.state.lock();
        // Servers before 2.10 do not say which account is theirs, and may have several connections.
        if dialled.is_none() && !who.account.is_empty() {
            // One that was started anew has another id, and the connection of the old one may not have ended yet.
            let same = |entry: &&Entry| {
                LeafName { id: who.id.clone(), ..entry.who.clone() } == who
                    && entry.remote.scope.serves(account)
            };
            for entry in state.all.iter().filter(same) {
                entry.remote.conn.doom(SessionError::Leaf(LeafError::Duplicate));
            }
        }
        state.all.push(Entry { remote: remote.clone(), who });
        remote
    }

    /// Forgets a connection.
    pub(crate) fn leave(&self, remote: &Arc<Remote>) {
        self.state.lock().all.retain(|entry| !Arc::ptr_eq(&entry.remote, remote));
    }
}

/// What may cross the connection of a leafnode that was let in as somebody who may do this.
pub(crate) fn spoke_filter(account: &Account, may: Option<&Permissions>, deny: &[String]) -> Filter {
    let rules = may.map(|may| may.rules().clone()).unwrap_or_default();
    let out = without(&rules.subscribe, deny);
    Filter {
        told: own_jetstream(account, &rules.publish),
        wanted: own_jetstream(account, &out),
        sent: own_jetstream(account, &out),
        received: some(rules.publish),
    }
}

/// What may cross the connection to a hub that has said what it lets through.
pub(crate) fn hub_filter(account: &Account, rules: &LeafRules, hub: &PeerInfo) -> Filter {
    let taken = without(&from_lists(hub.import.as_ref()), &rules.deny_imports);
    let sent = without(&from_lists(hub.export.as_ref()), &rules.deny_exports);
    Filter {
        told: own_jetstream(account, &taken),
        wanted: None,
        sent: own_jetstream(account, &sent),
        received: own_jetstream(account, &taken),
    }
}

/// What a leafnode is told of what it may receive, and send.
pub(crate) fn to_lists(rules: &SubjectRules) -> Option<SubjectLists> {
    let deny = Some(rules.deny.clone()).filter(|deny| !deny.is_empty());
    (rules.allow.is_some() || deny.is_some()).then(|| SubjectLists { allow: rules.allow.clone(), deny })
}

fn from_lists(lists: Option<&SubjectLists>) -> SubjectRules {
    let lists = lists.cloned().unwrap_or_default();
    SubjectRules { allow: lists.allow.filter(|list| !list.is_empty()), deny: lists.deny.unwrap_or_default() }
}

fn without(rules: &SubjectRules, deny: &[String]) -> SubjectRules {
    let mut rules = rules.clone();
    rules.deny.extend_from_slice(deny);
    rules
}

/// The same, and nothing of JetStream, but for the system account, over which servers share one.
fn own_jetstream(account: &Account, rules: &SubjectRules) -> Option<Arc<Permissions>> {
    let jetstream = JETSTREAM.map(str::to_owned);
    some(if account.is_system() { rules.clone() } else { without(rules, &jetstream) })
}

fn some(rules: SubjectRules) -> Option<Arc<Permissions>> {
    (rules != SubjectRules::default()).then(|| Arc::new(Permissions::to_publish(rules)))
}

/// The numbers of a version like `2.10.27`.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text.split(['.', '-']).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("2.9.10") < version("2.10.2") && version("2.10.2-RC.1") == Some([2, 10, 2]));
        assert_eq!([version(""), version("2.x.1"), version("2.1")], [None; 3]);
    }
}
