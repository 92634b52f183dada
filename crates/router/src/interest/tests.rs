//! The interest table against a naive list.

use std::sync::Arc;

use midge_wire::json::Info;
use midge_wire::subject;
use proptest::prelude::*;

use super::{Generations, Interest, SubRef};
use crate::local::Local;
use crate::router::{Router, Settings};
use crate::{Entrance, Limits};

fn interest() -> Interest {
    Interest::new(7, Arc::new(Generations::new()))
}

fn sub(n: u32) -> SubRef {
    SubRef { conn: n, slot: 0, serial: n, queue: 0 }
}

fn collect(interest: &Interest, name: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let name = name.as_bytes();
    interest.collect(&interest.keys(name, interest.subject_hash(name)), &mut found);
    let mut found: Vec<u32> = found.iter().map(|s| s.conn).collect();
    found.sort_unstable();
    found
}

fn pattern() -> impl Strategy<Value = String> {
    "[ab*>]{1,2}(\\.[ab*>]){0,3}".prop_filter("valid", |s| subject::is_valid(s.as_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_finds_what_a_list_finds(
        steps in proptest::collection::vec((pattern(), any::<bool>()), 0..30),
        names in proptest::collection::vec("[ab*>]{1,2}(\\.[ab*>]{0,1}){0,3}", 1..10),
    ) {
        let interest = interest();
        let mut list: Vec<(String, u32)> = Vec::new();
        for (n, (pattern, add)) in steps.into_iter().enumerate() {
            let n = n as u32;
            if add || list.is_empty() {
                interest.insert(pattern.as_bytes(), sub(n));
                list.push((pattern, n));
            } else {
                let (pattern, gone) = list.swap_remove(n as usize % list.len());
                prop_assert!(interest.remove(pattern.as_bytes(), sub(gone)));
                prop_assert!(!interest.remove(pattern.as_bytes(), sub(gone)));
            }
            for name in &names {
                let mut want: Vec<u32> = list
                    .iter()
                    .filter(|(pattern, _)| subject::matches(pattern.as_bytes(), name.as_bytes()))
                    .map(|(_, n)| *n)
                    .collect();
                want.sort_unstable();
                prop_assert_eq!(collect(&interest, name), want, "{}", name);
            }
        }
    }

    #[test]
    fn a_change_that_concerns_a_subject_makes_its_stamp_stale(pattern in pattern(), name in "[ab](\\.[ab]){0,3}") {
        let interest = interest();
        let hash = interest.subject_hash(name.as_bytes());
        let before = interest.stamp(&interest.keys(name.as_bytes(), hash));
        prop_assert!(interest.is_current(&before));
        interest.insert(pattern.as_bytes(), sub(1));
        let between = interest.stamp(&interest.keys(name.as_bytes(), hash));
        if subject::matches(pattern.as_bytes(), name.as_bytes()) {
            prop_assert!(!interest.is_current(&before));
        }
        interest.remove(pattern.as_bytes(), sub(1));
        if subject::matches(pattern.as_bytes(), name.as_bytes()) {
            prop_assert!(!interest.is_current(&between));
        }
    }
}

#[test]
fn unrelated_inboxes_leave_a_stamp_alone() {
    let interest = interest();
    let name = b"orders.new";
    let stamp = interest.stamp(&interest.keys(name, interest.subject_hash(name)));
    let mut spoiled = 0;
    for n in 0..100 {
        interest.insert(format!("_INBOX.{n}.*").as_bytes(), sub(n));
        spoiled += u32::from(!interest.is_current(&stamp));
    }
    assert_eq!(spoiled, 0, "a stamp watches four of thousands of counters");
}

struct Idle;

impl crate::Owner for Idle {
    fn write(&self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        unreachable!("nothing is written to a peer inside the process")
    }

    fn wake(&self) {}
}

/// Hashes that collide cannot be had, so a subscription is put where one would be whose subject hashes alike.
#[test]
fn who_was_found_by_a_hash_is_asked() {
    let router = Router::new(Settings {
        info: Info::default(),
        limits: Limits::default(),
        entrance: Entrance::default(),
        seed: 7,
        max_ended: 0,
        cluster: None,
        leaves: None,
    });
    let (account, worker) = (router.global_account(), router.worker());
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant, whichever")]
    let now = std::time::Instant::now();
    let local = Local::new(&router, worker.clone(), &account, Arc::new(Idle), now);
    for subject in [&b"a.b"[..], b"a.*", b"a.>", b"*.b"] {
        local.subscribe(subject, b"").unwrap();
    }
    let receivers = |name: &[u8]| worker.lock().matches(&account, name, &router).plain.len();
    assert_eq!((receivers(b"a.b"), receivers(b"x.y")), (4, 0));
    let conn = router.connections().first().unwrap().index();
    for (slot, pattern) in [(0, &b"x.y"[..]), (1, b"x.*")] {
        account.interest().insert(pattern, SubRef { conn, slot, serial: slot + 1, queue: 0 });
    }
    assert_eq!((receivers(b"a.b"), receivers(b"x.y")), (4, 0));
    local.subscribe(b"x.y", b"").unwrap();
    assert_eq!(receivers(b"x.y"), 1);
}
