//! Dialling those who are wanted, and dialling again.

use std::sync::Arc;
use std::time::Duration;

use midge_identity::PeerId;
use tokio::time::{Instant, sleep, timeout};

use super::{LinkEvent, Table};
use crate::address::Address;
use crate::link::{Ended, Link};
use crate::quic::DialError;

/// How much longer the peer waits whose id comes later before it dials, so that two that dial each other do not do it at
/// the same time.
const COURTESY: Duration = Duration::from_millis(250);

/// Time after which a link is taken to be one that lasts.
const LASTING: Duration = Duration::from_secs(3);

/// Keeps a link to a peer by one of its addresses, for as long as nothing better is there.
pub(super) async fn keep(table: Arc<Table>, peer: PeerId, address: Address, mut changes: super::Changes) {
    let mut attempts = 0;
    let mut pause = table.config.redial.0;
    loop {
        while !table.lacks(&peer, &address) {
            if changes.changed().await.is_err() {
                return;
            }
        }
        if table.us > peer && attempts == 0 {
            sleep(COURTESY).await;
            if !table.lacks(&peer, &address) {
                continue;
            }
        }
        match dial(&table, peer, &address).await {
            Ok(link) => {
                attempts = 0;
                table.take_up(link.clone());
                let begun = Instant::now();
                match link.closed().await {
                    // There is another one, and this address leads nowhere else.
                    Ended::Surplus => {
                        if changes.changed().await.is_err() {
                            return;
                        }
                    }
                    _ if begun.elapsed() >= LASTING => pause = table.config.redial.0,
                    // The other side has no use for it, say: it is not asked all the time.
                    _ => {
                        sleep(table.spread(pause)).await;
                        pause = (pause * 2).min(table.config.redial.1);
                    }
                }
            }
            Err(why) => {
                attempts += 1;
                let (address, why) = (address.to_string(), why.to_string());
                table.events.push(LinkEvent::Unreachable { peer, address, attempts, why });
                sleep(table.spread(pause)).await;
                pause = (pause * 2).min(table.config.redial.1);
            }
        }
    }
}

/// Dials all that the address stands for, until one is the peer.
async fn dial(table: &Arc<Table>, peer: PeerId, address: &Address) -> Result<Link, DialError> {
    let shown = address.to_string();
    let failed = |why: String| DialError::Address { address: shown.trim_end_matches(':').to_owned(), why };
    let mut last = DialError::NoPath(address.scheme().to_owned());
    for endpoint in table.endpoints(address.scheme()) {
        let found = endpoint.path().clone().locate(peer, address.rest().to_owned());
        let places = match timeout(table.config.dial_timeout, found).await {
            Ok(Ok(places)) => places,
            Ok(Err(error)) => {
                last = failed(error.to_string());
                continue;
            }
            Err(_) => return Err(failed("it was not found in time".to_owned())),
        };
        for place in places {
            match endpoint.dial(peer, place).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}
