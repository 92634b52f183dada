//! `midge sub`.

use clap::Args;

use crate::Outcome;
use crate::bus::{Place, in_a_line, print};

/// Print messages as they come.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    #[command(flatten)]
    place: Place,
    /// Share the messages with the others of this group.
    #[arg(long, short)]
    queue: Option<String>,
    /// End after so many.
    #[arg(long, short)]
    count: Option<u64>,
    /// Print payloads only, as they are.
    #[arg(long)]
    raw: bool,
    /// What to listen to.
    subject: String,
}

impl Subscribe {
    pub(crate) async fn run(self) -> Outcome {
        let bus = self.place.connect().await?;
        let mut messages = bus.subscribe(&self.subject, self.queue.as_deref()).await?;
        let mut left = self.count;
        eprintln!("Listening to {}", self.subject);
        while left != Some(0) {
            let Some(message) = messages.next().await else {
                return Err("the subscription has ended".to_owned());
            };
            if self.raw {
                print(&message.payload)?;
            } else {
                let headers: String =
                    message.headers.iter().map(|(name, value)| format!(" {name}:{value}")).collect();
                let line = format!("{}{headers} {}", message.subject, in_a_line(&message.payload));
                print(line.as_bytes())?;
            }
            left = left.map(|left| left - 1);
        }
        bus.close().await
    }
}
