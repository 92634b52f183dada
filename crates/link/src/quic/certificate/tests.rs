use rustls::crypto::ring;

use super::*;

/// The certificates of the specification (libp2p specs, `tls/tls.md`, "Test vectors").
const ED25519: &str = "308201ae30820156a0030201020204499602d2300a06082a8648ce3d040302302031123010060355040a13096c69627032702e696f310a300806035504051301313020170d3735303130313133303030305a180f34303936303130313133303030305a302031123010060355040a13096c69627032702e696f310a300806035504051301313059301306072a8648ce3d020106082a8648ce3d030107034200040c901d423c831ca85e27c73c263ba132721bb9d7a84c4f0380b2a6756fd601331c8870234dec878504c174144fa4b14b66a651691606d8173e55bd37e381569ea37c307a3078060a2b0601040183a25a0101046a3068042408011220a77f1d92fedb59dddaea5a1c4abd1ac2fbde7d7b879ed364501809923d7c11b90440d90d2769db992d5e6195dbb08e706b6651e024fda6cfb8846694a435519941cac215a8207792e42849cccc6cd8136c6e4bde92a58c5e08cfd4206eb5fe0bf909300a06082a8648ce3d0403020346003043021f50f6b6c52711a881778718238f650c9fb48943ae6ee6d28427dc6071ae55e702203625f116a7a454db9c56986c82a25682f7248ea1cb764d322ea983ed36a31b77";
const ECDSA: &str = "308201f63082019da0030201020204499602d2300a06082a8648ce3d040302302031123010060355040a13096c69627032702e696f310a300806035504051301313020170d3735303130313133303030305a180f34303936303130313133303030305a302031123010060355040a13096c69627032702e696f310a300806035504051301313059301306072a8648ce3d020106082a8648ce3d030107034200040c901d423c831ca85e27c73c263ba132721bb9d7a84c4f0380b2a6756fd601331c8870234dec878504c174144fa4b14b66a651691606d8173e55bd37e381569ea381c23081bf3081bc060a2b0601040183a25a01010481ad3081aa045f0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004bf30511f909414ebdd3242178fd290f093a551cf75c973155de0bb5a96fedf6cb5d52da7563e794b512f66e60c7f55ba8a3acf3dd72a801980d205e8a1ad29f2044730450220064ea8124774caf8f50e57f436aa62350ce652418c019df5d98a3ac666c9386a022100aa59d704a931b5f72fb9222cb6cc51f954d04a4e2e5450f8805fe8918f71eaae300a06082a8648ce3d04030203470030440220799395b0b6c1e940a7e4484705f610ab51ed376f19ff9d7c16757cfbf61b8d4302206205c03fbb0f95205c779be86581d3e31c01871ad5d1f3435bcf375cb0e5088a";
const SECP256K1: &str = "308201ba3082015fa0030201020204499602d2300a06082a8648ce3d040302302031123010060355040a13096c69627032702e696f310a300806035504051301313020170d3735303130313133303030305a180f34303936303130313133303030305a302031123010060355040a13096c69627032702e696f310a300806035504051301313059301306072a8648ce3d020106082a8648ce3d030107034200040c901d423c831ca85e27c73c263ba132721bb9d7a84c4f0380b2a6756fd601331c8870234dec878504c174144fa4b14b66a651691606d8173e55bd37e381569ea38184308181307f060a2b0601040183a25a01010471306f0425080212210206dc6968726765b820f050263ececf7f71e4955892776c0970542efd689d2382044630440220145e15a991961f0d08cd15425bb95ec93f6ffa03c5a385eedc34ecf464c7a8ab022026b3109b8a3f40ef833169777eb2aa337cfb6282f188de0666d1bcec2a4690dd300a06082a8648ce3d0403020349003046022100e1a217eeef9ec9204b3f774a08b70849646b6a1e6b8b27f93dc00ed58545d9fe022100b00dafa549d0f03547878338c7b15e7502888f6d45db387e5ae6b5d46899cef0";
const MISMATCH: &str = "308201f73082019da0030201020204499602d2300a06082a8648ce3d040302302031123010060355040a13096c69627032702e696f310a300806035504051301313020170d3735303130313133303030305a180f34303936303130313133303030305a302031123010060355040a13096c69627032702e696f310a300806035504051301313059301306072a8648ce3d020106082a8648ce3d030107034200040c901d423c831ca85e27c73c263ba132721bb9d7a84c4f0380b2a6756fd601331c8870234dec878504c174144fa4b14b66a651691606d8173e55bd37e381569ea381c23081bf3081bc060a2b0601040183a25a01010481ad3081aa045f0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004bf30511f909414ebdd3242178fd290f093a551cf75c973155de0bb5a96fedf6cb5d52da7563e794b512f66e60c7f55ba8a3acf3dd72a801980d205e8a1ad29f204473045022100bb6e03577b7cc7a3cd1558df0da2b117dfdcc0399bc2504ebe7de6f65cade72802206de96e2a5be9b6202adba24ee0362e490641ac45c240db71fe955f2c5cf8df6e300a06082a8648ce3d0403020348003045022100e847f267f43717358f850355bdcabbefb2cfbf8a3c043b203a14788a092fe8db022027c1d04a2d41fd6b57a7e8b3989e470325de4406e52e084e34a3fd56eef0d0df";

/// Some time in 2026.
const NOW: u64 = 1_780_000_000;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn look(der: &[u8]) -> Result<PeerId, CertificateError> {
    read(der, at(NOW), &ring::default_provider().signature_verification_algorithms)
}

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32]).unwrap()
}

#[test]
fn the_specifications_certificates_are_what_it_says() {
    let id = "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv";
    assert_eq!(look(&hex(ED25519)).unwrap().to_string(), id);
    assert_eq!(look(&hex(ECDSA)), Err(CertificateError::Key(KeyError::Kind(3))));
    assert_eq!(look(&hex(SECP256K1)), Err(CertificateError::Key(KeyError::Kind(2))));
    assert_eq!(look(&hex(MISMATCH)), Err(CertificateError::Key(KeyError::Kind(3))));
}

#[test]
fn ours_say_who_made_them() {
    let (der, _) = make(&key(1), None).unwrap();
    assert_eq!(look(&der), Ok(key(1).peer_id()));
    assert!(der.len() < 400, "{} bytes", der.len());
    let (other, _) = make(&key(1), None).unwrap();
    assert_ne!(der, other, "another key each time");
    let (one, _) = make(&key(1), Some(&[7; 32])).unwrap();
    let (same, _) = make(&key(1), Some(&[7; 32])).unwrap();
    assert_eq!(one, same, "unless chance is given");
    assert_eq!(spki(&der).unwrap().as_ref().len(), 44);
}

#[test]
fn no_bit_can_be_another() {
    let (ours, _) = make(&key(1), None).unwrap();
    for der in [hex(ED25519), ours.to_vec()] {
        for bit in 0..der.len() * 8 {
            let mut flipped = der.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(look(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..der.len() {
            assert!(look(&der[..cut]).is_err(), "{cut} bytes");
            assert!(spki(&der[..cut]).is_err(), "{cut} bytes");
        }
        assert!(look(&[der.as_slice(), &[0]].concat()).is_err(), "more bytes");
    }
    assert_eq!(look(&vec![0x30; MOST + 1]), Err(CertificateError::Form("it is too long")));
}

#[test]
fn certificates_hold_for_a_time() {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let (ours, _) = make(&key(1), None).unwrap();
    let (from, until) = (157_766_400, 67_090_118_400);
    for (time, holds) in [(from - 1, false), (from, true), (NOW, true), (until, true), (until + 1, false)] {
        let result = read(&ours, at(time), &algorithms);
        assert_eq!(result.is_ok(), holds, "{time}: {result:?}");
    }
    assert_eq!(days(1970, 1, 1), 0);
    assert_eq!(days(2000, 3, 1), 11_017);
    assert_eq!(days(2024, 2, 29), 19_782);
    assert_eq!(days(1969, 12, 31), -1);
}

/// Certificates as somebody makes them who wants to pass for another.
fn forged(change: impl FnOnce(&mut CertificateParams, &rcgen::KeyPair)) -> Vec<u8> {
    let own = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date_time_ymd(1975, 1, 1), date_time_ymd(4096, 1, 1));
    change(&mut params, &own);
    params.self_signed(&own).unwrap().der().to_vec()
}

/// The extension that says that this peer has signed that key.
fn claim(peer: &KeyPair, signer: &KeyPair, spki: &[u8]) -> CustomExtension {
    let signature = signer.sign(&[CONTEXT, spki].concat());
    let value = [&[0x30, 104, 4, 36][..], &protobuf::public(&peer.public()), &[4, 64], &signature].concat();
    CustomExtension::from_oid_content(&EXTENSION, value)
}

#[test]
fn nobody_passes_for_another() {
    let (victim, forger) = (key(1), key(2));
    let good = forged(|params, own| {
        params.custom_extensions = vec![claim(&victim, &victim, &own.subject_public_key_info())];
    });
    assert_eq!(look(&good), Ok(victim.peer_id()));
    let other_key = forged(|params, own| {
        params.custom_extensions = vec![claim(&victim, &forger, &own.subject_public_key_info())];
    });
    assert_eq!(look(&other_key), Err(CertificateError::Peer(SignatureError::Mismatch)));
    // The victim's own claim, copied from a certificate of its own.
    let (theirs, _) = make(&victim, None).unwrap();
    let copied = forged(|params, _| {
        let spki = spki(&theirs).unwrap();
        params.custom_extensions = vec![claim(&victim, &victim, spki.as_ref())];
    });
    assert_eq!(look(&copied), Err(CertificateError::Peer(SignatureError::Mismatch)));
    let twice = forged(|params, own| {
        let spki = own.subject_public_key_info();
        params.custom_extensions = vec![claim(&victim, &victim, &spki), claim(&forger, &forger, &spki)];
    });
    assert_eq!(look(&twice), Err(CertificateError::Form("it holds two keys")));
    assert_eq!(
        look(&forged(|_, _| {})),
        Err(CertificateError::Form("it has another structure")),
        "no extensions"
    );
    let none = forged(|params, _| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    assert_eq!(look(&none), Err(CertificateError::NoPeer));
    let critical = forged(|params, own| {
        let mut odd = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        odd.set_criticality(true);
        params.custom_extensions = vec![odd, claim(&victim, &victim, &own.subject_public_key_info())];
    });
    assert_eq!(look(&critical), Err(CertificateError::Form("an unknown extension that is critical")));
    let harmless = forged(|params, own| {
        let odd = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.custom_extensions = vec![odd, claim(&victim, &victim, &own.subject_public_key_info())];
    });
    assert_eq!(look(&harmless), Ok(victim.peer_id()));
    // Signed by somebody else's certificate.
    let issuer_key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(CertificateParams::default(), issuer_key);
    let own = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![claim(&victim, &victim, &own.subject_public_key_info())];
    let signed = params.signed_by(&own, &issuer).unwrap();
    assert_eq!(look(signed.der()), Err(CertificateError::Signature));
}

/// Weak host keys could be signed for by anybody.
#[test]
fn weak_keys_prove_nothing() {
    let weak = forged(|params, own| {
        let mut extension = claim(&key(1), &key(1), &own.subject_public_key_info());
        let mut value = extension.content().to_vec();
        value[8..40].fill(0);
        extension = CustomExtension::from_oid_content(&EXTENSION, value);
        params.custom_extensions = vec![extension];
    });
    assert_eq!(look(&weak), Err(CertificateError::Key(KeyError::Weak)));
}
