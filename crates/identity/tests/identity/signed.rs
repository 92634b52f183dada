//! What is believed of a message, and what is not.

use std::time::Duration;

use data_encoding::HEXLOWER;
use midge_identity::proto::signed::{PubMessageInner, SignedMsg};
use midge_identity::signed::headers::{self, Message, NONCE, SENDER, SIGNATURE, TIME};
use midge_identity::signed::record::{bifrost_id, seal};
use midge_identity::signed::{Clock, HashType, Receiver, Rules, SignedError, UnixTime};
use midge_identity::{KeyPair, PeerId, SignatureError};
use prost::Message as _;

use crate::forms::key;

const CHANNEL: &str = "test.channel";
const PAYLOAD: &[u8] = b"hello bifrost";

fn then() -> UnixTime {
    UnixTime::from_parts(1_700_000_000, 123_456_789).unwrap()
}

fn later(seconds: i64) -> UnixTime {
    UnixTime::from_nanos(then().nanos() + seconds * 1_000_000_000)
}

fn record() -> Vec<u8> {
    seal(&key(), CHANNEL, PAYLOAD, then(), HashType::Sha256)
}

fn open(record: &[u8]) -> Result<Vec<u8>, SignedError> {
    Receiver::default().open_record(record, CHANNEL, then()).map(|(payload, _)| payload.to_vec())
}

/// A record with something else in it, signed anew or not.
fn altered(change: impl FnOnce(&mut SignedMsg)) -> Vec<u8> {
    let mut outer = SignedMsg::decode(record().as_slice()).unwrap();
    change(&mut outer);
    outer.encode_to_vec()
}

/// A record whose inner part is another, properly signed.
fn resigned(change: impl FnOnce(&mut PubMessageInner)) -> Vec<u8> {
    altered(|outer| {
        let mut inner = PubMessageInner::decode(outer.data.as_slice()).unwrap();
        change(&mut inner);
        outer.data = inner.encode_to_vec();
        use sha2::Digest;
        outer.signature.as_mut().unwrap().sig_data = key().sign(&sha2::Sha256::digest(&outer.data)).to_vec();
    })
}

/// What Bifrost v0.12.5 makes of the same key, channel, payload and time.
#[test]
fn records_are_bifrosts_byte_for_byte() {
    let inner = "0a0d68656c6c6f20626966726f7374120c746573742e6368616e6e656c1a0b0880e2cfaa0610959aef3a";
    let from = HEXLOWER.encode(key().peer_id().to_string().as_bytes());
    for (hash, number, signature, id) in [
        (
            HashType::Sha256,
            "1001",
            "d1d647d8fb46c4d7103b0ec218fb1df19e9249acdad5bbb1c490395e62896543b4e462cd46220159646240bd5742e34813b519d9da7b7acb3d13dc0eb4083c0c",
            "4b089b7fb2f9b71ed1b9018eab3b13aa83823337a8dd3ec9194097451a76fff1",
        ),
        (
            HashType::Sha1,
            "1002",
            "bb662c325094d8f94ce568387d8c28e570fd97427cd05509307cc4fbafed3d1b40d8a49738159321b15f82a392525c7f84b2dbb6c6c7d945cea812b8460b410f",
            "e3cd06001a92c48cdb7b8f3dd021b1ec534ed82ff0d38591652e7b5ab184fa5e",
        ),
        (
            HashType::Blake3,
            "1003",
            "951b6d564bdaddf4a10dd6f6514f364d47e0b4df715299e7af93965782a978c3cb1c0b05ee8537e4d06aec3f36c84dace2f57e516639335cff926abaafd76505",
            "dfb86160d996d7118757be6bf24d6e1d7a01923d5b7f8eeb43bc45e3c51b86c9",
        ),
    ] {
        let record = seal(&key(), CHANNEL, PAYLOAD, then(), hash);
        assert_eq!(HEXLOWER.encode(&record), format!("0a34{from}1244{number}1a40{signature}1a2a{inner}"));
        assert_eq!(bifrost_id(&record).unwrap(), id);
        let mut receiver = Receiver::new(Rules { sha1: true, ..Rules::default() });
        let (payload, verified) = receiver.open_record(&record, CHANNEL, then()).unwrap();
        assert_eq!((&payload[..], verified.sender, verified.time), (PAYLOAD, key().peer_id(), then()));
    }
    assert_eq!(seal(&key(), CHANNEL, PAYLOAD, then(), HashType::Unknown), record(), "SHA-256 unless said");
}

#[test]
fn a_record_is_believed_on_its_channel_once_and_while_it_is_fresh() {
    let mut receiver = Receiver::default();
    let record = record();
    assert!(receiver.open_record(&record, CHANNEL, later(60)).is_ok());
    assert_eq!(receiver.open_record(&record, CHANNEL, later(60)), Err(SignedError::Replayed));
    for now in [61, -61] {
        assert!(matches!(
            Receiver::default().open_record(&record, CHANNEL, later(now)),
            Err(SignedError::Stale(_))
        ));
    }
    let elsewhere = Receiver::default().open_record(&record, "test.other", then());
    assert_eq!(
        elsewhere,
        Err(SignedError::Channel { said: CHANNEL.to_owned(), came: "test.other".to_owned() })
    );
}

/// The same message in another spelling (the outer part is not signed) is the same message.
#[test]
fn another_spelling_is_no_other_message() {
    let mut receiver = Receiver::default();
    receiver.open_record(&record(), CHANNEL, then()).unwrap();
    let longer = [record(), vec![0x22, 0x01, 0x00]].concat();
    assert_eq!(receiver.open_record(&longer, CHANNEL, then()), Err(SignedError::Replayed));
    let keyed = altered(|outer| {
        outer.signature.as_mut().unwrap().pub_key = key().public().as_bytes().to_vec();
    });
    assert_eq!(receiver.open_record(&keyed, CHANNEL, then()), Err(SignedError::Replayed));
}

#[test]
fn what_is_forged_is_refused() {
    let stranger = KeyPair::from_seed(&[9; 32]).unwrap();
    let mismatch = Err(SignedError::Signature(SignatureError::Mismatch));
    let of = |outer: &mut SignedMsg, id: String| outer.from_peer_id = id;
    assert_eq!(open(&altered(|outer| of(outer, stranger.peer_id().to_string()))), mismatch);
    assert_eq!(open(&altered(|outer| outer.data[3] ^= 1)), mismatch);
    assert_eq!(
        open(&altered(|outer| outer.signature.as_mut().unwrap().sig_data.clear())),
        Err(SignedError::Signature(SignatureError::Length(0)))
    );
    assert_eq!(
        open(&altered(|outer| outer.signature.as_mut().unwrap().sig_data.truncate(63))),
        Err(SignedError::Signature(SignatureError::Length(63)))
    );
    let claims = Err(SignedError::Form("it says who sent it, without a signature"));
    assert_eq!(open(&altered(|outer| outer.signature = None)), claims);
    assert_eq!(
        open(&altered(|outer| {
            outer.signature.as_mut().unwrap().pub_key = stranger.public().as_bytes().to_vec();
        })),
        Err(SignedError::OtherKey)
    );
    // A CIDv1 is read elsewhere, but here one message would have two names.
    let cid = "bafzaajaiaejcaa5ba677htqqxyoxbxiy45f4bglh4tldbg5fbvpr3xegmqjfkmny";
    assert_eq!(cid.parse::<PeerId>(), Ok(key().peer_id()));
    assert!(matches!(open(&altered(|outer| of(outer, cid.to_owned()))), Err(SignedError::Sender(_))));
    for hash in [HashType::Unknown as i32, HashType::Sha1 as i32, 77, -1] {
        let record = altered(|outer| outer.signature.as_mut().unwrap().hash_type = hash);
        assert_eq!(open(&record), Err(SignedError::Hash(hash)), "{hash}");
    }
    // Hashed by one function and said to be hashed by another.
    let record = altered(|outer| outer.signature.as_mut().unwrap().hash_type = HashType::Blake3.into());
    assert_eq!(open(&record), mismatch);
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused_or_says_the_same() {
    let record = record();
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&flipped).is_err(), "bit {bit}");
    }
    for cut in 0..record.len() {
        assert!(open(&record[..cut]).is_err(), "{cut}");
    }
    assert_eq!(open(b""), Err(SignedError::Unsigned));
    assert_eq!(open(b"hello"), Err(SignedError::Unsigned));
}

#[test]
fn what_is_signed_must_say_a_channel_and_a_time() {
    assert!(open(&resigned(|_| {})).is_ok());
    assert_eq!(open(&resigned(|inner| inner.timestamp = None)), Err(SignedError::Timeless));
    for (seconds, nanos) in [(0, 1_000_000_000), (0, -1), (i64::MAX, 0), (i64::MIN, 5)] {
        let record = resigned(|inner| {
            let time = inner.timestamp.as_mut().unwrap();
            (time.seconds, time.nanos) = (seconds, nanos);
        });
        assert_eq!(open(&record), Err(SignedError::Form("no such time")), "{seconds} {nanos}");
    }
    assert!(matches!(open(&resigned(|inner| inner.channel.clear())), Err(SignedError::Channel { .. })));
    let garbage = altered(|outer| {
        use sha2::Digest;
        outer.data = b"\xff\xff".to_vec();
        outer.signature.as_mut().unwrap().sig_data = key().sign(&sha2::Sha256::digest(&outer.data)).to_vec();
    });
    assert_eq!(open(&garbage), Err(SignedError::Form("what was signed is not a message")));
}

#[test]
fn what_is_remembered_has_a_bound_and_an_end() {
    let rules = Rules { max_remembered: 10, max_record: 300, ..Rules::default() };
    let mut receiver = Receiver::new(rules);
    let mut clock = Clock::default();
    let mut next = |now| seal(&key(), CHANNEL, PAYLOAD, clock.time(CHANNEL, now), HashType::Sha256);
    let records: Vec<_> = (0..11).map(|_| next(then())).collect();
    for record in &records[..10] {
        assert!(receiver.open_record(record, CHANNEL, then()).is_ok());
    }
    assert_eq!(receiver.open_record(&records[10], CHANNEL, then()), Err(SignedError::Overloaded));
    assert_eq!(receiver.open_record(&records[0], CHANNEL, then()), Err(SignedError::Replayed));
    // Long enough after, there is room again, and what came before is too old.
    let now = later(300);
    assert!(receiver.open_record(&next(now), CHANNEL, now).is_ok());
    assert!(matches!(receiver.open_record(&records[0], CHANNEL, now), Err(SignedError::Stale(_))));
    let long = seal(&key(), CHANNEL, &[0; 300], now, HashType::Sha256);
    assert!(matches!(receiver.open_record(&long, CHANNEL, now), Err(SignedError::TooLong { most: 300, .. })));
}

/// However the clock of the receiver goes on, what has come does not come again while it is fresh.
#[test]
fn nothing_comes_twice_whenever_it_comes() {
    for start in (0..240).step_by(3) {
        let mut receiver = Receiver::default();
        let sent = later(start + 60);
        let record = seal(&key(), CHANNEL, PAYLOAD, sent, HashType::Sha256);
        receiver.open_record(&record, CHANNEL, later(start)).unwrap();
        for now in [0, 1, 59, 60, 61, 119, 120] {
            let again = receiver.open_record(&record, CHANNEL, later(start + now));
            assert_eq!(again, Err(SignedError::Replayed), "{start} {now}");
        }
    }
}

#[test]
fn times_of_a_sender_are_never_the_same() {
    let mut clock = Clock::default();
    let times: Vec<_> = (0..3).map(|_| clock.time(CHANNEL, then()).nanos() - then().nanos()).collect();
    assert_eq!(times, [0, 1, 2]);
    assert_eq!(clock.time("other", then()), then());
    assert_eq!(clock.time(CHANNEL, later(-5)).nanos() - then().nanos(), 3, "a clock that was set back");
    for n in 0..5000 {
        clock.time(&n.to_string(), then());
    }
    assert!(clock.time(CHANNEL, then()) > then(), "forgotten, and still later than all that were");
}

fn signed(message: &Message<'_>) -> Vec<(String, String)> {
    let added = headers::sign(&key(), message, then(), [5; 16]).unwrap();
    let own = message.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    own.chain(added.map(|(name, value)| (name.to_owned(), value))).collect()
}

fn check(headers: &[(String, String)], message: &Message<'_>) -> Result<PeerId, SignedError> {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let message = Message { headers: &headers, ..*message };
    Receiver::default().open_headers(&message, then()).map(|verified| verified.sender)
}

const MESSAGE: Message<'static> = Message {
    channel: "orders.new",
    reply: "_INBOX.x",
    headers: &[("Kind", "a"), ("Kind", "b"), ("Another", " spaced ")],
    payload: b"payload",
};

#[test]
fn headers_prove_everything_but_their_order() {
    let mut headers = signed(&MESSAGE);
    assert_eq!(check(&headers, &MESSAGE), Ok(key().peer_id()));
    headers.reverse();
    assert_eq!(check(&headers, &MESSAGE), Ok(key().peer_id()));
    // Spaces around a value are nothing in NATS, either.
    headers.iter_mut().for_each(|(_, value)| *value = value.trim().to_owned());
    assert_eq!(check(&headers, &MESSAGE), Ok(key().peer_id()));
    let mismatch = Err(SignedError::Signature(SignatureError::Mismatch));
    for message in [
        Message { channel: "orders.old", ..MESSAGE },
        Message { reply: "", ..MESSAGE },
        Message { payload: b"Payload", ..MESSAGE },
        // What ends one piece does not begin another.
        Message { channel: "orders.new_", reply: "INBOX.x", ..MESSAGE },
    ] {
        assert_eq!(check(&headers, &message), mismatch);
    }
    for at in 0..headers.len() {
        let mut fewer = headers.clone();
        fewer.remove(at);
        assert!(check(&fewer, &MESSAGE).is_err(), "without {}", headers[at].0);
        let mut twice = headers.clone();
        twice.push(headers[at].clone());
        assert!(check(&twice, &MESSAGE).is_err(), "twice {}", headers[at].0);
        let mut other = headers.clone();
        other[at].1.push('1');
        assert!(check(&other, &MESSAGE).is_err(), "another {}", headers[at].0);
    }
    let mut more = headers.clone();
    more.push(("Another".to_owned(), "one".to_owned()));
    assert_eq!(check(&more, &MESSAGE), mismatch);
}

#[test]
fn headers_say_what_is_wrong_with_them() {
    assert_eq!(check(&[], &MESSAGE), Err(SignedError::Unsigned));
    let wrong = |name: &str, value: &str| {
        let mut headers = signed(&MESSAGE);
        headers.iter_mut().find(|(other, _)| other == name).unwrap().1 = value.to_owned();
        check(&headers, &MESSAGE).unwrap_err()
    };
    assert!(matches!(wrong(SENDER, "nobody"), SignedError::Sender(_)));
    for time in ["", "x", "01", "+1", "-0", "99999999999999999999999"] {
        assert_eq!(wrong(TIME, time), SignedError::Form("no such time"), "{time}");
    }
    assert_eq!(wrong(NONCE, "AAAA"), SignedError::Form("no such nonce"));
    assert_eq!(wrong(SIGNATURE, "AAAA"), SignedError::Form("no such signature"));
    assert_eq!(wrong(SIGNATURE, &"A".repeat(86)), SignedError::Signature(SignatureError::Mismatch));
    let again = Message { headers: &[(SENDER, "x")], ..MESSAGE };
    assert_eq!(
        headers::sign(&key(), &again, then(), [0; 16]),
        Err(SignedError::Form("it is signed already"))
    );
}

#[test]
fn headers_are_believed_once_and_while_they_are_fresh() {
    let headers = signed(&MESSAGE);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let message = Message { headers: &headers, ..MESSAGE };
    let mut receiver = Receiver::default();
    let far = UnixTime::from_nanos(then().nanos() + Duration::from_secs(61).as_nanos() as i64);
    assert!(matches!(receiver.open_headers(&message, far), Err(SignedError::Stale(_))));
    assert!(receiver.open_headers(&message, then()).is_ok());
    assert_eq!(receiver.open_headers(&message, then()), Err(SignedError::Replayed));
}

/// Made once and recorded: what others have to make, too.
#[test]
fn headers_are_what_they_were() {
    let signature = signed(&MESSAGE).pop().unwrap();
    assert_eq!(signature, (SIGNATURE.to_owned(), HEADERS_SIGNATURE.to_owned()));
}

const HEADERS_SIGNATURE: &str =
    "xABNi55t-bxhFVkclRW7VWhmTUXJIKoAstNrIAuxH4OC46ULLT_tPckE0iFCMtWCkFgDApBk4u7JPC2dR5rGAA";

/// A hostile NATS server chooses what its clients sign. By the hash of a record, it would have a forged message of the
/// victim; by a certificate's key, the victim's place on every link. Neither is signed, and what is signed at all is
/// not signed by the key that counts.
#[test]
fn a_hostile_server_gains_nothing_from_a_login() {
    use midge_identity::challenge::{self, NonceError};
    use sha2::Digest;
    let victim = key();
    let inner = PubMessageInner {
        data: b"pay the forger".to_vec(),
        channel: CHANNEL.to_owned(),
        timestamp: Some(midge_identity::proto::signed::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
    };
    // A hash whose bytes are text, as a patient forger finds one: for SHA-1 in no time.
    let forged = (0..u32::MAX).find_map(|n| {
        let mut inner = inner.clone();
        inner.timestamp.as_mut().unwrap().nanos = (n % 1_000_000_000) as i32;
        let data = inner.encode_to_vec();
        let hash = sha1::Sha1::digest(&data).to_vec();
        let text = String::from_utf8(hash).ok()?;
        text.chars().all(|letter| letter != '\0').then_some((data, text))
    });
    let (data, nonce) = forged.unwrap();
    assert_eq!(challenge::sign(&victim, &nonce), Err(NonceError::Length(20)));
    assert_eq!(challenge::sign(&victim.login_key(), &nonce), Err(NonceError::Length(20)));
    // Had a client signed whatever it is given, with the key that logs in: it is nobody's signature on a channel.
    let sig_data = victim.login_key().sign(nonce.as_bytes()).to_vec();
    let signature = midge_identity::proto::signed::Signature {
        pub_key: Vec::new(),
        hash_type: HashType::Sha1.into(),
        sig_data,
    };
    let record = SignedMsg { from_peer_id: victim.peer_id().to_string(), signature: Some(signature), data }
        .encode_to_vec();
    let mut receiver = Receiver::new(Rules { sha1: true, ..Rules::default() });
    assert_eq!(
        receiver.open_record(&record, CHANNEL, then()),
        Err(SignedError::Signature(SignatureError::Mismatch))
    );
    // With the key itself it would have been believed: that is why it logs in nowhere.
    let mut outer = SignedMsg::decode(record.as_slice()).unwrap();
    outer.signature.as_mut().unwrap().sig_data = victim.sign(nonce.as_bytes()).to_vec();
    assert!(receiver.open_record(&outer.encode_to_vec(), CHANNEL, then()).is_ok());
    for nonce in
        ["libp2p-tls-handshake:0*0\u{5}\u{6}\u{3}+ep\u{3}!\0", &"A".repeat(32), "midge signed headers v1\0"]
    {
        assert!(challenge::sign(&victim.login_key(), nonce).is_err(), "{nonce:?}");
    }
}
