//! `midge sub`.

use clap::Args;

use crate::Outcome;
use crate::bus::{in_a_line, print};
use crate::listen::Listen;

/// Print messages as they come.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    #[command(flatten)]
    listen: Listen,
    /// Print payloads only, as they are.
    #[arg(long)]
    raw: bool,
}

impl Subscribe {
    pub(crate) async fn run(self) -> Outcome {
        let is_raw = self.raw;
        let show = async |_: &_, message: midge::client::Message| {
            if is_raw {
                return print(&message.payload).map(|()| true);
            }
            let headers: String =
                message.headers.iter().map(|(name, value)| format!(" {name}:{value}")).collect();
            let head = in_a_line(format!("{}{headers}", message.subject).as_bytes());
            print(format!("{head} {}", in_a_line(&message.payload)).as_bytes()).map(|()| true)
        };
        self.listen.run(show).await
    }
}
