//! Somebody else's NATS deployment: links through it, and the messages that are shared there.

use std::collections::HashSet;
use std::sync::Arc;

use midge_backend::{BackendError, Bridge, BusEvent, BusEvents, Carrier, Deployment, Listening};
use midge_identity::{KeyPair, NkeyKind};
use midge_link::{Admission, EndpointError};
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use crate::carrier;
use crate::drive::pipe;
use crate::server::Server;

/// Bytes on their way between the server and what shares its messages.
const PIPE: usize = 64 * 1024;
/// Most things that are said to be missing while a connection lasts.
const MOST_MISSING: usize = 32;

/// What goes through a deployment. It ends when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Backend {
    carrier: Option<Arc<Carrier>>,
    bridge: Option<Bridge>,
    tasks: Vec<AbortHandle>,
}

impl Backend {
    pub(super) const fn carrier(&self) -> Option<&Arc<Carrier>> {
        self.carrier.as_ref()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Begins what the options say.
pub(super) fn begin(
    server: &Arc<Server>,
    key: &KeyPair,
    admission: Arc<dyn Admission>,
) -> Result<Backend, EndpointError> {
    let setup = server.setup();
    let options = &setup.options.backend;
    if !options.is_on() {
        return Ok(Backend::default());
    }
    let deployment = options.deployment()?;
    let mut backend = Backend::default();
    if deployment.login == midge_backend::Login::Derived {
        let login = key.login_key().public().nkey(NkeyKind::User);
        info!("Logging in to {} as {login}, where an nkey is asked for", deployment.shown());
    }
    if options.carries_links() {
        let carrier = Carrier::start(&deployment, key, Listening::To(admission));
        let carrier = carrier.map_err(refuse)?;
        let what = format!("Links through {} below '{}'", carrier.servers(), carrier.prefix());
        backend.tasks.push(tokio::spawn(tell(what, carrier.events())).abort_handle());
        backend.carrier = Some(carrier);
    }
    if let Some(prefix) = options.messages().map_err(|why| refuse(why.into()))? {
        let deployment = Deployment { prefix, ..deployment };
        let (to, us) = (Arc::downgrade(server), key.peer_id());
        let open = move || {
            let (here, there) = tokio::io::duplex(PIPE);
            if let Some(server) = to.upgrade() {
                let carrier = Arc::new(carrier::Carrier::bridge(us));
                tokio::spawn(async move {
                    pipe::drive_carried(server, here, "backend:0", (carrier, true)).await;
                });
            }
            there
        };
        let bridge = Bridge::start(&deployment, key, open).map_err(refuse)?;
        let what = format!("Messages through {} below '{}'", bridge.servers(), deployment.prefix);
        backend.tasks.push(tokio::spawn(tell(what, bridge.events())).abort_handle());
        backend.bridge = Some(bridge);
    }
    Ok(backend)
}

fn refuse(why: BackendError) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, why)
}

/// Logs what happens to a connection to the deployment.
async fn tell(what: String, mut events: BusEvents) {
    // Attempts are told of once, until one has come to something; and what is missing once, as long as there is room for it.
    let (mut last, mut missing) = (None, HashSet::new());
    while let Some(event) = events.next().await {
        let text = match &event {
            BusEvent::Connected => {
                info!("{what}: connected");
                (last, missing) = (None, HashSet::new());
                continue;
            }
            BusEvent::Refused(refusal) => {
                let text = refusal.to_string();
                if missing.len() < MOST_MISSING && missing.insert(text.clone()) {
                    warn!("{what}: {text} (midge backend permissions prints what is needed)");
                } else {
                    debug!("{what}: {text}");
                }
                continue;
            }
            BusEvent::Disconnected => "disconnected".to_owned(),
            BusEvent::SlowConsumer => "more came than was taken, and is lost".to_owned(),
            BusEvent::Failed(why) => why.clone(),
            _ => continue,
        };
        if last.as_ref() == Some(&text) {
            debug!("{what}: {text}");
        } else {
            warn!("{what}: {text}");
            last = Some(text);
        }
    }
}
