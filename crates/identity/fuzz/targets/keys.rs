//! Keys in every form, as they stand in files or come from strangers: what is read is what would be written.
#![no_main]

use midge_identity::{KeyPair, NkeyKind, PeerId, pem, protobuf};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(id) = PeerId::from_bytes(data) {
        assert_eq!(id.to_bytes(), data);
    }
    if let Ok(key) = protobuf::read_public(data) {
        assert_eq!(protobuf::public(&key), data);
        assert!(key.verify(b"anything", &[0; 64]).is_err(), "no weak key is read");
    }
    if let Ok(key) = protobuf::read_private(data) {
        assert!(data.starts_with(&protobuf::private(&key)[4..68]) || data[4..68] == protobuf::private(&key)[4..]);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<PeerId>() {
        assert_eq!(PeerId::from_canonical(&id.to_string()), Ok(id));
        assert_eq!(pem::read_public(&id.to_string()), Ok(*id.key()));
    }
    if let Ok((key, kind)) = KeyPair::from_nkey_seed(text) {
        assert_eq!(*key.nkey_seed(kind), text);
    }
    if let Ok(key) = pem::read_private(text) {
        assert_eq!(pem::read_private(&pem::private(&key)).unwrap().seed(), key.seed());
        assert_eq!(pem::read_private(&pem::pkcs8(&key)).unwrap().seed(), key.seed());
    }
    if let Ok(key) = pem::read_public(text) {
        for text in [pem::public(&key), pem::spki(&key), pem::openssh(&key)] {
            assert_eq!(pem::read_public(&text), Ok(key));
        }
        let nkey = key.nkey(NkeyKind::User);
        assert_eq!(nkey.as_str().parse().as_ref(), Ok(&nkey));
    }
});
