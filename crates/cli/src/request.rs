//! `midge request`.

use clap::Args;
use midge::client::Message;

use crate::Outcome;
use crate::bus::{Place, header, payload, print};

/// Ask, and print the answer.
#[derive(Debug, Args)]
pub(crate) struct Request {
    #[command(flatten)]
    place: Place,
    /// A header, as Name:value; may be said several times.
    #[arg(long, short = 'H', value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Whom.
    subject: String,
    /// What; standard input if it is not said.
    payload: Option<String>,
}

impl Request {
    pub(crate) async fn run(self) -> Outcome {
        let payload = payload(self.payload)?;
        let bus = self.place.connect().await?;
        let question = Message { headers: self.header, ..Message::new(&self.subject, payload) };
        let answer = bus.request(question, self.place.patience()?).await?;
        print(&answer.payload)?;
        bus.close().await
    }
}
