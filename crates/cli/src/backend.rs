//! `midge backend`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use midge::backend::{Permissions, Prefix};
use midge::identity::PeerId;
use midge::mesh::read_key;

use crate::Outcome;
use crate::bus::print;

/// What a NATS deployment must let a peer do whose links or messages go through it.
#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    /// Print the permissions that a peer needs there, for a nats-server's configuration and for nsc.
    Permissions(Print),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Who {
    /// The peer.
    #[arg(long, value_name = "ID")]
    peer: Option<PeerId>,
    /// The file with the peer's key, which also tells the key that it logs in with.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Print {
    #[command(flatten)]
    who: Who,
    /// What the subjects of links begin with there.
    #[arg(long, value_name = "SUBJECT", default_value = midge::options::PREFIX)]
    via_prefix: Prefix,
    /// What the subjects of messages begin with, if messages go through it, too.
    #[arg(long, value_name = "SUBJECT")]
    pubsub: Option<Prefix>,
}

impl Backend {
    pub(crate) fn run(self) -> Outcome {
        let Self::Permissions(Print { who, via_prefix, pubsub }) = self;
        let key = who.key.as_deref().map(read_key).transpose().map_err(|error| error.to_string())?;
        let known = key.as_ref().map(midge::identity::KeyPair::peer_id);
        let peer = match (who.peer, known) {
            (Some(said), Some(known)) if said != known => {
                return Err(format!("the key is of {known}, not of {said}"));
            }
            (said, known) => said.or(known).ok_or("whose permissions? Say --peer or --key")?,
        };
        let login = key.map(|key| key.login_key().public());
        let permissions = Permissions::of(&peer, &via_prefix, pubsub.as_ref());
        let (configuration, nsc) = (permissions.configuration(login.as_ref()), permissions.nsc("midge"));
        let text = format!(
            "# A user in the configuration of a nats-server (authorization.users, or users of an account):\n{configuration}\n\n# The same for nsc, which makes credentials:\n# {nsc}"
        );
        print(text.as_bytes())
    }
}
