//! What routes and leafnode connections have in common: interest, and messages that are handed on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_wire::{Decoder, Grammar, Interest, PeerOp, Pub, Routed};

use super::join;
use crate::account::Account;
use crate::conn::{Direction, Sent};
use crate::deliver::{Delivery, Groups, Source, Train};
use crate::interest::MatchSet;
use crate::remote::{Remote, Scope};
use crate::session::Tick;
use crate::session::core::{Core, Memo};

/// Most time between PINGs to another server (nats-server's cap for routes).
pub(super) const PING: Duration = Duration::from_secs(30);
/// The first PING to another server comes after this, if the interval is longer (nats-server's `firstPingInterval`).
pub(super) const FIRST_PING: Duration = Duration::from_secs(1);
/// Protocol lines may be so many times as long as a client's (nats-server, for routes).
const LONGER_LINES: usize = 16;

/// What the decoder lets through of another server.
pub(super) fn limits(core: &Core, remote: Option<&Remote>) -> midge_wire::Limits {
    midge_wire::Limits {
        max_control_line: core.limits.max_control_line * LONGER_LINES,
        // Another server may allow its clients more than this one; but no more than leaves room for those who get it.
        max_payload: core
            .limits
            .max_payload
            .max(core.limits.max_pending / 2)
            .min(midge_wire::Limits::NO_PAYLOAD_LIMIT),
        headers: true,
        names_account: remote.is_none_or(|remote| remote.manner.names_account),
        names_origin: remote.is_none_or(|remote| remote.manner.names_origin),
    }
}

/// Delivers the messages that `input` begins with; how many bytes they were.
#[inline(always)]
pub(super) fn on_messages<G>(
    core: &mut Core,
    remote: &Remote,
    decoder: &Decoder<G>,
    input: &[u8],
    tick: &mut Tick<'_>,
) -> usize
where
    G: for<'a> Grammar<Message<'a> = Routed<'a>>,
{
    let mut memo = core.take_memo();
    let mut train = Train::default();
    let (mut used, mut received, mut sent) = (0, Sent::default(), Sent::default());
    while let Some((routed, len)) = decoder.message_at_once(input.get(used..).unwrap_or_default()) {
        let message = routed.message;
        if is_stored(&message) {
            break;
        }
        let same = memo.take_if(|memo| memo.set.is_for(message.subject) && is_of(core, remote, &routed));
        let next = if let Some(memo) = same {
            tick.worker.counters.memo_hits += 1;
            memo
        } else {
            if let Some(last) = &memo {
                sent += deliver_all(core, remote, &last.set, &mut train, tick);
            }
            // The look-up may want to use the old one again.
            drop(memo.take());
            if !is_of(core, remote, &routed) {
                tick.worker.sent(core.account.index(), std::mem::take(&mut sent));
                core.count_in(std::mem::take(&mut received));
                core.settle_counts(tick, true);
                if !enter(core, remote, routed.account) {
                    used += len;
                    continue;
                }
            }
            look_up(core, remote, message.subject, tick)
        };
        if !next.always {
            break;
        }
        used += len;
        received.add(message.body().len());
        let set = &next.set;
        if Train::takes(&message) && set.is_one_each() {
            if !set.is_empty() {
                train.push(message);
            }
            if train.is_full(set, core.limits.max_pending) {
                sent += deliver_all(core, remote, set, &mut train, tick);
            }
        } else {
            sent += deliver_all(core, remote, set, &mut train, tick);
            sent += deliver_one(core, remote, set, &routed, tick);
        }
        memo = Some(next);
    }
    if let Some(last) = &memo {
        sent += deliver_all(core, remote, &last.set, &mut train, tick);
    }
    core.remember(memo);
    tick.worker.sent(core.account.index(), sent);
    core.count_in(received);
    used
}

/// Delivers one message; whether the peer may send it.
pub(super) fn message(core: &mut Core, remote: &Remote, routed: &Routed<'_>, tick: &mut Tick<'_>) -> bool {
    if !is_of(core, remote, routed) {
        core.settle_counts(tick, true);
        core.remember(None);
        if !enter(core, remote, routed.account) {
            return true;
        }
    }
    let memo = core.take_memo().filter(|memo| memo.set.is_for(routed.message.subject));
    let memo = memo.unwrap_or_else(|| look_up(core, remote, routed.message.subject, tick));
    let may = memo.always || core.may_answer(routed.message.subject, tick.now);
    if may {
        core.count_in(Sent { msgs: 1, bytes: routed.message.body().len() as u64 });
        let sent = deliver_one(core, remote, &memo.set, routed, tick);
        tick.worker.sent(core.account.index(), sent);
    }
    core.remember(Some(memo));
    may
}

fn look_up(core: &Core, remote: &Remote, name: &[u8], tick: &mut Tick<'_>) -> Memo {
    let set = tick.worker.matches(&core.account, name, &core.router);
    Memo { set, always: remote.may_receive(name) }
}

/// The account that an operation is about.
pub(super) fn account_of(core: &Core, remote: &Remote, name: &[u8]) -> Option<Arc<Account>> {
    if let Scope::One(index) = remote.scope {
        return core.router.account_at(index);
    }
    if core.account.name().as_bytes() == name {
        return Some(core.account.clone());
    }
    let name = std::str::from_utf8(name).ok()?;
    core.router.account(name).or_else(|| {
        // Accounts of peers are made when somebody first speaks of them, here or on another server that is trusted as one.
        let is_peers = name.len() == PEER_ACCOUNT && name.starts_with('A');
        (is_peers && core.conn.entrance().proven.is_some())
            .then(|| core.router.add_dynamic_account(name))
            .flatten()
    })
}

/// Letters of an account that is named by a peer's key (an nkey, `A…`).
const PEER_ACCOUNT: usize = 56;

/// Whether a message is one from a stream, which clients see otherwise than servers.
fn is_stored(message: &Pub<'_>) -> bool {
    message.reply.starts_with(b"$JS.ACK.")
}

/// Whether a message is of the account that the session is in.
#[inline]
fn is_of(core: &Core, remote: &Remote, routed: &Routed<'_>) -> bool {
    match remote.scope {
        Scope::One(index) => core.account.index() == index,
        _ => core.account.name().as_bytes() == routed.account,
    }
}

/// Goes to the account of the next message; whether there is one.
fn enter(core: &mut Core, remote: &Remote, name: &[u8]) -> bool {
    let account = account_of(core, remote, name);
    account.map(|account| core.account = account).is_some()
}

fn delivery<'a>(core: &'a Core, remote: &'a Remote, now: Instant) -> Delivery<'a> {
    let source = Source { kind: remote.kind(), peer: Some(&remote.peer), origin: (0, &[]) };
    Delivery { source, ..core.delivery(false, now) }
}

fn deliver_all(
    core: &Core,
    remote: &Remote,
    set: &MatchSet,
    train: &mut Train<'_>,
    tick: &mut Tick<'_>,
) -> Sent {
    if train.is_empty() {
        return Sent::default();
    }
    let name = core.router.origin_name(remote.origin);
    let mut delivery = delivery(core, remote, tick.now);
    delivery.source.origin = (remote.origin, &name);
    let sent = delivery.run_all(train, set, tick.worker);
    train.clear();
    core.router.settle(tick.worker);
    sent
}

fn deliver_one(
    core: &Core,
    remote: &Remote,
    set: &MatchSet,
    routed: &Routed<'_>,
    tick: &mut Tick<'_>,
) -> Sent {
    // A route says from which leafnode's cluster a message comes; a leafnode need not.
    let said = core.router.acquire_origin(routed.origin);
    let origin = if said > 0 { said } else { remote.origin };
    let name = core.router.origin_name(origin);
    let mut delivery = delivery(core, remote, tick.now);
    delivery.source.origin = (origin, &name);
    let is_apart = core.conn.entrance().groups_apart && !routed.queues.is_empty();
    let groups = if is_apart { Groups::Alone(routed.queues) } else { Groups::Listed(routed.queues) };
    let sent = delivery.run(&routed.message, groups, set, tick.worker);
    core.router.release_origin(said);
    core.router.settle(tick.worker);
    sent
}

pub(super) fn trace(core: &Core, op: &PeerOp<'_>) {
    let show = |op, args: &[u8]| core.trace(Direction::In, op, args);
    match op {
        PeerOp::Connect(json) => show("CONNECT", json),
        PeerOp::Info(json) => show("INFO", json),
        PeerOp::Wanted(interest) => {
            let weight = interest.weight.to_string();
            let weight: &[u8] = if interest.queue.is_empty() { b"" } else { weight.as_bytes() };
            show(if is_leafs(core, interest) { "LS+" } else { "RS+" }, &join(&[&words(interest), weight]));
        }
        PeerOp::Unwanted(interest) => {
            show(if is_leafs(core, interest) { "LS-" } else { "RS-" }, &words(interest));
        }
        PeerOp::Msg(routed) => {
            let m = &routed.message;
            let mark: &[u8] = match (routed.queues.is_empty(), m.reply.is_empty()) {
                (true, _) => b"",
                (false, true) => b"|",
                (false, false) => b"+",
            };
            let mut words = vec![routed.origin, routed.account, m.subject, mark, m.reply];
            words.extend(routed.queues.iter());
            words.extend([m.header_digits, m.size_digits]);
            let op = if m.header_len.is_some() { "HMSG" } else { "MSG" };
            show(op, &join(&words));
            show("MSG_PAYLOAD", m.body());
        }
        PeerOp::Ping => show("PING", b""),
        PeerOp::Pong => show("PONG", b""),
        PeerOp::Ok | PeerOp::Err(_) => {}
    }
}

fn is_leafs(core: &Core, interest: &Interest<'_>) -> bool {
    core.conn.kind() != crate::conn::Kind::Route || !interest.origin.is_empty()
}

fn words(interest: &Interest<'_>) -> Vec<u8> {
    join(&[interest.origin, interest.account, interest.subject, interest.queue])
}
