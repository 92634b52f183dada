//! What a user of a deployment must be allowed, so that a peer can have links through it.

use std::fmt::Write;

use midge_identity::{NkeyKind, PeerId, PublicKey};

use crate::prefix::Prefix;

/// What a peer's user may do, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects that it publishes to.
    pub publish: Vec<String>,
    /// Subjects that it subscribes to.
    pub subscribe: Vec<String>,
    /// How often it may answer each question, and for how many seconds.
    pub responses: (u32, u32),
}

impl Permissions {
    /// For links of that peer, and, if a prefix for messages is given, for pub-sub below it.
    #[must_use]
    pub fn of(peer: &PeerId, prefix: &Prefix, messages: Option<&Prefix>) -> Self {
        let mut publish = vec![prefix.join("link.*.dial"), prefix.join("d.*.*")];
        let mut subscribe = vec![
            prefix.join(&format!("link.{peer}.dial")),
            prefix.join(&format!("d.{peer}.*")),
            format!("_INBOX_{peer}.>"),
            "$SRV.>".to_owned(),
        ];
        if let Some(messages) = messages {
            publish.push(messages.join(">"));
            subscribe.push(messages.join(">"));
        }
        Self { publish, subscribe, responses: (1, 5) }
    }

    /// As a user of a nats-server's configuration, who logs in by that key: the one that is derived from the peer's, if it
    /// is known.
    #[must_use]
    pub fn configuration(&self, login: Option<&PublicKey>) -> String {
        let user = login.map_or_else(
            || "# nkey: what 'midge key show FILE' calls login, where the peer's key is".to_owned(),
            |key| format!("nkey: {}", key.nkey(NkeyKind::User)),
        );
        let list = |subjects: &[String]| {
            subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
        };
        let mut text = String::new();
        let (publish, subscribe) = (list(&self.publish), list(&self.subscribe));
        let (most, seconds) = self.responses;
        // Writing to text does not fail.
        let _ = write!(
            text,
            "{{\n  {user}\n  permissions {{\n    publish: [{publish}]\n    subscribe: [{subscribe}]\n    allow_responses {{ max: {most}, expires: \"{seconds}s\" }}\n  }}\n}}"
        );
        text
    }

    /// As a command for nsc, for a user of that name.
    #[must_use]
    pub fn nsc(&self, name: &str) -> String {
        let list = |subjects: &[String]| subjects.join(",");
        let (most, seconds) = self.responses;
        format!(
            "nsc add user --name {name} --allow-pub '{}' --allow-sub '{}' --allow-pub-response={most} --response-ttl {seconds}s",
            list(&self.publish),
            list(&self.subscribe),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_needed() {
        let key = midge_identity::KeyPair::from_seed(&[1; 32]).unwrap();
        let (peer, login) = (key.peer_id(), key.login_key().public());
        let permissions =
            Permissions::of(&peer, &"acme".parse().unwrap(), Some(&"acme.bus".parse().unwrap()));
        let text = permissions.configuration(Some(&login));
        for part in [
            format!("nkey: {}", login.nkey(NkeyKind::User)),
            "publish: [\"acme.link.*.dial\", \"acme.d.*.*\", \"acme.bus.>\"]".to_owned(),
            format!(
                "subscribe: [\"acme.link.{peer}.dial\", \"acme.d.{peer}.*\", \"_INBOX_{peer}.>\", \"$SRV.>\", \"acme.bus.>\"]"
            ),
            "allow_responses { max: 1, expires: \"5s\" }".to_owned(),
        ] {
            assert!(text.contains(&part), "{part}: {text}");
        }
        let nsc = Permissions::of(&peer, &Prefix::default(), None).nsc("p");
        assert_eq!(
            nsc,
            format!(
                "nsc add user --name p --allow-pub 'link.*.dial,d.*.*' --allow-sub 'link.{peer}.dial,d.{peer}.*,_INBOX_{peer}.>,$SRV.>' --allow-pub-response=1 --response-ttl 5s"
            )
        );
        assert!(permissions.configuration(None).contains("# nkey"));
    }
}
