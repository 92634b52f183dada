//! Who may link, and to which account peers belong.

use std::fmt::Debug;
use std::sync::Arc;

use midge_identity::{NkeyKind, PeerId};
use midge_link::Admission;

use crate::options::{MeshOptions, PeerAccounts};

/// Says who may link, and as whom. What a peer says of itself counts for nothing: it is asked by the key that the link
/// has proven.
pub trait Authorizer: Debug + Send + Sync + 'static {
    /// Whether that peer may have a link. Asked during a handshake, so it must answer without waiting.
    fn may_link(&self, peer: &PeerId) -> bool;

    /// Whether that peer is trusted as a server of the same cluster: it then hears and says what any server does, in all
    /// accounts. Others have no more than a client or a leafnode.
    fn may_route(&self, peer: &PeerId) -> bool;

    /// The account of a peer that connects as a client or leafnode; `None` is the global one.
    fn account(&self, peer: &PeerId) -> Option<String>;
}

/// What the configuration says: only peers that it names may link.
#[derive(Debug)]
pub(crate) struct Configured(MeshOptions);

impl Configured {
    pub(crate) fn new(options: &MeshOptions) -> Arc<Self> {
        Arc::new(Self(options.clone()))
    }
}

impl Authorizer for Configured {
    fn may_link(&self, peer: &PeerId) -> bool {
        self.0.allows(peer)
    }

    fn may_route(&self, peer: &PeerId) -> bool {
        self.0.names(peer)
    }

    fn account(&self, peer: &PeerId) -> Option<String> {
        account(self.0.accounts, peer)
    }
}

/// The account of a peer by that rule.
pub(crate) fn account(accounts: PeerAccounts, peer: &PeerId) -> Option<String> {
    match accounts {
        PeerAccounts::Shared => None,
        PeerAccounts::PerPeer => Some(peer.key().nkey(NkeyKind::Account).to_string()),
    }
}

/// An authorizer as links see it.
#[derive(Debug)]
pub(super) struct Door(pub(super) Arc<dyn Authorizer>);

impl Admission for Door {
    fn admits(&self, peer: &PeerId) -> bool {
        self.0.may_link(peer)
    }
}
