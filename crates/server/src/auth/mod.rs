//! Who may connect: what the options say, ready to be asked.
//!
//! Order and outcome of the checks are those of nats-server 2.15 (`server/auth.go`,
//! `processClientOrLeafAuthentication`), for configurations without operators.

mod certificate;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use midge_identity::{NkeyKind, PublicNkey, challenge};
use midge_router::{Account, AccountLimits, Grant, Permissions, Router, Tag, Verdict};
use midge_wire::json::Credentials;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

pub(crate) use certificate::{subject_of, user_of};

use crate::carrier::Carrier;
use crate::options::{
    ClusterOptions, ConnectionType, Credential, LeafnodeOptions, Options, Secret, UserOptions,
    WebSocketOptions,
};

/// Passwords that are hashed at the same time. Hashing is meant to take long; it must not take every thread.
const HASHING: usize = 2;

/// Everybody who may connect.
#[derive(Debug)]
pub(crate) struct Directory {
    users: HashMap<String, User>,
    standard: Door,
    websocket: Door,
    anyone: Arc<Grant>,
    /// The accounts that leafnodes may belong to, by name.
    leaf_accounts: HashMap<String, Arc<Account>>,
    /// What those may do of whom nothing else is said.
    default_permissions: Option<Arc<Permissions>>,
    router: Arc<Router>,
    hashing: Arc<Semaphore>,
    /// Those who wait for hashing, by host: one for each host at a time, so that whoever guesses from one host keeps
    /// only that host's own users waiting.
    turns: Mutex<HashMap<Box<str>, Weak<Semaphore>>>,
}

/// Whoever asks to be let in, beside what he says of himself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// His address as `host:port`.
    pub(crate) peer: &'a str,
    /// What he was given to sign.
    pub(crate) nonce: &'a str,
    /// What is more than a plain socket about his connection.
    pub(crate) carrier: Option<&'a Carrier>,
}

/// What is asked of those who come by one kind of connection, beside users.
#[derive(Debug, Default)]
struct Door {
    asks: bool,
    single: Option<(String, Secret)>,
    token: Option<Secret>,
    /// Who somebody is that says nothing, where that is enough.
    stranger: Option<Stranger>,
    /// Whether the certificate says who somebody is.
    maps: bool,
}

/// Somebody who says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stranger {
    /// Is this user.
    User(String),
    /// Is let in as if nobody were asked.
    Anyone,
}

#[derive(Debug)]
struct User {
    options: UserOptions,
    grant: Arc<Grant>,
}

/// How somebody has logged in. Left with the grant as its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// As the one user.
    Single(String, Secret),
    /// By the token.
    Token(Secret),
    /// As one of many.
    User(Box<UserOptions>),
}

impl Login {
    pub(crate) fn of(grant: &Grant) -> Option<Arc<Self>> {
        grant.tag.clone()?.downcast().ok()
    }

    /// Whom log lines name: `user:alice`.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Single(name, _) => format!("user:{name}"),
            Self::Token(_) => "token".to_owned(),
            Self::User(user) => match &user.credential {
                Credential::Password(name, _) => format!("user:{name}"),
                Credential::Nkey(key) => format!("nkey:{key}"),
            },
        }
    }
}

/// Whom somebody says that he is, for log lines; nothing secret.
pub(crate) fn claimed(claim: &Credentials) -> Option<String> {
    if !claim.nkey.is_empty() {
        Some(format!("Nkey \"{}\"", claim.nkey.escape_debug()))
    } else if !claim.user.is_empty() {
        Some(format!("User \"{}\"", claim.user.escape_debug()))
    } else if !claim.auth_token.is_empty() {
        Some("Token \"[REDACTED]\"".to_owned())
    } else {
        None
    }
}

/// The answer to who somebody is.
pub(crate) enum Decision {
    Now(Verdict),
    /// It takes long and goes on elsewhere.
    Later(Pin<Box<dyn Future<Output = Verdict> + Send>>),
}

/// What becomes of somebody who is connected when the options change.
#[derive(Debug)]
pub(crate) enum Again {
    /// Stays, and may do this from now on.
    Stays(Arc<Grant>),
    /// Is somebody else now, or nobody: goes without a word.
    Moved,
    /// Would not be let in any more.
    Refused,
}

impl Directory {
    /// Everybody of whom the options speak. Adds their accounts to the router.
    pub(crate) fn new(options: &Options, router: &Arc<Router>) -> Self {
        for account in &options.accounts.list {
            router.add_account(&account.name).set_limits(account.limits);
        }
        for gone in router.accounts() {
            let listed = options.accounts.list.iter().any(|account| account.name == **gone.name());
            if !listed {
                gone.set_limits(AccountLimits::default());
            }
        }
        let mut made = Made::default();
        let mut users = HashMap::new();
        let default = options.auth.default_permissions.as_ref();
        for (account, user) in options.users() {
            let mut user = user.clone();
            if account.is_none() && user.permissions.is_none() {
                user.permissions = default.cloned();
            }
            let name = user.credential.name().to_owned();
            let grant = Arc::new(Grant {
                account: account.map_or_else(|| router.global_account(), |name| router.add_account(name)),
                permissions: made.permissions(&user),
                user: name.as_str().into(),
                tag: Some(Arc::new(Login::User(Box::new(user.clone()))) as Tag),
            });
            users.insert(name, User { options: user, grant });
        }
        Self {
            standard: Door::standard(options),
            websocket: Door::websocket(options),
            users,
            anyone: router.anyone().clone(),
            leaf_accounts: options
                .leafnodes
                .auth
                .accounts()
                .map(|name| (name.clone(), router.add_account(name)))
                .collect(),
            default_permissions: default.cloned().map(|rules| Arc::new(Permissions::new(rules))),
            router: router.clone(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            turns: Mutex::default(),
        }
    }

    fn door(&self, kind: ConnectionType) -> &Door {
        match kind {
            ConnectionType::Standard => &self.standard,
            ConnectionType::WebSocket => &self.websocket,
        }
    }

    /// Whether those who come so are asked who they are.
    pub(crate) fn asks(&self, kind: ConnectionType) -> bool {
        self.door(kind).asks
    }

    /// Whether somebody may come so who says nothing, and need not even send a CONNECT.
    pub(crate) fn takes_strangers(&self, kind: ConnectionType) -> bool {
        match &self.door(kind).stranger {
            Some(Stranger::User(name)) => self.users.get(name).is_some_and(|user| {
                matches!(user.options.credential, Credential::Password(..)) && user.may_come_by(kind)
            }),
            Some(Stranger::Anyone) => true,
            None => false,
        }
    }

    /// What somebody may do who says nothing; `None` where that is not enough.
    fn stranger(&self, kind: ConnectionType) -> Option<&Arc<Grant>> {
        match self.door(kind).stranger.as_ref()? {
            Stranger::User(name) => {
                self.users.get(name).filter(|user| user.may_come_by(kind)).map(|user| &user.grant)
            }
            Stranger::Anyone => Some(&self.anyone),
        }
    }

    /// What the user with that key may do, if there is one who may come by a plain connection.
    pub(crate) fn known_by(&self, key: &PublicNkey) -> Option<Arc<Grant>> {
        let user = self.users.get(key.as_str())?;
        let is_key = matches!(user.options.credential, Credential::Nkey(_));
        (is_key && user.may_come_by(ConnectionType::Standard)).then(|| user.grant.clone())
    }

    /// What somebody may do who has proven by a link who he is, and needs to say nothing of it: what the user with his key
    /// may, else what all may of whom nothing else is said, in his account.
    fn decide_peer(&self, carrier: Option<&Carrier>) -> Option<Decision> {
        let link = carrier?.link.as_ref()?;
        let user = link.peer.key().nkey(NkeyKind::User);
        if let Some(known) = self.known_by(&user) {
            return Some(Decision::Now(Verdict::Welcome(known)));
        }
        let account = match &link.account {
            None => Some(self.router.global_account()),
            Some(name) => self.router.add_dynamic_account(name),
        };
        let Some(account) = account else {
            warn!("Peer {} gets no account of its own: there are too many", link.peer);
            return Some(Decision::Now(Verdict::Refused));
        };
        let permissions = self.default_permissions.clone();
        let grant = Grant { user: user.as_str().into(), permissions, ..Grant::of(account) };
        Some(Decision::Now(Verdict::Welcome(Arc::new(grant))))
    }

    /// Whether clients are given something to sign.
    pub(crate) fn has_nkeys(&self) -> bool {
        self.users.values().any(|user| matches!(user.options.credential, Credential::Nkey(_)))
    }

    /// Finds out who somebody is.
    pub(crate) fn decide(&self, claim: &Credentials, caller: Caller<'_>) -> Decision {
        let Caller { nonce, carrier, .. } = caller;
        if let Some(proven) = self.decide_peer(carrier) {
            return proven;
        }
        let kind = carrier.map_or(ConnectionType::Standard, |carrier| carrier.kind);
        let door = self.door(kind);
        let refused = Decision::Now(Verdict::Refused);
        if !door.asks {
            return Decision::Now(Verdict::Welcome(self.anyone.clone()));
        }
        if !claim.nkey.is_empty() && self.has_nkeys() {
            return self.decide_key(claim, nonce, kind).unwrap_or(refused);
        }
        if self.users.is_empty() {
            return self.decide_simple(door, claim, caller);
        }
        if door.maps {
            return self.decide_certificate(claim, caller, kind);
        }
        let says_nothing = claim.user.is_empty() && claim.pass.is_empty() && claim.auth_token.is_empty();
        if says_nothing {
            let grant = self.stranger(kind).cloned();
            return grant.map_or(refused, |grant| Decision::Now(Verdict::Welcome(grant)));
        }
        if claim.user.is_empty() {
            return self.decide_simple(door, claim, caller);
        }
        match self.users.get(&claim.user).filter(|user| user.may_come_by(kind)) {
            Some(user) => match &user.options.credential {
                Credential::Password(name, secret) => {
                    // Without a password, he is whom a certificate names, and by nothing else.
                    let stranger = door.stranger == Some(Stranger::User(name.clone()));
                    if secret.reveal().is_empty() && !stranger && self.may_be_named(user) {
                        debug!("User {name:?} requires a client certificate");
                        return refused;
                    }
                    self.compare(secret, &claim.pass, &user.grant, caller)
                }
                Credential::Nkey(_) => refused,
            },
            None => refused,
        }
    }

    fn decide_key(&self, claim: &Credentials, nonce: &str, kind: ConnectionType) -> Option<Decision> {
        let user = self.users.get(&claim.nkey).filter(|user| user.may_come_by(kind))?;
        let Credential::Nkey(key) = &user.options.credential else { return None };
        let needs_proof = self.door(kind).stranger != Some(Stranger::User(key.to_string()));
        if needs_proof && let Err(why) = challenge::verify(key, nonce, &claim.sig) {
            debug!("Nkey \"{key}\": {why}");
            return None;
        }
        Some(Decision::Now(Verdict::Welcome(user.grant.clone())))
    }

    /// Whether a certificate may name this user, at any door.
    fn may_be_named(&self, user: &User) -> bool {
        [ConnectionType::Standard, ConnectionType::WebSocket]
            .into_iter()
            .any(|kind| self.door(kind).maps && user.may_come_by(kind))
    }

    fn decide_simple(&self, door: &Door, claim: &Credentials, caller: Caller<'_>) -> Decision {
        let grant = |login: Login, user: &str| {
            let grant =
                Grant { user: user.into(), tag: Some(Arc::new(login) as Tag), ..Grant::clone(&self.anyone) };
            Arc::new(grant)
        };
        match (&door.token, &door.single) {
            (Some(token), _) => {
                let grant = grant(Login::Token(token.clone()), "[REDACTED]");
                self.compare(token, &claim.auth_token, &grant, caller)
            }
            (None, Some((name, secret))) if *name == claim.user => {
                let grant = grant(Login::Single(name.clone(), secret.clone()), name);
                self.compare(secret, &claim.pass, &grant, caller)
            }
            _ => Decision::Now(Verdict::Refused),
        }
    }

    fn decide_certificate(&self, claim: &Credentials, caller: Caller<'_>, kind: ConnectionType) -> Decision {
        let facts = caller.carrier.and_then(|carrier| carrier.tls.get());
        let Some(certificate) = facts.and_then(|facts| facts.peer.first()) else {
            debug!("User required in cert, no peer certificates found");
            return Decision::Now(Verdict::Refused);
        };
        let names =
            self.users.iter().filter(|(_, user)| user.may_come_by(kind)).map(|(name, _)| name.as_str());
        let Some(user) = user_of(certificate, names).and_then(|name| self.users.get(&name)) else {
            return Decision::Now(Verdict::Refused);
        };
        if !claim.user.is_empty() {
            warn!("User {:?} found in connect proto, but user required from cert", claim.user);
        }
        match &user.options.credential {
            Credential::Password(_, secret) => self.compare(secret, &claim.pass, &user.grant, caller),
            Credential::Nkey(_) => Decision::Now(Verdict::Refused),
        }
    }

    /// Whether another server of the cluster is let in.
    pub(crate) fn decide_route(
        &self,
        block: &ClusterOptions,
        claim: &Credentials,
        caller: Caller<'_>,
    ) -> Decision {
        if caller.carrier.is_some_and(|carrier| carrier.link.is_some()) {
            return Decision::Now(Verdict::Welcome(self.anyone.clone()));
        }
        match (&block.auth.user, &block.auth.password) {
            (Some(user), Some(secret)) if *user == claim.user => {
                self.compare(secret, &claim.pass, &self.anyone, caller)
            }
            (None, _) => Decision::Now(Verdict::Welcome(self.anyone.clone())),
            _ => Decision::Now(Verdict::Refused),
        }
    }

    /// Whether a leafnode is let in, and as whom.
    pub(crate) fn decide_leaf(
        &self,
        block: &LeafnodeOptions,
        claim: &Credentials,
        caller: Caller<'_>,
    ) -> Decision {
        if let Some(proven) = self.decide_peer(caller.carrier) {
            return proven;
        }
        let auth = &block.auth;
        let grant = |account: Option<&String>, user: &str| {
            let account = account.or(auth.account.as_ref());
            let account =
                account.and_then(|name| self.leaf_accounts.get(name)).unwrap_or(&self.anyone.account);
            Arc::new(Grant { user: user.into(), ..Grant::of(account.clone()) })
        };
        let refused = Decision::Now(Verdict::Refused);
        if let Some(key) = auth.nkey.as_ref().filter(|key| *key.to_string() == claim.nkey) {
            return match challenge::verify(key, caller.nonce, &claim.sig) {
                Ok(()) => Decision::Now(Verdict::Welcome(grant(None, &claim.nkey))),
                Err(why) => {
                    debug!("Nkey \"{key}\": {why}");
                    refused
                }
            };
        }
        if auth.is_own() {
            let single =
                auth.user.as_ref().zip(auth.password.as_ref()).map(|(user, secret)| (user, secret, None));
            let many = auth.users.iter().map(|user| (&user.user, &user.password, user.account.as_ref()));
            let mut all = single.into_iter().chain(many);
            return match all.find(|(user, ..)| **user == claim.user) {
                Some((user, secret, account)) => {
                    self.compare(secret, &claim.pass, &grant(account, user), caller)
                }
                None => refused,
            };
        }
        let door = self.door(ConnectionType::Standard);
        if !door.asks {
            return Decision::Now(Verdict::Welcome(grant(None, "")));
        }
        // Whoever may come in some ways only may not come as a leafnode, which cannot be one of them yet.
        let named = if claim.nkey.is_empty() { &claim.user } else { &claim.nkey };
        if self
            .users
            .get(named)
            .is_some_and(|user| user.options.connection_types.as_ref().is_some_and(|types| !types.is_empty()))
        {
            return refused;
        }
        self.decide(claim, caller)
    }

    /// Compares what was shown with what must be: at once, in constant time, or by hashing it on another thread.
    fn compare(&self, secret: &Secret, shown: &str, grant: &Arc<Grant>, caller: Caller<'_>) -> Decision {
        let welcome = Verdict::Welcome(grant.clone());
        if !secret.is_hash() {
            let same = bool::from(secret.reveal().as_bytes().ct_eq(shown.as_bytes()));
            return Decision::Now(if same { welcome } else { Verdict::Refused });
        }
        let (secret, shown, hashing) = (secret.clone(), shown.to_owned(), self.hashing.clone());
        let host = self.turn(caller.peer);
        Decision::Later(Box::pin(async move {
            let Ok(_first) = host.acquire_owned().await else { return Verdict::Refused };
            let Ok(_turn) = hashing.acquire_owned().await else { return Verdict::Refused };
            let verify = move || bcrypt::verify(shown, secret.reveal()).unwrap_or(false);
            match tokio::task::spawn_blocking(verify).await {
                Ok(true) => welcome,
                _ => Verdict::Refused,
            }
        }))
    }

    /// What those wait for who come from that host and whose password is to be hashed.
    fn turn(&self, peer: &str) -> Arc<Semaphore> {
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(host).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(host.into(), Arc::downgrade(&turn));
        turn
    }

    /// What becomes of somebody who is connected already.
    pub(crate) fn again(&self, grant: &Arc<Grant>, kind: ConnectionType) -> Again {
        let door = self.door(kind);
        match Login::of(grant).as_deref() {
            Some(Login::User(old)) => match self.users.get(old.credential.name()) {
                None => Again::Moved,
                Some(new) if !Arc::ptr_eq(&new.grant.account, &grant.account) => Again::Moved,
                Some(new) if new.options.credential != old.credential || !new.may_come_by(kind) => {
                    Again::Refused
                }
                Some(new) => Again::Stays(new.grant.clone()),
            },
            Some(login) if door.asks => {
                let same = match login {
                    Login::Single(name, secret) => {
                        door.single.as_ref() == Some(&(name.clone(), secret.clone()))
                    }
                    Login::Token(token) => door.token.as_ref() == Some(token),
                    Login::User(_) => false,
                };
                if same { Again::Stays(grant.clone()) } else { Again::Refused }
            }
            None if door.asks => match self.stranger(kind) {
                Some(new) if Arc::ptr_eq(&new.account, &grant.account) => Again::Stays(new.clone()),
                _ => Again::Refused,
            },
            _ => Again::Stays(self.anyone.clone()),
        }
    }
}

/// Permissions that have been made: users with the same rules share them.
#[derive(Default)]
struct Made(Vec<Arc<Permissions>>);

impl Made {
    fn permissions(&mut self, user: &UserOptions) -> Option<Arc<Permissions>> {
        let rules = user.permissions.as_ref()?;
        if let Some(same) = self.0.iter().find(|made| made.rules() == rules) {
            return Some(same.clone());
        }
        let new = Arc::new(Permissions::new(rules.clone()));
        self.0.push(new.clone());
        Some(new)
    }
}

impl Door {
    fn standard(options: &Options) -> Self {
        let auth = &options.auth;
        let only_system = options.only_system_has_users().then_some(Stranger::Anyone);
        Self {
            asks: options.asks(),
            single: auth.user.clone().map(|user| (user, auth.password.clone().unwrap_or_default())),
            token: auth.token.clone(),
            stranger: auth.no_auth_user.clone().map(Stranger::User).or(only_system),
            maps: options.tls.block.as_ref().is_some_and(|tls| tls.map),
        }
    }

    fn websocket(options: &Options) -> Self {
        let block = &options.websocket;
        let maps = block.port.is_some() && block.tls.as_ref().is_some_and(|tls| tls.map);
        let WebSocketOptions { auth, no_auth_user, .. } = &options.websocket;
        if !options.websocket.has_own_auth() {
            return Self { maps, ..Self::standard(options) };
        }
        Self {
            asks: true,
            single: auth.user.clone().map(|user| (user, auth.password.clone().unwrap_or_default())),
            token: auth.token.clone(),
            stranger: no_auth_user.clone().map(Stranger::User),
            maps,
        }
    }
}

impl User {
    fn may_come_by(&self, kind: ConnectionType) -> bool {
        self.options.connection_types.as_ref().is_none_or(|types| types.is_empty() || types.contains(&kind))
    }
}

#[cfg(test)]
mod tests;
