//! Connecting to hubs, and connecting again.
//!
//! Times and rules are nats-server's (`server/leafnode.go`, `connectToRemoteLeafNode`).

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use midge_router::{LeafDial, LeafRules, Login};
use midge_wire::json::Credentials;
use nkeys::KeyPair;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::{debug, error};

use super::{Hub, Known, Outcome};
use crate::cluster::{connect, tls_name};
use crate::options::{Compression, LeafRemote, ServerUrl};
use crate::server::Server;
use crate::shard::{Accepted, Door, Shard};

/// Pause between attempts (nats-server's `DEFAULT_LEAF_NODE_RECONNECT`).
const PAUSE: Duration = Duration::from_secs(1);
/// How often failing attempts are logged after the first: once in so many.
const REPORT: u64 = 3600;

/// Keeps connections to all hubs for as long as the server runs. Needs a local set of tasks.
pub(crate) async fn run(server: Arc<Server>, shards: Arc<Vec<Shard>>) {
    let setup = server.setup();
    let known = Rc::new(Known::default());
    for (at, remote) in setup.options.leafnodes.remotes.iter().enumerate() {
        spawn_local(keep(server.clone(), shards.clone(), (at, remote.clone()), known.clone()));
    }
    std::future::pending::<()>().await;
}

async fn keep(
    server: Arc<Server>,
    shards: Arc<Vec<Shard>>,
    (at, remote): (usize, LeafRemote),
    known: Rc<Known>,
) {
    let pause = server.setup().options.leafnodes.reconnect.unwrap_or(PAUSE);
    let (mut attempts, mut next) = (0_u64, 0);
    if !remote.no_randomize {
        next = RandomState::new().hash_one(at) as usize;
    }
    loop {
        let urls = addresses(&remote, &known, at);
        let Some(url) = urls.get(next % urls.len().max(1)) else { return };
        next = next.wrapping_add(1);
        let outcome = dial(&server, &shards, &remote, url, attempts).await;
        if outcome.joined {
            attempts = 0;
            // A hub that was good once is tried first.
            next = next.wrapping_sub(1);
        } else {
            attempts += 1;
        }
        if !outcome.urls.is_empty() {
            known.lock().insert(at, outcome.urls);
        }
        sleep(outcome.pause.unwrap_or(pause) + chance(pause)).await;
    }
}

/// Where a hub is: as configured, and as it said itself.
fn addresses(remote: &LeafRemote, known: &Known, at: usize) -> Vec<ServerUrl> {
    let mut urls = remote.urls.clone();
    let Some(first) = remote.urls.first() else { return urls };
    for text in known.lock().get(&at).into_iter().flatten() {
        // What a hub tells of are no WebSocket ports.
        if first.is_websocket() {
            break;
        }
        let Ok(heard) = ServerUrl::parse(&format!("{}://{text}", first.scheme), first.port) else { continue };
        if !urls.iter().any(|url| url.address() == heard.address()) {
            // One is there whom one is at the others.
            urls.push(ServerUrl { user: first.user.clone(), password: first.password.clone(), ..heard });
        }
    }
    urls
}

/// Connects once, and waits until that connection has ended.
async fn dial(
    server: &Arc<Server>,
    shards: &[Shard],
    remote: &LeafRemote,
    url: &ServerUrl,
    attempts: u64,
) -> Outcome {
    let address = url.address();
    let fail = |why: &str| {
        if attempts.is_multiple_of(REPORT) {
            error!(
                "Error trying to connect as leafnode to remote server {address} (attempt {}): {why}",
                attempts + 1
            );
        } else {
            debug!(
                "Error trying to connect as leafnode to remote server {address} (attempt {}): {why}",
                attempts + 1
            );
        }
        Outcome::default()
    };
    debug!("Trying to connect as leafnode to remote server on {address}");
    let stream = match connect(url).await {
        Ok(stream) => stream,
        Err(why) => return fail(&why),
    };
    let _ = stream.set_nodelay(true);
    let login = match login(remote, url) {
        Ok(login) => login,
        Err(why) => return fail(&why),
    };
    let router = server.router();
    let account =
        remote.account.as_ref().map_or_else(|| router.global_account(), |name| router.add_account(name));
    let rules = LeafRules {
        is_hub: remote.hub,
        isolated: remote.isolated,
        deny_imports: remote.deny_imports.clone(),
        deny_exports: remote.deny_exports.clone(),
    };
    let (Ok(stream), Some(shard)) = (stream.into_std(), shards.iter().min_by_key(|shard| shard.load()))
    else {
        return Outcome::default();
    };
    let (done, outcome) = oneshot::channel();
    let setup = server.setup();
    let of_all = remote.compression.as_ref().unwrap_or(&setup.options.leafnodes.compression);
    let hub = Hub {
        url: url.clone(),
        tls_name: tls_name(&url.host, &remote.urls).to_owned(),
        dial: LeafDial { rules, login },
        account,
        tls: remote.tls.clone(),
        compression: if url.is_websocket() { Compression::Off } else { of_all.clone() },
        done,
    };
    shard.take(Accepted { stream, door: Door::Leaf(Some(Box::new(hub))) }).await;
    outcome.await.unwrap_or_default()
}

/// Who this server is to a hub.
fn login(remote: &LeafRemote, url: &ServerUrl) -> Result<Login, String> {
    if let Some(path) = &remote.credentials {
        let text = std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
        let (jwt, seed) = parts(&text)
            .ok_or_else(|| format!("{}: there is no JWT with its seed in this file", path.display()))?;
        let key = KeyPair::from_seed(seed)
            .map_err(|_| format!("{}: there is no seed in this file that can be read", path.display()))?;
        let jwt = jwt.to_owned();
        return Ok(Arc::new(move |nonce| Credentials {
            jwt: jwt.clone(),
            sig: signature(&key, nonce),
            ..Credentials::default()
        }));
    }
    if let Some(seed) = &remote.nkey {
        let key =
            KeyPair::from_seed(seed.reveal()).map_err(|_| "the nkey's seed cannot be read".to_owned())?;
        return Ok(Arc::new(move |nonce| Credentials {
            nkey: key.public_key(),
            sig: signature(&key, nonce),
            ..Credentials::default()
        }));
    }
    let said = Credentials {
        user: url.user.clone().unwrap_or_default(),
        pass: url.password.as_ref().map(|password| password.reveal().to_owned()).unwrap_or_default(),
        // Without a password, what is there may be a token.
        auth_token: url.user.clone().filter(|_| url.password.is_none()).unwrap_or_default(),
        ..Credentials::default()
    };
    Ok(Arc::new(move |_| said.clone()))
}

fn signature(key: &KeyPair, nonce: &str) -> String {
    key.sign(nonce.as_bytes()).map(|signature| BASE64URL_NOPAD.encode(&signature)).unwrap_or_default()
}

/// The JWT and the seed of a credentials file, each between lines of dashes.
fn parts(text: &str) -> Option<(&str, &str)> {
    let mut bodies = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
    let jwt = bodies.find(|line| line.starts_with("eyJ"))?;
    let seed = bodies.find(|line| line.starts_with("SU"))?;
    Some((jwt, seed))
}

/// A part of a pause by chance, so that leafnodes that have lost their hub do not all come at once.
fn chance(most: Duration) -> Duration {
    most.min(Duration::from_secs(1)).mul_f64(RandomState::new().hash_one(0) as f64 / u64::MAX as f64 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_has_two_parts() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0eX.a.b\n------END NATS USER JWT------\n\n************************* IMPORTANT *************************\nNKEY Seed printed below can be used to sign and prove identity.\n\n-----BEGIN USER NKEY SEED-----\nSUAB\n------END USER NKEY SEED------\n";
        assert_eq!(parts(text), Some(("eyJ0eX.a.b", "SUAB")));
        assert_eq!(parts("SUAB"), None);
    }

    #[test]
    fn whom_one_is_does_not_depend_on_the_address_within_a_cluster() {
        let url = ServerUrl::parse("nats-leaf://u:p@a:1", 7422).unwrap();
        let remote = LeafRemote { urls: vec![url], ..LeafRemote::default() };
        let known = Known::default();
        known.lock().insert(0, vec!["a:1".into(), "b:2".into(), "nonsense".into()]);
        let urls = addresses(&remote, &known, 0);
        let shown: Vec<_> = urls.iter().map(|url| (url.address(), url.user.clone())).collect();
        let who = Some("u".to_owned());
        assert_eq!(
            shown,
            [("a:1".into(), who.clone()), ("b:2".into(), who.clone()), ("nonsense:1".into(), who)]
        );
    }
}
