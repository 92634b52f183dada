//! Who wants which subject: the interest of one account.
//!
//! Literal subjects, and those of the form `prefix.*` (every client's inbox), are found with one hash probe each;
//! all others by walking a small tree that is chosen by the subject's first token. Each part has its own locks,
//! held for the look-up alone.

mod exact;
mod generation;
mod list;
mod matches;
mod queue;
mod shared;
mod trie;

pub(crate) use generation::Generations;
pub(crate) use list::SubRef;
pub(crate) use matches::{Away, Bundle, Group, MatchCache, MatchSet, Target};
pub(crate) use queue::QueueNames;

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use midge_wire::subject;

use exact::Exact;
use generation::Stamp;
use shared::Shared;
use trie::Trie;

const TREES: usize = 64;

/// One account's interest.
#[derive(Debug)]
pub(crate) struct Interest {
    seed: u64,
    generations: Arc<Generations>,
    literals: Exact,
    stars: Exact,
    trees: Box<[Shared<Trie>]>,
    /// Patterns whose first token is a wildcard.
    root: Shared<Trie>,
    root_hash: u64,
}

/// Where a subscription's subject belongs.
enum Place<'s> {
    Literal,
    Star { prefix: &'s [u8] },
    Tree { first: &'s [u8] },
    Root,
}

/// What a subject is looked up by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'n> {
    name: &'n [u8],
    has_parent: bool,
    /// Whether a token is empty: then nobody can want it.
    is_broken: bool,
    literal: u64,
    star: u64,
    tree: u64,
    root: u64,
}

/// Most tokens of a subject that somebody listens to: a match goes as deep as there are. A client's line has no room for
/// more unless it is allowed longer ones.
const MOST_TOKENS: usize = 2048;

/// Whether one can listen to `subject`.
pub(crate) fn is_subject(subject: &[u8]) -> bool {
    subject::is_valid(subject) && subject.iter().filter(|byte| **byte == b'.').count() < MOST_TOKENS
}

impl Interest {
    pub(crate) fn new(seed: u64, generations: Arc<Generations>) -> Self {
        Self {
            seed,
            generations,
            literals: Exact::new(),
            stars: Exact::new(),
            trees: (0..TREES).map(|_| Shared::new(Trie::new(seed))).collect(),
            root: Shared::new(Trie::new(seed)),
            root_hash: hash_bytes(seed.wrapping_add(Part::Root as u64), b""),
        }
    }

    /// Adds a subscription on a valid subject.
    pub(crate) fn insert(&self, pattern: &[u8], sub: SubRef) {
        let hash = match place(pattern) {
            Place::Literal => {
                let hash = self.hash(Part::Literal, pattern);
                self.literals.insert(hash, sub);
                hash
            }
            Place::Star { prefix } => {
                let hash = self.hash(Part::Star, prefix);
                self.stars.insert(hash, sub);
                hash
            }
            Place::Tree { first } => {
                let hash = self.hash(Part::Tree, first);
                if let Some(tree) = self.tree(hash) {
                    tree.change(|tree| tree.insert(pattern, sub));
                }
                hash
            }
            Place::Root => {
                self.root.change(|root| root.insert(pattern, sub));
                self.root_hash
            }
        };
        self.generations.bump(hash);
    }

    /// Removes a subscription; whether it was there.
    pub(crate) fn remove(&self, pattern: &[u8], sub: SubRef) -> bool {
        let (removed, hash) = match place(pattern) {
            Place::Literal => {
                let hash = self.hash(Part::Literal, pattern);
                (self.literals.remove(hash, sub), hash)
            }
            Place::Star { prefix } => {
                let hash = self.hash(Part::Star, prefix);
                (self.stars.remove(hash, sub), hash)
            }
            Place::Tree { first } => {
                let hash = self.hash(Part::Tree, first);
                (self.tree(hash).is_some_and(|tree| tree.change(|tree| tree.remove(pattern, sub))), hash)
            }
            Place::Root => (self.root.change(|root| root.remove(pattern, sub)), self.root_hash),
        };
        self.generations.bump(hash);
        removed
    }

    /// Makes everything stale that was found with a subscription on `pattern`: something about it has changed.
    pub(crate) fn touch(&self, pattern: &[u8]) {
        let hash = match place(pattern) {
            Place::Literal => self.hash(Part::Literal, pattern),
            Place::Star { prefix } => self.hash(Part::Star, prefix),
            Place::Tree { first } => self.hash(Part::Tree, first),
            Place::Root => self.root_hash,
        };
        self.generations.bump(hash);
    }

    /// Makes everything stale that was found before.
    pub(crate) fn bump_all(&self) {
        self.generations.bump(self.root_hash);
    }

    /// The hash that a cache may keep `name` under; the same for no two accounts.
    #[inline]
    pub(crate) fn subject_hash(&self, name: &[u8]) -> u64 {
        self.hash(Part::Literal, name)
    }

    /// What `name`, whose hash is `literal`, is looked up by.
    pub(crate) fn keys<'n>(&self, name: &'n [u8], literal: u64) -> Keys<'n> {
        let outline = Outline::of(name);
        let parent = outline.last.and_then(|last| name.get(..last));
        let first = name.get(..outline.first.unwrap_or(name.len())).unwrap_or_default();
        Keys {
            name,
            has_parent: parent.is_some(),
            is_broken: outline.is_broken,
            literal,
            star: self.hash(Part::Star, parent.unwrap_or_default()),
            tree: self.hash(Part::Tree, first),
            root: self.root_hash,
        }
    }

    /// The state of everything that could concern a subject. Take it before [`Interest::collect`].
    pub(crate) fn stamp(&self, keys: &Keys<'_>) -> Stamp {
        self.generations.stamp([keys.literal, keys.star, keys.tree, keys.root])
    }

    #[inline]
    pub(crate) fn is_current(&self, stamp: &Stamp) -> bool {
        self.generations.is_current(stamp)
    }

    /// Appends the subscriptions that want a subject, all of whose tokens are literal. One with an empty token is
    /// wanted by nobody. So many of them, the first, were found by a hash, which another subject may share: their
    /// connections know what they are on.
    pub(crate) fn collect(&self, keys: &Keys<'_>, found: &mut Vec<SubRef>) -> usize {
        if keys.is_broken {
            return 0;
        }
        self.literals.collect(keys.literal, found);
        if keys.has_parent {
            self.stars.collect(keys.star, found);
        }
        let hashed = found.len();
        if let Some(tree) = self.tree(keys.tree) {
            tree.read(|tree| tree.collect(keys.name, found));
        }
        self.root.read(|root| root.collect(keys.name, found));
        hashed
    }

    fn tree(&self, hash: u64) -> Option<&Shared<Trie>> {
        self.trees.get((hash >> 32) as usize % TREES)
    }

    #[inline]
    fn hash(&self, part: Part, bytes: &[u8]) -> u64 {
        hash_bytes(self.seed.wrapping_add(part as u64), bytes)
    }
}

/// What a hash is for; keeps the parts' hashes apart.
#[derive(Debug, Clone, Copy)]
enum Part {
    Literal,
    Star,
    Tree,
    Root,
}

fn place(pattern: &[u8]) -> Place<'_> {
    if !subject::has_wildcard(pattern) {
        return Place::Literal;
    }
    let first = subject::tokens(pattern).next().unwrap_or_default();
    if subject::is_star(first) || subject::is_tail(first) {
        return Place::Root;
    }
    match pattern.strip_suffix(b".*") {
        Some(prefix) if !subject::has_wildcard(prefix) => Place::Star { prefix },
        _ => Place::Tree { first },
    }
}

/// Where the separators of a subject are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Outline {
    first: Option<usize>,
    last: Option<usize>,
    /// Whether a token is empty.
    is_broken: bool,
}

impl Outline {
    fn of(name: &[u8]) -> Self {
        let mut outline = Self::default();
        // Where the token begins.
        let mut start = 0;
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == subject::SEPARATOR) {
            outline.is_broken |= at == start;
            outline.first = outline.first.or(Some(at));
            outline.last = Some(at);
            start = at + 1;
        }
        outline.is_broken |= start == name.len();
        outline
    }
}

/// A hash that an attacker who does not know the seed cannot steer.
#[inline]
fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()).hash_one(bytes)
}

#[cfg(test)]
mod tests;
