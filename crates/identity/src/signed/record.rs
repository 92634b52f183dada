//! A signed message as a record, as Bifrost v0.12.5 sends it (`peer/signed-msg.go`, `pubsub/util/pubmessage`).
//!
//! The bytes are Bifrost's. What is believed is less: there, no signature was ever refused, and a message could be sent
//! again on any channel.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use super::{HashType, Rules, SignedError, UnixTime, Verified};
use crate::key::KeyPair;
use crate::peer_id::PeerId;
use crate::proto::signed::{PubMessageInner, Signature, SignedMsg, Timestamp};

/// The record that says `payload` on `channel`, signed. Without a hash that is known, SHA-256 is used.
#[must_use]
pub fn seal(key: &KeyPair, channel: &str, payload: &[u8], time: UnixTime, hash: HashType) -> Vec<u8> {
    let (seconds, nanos) = time.parts();
    let inner = PubMessageInner {
        data: payload.to_vec(),
        channel: channel.to_owned(),
        timestamp: Some(Timestamp { seconds, nanos }),
    };
    let data = inner.encode_to_vec();
    let hash = if hash == HashType::Unknown { HashType::Sha256 } else { hash };
    let sig_data = key.sign(&digest(hash, &data)).to_vec();
    let signature = Signature { pub_key: Vec::new(), hash_type: hash.into(), sig_data };
    SignedMsg { from_peer_id: key.peer_id().to_string(), signature: Some(signature), data }.encode_to_vec()
}

/// The payload, and who signed it: everything but its time and whether it has come before is checked.
pub(super) fn open(record: &[u8], channel: &str, rules: &Rules) -> Result<(Bytes, Verified), SignedError> {
    if record.len() > rules.max_record {
        return Err(SignedError::TooLong { size: record.len(), most: rules.max_record });
    }
    let outer = SignedMsg::decode(record).map_err(|_| SignedError::Unsigned)?;
    let signature = match outer.signature {
        Some(signature) => signature,
        // Whatever it is, it does not say that anybody sent it.
        None if outer.from_peer_id.is_empty() => return Err(SignedError::Unsigned),
        None => return Err(SignedError::Form("it says who sent it, without a signature")),
    };
    let sender = PeerId::from_canonical(&outer.from_peer_id).map_err(SignedError::Sender)?;
    if !signature.pub_key.is_empty() && !is_key_of(&sender, &signature.pub_key) {
        return Err(SignedError::OtherKey);
    }
    let hash = match HashType::try_from(signature.hash_type) {
        Ok(hash @ (HashType::Sha256 | HashType::Blake3)) => hash,
        Ok(HashType::Sha1) if rules.sha1 => HashType::Sha1,
        _ => return Err(SignedError::Hash(signature.hash_type)),
    };
    sender.key().verify(&digest(hash, &outer.data), &signature.sig_data)?;
    let inner = PubMessageInner::decode(outer.data.as_slice())
        .map_err(|_| SignedError::Form("what was signed is not a message"))?;
    if inner.channel != channel {
        return Err(SignedError::Channel { said: inner.channel, came: channel.to_owned() });
    }
    let time = inner.timestamp.ok_or(SignedError::Timeless)?;
    let time = UnixTime::from_parts(time.seconds, time.nanos).ok_or(SignedError::Form("no such time"))?;
    let mark = Sha256::new().chain_update(sender.key().as_bytes()).chain_update(Sha256::digest(&outer.data));
    Ok((inner.data.into(), Verified { sender, time, mark: mark.finalize().into() }))
}

/// What Bifrost calls the message by, for log lines: another spelling of the same message has another one.
///
/// # Errors
/// It is no record.
pub fn bifrost_id(record: &[u8]) -> Result<String, SignedError> {
    let outer = SignedMsg::decode(record).map_err(|_| SignedError::Unsigned)?;
    let signature = outer.signature.ok_or(SignedError::Unsigned)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&signature.sig_data).update(outer.from_peer_id.as_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

fn is_key_of(sender: &PeerId, said: &[u8]) -> bool {
    said == sender.key().as_bytes() || said == crate::protobuf::public(sender.key())
}

fn digest(hash: HashType, data: &[u8]) -> Vec<u8> {
    match hash {
        HashType::Sha1 => sha1::Sha1::digest(data).to_vec(),
        HashType::Blake3 => blake3::hash(data).as_bytes().to_vec(),
        HashType::Sha256 | HashType::Unknown => Sha256::digest(data).to_vec(),
    }
}
