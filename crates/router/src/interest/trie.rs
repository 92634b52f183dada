//! Subjects with wildcards: a tree of tokens in one arena.

use hashbrown::HashTable;
use midge_wire::subject;

use super::list::{SubList, SubRef};
use super::shared::Contents;

/// The index of the root node.
const ROOT: u32 = 0;
/// No node.
const NONE: u32 = u32::MAX;

/// Wildcard subscriptions. Nodes refer to each other by index; the edges by literal token are one hash table for
/// the whole tree, keyed by parent and token.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    edges: HashTable<u32>,
    free: Vec<u32>,
    seed: u64,
}

#[derive(Debug, Default)]
struct Node {
    parent: u32,
    /// The token of the edge that leads here; `*` for the wildcard edge.
    token: Box<[u8]>,
    /// The node behind `*`.
    star: u32,
    /// Nodes behind literal tokens.
    children: u32,
    /// Subscriptions that end here.
    ends: SubList,
    /// Subscriptions that continue with `>`.
    tails: SubList,
}

impl Node {
    fn new(parent: u32, token: &[u8]) -> Self {
        Self { parent, token: token.into(), star: NONE, ..Self::default() }
    }

    const fn is_unused(&self) -> bool {
        self.ends.is_empty() && self.tails.is_empty() && self.children == 0 && self.star == NONE
    }
}

impl Contents for Trie {
    fn is_empty(&self) -> bool {
        self.nodes.get(ROOT as usize).is_none_or(Node::is_unused)
    }
}

impl Trie {
    pub(crate) fn new(seed: u64) -> Self {
        Self { nodes: Vec::new(), edges: HashTable::new(), free: Vec::new(), seed }
    }

    /// Adds `sub` under `pattern`, which is valid.
    pub(crate) fn insert(&mut self, pattern: &[u8], sub: SubRef) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::new(NONE, b""));
        }
        let mut at = ROOT;
        for token in subject::tokens(pattern) {
            if subject::is_tail(token) {
                if let Some(node) = self.node_mut(at) {
                    node.tails.push(sub);
                }
                return;
            }
            at = self.step(at, token).unwrap_or_else(|| self.grow(at, token));
        }
        if let Some(node) = self.node_mut(at) {
            node.ends.push(sub);
        }
    }

    /// Removes `sub` from under `pattern`; whether it was there.
    pub(crate) fn remove(&mut self, pattern: &[u8], sub: SubRef) -> bool {
        if self.nodes.is_empty() {
            return false;
        }
        let mut at = ROOT;
        let mut tail = false;
        for token in subject::tokens(pattern) {
            if subject::is_tail(token) {
                tail = true;
                break;
            }
            let Some(next) = self.step(at, token) else { return false };
            at = next;
        }
        let Some(node) = self.node_mut(at) else { return false };
        let list = if tail { &mut node.tails } else { &mut node.ends };
        let removed = list.remove(sub);
        self.prune(at);
        removed
    }

    /// Appends the subscriptions whose pattern matches `name`, all of whose tokens are literal.
    pub(crate) fn collect(&self, name: &[u8], found: &mut Vec<SubRef>) {
        if !self.nodes.is_empty() {
            self.descend(ROOT, Some(name), found);
        }
    }

    /// `rest` holds the tokens below `at`: none where the name has ended.
    fn descend(&self, at: u32, rest: Option<&[u8]>, found: &mut Vec<SubRef>) {
        let (mut at, mut rest) = (at, rest);
        loop {
            let Some(node) = self.nodes.get(at as usize) else { return };
            let Some(name) = rest else {
                node.ends.collect(found);
                return;
            };
            node.tails.collect(found);
            let (token, below) = first_token(name);
            if node.star != NONE {
                self.descend(node.star, below, found);
            }
            if node.children == 0 {
                return;
            }
            let Some(next) = self.child(at, token) else { return };
            (at, rest) = (next, below);
        }
    }

    fn step(&self, at: u32, token: &[u8]) -> Option<u32> {
        if subject::is_star(token) {
            return self.nodes.get(at as usize).map(|node| node.star).filter(|star| *star != NONE);
        }
        self.child(at, token)
    }

    fn child(&self, at: u32, token: &[u8]) -> Option<u32> {
        let is_it = |index: &u32| {
            self.nodes.get(*index as usize).is_some_and(|node| node.parent == at && *node.token == *token)
        };
        self.edges.find(edge_hash(self.seed, at, token), is_it).copied()
    }

    fn grow(&mut self, at: u32, token: &[u8]) -> u32 {
        let node = Node::new(at, token);
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.node_mut(index) {
                    *slot = node;
                }
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        if subject::is_star(token) {
            if let Some(parent) = self.node_mut(at) {
                parent.star = index;
            }
            return index;
        }
        if let Some(parent) = self.node_mut(at) {
            parent.children += 1;
        }
        let (nodes, seed) = (&self.nodes, self.seed);
        let rehash = |index: &u32| {
            nodes.get(*index as usize).map_or(0, |node| edge_hash(seed, node.parent, &node.token))
        };
        self.edges.insert_unique(edge_hash(seed, at, token), index, rehash);
        index
    }

    /// Removes `at` and its ancestors as far as nothing uses them.
    fn prune(&mut self, at: u32) {
        let mut at = at;
        while at != ROOT {
            let Some(node) = self.nodes.get(at as usize).filter(|node| node.is_unused()) else { return };
            let parent = node.parent;
            let star = subject::is_star(&node.token);
            if !star {
                let hash = edge_hash(self.seed, parent, &node.token);
                if let Ok(edge) = self.edges.find_entry(hash, |index| *index == at) {
                    edge.remove();
                }
            }
            if let Some(above) = self.node_mut(parent) {
                if star {
                    above.star = NONE;
                } else {
                    above.children -= 1;
                }
            }
            if let Some(node) = self.node_mut(at) {
                node.token = Box::default();
            }
            self.free.push(at);
            at = parent;
        }
        if self.free.len() + 1 == self.nodes.len() {
            // Only the root is left, which may hold tails of its own.
            self.nodes.truncate(1);
            self.nodes.shrink_to_fit();
            self.free = Vec::new();
            self.edges = HashTable::new();
        }
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)
    }
}

fn edge_hash(seed: u64, parent: u32, token: &[u8]) -> u64 {
    super::hash_bytes(seed ^ (u64::from(parent) << 20), token)
}

/// The first token of `name` and what follows its separator.
fn first_token(name: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = name.splitn(2, |b| *b == subject::SEPARATOR);
    (parts.next().unwrap_or_default(), parts.next())
}
