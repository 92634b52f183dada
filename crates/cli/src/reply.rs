//! `midge reply`.

use clap::Args;
use midge::client::Message;

use crate::Outcome;
use crate::bus::Bus;
use crate::listen::Listen;

/// Answer questions.
#[derive(Debug, Args)]
pub(crate) struct Reply {
    #[command(flatten)]
    listen: Listen,
    /// The answer; what was asked if it is not said.
    answer: Option<String>,
}

impl Reply {
    pub(crate) async fn run(self) -> Outcome {
        let Self { listen, answer } = self;
        let answer_one = async |bus: &Bus, question: Message| {
            if question.reply.is_empty() {
                return Ok(false);
            }
            let answer = answer.as_ref().map_or(question.payload, |answer| answer.clone().into());
            // One who asks in vain does not keep the others from asking.
            if let Err(why) = bus.send(Message::new(&question.reply, answer)).await {
                eprintln!("Not answered: {why}");
            }
            Ok(true)
        };
        listen.run(answer_one).await
    }
}
