//! How two peers that reach the same deployment agree on a session: subjects for a link's datagrams that nobody guesses.
//!
//! The dialer asks on `P.link.<listener>.dial`, and is answered there. Both messages are signed by the peers' keys, each
//! over a context of its own; both hold a nonce and an X25519 key for this session only. From the shared secret and the
//! hash of both messages come, by HKDF-SHA256, two tokens: the dialer sends its datagrams to
//! `P.d.<listener>.<token>`, the listener to `P.d.<dialer>.<token>`. Whoever runs the deployment sees the tokens; they
//! keep out those who cannot listen to everything, and tie a session's datagrams to it. They protect nothing that is said:
//! the link's own encryption does.
//!
//! Nothing here waits, reads a clock or makes up chance.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use hkdf::Hkdf;
use midge_identity::{KeyPair, PeerId, SIGNATURE_BYTES};
use prost::Message as _;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::prefix::Prefix;
use crate::proto::{Accept, Dial, Signed};

/// The version of it all.
const VERSION: u32 = 1;
/// What is signed begins with these.
const DIAL: &[u8] = b"midge link over nats 1: dial\0";
const ACCEPT: &[u8] = b"midge link over nats 1: accept\0";
/// Most bytes of either message.
pub const MOST: usize = 1024;
/// Bytes of nonces and of X25519 keys.
const PART: usize = 32;
/// Bytes of a peer id.
const PEER: usize = 38;
/// Bytes of a token, before it is text, and letters of the text.
const TOKEN: usize = 15;
const LETTERS: usize = 24;
/// How far the other side's clock may be off.
const CLOCK: Duration = Duration::from_secs(60);
/// How long the listener waits for the first datagram.
pub const WAIT: Duration = Duration::from_secs(10);

/// A token that stands in subjects: 24 letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; TOKEN]);

impl Token {
    /// The token of that text, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut token = [0; TOKEN];
        if text.len() != LETTERS {
            return None;
        }
        // Five bits for each letter of RFC 4648's alphabet, in lower case.
        for (letters, bytes) in text.as_bytes().chunks(8).zip(token.chunks_mut(5)) {
            let mut bits = 0_u64;
            for letter in letters {
                let value = match letter {
                    b'a'..=b'z' => letter - b'a',
                    b'2'..=b'7' => letter - b'2' + 26,
                    _ => return None,
                };
                bits = bits << 5 | u64::from(value);
            }
            bytes.iter_mut().zip(bits.to_be_bytes().into_iter().skip(3)).for_each(|(to, from)| *to = from);
        }
        Some(Self(token))
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

/// What both sides have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The other side.
    pub peer: PeerId,
    /// What stands in the subject of what goes to the listener.
    pub to_listener: Token,
    /// What stands in the subject of what goes to the dialer.
    pub to_dialer: Token,
    /// The session's name, the same on both sides.
    pub id: Token,
    /// Most bytes of a datagram that the other side takes.
    pub max_datagram: u16,
}

/// 64 bytes of chance: a nonce, and a secret for one session.
pub type RandomBytes = Zeroizing<[u8; 2 * PART]>;

fn split(chance: &RandomBytes) -> (Vec<u8>, StaticSecret) {
    let (nonce, secret) = chance.split_at(PART);
    let mut bytes = Zeroizing::new([0; PART]);
    bytes.copy_from_slice(secret);
    (nonce.to_vec(), StaticSecret::from(*bytes))
}

/// Why a message of the other side is not taken.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RendezvousError {
    /// It is too long, or not the message that it should be.
    #[error("the message is not one of those by which peers agree on a link")]
    Malformed,
    /// It is another version's.
    #[error("version {0}, where {VERSION} is spoken")]
    Version(u32),
    /// It is for another peer.
    #[error("it is for another peer than this one")]
    Target,
    /// It is for other subjects.
    #[error("the other side's prefix is '{theirs}', this one's '{ours}'")]
    Prefix {
        /// Theirs.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// It was made too long ago, or will be made.
    #[error("the other side's clock is {0} s off this one's: set both, or the message is an old one")]
    Clock(i64),
    /// That peer may not link.
    #[error("the peer is not allowed to link")]
    NotAllowed,
    /// It was not signed by whom it names.
    #[error("the signature is not that peer's")]
    Signature,
    /// It has come before.
    #[error("the message has come before")]
    Replayed,
    /// The key for the session is none that a secret could be made with.
    #[error("the key for the session is none that a secret can be made with")]
    Key,
    /// There are too many at once.
    #[error("too many links are being made: ask again in {} ms", .0.as_millis())]
    Busy(Duration),
    /// It answers another question.
    #[error("it answers another question")]
    Answer,
    /// The other side does not agree.
    #[error("the other side refuses for now (code {code}): ask again in {} ms", .retry_after.as_millis())]
    Rejected {
        /// Its number for why.
        code: u32,
        /// When to ask again, if it said.
        retry_after: Duration,
    },
}

impl RendezvousError {
    /// What the other side is told, beside [`RendezvousError::code`].
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::NotAllowed | Self::Signature => {
                "the peer is not allowed to link, or has not signed this".to_owned()
            }
            other => other.to_string(),
        }
    }

    /// The number that the other side is told.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            // Nobody learns who may by asking in others' names.
            Self::NotAllowed | Self::Signature => 403,
            Self::Target | Self::Prefix { .. } => 404,
            Self::Clock(_) => 408,
            Self::Replayed => 409,
            Self::Busy(_) => 429,
            _ => 400,
        }
    }
}

/// What a dialer has asked, until it is answered.
pub struct DialRequest {
    /// The message.
    pub bytes: Vec<u8>,
    target: PeerId,
    body: Vec<u8>,
    secret: StaticSecret,
}

impl std::fmt::Debug for DialRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DialRequest").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Which peers and subjects a session is for, when, and with what datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// This side.
    pub key: &'a KeyPair,
    /// What the subjects begin with.
    pub prefix: &'a Prefix,
    /// The time by this side's clock, since 1970.
    pub now: Duration,
    /// Most bytes of a datagram that this side takes.
    pub max_datagram: u16,
}

impl DialRequest {
    /// Asks that peer for a session.
    #[must_use]
    pub fn new(terms: &Terms<'_>, target: PeerId, chance: &RandomBytes) -> Self {
        let (nonce, secret) = split(chance);
        let dial = Dial {
            version: VERSION,
            dialer: terms.key.peer_id().to_bytes().to_vec(),
            target: target.to_bytes().to_vec(),
            nonce,
            ephemeral: PublicKey::from(&secret).to_bytes().to_vec(),
            unix_ms: millis(terms.now),
            max_datagram: terms.max_datagram.into(),
            prefix: terms.prefix.as_str().to_owned(),
        };
        let body = dial.encode_to_vec();
        Self { bytes: seal(terms.key, DIAL, &body), target, body, secret }
    }

    /// The session, by the answer.
    ///
    /// # Errors
    /// It is not that peer's answer to this question, or the peer does not agree.
    pub fn answered(&self, answer: &[u8]) -> Result<Session, RendezvousError> {
        let (signed, accept): (Signed, Accept) = open(answer)?;
        verify(&self.target, ACCEPT, &signed)?;
        if accept.request_hash != Sha256::digest(&self.body).as_slice() {
            return Err(RendezvousError::Answer);
        }
        if accept.reject_code != 0 {
            let retry_after = Duration::from_millis(accept.retry_after_ms.into());
            return Err(RendezvousError::Rejected { code: accept.reject_code, retry_after });
        }
        let max_datagram = datagram(accept.max_datagram)?;
        if accept.nonce.len() != PART {
            return Err(RendezvousError::Malformed);
        }
        let secret = Secret::new(&self.secret, &accept.ephemeral)?;
        Ok(secret.session(self.target, (&self.body, &signed.body), max_datagram))
    }
}

/// A listener's memory of who has asked, bounded whoever asks.
#[derive(Debug, Default)]
pub struct DialGuard {
    /// Nonces that have come, in two sets by when: those of the older are forgotten as a whole.
    newer: HashSet<[u8; PART]>,
    older: HashSet<[u8; PART]>,
    stretch: u128,
    /// How often was asked in each peer's name.
    peers: HashMap<PeerId, Budget>,
}

/// Nonces in each set.
const MOST_NONCES: usize = 65_536;
/// Peers in whose names was asked lately.
const MOST_PEERS: usize = 16_384;
/// Signatures in one peer's name that are checked at once, and each second: the rest may be another's, who forges them.
const CHECKS: Rate = Rate { most: 100.0, each_second: 50.0 };
/// How often a peer may ask at once, and each second.
const ASKS: Rate = Rate { most: 20.0, each_second: 2.0 };

/// How often something may be done.
#[derive(Debug, Clone, Copy)]
struct Rate {
    most: f64,
    each_second: f64,
}

/// What is left of what may be done, which fills again with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

/// What is left to one peer, and in its name to those who forge it.
#[derive(Debug, Clone, Copy)]
struct Budget {
    checks: Bucket,
    asks: Bucket,
}

impl Budget {
    const fn new(now: Duration) -> Self {
        Self { checks: Bucket { left: CHECKS.most, at: now }, asks: Bucket { left: ASKS.most, at: now } }
    }

    /// Whether it is what one has of whom nothing is remembered.
    fn is_new(&mut self, now: Duration) -> bool {
        self.checks.fill(CHECKS, now);
        self.asks.fill(ASKS, now);
        self.checks.left >= CHECKS.most && self.asks.left >= ASKS.most
    }
}

impl Bucket {
    fn fill(&mut self, rate: Rate, now: Duration) {
        let gone = now.saturating_sub(self.at);
        *self = Self { left: (self.left + gone.as_secs_f64() * rate.each_second).min(rate.most), at: now };
    }

    fn spend(&mut self, rate: Rate, now: Duration) -> Result<(), RendezvousError> {
        self.fill(rate, now);
        if self.left < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.left) / rate.each_second);
            return Err(RendezvousError::Busy(wait));
        }
        self.left -= 1.0;
        Ok(())
    }
}

/// Who asks, after everything was checked that can be without remembering anything.
#[derive(Debug)]
pub struct IncomingDial {
    /// Who.
    pub dialer: PeerId,
    signed: Signed,
    dial: Dial,
}

impl DialGuard {
    /// Looks at a question: who asks, if it can be answered.
    ///
    /// # Errors
    /// It is not for this peer, is not what it claims to be, or has come before.
    pub fn look(
        &mut self,
        terms: &Terms<'_>,
        question: &[u8],
        admits: impl FnOnce(&PeerId) -> bool,
    ) -> Result<IncomingDial, RendezvousError> {
        let (signed, dial): (Signed, Dial) = open(question)?;
        if dial.version != VERSION {
            return Err(RendezvousError::Version(dial.version));
        }
        let own = terms.key.peer_id();
        if dial.target != own.to_bytes() {
            return Err(RendezvousError::Target);
        }
        if dial.prefix != terms.prefix.as_str() {
            let theirs = dial.prefix.escape_debug().take(Prefix::MOST).collect();
            return Err(RendezvousError::Prefix { theirs, ours: terms.prefix.to_string() });
        }
        let (Ok(dialer), Ok(nonce)) = (peer(&dial.dialer), <[u8; PART]>::try_from(&dial.nonce[..])) else {
            return Err(RendezvousError::Malformed);
        };
        datagram(dial.max_datagram)?;
        if dial.ephemeral.len() != PART || dialer == own {
            return Err(RendezvousError::Malformed);
        }
        let off = i128::from(dial.unix_ms) - i128::from(millis(terms.now));
        if off.unsigned_abs() > CLOCK.as_millis() {
            return Err(RendezvousError::Clock(i64::try_from(off / 1000).unwrap_or(i64::MAX)));
        }
        if !admits(&dialer) {
            return Err(RendezvousError::NotAllowed);
        }
        self.budget(&dialer, terms.now)?.checks.spend(CHECKS, terms.now)?;
        verify(&dialer, DIAL, &signed)?;
        // Whoever has the deployment's ear says a message again: it is the signer's once only.
        self.turn(terms.now);
        if self.newer.contains(&nonce) || self.older.contains(&nonce) {
            return Err(RendezvousError::Replayed);
        }
        self.budget(&dialer, terms.now)?.asks.spend(ASKS, terms.now)?;
        if self.newer.len() >= MOST_NONCES {
            // To forget others would let them come again.
            return Err(RendezvousError::Busy(CLOCK));
        }
        self.newer.insert(nonce);
        Ok(IncomingDial { dialer, signed, dial })
    }

    /// What is left to that peer.
    fn budget(&mut self, peer: &PeerId, now: Duration) -> Result<&mut Budget, RendezvousError> {
        if self.peers.len() >= MOST_PEERS && !self.peers.contains_key(peer) {
            self.peers.retain(|_, budget| !budget.is_new(now));
            if self.peers.len() >= MOST_PEERS {
                return Err(RendezvousError::Busy(Duration::from_secs(1)));
            }
        }
        Ok(self.peers.entry(*peer).or_insert(Budget::new(now)))
    }

    /// Forgets nonces that no message can have any more: those of two stretches ago, each as long as clocks may be off in
    /// both directions.
    fn turn(&mut self, now: Duration) {
        let stretch = now.as_millis() / (2 * CLOCK.as_millis());
        if stretch == self.stretch + 1 {
            self.older = std::mem::take(&mut self.newer);
        } else if stretch > self.stretch {
            self.older = HashSet::new();
            self.newer = HashSet::new();
        }
        self.stretch = self.stretch.max(stretch);
    }
}

impl IncomingDial {
    /// Agrees: the message to answer with, and the session.
    ///
    /// # Errors
    /// No secret can be made with the dialer's key.
    pub fn accept(
        &self,
        terms: &Terms<'_>,
        chance: &RandomBytes,
    ) -> Result<(Vec<u8>, Session), RendezvousError> {
        let (nonce, secret) = split(chance);
        let shared = Secret::new(&secret, &self.dial.ephemeral)?;
        let accept = Accept {
            request_hash: Sha256::digest(&self.signed.body).to_vec(),
            nonce,
            ephemeral: PublicKey::from(&secret).to_bytes().to_vec(),
            max_datagram: terms.max_datagram.into(),
            ttl_ms: u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX),
            reject_code: 0,
            retry_after_ms: 0,
        };
        let body = accept.encode_to_vec();
        let max_datagram = datagram(self.dial.max_datagram)?;
        let session = shared.session(self.dialer, (&self.signed.body, &body), max_datagram);
        Ok((seal(terms.key, ACCEPT, &body), session))
    }

    /// Does not agree, in a message that is believed.
    #[must_use]
    pub fn reject(&self, terms: &Terms<'_>, why: &RendezvousError) -> Vec<u8> {
        reject(terms, &self.signed.body, why)
    }
}

/// The answer to a question of that body that says why not.
fn reject(terms: &Terms<'_>, body: &[u8], why: &RendezvousError) -> Vec<u8> {
    let retry_after = if let RendezvousError::Busy(after) = why { *after } else { Duration::ZERO };
    let accept = Accept {
        request_hash: Sha256::digest(body).to_vec(),
        reject_code: why.code().into(),
        retry_after_ms: u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX),
        ..Accept::default()
    };
    seal(terms.key, ACCEPT, &accept.encode_to_vec())
}

/// What both sides know and nobody else does, but whoever broke into one of them meanwhile.
struct Secret(Zeroizing<[u8; PART]>);

impl Secret {
    fn new(own: &StaticSecret, other: &[u8]) -> Result<Self, RendezvousError> {
        let other: [u8; PART] = other.try_into().map_err(|_| RendezvousError::Malformed)?;
        let shared = own.diffie_hellman(&PublicKey::from(other));
        // A point of small order makes the same secret with everybody.
        if !shared.was_contributory() {
            return Err(RendezvousError::Key);
        }
        Ok(Self(Zeroizing::new(shared.to_bytes())))
    }

    fn session(&self, peer: PeerId, (dial, accept): (&[u8], &[u8]), max_datagram: u16) -> Session {
        let length = u32::try_from(dial.len()).unwrap_or(u32::MAX).to_be_bytes();
        let salt = Sha256::new().chain_update(length).chain_update(dial).chain_update(accept).finalize();
        let hkdf = Hkdf::<Sha256>::new(Some(&salt), &*self.0);
        let token = |name: &str| {
            let mut token = [0; TOKEN];
            // Only more than 255 hashes are refused.
            let _ = hkdf.expand(name.as_bytes(), &mut token);
            Token(token)
        };
        Session {
            peer,
            to_listener: token("to listener"),
            to_dialer: token("to dialer"),
            id: token("session id"),
            max_datagram,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn peer(bytes: &[u8]) -> Result<PeerId, RendezvousError> {
    if bytes.len() != PEER {
        return Err(RendezvousError::Malformed);
    }
    PeerId::from_bytes(bytes).map_err(|_| RendezvousError::Malformed)
}

/// Datagrams that QUIC can do with.
fn datagram(most: u32) -> Result<u16, RendezvousError> {
    const LEAST: u16 = 1200;
    u16::try_from(most).ok().filter(|most| *most >= LEAST).ok_or(RendezvousError::Malformed)
}

fn signable(context: &[u8], body: &[u8]) -> Vec<u8> {
    [context, body].concat()
}

fn seal(key: &KeyPair, context: &[u8], body: &[u8]) -> Vec<u8> {
    let signature = key.sign(&signable(context, body)).to_vec();
    Signed { body: body.to_vec(), signature }.encode_to_vec()
}

fn open<T: prost::Message + Default>(bytes: &[u8]) -> Result<(Signed, T), RendezvousError> {
    if bytes.len() > MOST {
        return Err(RendezvousError::Malformed);
    }
    let signed = Signed::decode(bytes).map_err(|_| RendezvousError::Malformed)?;
    let message = T::decode(&signed.body[..]).map_err(|_| RendezvousError::Malformed)?;
    if signed.signature.len() != SIGNATURE_BYTES {
        return Err(RendezvousError::Malformed);
    }
    Ok((signed, message))
}

fn verify(peer: &PeerId, context: &[u8], signed: &Signed) -> Result<(), RendezvousError> {
    let verified = peer.key().verify(&signable(context, &signed.body), &signed.signature);
    verified.map_err(|_| RendezvousError::Signature)
}

#[cfg(test)]
mod tests;
