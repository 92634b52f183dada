//! Routes over links.

use std::sync::Arc;
use std::time::Duration;

use midge_identity::{NkeyKind, PeerId};
use midge_link::{Link, LinkStream, LinkTable};
use midge_router::{Dial, Dialled};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{ROUTER_PROTOCOL, name};
use crate::carrier::Carrier;
use crate::cluster::{Done, Outcome, RouteDuty};
use crate::drive::{Connection, pipe};
use crate::server::Server;

/// Pause before a route is opened again: at first, and at most. It doubles while routes do not last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Time after which a route is taken to be one that lasts.
const LASTING: Duration = Duration::from_secs(5);

/// Keeps a route to a peer over the link that is used, for as long as there is one.
///
/// When another link is used, `moved` is told: the route is opened anew there, and takes the place of the one before on
/// both sides, which goes on until then.
pub(super) async fn keep(server: Arc<Server>, table: LinkTable, peer: PeerId, moved: Arc<Notify>) {
    let mut pause = PAUSE.0;
    loop {
        if let Some(link) = table.link(&peer) {
            let begun = Instant::now();
            match link.open(ROUTER_PROTOCOL).await {
                Ok(stream) => {
                    let (done, outcome) = oneshot::channel();
                    let number = link.number();
                    tokio::spawn(drive(server.clone(), link, stream, Some(done)));
                    let ended = async { outcome.await.unwrap_or(Outcome::Failed) };
                    let is_elsewhere =
                        || table.link(&peer).is_some_and(|used| used.number() != number && !used.is_closed());
                    let moves = async {
                        // Told of another link, or of the one before this one.
                        while !is_elsewhere() {
                            moved.notified().await;
                        }
                    };
                    tokio::select! {
                        biased;
                        outcome = ended => debug!("Route to peer {peer}: {outcome:?}"),
                        () = moves => {
                            debug!("Route to peer {peer} moves to another link");
                            pause = PAUSE.0;
                            continue;
                        }
                    }
                }
                Err(why) => debug!("Route to peer {peer}: {why}"),
            }
            if begun.elapsed() >= LASTING {
                pause = PAUSE.0;
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Runs a route over a stream of a link: as whoever opened it, if somebody waits for what becomes of it.
pub(super) async fn drive(server: Arc<Server>, link: Link, stream: LinkStream, done: Option<Done>) {
    let carrier = Arc::new(Carrier::link(&link, None));
    let dial = done.is_some().then(|| Dial { why: Some(Dialled::Configured), ..Dial::default() });
    let peer = name(&link);
    let streams = pipe::split(stream, server.setup().options.log.max_traced);
    let host = pipe::PipeHost::new(&server);
    let duty = RouteDuty::over_link(done);
    Connection::route(server, host, (&peer, Some(carrier)), (dial, duty), streams).await;
}

/// The id that a peer's server must announce.
pub(crate) fn server_id(peer: &PeerId) -> String {
    peer.key().nkey(NkeyKind::Server).to_string()
}
