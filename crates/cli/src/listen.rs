//! Listening, which several verbs do.

use clap::Args;
use midge::client::Message;

use crate::Outcome;
use crate::bus::{Bus, Place};

/// What is listened to, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    #[command(flatten)]
    place: Place,
    /// Share the messages with the others of this group.
    #[arg(long, short)]
    queue: Option<String>,
    /// End after so many.
    #[arg(long, short)]
    count: Option<u64>,
    /// What to listen to.
    pub(crate) subject: String,
}

impl Listen {
    /// Hands on each message, until as many have counted as were wanted; whether one does, `each` says.
    pub(crate) async fn run(self, mut each: impl AsyncFnMut(&Bus, Message) -> Outcome<bool>) -> Outcome {
        let bus = self.place.connect().await?;
        let mut messages = bus.subscribe(&self.subject, self.queue.as_deref()).await?;
        eprintln!("Listening to {}", self.subject);
        let mut left = self.count;
        while left != Some(0) {
            let Some(message) = messages.next().await else {
                return Err("the subscription has ended".to_owned());
            };
            if each(&bus, message).await? {
                left = left.map(|left| left - 1);
            }
        }
        bus.close().await
    }
}
