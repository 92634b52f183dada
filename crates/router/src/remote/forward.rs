//! What goes where between servers: the one place that knows.
//!
//! Interest goes the way by which messages come back, and neither goes further than one hop between routes. A
//! leafnode hears all of its hub's interest, a hub only that of the leafnode's own clients and of its own leafnodes.
//! As nats-server's `processMsgResults` and `updateSmap` (`server/client.go`, `server/leafnode.go`).

use crate::conn::Kind;

/// Whether a message that came from `from` goes on to `to`. Nobody gets back what it sent itself.
pub(crate) const fn forwards(from: Kind, to: Kind) -> bool {
    match (from, to) {
        (_, Kind::Client | Kind::Local) | (Kind::Client | Kind::Local | Kind::Spoke, _) => true,
        (Kind::Route, Kind::Spoke) | (Kind::Hub, Kind::Spoke | Kind::Hub) => true,
        (Kind::Route, Kind::Route | Kind::Hub) | (Kind::Hub, Kind::Route) => false,
    }
}

/// Whether `to` is told what is wanted behind `of`.
pub(crate) const fn announces(of: Kind, to: Kind) -> bool {
    match (of, to) {
        // Those are no servers.
        (_, Kind::Client | Kind::Local) => false,
        (Kind::Client | Kind::Local | Kind::Spoke, _) => true,
        (Kind::Route | Kind::Hub, Kind::Spoke) => true,
        (Kind::Route | Kind::Hub, Kind::Route | Kind::Hub) => false,
    }
}

/// When a member of a queue group behind `to` may get a message that came from `from`: with zero, as one among those
/// here; with more, only when there is none with less.
pub(crate) const fn rank(from: Kind, to: Kind) -> Option<u8> {
    match (from, to) {
        (Kind::Client | Kind::Local | Kind::Spoke, Kind::Route) => Some(0),
        // The member that another server had in mind may have gone.
        (Kind::Route, Kind::Route) => Some(2),
        (_, Kind::Spoke | Kind::Hub) => Some(1),
        (Kind::Hub, Kind::Route) | (_, Kind::Client | Kind::Local) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] = [Kind::Client, Kind::Local, Kind::Route, Kind::Spoke, Kind::Hub];

    /// Every pair. A row for each kind that something comes from; in it, for clients, local peers, routes, leafnodes
    /// and hubs in that order, whether messages go on (`m`), whether interest is told (`i`), and when a member of a
    /// queue group there may get a message.
    #[test]
    fn the_table() {
        let table = [
            ["m", "m", "mi0", "mi1", "mi1"],
            ["m", "m", "mi0", "mi1", "mi1"],
            ["m", "m", "2", "mi1", "1"],
            ["m", "m", "mi0", "mi1", "mi1"],
            ["m", "m", "", "mi1", "m1"],
        ];
        for (from, row) in KINDS.into_iter().zip(table) {
            for (to, rules) in KINDS.into_iter().zip(row) {
                assert_eq!(forwards(from, to), rules.contains('m'), "a message from {from:?} to {to:?}");
                assert_eq!(announces(from, to), rules.contains('i'), "interest of {from:?} to {to:?}");
                let when = rules.chars().find_map(|c| c.to_digit(10)).map(|digit| digit as u8);
                assert_eq!(rank(from, to), when, "a group's message from {from:?} to {to:?}");
            }
        }
    }
}
