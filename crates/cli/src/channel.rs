//! `midge channel`.

use clap::{Args, Subcommand, ValueEnum};
use midge::channel::{Received, Seal, Unsigned};
use midge::identity::signed::{HashType, Rules};

use crate::Outcome;
use crate::bus::{Place, in_a_line, payload, print};
use crate::listen::Listen;

/// Send and hear messages of which it is known who said them.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Send a message, signed by the key of --key.
    Pub(Say),
    /// Print messages and who said them, as they come; those that are not signed as they should be are left out.
    Sub(Hear),
}

#[derive(Debug, Args)]
pub(crate) struct Say {
    #[command(flatten)]
    place: Place,
    /// How it is signed.
    #[arg(long, value_enum, default_value_t = Form::Headers)]
    form: Form,
    /// The channel.
    name: String,
    /// What; standard input if it is not said.
    payload: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Hear {
    #[command(flatten)]
    listen: Listen,
    /// Print messages that nobody signed, too, marked.
    #[arg(long)]
    mark_unsigned: bool,
}

/// How a message is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// By headers; the payload stays as it is.
    Headers,
    /// As a record, which Bifrost's nodes read.
    Record,
}

impl Channel {
    pub(crate) async fn run(self) -> Outcome {
        match self {
            Self::Pub(say) => say.run().await,
            Self::Sub(hear) => hear.run().await,
        }
    }
}

impl Say {
    async fn run(self) -> Outcome {
        let key = self.place.key()?.ok_or("--key is needed: whose messages are they?")?;
        let form = match self.form {
            Form::Headers => midge::channel::Form::Headers,
            Form::Record => midge::channel::Form::Record(HashType::Sha256),
        };
        let seal = Seal::new(&key, &self.name, form).map_err(|error| error.to_string())?;
        let message = seal.seal(&payload(self.payload)?).map_err(|error| error.to_string())?;
        let bus = self.place.connect().await?;
        let sent = bus.send(message).await;
        bus.close().await?;
        sent
    }
}

impl Hear {
    async fn run(self) -> Outcome {
        let unsigned = if self.mark_unsigned { Unsigned::Mark } else { Unsigned::Reject };
        let mut received = Received::new(&self.listen.subject, unsigned, Rules::default());
        let show = async |_: &_, message: midge::client::Message| match received.look(&message) {
            Ok(message) => {
                let sender =
                    message.sender.map_or_else(|| "(unsigned)".to_owned(), |sender| sender.to_string());
                print(format!("{sender} {}", in_a_line(&message.payload)).as_bytes()).map(|()| true)
            }
            Err(why) => {
                eprintln!("A message is left out: {why}");
                Ok(false)
            }
        };
        self.listen.run(show).await
    }
}
