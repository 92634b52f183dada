//! Two nodes that know each other's keys: messages, questions and signed channels between them, without a server, a
//! certificate or a port for clients.
//!
//! `cargo run -p midge --example mesh`

#![expect(clippy::print_stdout, reason = "it shows what has come")]

use std::error::Error;
use std::time::Duration;

use midge::Node;
use midge::channel::ChannelOptions;
use midge::client::Message;
use midge::mesh::new_key;
use midge::options::Options;

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (key, other) = (new_key()?, new_key()?);
    let alice = Node::builder()
        .key(key)
        .embedded(Options::default())
        .listen("127.0.0.1:0".parse()?)
        .allow(other.peer_id())
        .start()?;
    let address = alice.addresses().first().ok_or("alice listens nowhere")?;
    let bob = Node::builder()
        .key(other)
        .embedded(Options::default())
        .peer(&format!("{}@{address}", alice.peer_id()))?
        .start()?;

    // A service on one node, asked on the other.
    let (service, mut questions) = (alice.client(), alice.client().subscribe("sum")?);
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let sum: u64 =
                String::from_utf8_lossy(&question.payload).split('+').flat_map(str::parse::<u64>).sum();
            if !question.reply.is_empty() {
                service.publish(&question.reply, sum.to_string())?;
            }
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    });
    let answer = loop {
        // Until the link is there and it is known who listens.
        match bob.client().request("sum", "2+3", PATIENCE).await {
            Ok(answer) => break answer,
            Err(midge::backend::BusError::NoResponders(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
            Err(error) => return Err(error.into()),
        }
    };
    println!("2+3 is {}", String::from_utf8_lossy(&answer.payload));

    // What is said on a channel is known to be from whom it is.
    let mut hears = alice.channel("news", ChannelOptions::default()).await?;
    let says = bob.channel("news", ChannelOptions::default()).await?;
    while bob.client().send(&Message::new("news", "nobody said this"))? < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    says.send(b"all is well").await?;
    let news = hears.next().await.ok_or("no news")?;
    println!("{:?} says: {}", news.sender, String::from_utf8_lossy(&news.payload));
    assert_eq!(news.sender, Some(bob.peer_id()));
    assert!(hears.rejected() > 0, "what nobody signed is left out");

    bob.shutdown().await;
    alice.shutdown().await;
    answering.await?.map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
