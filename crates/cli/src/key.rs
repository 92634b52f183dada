//! `midge key`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use midge::identity::{KeyPair, NkeyKind, PublicKey, pem};
use midge::mesh::{new_key, write_key};

use crate::Outcome;
use crate::bus::print;

/// Make, show and convert keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key, in a file that only its owner may read, and print its peer id.
    New(New),
    /// Print all public names of a key.
    Show(Show),
    /// Print a key in another form, or write it to a file.
    Convert(Convert),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The file; it must not be there yet.
    file: PathBuf,
    /// In what form.
    #[arg(long, value_enum, default_value_t = Private::Libp2p)]
    form: Private,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A file with a key in any form, - for standard input, or a public key itself: a peer id or an nkey.
    key: String,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// A file with a key in any form, or - for standard input.
    file: String,
    /// The form.
    #[arg(long, value_enum)]
    to: Form,
    /// Write it to this file, which must not be there yet and only its owner may read.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A form of a whole key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Private {
    /// PEM, as libp2p's and Bifrost's programs write it.
    Libp2p,
    /// PEM, as openssl writes it.
    Pkcs8,
    /// An nkey seed of a user.
    UserSeed,
}

/// A form of a key or of its public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// The whole key as libp2p's PEM.
    Libp2p,
    /// The whole key as PKCS#8's PEM.
    Pkcs8,
    /// The whole key as an nkey seed of a user.
    UserSeed,
    /// The whole key as an nkey seed of a server.
    ServerSeed,
    /// The seed of the key that logs in to other people's NATS servers: it says nothing of this one.
    LoginSeed,
    /// The peer id.
    PeerId,
    /// The public key as libp2p's PEM.
    Libp2pPublic,
    /// The public key as others write it.
    Spki,
    /// The public key as a line for OpenSSH.
    Openssh,
}

impl Key {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::New(New { file, form }) => {
                let key = new_key().map_err(|error| error.to_string())?;
                let form = match form {
                    Private::Libp2p => Form::Libp2p,
                    Private::Pkcs8 => Form::Pkcs8,
                    Private::UserSeed => Form::UserSeed,
                };
                write_key(&file, &private(&key, form)).map_err(|error| error.to_string())?;
                print(key.peer_id().to_string().as_bytes())
            }
            Self::Show(Show { key }) => show(&key),
            Self::Convert(Convert { file, to, out }) => convert(&file, to, out.as_deref()),
        }
    }
}

fn show(key: &str) -> Outcome {
    let (public, login) = match pem::read_public(key) {
        Ok(public) => (public, None),
        Err(_) if KeyPair::from_nkey_seed(key).is_ok() => {
            return Err(
                "a seed must not stand on a command line, where others see it: give a file".to_owned()
            );
        }
        Err(_) => {
            let text = read(key)?;
            pem::read_private(&text)
                .map(|key| (key.public(), Some(key.login_key().public())))
                .or_else(|_| pem::read_public(&text).map(|public| (public, None)))
                .map_err(|error| format!("{key}: {error}"))?
        }
    };
    let mut lines = vec![format!("peer id   {}", public.peer_id())];
    for (name, kind) in
        [("user", NkeyKind::User), ("server", NkeyKind::Server), ("account", NkeyKind::Account)]
    {
        lines.push(format!("{name:<10}{}", public.nkey(kind)));
    }
    lines.extend(login.map(|login| format!("login     {}", login.nkey(NkeyKind::User))));
    lines.push(format!("openssh   {}", pem::openssh(&public)));
    print(lines.join("\n").as_bytes())
}

fn convert(file: &str, to: Form, out: Option<&Path>) -> Outcome {
    let text = read(file)?;
    let key = pem::read_private(&text);
    let public = key.as_ref().map(KeyPair::public).or_else(|_| pem::read_public(&text));
    let told = |error: &dyn std::fmt::Display| format!("{file}: {error}");
    let converted = match public_form(&public.map_err(|error| told(&error))?, to) {
        Some(text) => text,
        None => private(&key.map_err(|error| told(&error))?, to),
    };
    match out {
        Some(path) => write_key(path, &converted).map_err(|error| error.to_string()),
        None => print(converted.trim_end().as_bytes()),
    }
}

fn public_form(key: &PublicKey, form: Form) -> Option<String> {
    match form {
        Form::PeerId => Some(key.peer_id().to_string()),
        Form::Libp2pPublic => Some(pem::public(key)),
        Form::Spki => Some(pem::spki(key)),
        Form::Openssh => Some(pem::openssh(key)),
        Form::Libp2p | Form::Pkcs8 | Form::UserSeed | Form::ServerSeed | Form::LoginSeed => None,
    }
}

fn private(key: &KeyPair, form: Form) -> String {
    match form {
        Form::Pkcs8 => pem::pkcs8(key).to_string(),
        Form::UserSeed => key.nkey_seed(NkeyKind::User).to_string(),
        Form::ServerSeed => key.nkey_seed(NkeyKind::Server).to_string(),
        Form::LoginSeed => key.login_key().nkey_seed(NkeyKind::User).to_string(),
        _ => pem::private(key).to_string(),
    }
}

fn read(file: &str) -> Outcome<String> {
    if file == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(pem::MOST_TEXT as u64 + 1).read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| format!("standard input: {error}"));
    }
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}
