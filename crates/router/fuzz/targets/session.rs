//! A session and what it does to a router: no input makes it panic, and nothing is left when it has gone.
#![no_main]

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use midge_router::{Arrival, ClientSession, Entrance, Limits, Next, Owner, Router, Settings, Tick};
use midge_wire::json::Info;

struct Sink;

impl Owner for Sink {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(bytes.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = Limits { max_pending: 64 * 1024, max_payload: 4096, max_control_line: 512, ..Limits::default() };
    let settings = Settings { info: Info::default(), limits, entrance: Entrance::default(), seed: 1, max_ended: 1, cluster: None, leaves: None };
    let router = Router::new(settings);
    let worker = router.worker();
    let now = Instant::now();
    let mut worker = worker.lock();
    let mut tick = Tick { worker: &mut worker, now };
    let mut session = ClientSession::client(&router, Arrival::from("127.0.0.1:1"), Arc::new(Sink), &mut tick);
    let mut rest = data;
    loop {
        let done = session.handle_input(rest, &mut tick);
        rest = &rest[done.used..];
        while session.poll_event().is_some() {}
        tick.worker.flush(now);
        if !matches!(done.next, Next::Stalled(_)) {
            break;
        }
    }
    drop(session);
    drop(worker);
    let totals = router.totals();
    assert_eq!((totals.subscriptions, router.clients(), router.connection_count()), (0, 0, 0));
});
