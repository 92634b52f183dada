//! `midge pub`.

use clap::Args;
use midge::client::Message;

use crate::Outcome;
use crate::bus::{Place, header, payload};

/// Publish a message.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    place: Place,
    /// A header, as Name:value; may be said several times.
    #[arg(long, short = 'H', value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Where answers shall go.
    #[arg(long, default_value = "", hide_default_value = true)]
    reply: String,
    /// Where to.
    subject: String,
    /// What; standard input if it is not said.
    payload: Option<String>,
}

impl Publish {
    pub(crate) async fn run(self) -> Outcome {
        let payload = payload(self.payload)?;
        let bus = self.place.connect().await?;
        let message =
            Message { headers: self.header, reply: self.reply, ..Message::new(&self.subject, payload) };
        let sent = bus.send(message).await;
        bus.close().await?;
        sent
    }
}
