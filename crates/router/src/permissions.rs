//! What a peer may publish and subscribe to.
//!
//! The rules are nats-server 2.15's (`server/client.go`: `setPermissions`, `canSubscribe`, `pubAllowedFullCheck`,
//! `checkDenySub`): deny wins over allow, a pattern is compared with a subscription's subject as if that were
//! literal, and an entry for subscriptions may name a queue group behind a blank.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use midge_wire::subject;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Subjects that may and may not be used. Entries for subscriptions may be `subject queue`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubjectRules {
    /// What may be used; `None` is everything.
    pub allow: Option<Vec<String>>,
    /// What may not, even where it is allowed.
    pub deny: Vec<String>,
}

/// How a peer may answer requests although it may not publish where the reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseRules {
    /// Most answers to each request; `None` for any number.
    pub max: Option<u32>,
    /// Time in which to answer; `None` for any.
    pub expires: Option<Duration>,
}

/// What a peer may do, as a configuration says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PermissionRules {
    /// Where it may publish.
    pub publish: SubjectRules,
    /// What it may subscribe to.
    pub subscribe: SubjectRules,
    /// How it may answer.
    pub responses: Option<ResponseRules>,
}

/// What a peer may do, ready to be asked.
#[derive(Debug)]
pub struct Permissions {
    /// Tells these permissions from all others.
    id: u64,
    rules: PermissionRules,
    publish: Lists,
    subscribe: Lists,
}

impl Permissions {
    /// Permissions by these rules.
    #[must_use]
    pub fn new(rules: PermissionRules) -> Self {
        let publish = Lists::new(&rules.publish);
        let mut subscribe = Lists::new(&rules.subscribe);
        // For subscriptions an empty list is no list.
        if rules.subscribe.allow.as_ref().is_some_and(Vec::is_empty) {
            subscribe.allow = None;
        }
        static MADE: AtomicU64 = AtomicU64::new(0);
        let id = MADE.fetch_add(1, Ordering::Relaxed) + 1;
        Self { id, rules, publish, subscribe }
    }

    /// Permission to publish by these rules, and to do everything else.
    #[must_use]
    pub fn to_publish(publish: SubjectRules) -> Self {
        Self::new(PermissionRules { publish, ..PermissionRules::default() })
    }

    /// A number that no other permissions have, and that is not zero.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> &PermissionRules {
        &self.rules
    }

    /// Whether a message may be published on `name`, answers left out.
    #[must_use]
    pub fn may_publish(&self, name: &[u8]) -> bool {
        let Lists { allow, deny } = &self.publish;
        allow.as_ref().is_none_or(|allow| allow.plain.matches(name)) && !deny.plain.matches(name)
    }

    /// Whether a subscription on `pattern` may be made; an empty `queue` is none.
    #[must_use]
    pub fn may_subscribe(&self, pattern: &[u8], queue: &[u8]) -> bool {
        let Lists { allow, deny } = &self.subscribe;
        let allowed = allow.as_ref().is_none_or(|allow| {
            // An entry for queue groups on this subject decides for them; one without is enough otherwise.
            allow.names_queue(pattern, queue).unwrap_or_else(|| allow.plain.matches(pattern))
        });
        allowed && !deny.covers(pattern, queue)
    }

    /// Whether messages must be looked at before they are delivered: a subscription with a wildcard may match
    /// what is denied.
    #[must_use]
    pub(crate) fn filters(&self) -> bool {
        !self.subscribe.deny.is_empty()
    }

    /// Whether a message on `name` may be delivered to a subscription in `queue`.
    pub(crate) fn may_receive(&self, name: &[u8], queue: &[u8]) -> bool {
        !self.subscribe.deny.covers(name, queue)
    }
}

/// Entries of one kind of operation.
#[derive(Debug)]
struct Lists {
    allow: Option<Entries>,
    deny: Entries,
}

impl Lists {
    fn new(rules: &SubjectRules) -> Self {
        Self { allow: rules.allow.as_deref().map(Entries::new), deny: Entries::new(&rules.deny) }
    }
}

/// Entries of one list.
#[derive(Debug, Default)]
struct Entries {
    plain: Patterns,
    /// Patterns with the queue groups that they are for.
    queued: Vec<Queued>,
}

impl Entries {
    fn new(texts: &[String]) -> Self {
        let mut entries = Self::default();
        for text in texts {
            let mut words = text.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some(pattern), Some(queue)) => {
                    entries.queued.push((pattern.as_bytes().into(), queue.as_bytes().into()));
                }
                (Some(pattern), None) => entries.plain.add(pattern.as_bytes()),
                (None, _) => {}
            }
        }
        entries
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queued.is_empty()
    }

    /// Whether the entries for queue groups on `name` name this one; `None` when there are none, or no queue.
    fn names_queue(&self, name: &[u8], queue: &[u8]) -> Option<bool> {
        if queue.is_empty() {
            return None;
        }
        let mut named = None;
        for (pattern, group) in &self.queued {
            if subject::matches(pattern, name) {
                let is_it =
                    **group == *queue || subject::has_wildcard(group) && subject::covers(group, queue);
                named = Some(named == Some(true) || is_it);
            }
        }
        named
    }

    /// Whether `name` is among the entries, for everybody or for this queue group.
    fn covers(&self, name: &[u8], queue: &[u8]) -> bool {
        self.plain.matches(name) || self.names_queue(name, queue).unwrap_or(false)
    }
}

/// A pattern, and the queue group that it is for.
type Queued = (Box<[u8]>, Box<[u8]>);

/// Patterns that a subject is looked up in.
#[derive(Debug, Default)]
struct Patterns {
    /// Written by operators and not by peers, so the seed may be fixed.
    literals: HashSet<Box<[u8]>, FixedState>,
    wild: Vec<Box<[u8]>>,
}

impl Patterns {
    fn add(&mut self, pattern: &[u8]) {
        if subject::has_wildcard(pattern) {
            self.wild.push(pattern.into());
        } else {
            self.literals.insert(pattern.into());
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.wild.is_empty()
    }

    fn matches(&self, name: &[u8]) -> bool {
        (!self.literals.is_empty() && self.literals.contains(name))
            || self.wild.iter().any(|pattern| subject::matches(pattern, name))
    }
}

/// Replies that are remembered before old ones are looked for.
const PRUNE_REPLIES: u32 = 4096;
/// Most replies that are remembered.
const MOST_REPLIES: usize = 64 * 1024;

/// Where a peer may answer: the reply subjects of the requests that it was sent. Lives under its connection's lock.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    open: HashMap<Box<[u8]>, Reply, FixedSeeded>,
    /// Replies that were ever noted.
    noted: u32,
}

/// Peers choose reply subjects, so the table is seeded.
type FixedSeeded = foldhash::fast::SeedableRandomState;

#[derive(Debug, Clone, Copy)]
struct Reply {
    since: Instant,
    used: u32,
    /// How many were noted before it.
    number: u32,
}

impl Replies {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedSeeded::with_seed(seed, foldhash::SharedSeed::global_fixed());
        Self { open: HashMap::with_hasher(hasher), noted: 0 }
    }

    /// Remembers that a request with this reply subject was delivered.
    pub(crate) fn note(&mut self, reply: &[u8], rules: ResponseRules, now: Instant) {
        self.noted = self.noted.wrapping_add(1);
        if self.noted.is_multiple_of(PRUNE_REPLIES) {
            self.open.retain(|_, reply| rules.is_open(*reply, now));
        }
        if self.open.len() >= MOST_REPLIES {
            // What has waited longest is the least likely to be answered yet.
            let newest = self.noted;
            self.open.retain(|_, reply| newest.wrapping_sub(reply.number) < MOST_REPLIES as u32 / 2);
        }
        self.open.insert(reply.into(), Reply { since: now, used: 0, number: self.noted });
    }

    /// Whether one more answer may go there; counts it.
    pub(crate) fn take(&mut self, name: &[u8], rules: ResponseRules, now: Instant) -> bool {
        let Some(reply) = self.open.get_mut(name) else { return false };
        let open = rules.is_open(*reply, now);
        reply.used += 1;
        if !open {
            self.open.remove(name);
        }
        open
    }
}

impl ResponseRules {
    fn is_open(self, reply: Reply, now: Instant) -> bool {
        self.max.is_none_or(|max| reply.used < max)
            && self.expires.is_none_or(|expires| now.saturating_duration_since(reply.since) <= expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> SubjectRules {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        SubjectRules { allow: allow.map(own), deny: own(deny) }
    }

    fn publish(allow: Option<&[&str]>, deny: &[&str]) -> Permissions {
        Permissions::new(PermissionRules { publish: rules(allow, deny), ..PermissionRules::default() })
    }

    fn subscribe(allow: Option<&[&str]>, deny: &[&str]) -> Permissions {
        Permissions::new(PermissionRules { subscribe: rules(allow, deny), ..PermissionRules::default() })
    }

    #[test]
    fn deny_wins_over_allow() {
        let permissions = publish(Some(&["a.*", "b"]), &["a.x"]);
        for (name, may) in [("a.b", true), ("a.x", false), ("b", true), ("c", false), ("a.b.c", false)] {
            assert_eq!(permissions.may_publish(name.as_bytes()), may, "{name}");
        }
        assert!(publish(None, &["a"]).may_publish(b"b"));
        assert!(!publish(Some(&[]), &[]).may_publish(b"b"), "an empty list allows nothing");
    }

    #[test]
    fn a_pattern_is_subscribed_to_as_if_it_were_literal() {
        let permissions = subscribe(Some(&["a.>", "b.*"]), &["a.secret"]);
        for (pattern, may) in
            [("a.*", true), ("a.>", true), ("b.*", true), ("b.>", true), ("*.a", false), ("a.secret", false)]
        {
            assert_eq!(permissions.may_subscribe(pattern.as_bytes(), b""), may, "{pattern}");
        }
        assert!(permissions.filters() && !permissions.may_receive(b"a.secret", b""));
        assert!(subscribe(Some(&[]), &[]).may_subscribe(b"x", b""), "an empty list is no list");
    }

    #[test]
    fn entries_with_a_queue_are_for_that_queue() {
        let only = subscribe(Some(&["q v1", "q v2.>"]), &[]);
        for (queue, may) in [("v1", true), ("v2.x", true), ("v3", false), ("", false)] {
            assert_eq!(only.may_subscribe(b"q", queue.as_bytes()), may, "{queue}");
        }
        let both = subscribe(Some(&["q", "q v1"]), &[]);
        assert!(both.may_subscribe(b"q", b"") && both.may_subscribe(b"q", b"v1"));
        assert!(!both.may_subscribe(b"q", b"v2"), "once a queue is named, no other is allowed");
        let deny = subscribe(None, &["q bad"]);
        assert!(deny.may_subscribe(b"q", b"") && deny.may_subscribe(b"q", b"good"));
        assert!(!deny.may_subscribe(b"q", b"bad") && !deny.may_receive(b"q", b"bad"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant, whichever")]
    fn answers_are_counted_and_expire() {
        let now = Instant::now();
        let rules = ResponseRules { max: Some(2), expires: Some(Duration::from_secs(1)) };
        let mut replies = Replies::new(1);
        replies.note(b"r", rules, now);
        assert!(replies.take(b"r", rules, now) && replies.take(b"r", rules, now));
        assert!(!replies.take(b"r", rules, now), "two were allowed");
        replies.note(b"r", rules, now);
        assert!(!replies.take(b"r", rules, now + Duration::from_secs(2)), "it is too late");
        assert!(!replies.take(b"other", rules, now));
        let any = ResponseRules { max: None, expires: None };
        for n in 0..MOST_REPLIES + 10 {
            replies.note(format!("r{n}").as_bytes(), any, now);
            assert!(replies.open.len() <= MOST_REPLIES, "what is remembered is bounded");
        }
        assert!(!replies.take(b"r0", any, now), "the oldest are forgotten first");
        assert!(replies.take(format!("r{}", MOST_REPLIES - 1).as_bytes(), any, now));
        assert!(replies.take(format!("r{}", MOST_REPLIES + 9).as_bytes(), any, now));
    }
}
