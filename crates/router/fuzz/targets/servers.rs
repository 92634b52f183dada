//! What other servers say, on routes and leafnode connections, and what that does to a router: no input makes it panic,
//! and nothing is left when they have gone.
#![no_main]

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use midge_router::{
    Arrival, ClientSession, ClusterSettings, Entrance, Event, Grant, LeafDial, LeafRules, LeafSession, LeafSettings,
    Limits, Next, Owner, Role, RouteSession, Router, Session, Settings, Tick, Verdict,
};
use midge_wire::json::{Credentials, Info, PeerInfo};

struct Sink;

impl Owner for Sink {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(bytes.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

/// Says everything, and lets in whoever asks.
fn say<R: Role>(session: &mut Session<R>, router: &Arc<Router>, data: &[u8], tick: &mut Tick<'_>) {
    let mut rest = data;
    loop {
        let done = session.handle_input(rest, tick);
        rest = &rest[done.used..];
        let mut asked = false;
        while let Some(event) = session.poll_event() {
            asked |= matches!(event, Event::Authenticate(_));
        }
        if asked {
            session.handle_verdict(Verdict::Welcome(Arc::new(Grant::of(router.global_account()))), tick);
        }
        tick.worker.flush(tick.now);
        if !asked && !matches!(done.next, Next::Stalled(_)) {
            break;
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let limits = Limits { max_pending: 64 * 1024, max_control_line: 512, max_interest: 64 * 1024, ..Limits::default() };
    let info = PeerInfo { server_id: "US".into(), server_name: "us".into(), headers: true, ..PeerInfo::default() };
    let cluster = ClusterSettings { name: Some("C".into()), info: info.clone(), pool_size: 3, ..ClusterSettings::default() };
    let leaves = LeafSettings { info, cluster: "C".into(), ..LeafSettings::default() };
    let entrance = Entrance::default();
    let router = Router::new(Settings {
        info: Info::default(),
        limits,
        entrance,
        seed: 1,
        max_ended: 1,
        cluster: Some(cluster),
        leaves: Some(leaves),
    });
    let worker = router.worker();
    let now = Instant::now();
    let mut worker = worker.lock();
    let mut tick = Tick { worker: &mut worker, now };
    let asks = Arc::new(Entrance { asks: true, ..Entrance::default() });
    let arrival = || Arrival { entrance: Some(asks.clone()), ..Arrival::from("127.0.0.1:1") };

    // Those for whom something may come of it.
    let mut client = ClientSession::client(&router, Arrival::from("127.0.0.1:2"), Arc::new(Sink), &mut tick);
    say(&mut client, &router, b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nSUB > g 2\r\n", &mut tick);
    let mut route = RouteSession::route(&router, arrival(), None, Arc::new(Sink), &mut tick);
    let hello = b"CONNECT {\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"R\",\"server_name\":\"r\",\"lnoc\":true,\"lnocu\":true}\r\nRS+ $G a\r\nRS+ $G a g 2\r\nLS+ LC $G b\r\n";
    say(&mut route, &router, hello, &mut tick);
    let mut leaf = LeafSession::leaf(&router, arrival(), None, Arc::new(Sink), &mut tick);
    say(&mut leaf, &router, b"CONNECT {\"name\":\"l\",\"cluster\":\"LC\"}\r\nLS+ a\r\nLS+ a h 1\r\n", &mut tick);

    match kind % 4 {
        0 => {
            let mut peer = RouteSession::route(&router, arrival(), None, Arc::new(Sink), &mut tick);
            say(&mut peer, &router, data, &mut tick);
        }
        1 => {
            let mut peer = RouteSession::route(&router, Arrival::from("h:1"), Some(Default::default()), Arc::new(Sink), &mut tick);
            say(&mut peer, &router, data, &mut tick);
        }
        2 => {
            let mut peer = LeafSession::leaf(&router, arrival(), None, Arc::new(Sink), &mut tick);
            say(&mut peer, &router, data, &mut tick);
        }
        _ => {
            let dial = LeafDial { rules: LeafRules::default(), login: Arc::new(|_| Credentials::default()) };
            let account = router.global_account();
            let mut peer =
                LeafSession::leaf(&router, Arrival::from("h:1"), Some((dial, account)), Arc::new(Sink), &mut tick);
            say(&mut peer, &router, data, &mut tick);
        }
    }
    say(&mut client, &router, b"PUB a 1\r\nx\r\nPUB b r 1\r\ny\r\n", &mut tick);
    drop((client, route, leaf));
    drop(worker);
    let totals = router.totals();
    assert_eq!((totals.subscriptions, router.clients(), router.connection_count()), (0, 0, 0));
    assert_eq!((router.cluster().unwrap().member_count(), router.leaves().unwrap().count()), (0, 0));
});
