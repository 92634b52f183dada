//! A peer with two ways to it: when the first dies, the route goes on by the second, and nothing that is said from then on
//! is lost.

use std::time::Duration;

use midge::Node;
use midge::link::LinkConfig;
use midge::link::mem::MemNetwork;
use midge::mesh::new_key;
use midge::options::Options;
use tokio::time::{Instant, sleep};

use crate::world::{drain, run};

/// More than the time without a sign after which a link is given up, and less than both together.
const TAKES_OVER: Duration = Duration::from_secs(35);

#[test]
fn a_route_goes_on_by_the_second_link() {
    // Whichever of the two opens routes.
    for first_opens in [true, false] {
        run(async {
            let network = MemNetwork::new(1);
            let (mut one, mut other) = (new_key().unwrap(), new_key().unwrap());
            if (one.peer_id() < other.peer_id()) != first_opens {
                std::mem::swap(&mut one, &mut other);
            }
            let links = LinkConfig { seed: Some(3), ..LinkConfig::default() };
            let (here, places) = (network.join(), [network.join(), network.join()]);
            let there = Node::builder()
                .key(other.clone())
                .embedded(Options::default())
                .allow(one.peer_id())
                .links(links.clone());
            let there = there.path(places[0].clone()).path(places[1].clone()).start().unwrap();
            let mut node =
                Node::builder().key(one).embedded(Options::default()).links(links).path(here.clone());
            for place in &places {
                node = node.peer(&format!("{}@mem://{}", other.peer_id(), place.number())).unwrap();
            }
            let node = node.start().unwrap();
            let mut hears = there.client().subscribe("a").unwrap();
            let client = node.client();
            while client.send(&midge::client::Message::new("a", "")).unwrap() == 0
                || node.links().links()[0].len() < 2
            {
                sleep(Duration::from_millis(10)).await;
            }
            drain(&mut hears);
            let used = node.link(&other.peer_id()).unwrap();
            network.cut(here.number(), used.place().parse().unwrap(), true);
            let cut = Instant::now();
            let mut number = 0;
            // What is said into a way that is dead is lost; it is the first that comes again that counts.
            while drain(&mut hears).is_empty() {
                number += 1;
                client.publish("a", number.to_string()).unwrap();
                sleep(Duration::from_millis(100)).await;
                assert!(cut.elapsed() < TAKES_OVER, "nothing comes by the second");
            }
            assert_ne!(node.link(&other.peer_id()).unwrap(), used);
            for at in 0..100 {
                client.publish("a", format!("later {at}")).unwrap();
            }
            sleep(Duration::from_secs(1)).await;
            assert!(
                drain(&mut hears).iter().filter(|message| message.payload.starts_with(b"later")).count()
                    == 100
            );
        });
    }
}
