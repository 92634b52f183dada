//! `midge reply`.

use clap::Args;
use midge::client::Message;

use crate::Outcome;
use crate::bus::Place;

/// Answer questions.
#[derive(Debug, Args)]
pub(crate) struct Reply {
    #[command(flatten)]
    place: Place,
    /// Share the questions with the others of this group.
    #[arg(long, short)]
    queue: Option<String>,
    /// End after so many.
    #[arg(long, short)]
    count: Option<u64>,
    /// What to listen to.
    subject: String,
    /// The answer; what was asked if it is not said.
    answer: Option<String>,
}

impl Reply {
    pub(crate) async fn run(self) -> Outcome {
        let bus = self.place.connect().await?;
        let mut questions = bus.subscribe(&self.subject, self.queue.as_deref()).await?;
        let mut left = self.count;
        eprintln!("Answering {}", self.subject);
        while left != Some(0) {
            let Some(question) = questions.next().await else {
                return Err("the subscription has ended".to_owned());
            };
            if question.reply.is_empty() {
                continue;
            }
            let answer = self.answer.as_ref().map_or(question.payload, |answer| answer.clone().into());
            // One who asks in vain does not keep the others from asking.
            if let Err(why) = bus.send(Message::new(&question.reply, answer)).await {
                eprintln!("Not answered: {why}");
            }
            left = left.map(|left| left - 1);
        }
        bus.close().await
    }
}
