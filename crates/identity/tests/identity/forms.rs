//! One key in all its forms. Made from the seed 00 01 … 1f and checked against libp2p's, NATS's, Go's and OpenSSH's
//! programs when they were recorded.

use data_encoding::{BASE64, HEXLOWER};
use midge_identity::pem::{self, KeyTextError};
use midge_identity::{KeyError, KeyPair, NkeyKind, PeerId, PeerIdError, PublicKey, protobuf};
use proptest::prelude::*;

const PUBLIC: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
const PEER: &str = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB";
const CID: &str = "bafzaajaiaejcaa5ba677htqqxyoxbxiy45f4bglh4tldbg5fbvpr3xegmqjfkmny";
const LIBP2P_PRIVATE: &str = "-----BEGIN LIBP2P PRIVATE KEY-----
CAESQAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fA6EHv/POEL4dcN0Y
50vAmWfk1jCbpQ1fHdyGZBJVMbg=
-----END LIBP2P PRIVATE KEY-----
";
const LIBP2P_PUBLIC: &str = "-----BEGIN LIBP2P PUBLIC KEY-----
CAESIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
-----END LIBP2P PUBLIC KEY-----
";
const PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
";
const SPKI: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=
-----END PUBLIC KEY-----
";
const OPENSSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
/// Points of small order: anybody can make signatures for them.
const WEAK: [&str; 3] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
];

pub(crate) fn key() -> KeyPair {
    KeyPair::from_seed(&std::array::from_fn(|n| n as u8)).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn one_key_has_all_these_names() {
    let key = key();
    let public = key.public();
    assert_eq!(public.as_bytes().as_slice(), hex(PUBLIC));
    assert_eq!(protobuf::public(&public).as_slice(), hex(&format!("08011220{PUBLIC}")));
    let seed: String = HEXLOWER.encode(key.seed());
    assert_eq!(*protobuf::private(&key), hex(&format!("08011240{seed}{PUBLIC}")));
    assert_eq!(key.peer_id().to_string(), PEER);
    assert_eq!(key.peer_id().to_bytes().as_slice(), hex(&format!("002408011220{PUBLIC}")));
    for (kind, text, seed) in [
        (
            NkeyKind::Account,
            "AAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3QPZV",
            "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI",
        ),
        (
            NkeyKind::User,
            "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK",
            "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y",
        ),
        (
            NkeyKind::Server,
            "NAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RSWB",
            "SNAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H2D5U",
        ),
        (
            NkeyKind::Operator,
            "OAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3QZVT",
            "SOAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H2AJA",
        ),
        (
            NkeyKind::Cluster,
            "CAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3R53J",
            "SCAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYO7Q",
        ),
    ] {
        assert_eq!(public.nkey(kind).as_str(), text);
        assert_eq!(key.nkey_seed(kind).as_str(), seed);
        let (again, of) = KeyPair::from_nkey_seed(seed).unwrap();
        assert_eq!((again.public(), of), (public, kind));
        assert_eq!(pem::read_private(seed).unwrap().public(), public);
        assert_eq!(pem::read_public(text).unwrap(), public);
    }
    assert_eq!(*pem::private(&key), LIBP2P_PRIVATE);
    assert_eq!(pem::public(&public), LIBP2P_PUBLIC);
    assert_eq!(*pem::pkcs8(&key), PKCS8);
    assert_eq!(pem::spki(&public), SPKI);
    assert_eq!(pem::openssh(&public), OPENSSH);
    let signature = "a557a7aa60ba159c796ad190ed5fbee73cf1dc870d0e5a9a9b05f656a3d0ee5b\
                     4af27a9b59c1acaf19129979339d09a8680f98426c57d0d3b3e32e30a1f9fe09";
    assert_eq!(key.sign(b"test").as_slice(), hex(signature));
    assert_eq!(public.verify(b"test", &hex(signature)), Ok(()));
}

/// `nk`'s and Go's `PrivateKey` of the user seed above.
#[test]
fn a_private_key_is_both_halves() {
    let text = key().nkey_private();
    assert!(text.starts_with('P'));
    let bytes = data_encoding::BASE32_NOPAD.decode(text.as_bytes()).unwrap();
    assert_eq!(bytes[1..33], *key().seed());
    assert_eq!(bytes[33..65], *key().public().as_bytes());
    assert_eq!(bytes.len(), 1 + 64 + 2);
}

/// The label is this project's, and so is the vector: HKDF-SHA256 of the seed, as Python's `hmac` computes it, too.
#[test]
fn the_login_key_is_another_one_and_always_the_same() {
    let login = key().login_key();
    assert_eq!(HEXLOWER.encode(login.seed()), LOGIN_SEED);
    assert_eq!(login.public().nkey(NkeyKind::User).as_str(), LOGIN_USER);
    assert_ne!(login.public(), key().public());
}

const LOGIN_SEED: &str = "c1fa2ac022b67bb1a0365c2d7467201004d0064958579012f910906a8dd7144a";
const LOGIN_USER: &str = "UATUAT3LXXQUL36MJ3NTHB57CSS7MBXTGDFNWB66JMAZCYMG7AFSWOGK";

#[test]
fn every_form_is_read_back() {
    let key = key();
    for text in [LIBP2P_PRIVATE, PKCS8] {
        assert_eq!(pem::read_private(text).unwrap().public(), key.public());
        assert_eq!(pem::read_public(text), Err(KeyTextError::Private));
        assert_eq!(
            pem::read_private(&format!("\n\n{}\n\n", text.replace('\n', "\r\n"))).unwrap().seed(),
            key.seed()
        );
    }
    for text in [LIBP2P_PUBLIC, SPKI, OPENSSH, PEER, CID, &format!("{OPENSSH} somebody@somewhere\n")] {
        assert_eq!(pem::read_public(text), Ok(key.public()), "{text}");
        assert!(pem::read_private(text).is_err(), "{text}");
    }
    assert_eq!(pem::read_private(SPKI).unwrap_err(), KeyTextError::Public);
    let old = [hex("08011260"), key.seed().to_vec(), hex(PUBLIC), hex(PUBLIC)].concat();
    assert_eq!(protobuf::read_private(&old).unwrap().public(), key.public());
    let v2 =
        [hex("3051020101300506032b657004220420"), key.seed().to_vec(), hex("812100"), hex(PUBLIC)].concat();
    let v2 =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", wrapped(&BASE64.encode(&v2)));
    assert_eq!(pem::read_private(&v2).unwrap().public(), key.public());
}

fn wrapped(text: &str) -> String {
    text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>().join("\n")
}

/// From libp2p's specification.
#[test]
fn libp2ps_own_example_is_read() {
    let seed: [u8; 32] =
        hex("7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d").try_into().unwrap();
    let public = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
    let key = KeyPair::from_seed(&seed).unwrap();
    assert_eq!(HEXLOWER.encode(key.public().as_bytes()), public);
    let message = [hex("08011240"), seed.to_vec(), hex(public)].concat();
    assert_eq!(protobuf::read_private(&message).unwrap().public(), key.public());
    assert_eq!(key.peer_id().to_string(), "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq");
}

#[test]
fn peer_ids_are_read_in_every_base_and_printed_in_one() {
    let id: PeerId = PEER.parse().unwrap();
    let cid = [&[0x01, 0x72][..], &id.to_bytes()].concat();
    for base in [
        multibase::Base::Base2,
        multibase::Base::Base16Lower,
        multibase::Base::Base32Lower,
        multibase::Base::Base32Upper,
        multibase::Base::Base36Lower,
        multibase::Base::Base58Btc,
        multibase::Base::Base64Url,
        multibase::Base::Base64,
    ] {
        let text = multibase::encode(base, &cid);
        assert_eq!(text.parse(), Ok(id), "{text}");
        assert_eq!(PeerId::from_canonical(&text), Err(PeerIdError::Text));
    }
    assert_eq!(CID.parse(), Ok(id));
    assert_eq!(PeerId::from_canonical(PEER), Ok(id));
    for (bad, why) in [
        ("", PeerIdError::Text),
        ("12D3Koo", PeerIdError::Hashed),
        ("12D3Koo0OIl", PeerIdError::Text),
        ("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", PeerIdError::Hashed),
        (
            &multibase::encode(multibase::Base::Base32Lower, [&[0x01, 0x55][..], &id.to_bytes()].concat()),
            PeerIdError::Codec,
        ),
        (&"b".repeat(5000), PeerIdError::Text),
        ("\u{1f600}\u{1f600}", PeerIdError::Text),
        // A key of another kind: secp256k1.
        ("16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY", PeerIdError::Hashed),
    ] {
        assert_eq!(bad.parse::<PeerId>(), Err(why), "{bad}");
    }
}

#[test]
fn weak_keys_are_refused_in_every_form() {
    for weak in WEAK {
        let weak = hex(weak);
        assert_eq!(PublicKey::from_bytes(&weak), Err(KeyError::Weak));
        let message = [hex("08011220"), weak.clone()].concat();
        assert_eq!(protobuf::read_public(&message), Err(KeyError::Weak));
        let id = [hex("0024"), message.clone()].concat();
        assert_eq!(PeerId::from_bytes(&id), Err(PeerIdError::Key(KeyError::Weak)));
        let block = format!(
            "-----BEGIN LIBP2P PUBLIC KEY-----\n{}\n-----END LIBP2P PUBLIC KEY-----\n",
            BASE64.encode(&message)
        );
        assert_eq!(pem::read_public(&block), Err(KeyTextError::Key(KeyError::Weak)));
    }
}

#[test]
fn what_is_no_key_says_why() {
    let key = key();
    assert_eq!(PublicKey::from_bytes(&[1; 31]), Err(KeyError::Length { found: 31 }));
    assert_eq!(PublicKey::from_bytes(&[2; 32]).map(drop), Err(KeyError::NoPoint));
    assert_eq!(protobuf::read_public(&hex("08001220")), Err(KeyError::Kind(0)), "RSA");
    assert_eq!(
        protobuf::read_public(&hex("0801")),
        Err(KeyError::Form("not the protobuf of an Ed25519 key"))
    );
    let other = [hex("08011240"), key.seed().to_vec(), key.login_key().public().as_bytes().to_vec()].concat();
    assert_eq!(protobuf::read_private(&other).map(drop), Err(KeyError::Halves));
    let old = [hex("08011260"), key.seed().to_vec(), hex(PUBLIC), vec![0; 32]].concat();
    assert_eq!(protobuf::read_private(&old).map(drop), Err(KeyError::Halves));
    for (text, why) in [
        ("", KeyTextError::Length(0)),
        ("nonsense", KeyTextError::Form),
        ("SUAAAA", KeyTextError::Form),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            KeyTextError::Label("RSA PRIVATE KEY".to_owned()),
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            KeyTextError::Key(KeyError::Form("not the PKCS#8 of an Ed25519 key")),
        ),
    ] {
        assert_eq!(pem::read_private(text).map(drop), Err(why), "{text}");
    }
    for cut in 1..LIBP2P_PRIVATE.len() - 1 {
        assert!(pem::read_private(&LIBP2P_PRIVATE[..cut]).is_err(), "{cut}");
    }
    assert_eq!(pem::read_private(&"x".repeat(20_000)).map(drop), Err(KeyTextError::Length(20_000)));
}

#[test]
fn signatures_are_one_keys_and_of_one_message() {
    let key = key();
    let good = key.sign(b"message");
    assert_eq!(key.public().verify(b"message", &good), Ok(()));
    assert!(key.public().verify(b"massage", &good).is_err());
    assert!(key.login_key().public().verify(b"message", &good).is_err());
    assert!(key.public().verify(b"message", &good[..63]).is_err());
    assert!(key.public().verify(b"message", &[]).is_err());
    for bit in 0..good.len() * 8 {
        let mut flipped = good;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(key.public().verify(b"message", &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let key = key();
    let printed = format!("{key:?} {:?}", pem::read_private(&format!("{PKCS8}x")));
    assert!(!printed.contains("AAECAwQ") && !printed.contains("0, 1, 2, 3"), "{printed}");
}

proptest! {
    #[test]
    fn ids_are_in_the_order_of_their_texts(a: [u8; 32], b: [u8; 32]) {
        let [a, b] = [a, b].map(|seed| KeyPair::from_seed(&seed).unwrap().peer_id());
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.to_string().len(), 52);
        prop_assert_eq!(PeerId::from_bytes(&a.to_bytes()), Ok(a));
    }
}
