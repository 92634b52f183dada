//! `midge`: keys, and messages over NATS servers or straight over links.

mod backend;
mod bus;
mod channel;
mod expose;
mod forward;
mod key;
mod linking;
mod listen;
mod publish;
mod reply;
mod request;
mod subscribe;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keys, and messages over NATS servers or straight over links to peers.
#[derive(Debug, Parser)]
#[command(name = "midge", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make, show and convert keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Publish a message.
    Pub(publish::Publish),
    /// Print messages as they come.
    Sub(subscribe::Subscribe),
    /// Ask, and print the answer.
    Request(request::Request),
    /// Answer questions.
    Reply(reply::Reply),
    /// Send and hear messages of which it is known who said them.
    #[command(subcommand)]
    Channel(channel::Channel),
    /// Reach a TCP port that a peer exposes as a port here.
    Forward(forward::Forward),
    /// Let peers reach TCP ports from here, and nothing else.
    Expose(expose::Expose),
    /// What a NATS deployment must let a peer do whose links or messages go through it.
    #[command(subcommand)]
    Backend(backend::Backend),
}

/// Why nothing came of it, in words.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let Arguments { verb } = Arguments::parse();
    let done = match verb {
        // Keys need no runtime.
        Verb::Key(key) => key.run(),
        Verb::Backend(backend) => backend.run(),
        verb => runtime().and_then(|runtime| runtime.block_on(talk(verb))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("midge: {why}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().enable_time().build().map_err(|error| format!("no event loop: {error}"))
}

async fn talk(verb: Verb) -> Outcome {
    match verb {
        Verb::Key(key) => key.run(),
        Verb::Backend(backend) => backend.run(),
        Verb::Forward(forward) => forward.run().await,
        Verb::Expose(expose) => expose.run().await,
        Verb::Pub(publish) => publish.run().await,
        Verb::Sub(subscribe) => subscribe.run().await,
        Verb::Request(request) => request.run().await,
        Verb::Reply(reply) => reply.run().await,
        Verb::Channel(channel) => channel.run().await,
    }
}
