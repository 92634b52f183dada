//! Certificates that carry a peer's key (libp2p specs, `tls/tls.md`): self-signed with a key made for the purpose, and
//! in an extension the peer's public key and its signature over that other key.
//!
//! The reader is a walk over the one shape that such certificates have. It takes nothing else, because what it takes
//! says who somebody is.

use midge_identity::{KeyError, KeyPair, PeerId, SignatureError, protobuf};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, PublicKeyData, date_time_ymd};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime,
};

/// The extension, as numbers and as DER.
const EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
const EXTENSION_DER: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x83, 0xa2, 0x5a, 1, 1];
/// What stands before the certificate's public key when a peer signs it.
const CONTEXT: &[u8] = b"libp2p-tls-handshake:";
/// Most bytes of a certificate.
const MOST: usize = 4096;
/// Other extensions that may be critical and say nothing that matters here: basic constraints, key usage, extended key
/// usage, subject alternative name.
const HARMLESS: [[u8; 3]; 4] =
    [[0x55, 0x1d, 0x13], [0x55, 0x1d, 0x0f], [0x55, 0x1d, 0x25], [0x55, 0x1d, 0x11]];

/// Kinds of DER elements.
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BITS: u8 = 0x03;
    pub(super) const BYTES: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const VERSION: u8 = 0xa0;
    pub(super) const EXTENSIONS: u8 = 0xa3;
}

/// Why a certificate proves nothing.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not what such certificates look like.
    #[error("not a peer's certificate: {0}")]
    Form(&'static str),
    /// It holds no key of a peer.
    #[error("a certificate without a peer's key")]
    NoPeer,
    /// The peer's key is none that is used.
    #[error("the peer's key: {0}")]
    Key(#[from] KeyError),
    /// The peer has not signed the certificate's key.
    #[error("the peer has not signed it: {0}")]
    Peer(#[from] SignatureError),
    /// It is not signed by its own key.
    #[error("it is not signed by its own key")]
    Signature,
    /// It holds for another time.
    #[error("it does not hold now")]
    Time,
}

/// A certificate for that peer and the key that goes with it, made of random bytes or, for simulations that must run
/// the same way each time, of `seed`.
pub(super) fn make(
    key: &KeyPair,
    seed: Option<&[u8; 32]>,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let algorithm = &rcgen::PKCS_ED25519;
    let own = match seed {
        None => rcgen::KeyPair::generate_for(algorithm)?,
        Some(seed) => {
            let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
            let der = PrivatePkcs8KeyDer::from([&head[..], seed].concat());
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, algorithm)?
        }
    };
    let signature = key.sign(&[CONTEXT, &own.subject_public_key_info()].concat());
    let public = protobuf::public(&key.public());
    let pieces =
        [&[tag::BYTES, public.len() as u8], &public[..], &[tag::BYTES, signature.len() as u8], &signature];
    let pieces = pieces.concat();
    let value = [&[tag::SEQUENCE, pieces.len() as u8], &pieces[..]].concat();
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // Not empty, which some readers ask for, and the same for all peers, so that it says nothing.
    name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "midge");
    params.distinguished_name = name;
    // Machines without a clock make links, too.
    (params.not_before, params.not_after) = (date_time_ymd(1975, 1, 1), date_time_ymd(4096, 1, 1));
    params.custom_extensions = vec![CustomExtension::from_oid_content(&EXTENSION, value)];
    let certificate = params.self_signed(&own)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(own.serialize_der()).into()))
}

/// Who a certificate proves to be at the other end, once the handshake is signed by its key: everything is checked that
/// can be without the handshake.
pub(crate) fn read(
    der: &[u8],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<PeerId, CertificateError> {
    if der.len() > MOST {
        return Err(CertificateError::Form("it is too long"));
    }
    let mut outer = Der(der);
    let mut certificate = Der(outer.take(tag::SEQUENCE)?);
    outer.end()?;
    let (signed, body) = certificate.take_whole(tag::SEQUENCE)?;
    let algorithm = certificate.take(tag::SEQUENCE)?;
    let signature = bits(certificate.take(tag::BITS)?)?;
    certificate.end()?;

    let mut body = Der(body);
    if body.take(tag::VERSION)? != [tag::INTEGER, 1, 2] {
        return Err(CertificateError::Form("it is not of version 3"));
    }
    body.take(tag::INTEGER)?;
    if body.take(tag::SEQUENCE)? != algorithm {
        return Err(CertificateError::Form("it says two ways of signing"));
    }
    body.take(tag::SEQUENCE)?;
    let mut validity = Der(body.take(tag::SEQUENCE)?);
    let (from, until) = (validity.time()?, validity.time()?);
    validity.end()?;
    body.take(tag::SEQUENCE)?;
    let (spki, key) = body.take_whole(tag::SEQUENCE)?;
    let mut extensions = Der(Der(body.take(tag::EXTENSIONS)?).only(tag::SEQUENCE)?);
    // No unique ids, nor anything else.
    body.end()?;

    let mut key = Der(key);
    let key_algorithm = key.take(tag::SEQUENCE)?;
    let public = bits(key.take(tag::BITS)?)?;
    key.end()?;
    let verifier = algorithms.all.iter().find(|one| {
        one.public_key_alg_id().as_ref() == key_algorithm && one.signature_alg_id().as_ref() == algorithm
    });
    let verifier = verifier.ok_or(CertificateError::Form("it is signed in a way that is not known"))?;
    verifier.verify_signature(public, signed, signature).map_err(|_| CertificateError::Signature)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < from || now > until {
        return Err(CertificateError::Time);
    }
    proof(&mut extensions, spki)
}

/// The key that signs the handshake, of a certificate that has been read before.
pub(crate) fn spki(der: &[u8]) -> Result<SubjectPublicKeyInfoDer<'_>, CertificateError> {
    let mut body = Der(Der(Der(der).only(tag::SEQUENCE)?).take(tag::SEQUENCE)?);
    body.take(tag::VERSION)?;
    body.take(tag::INTEGER)?;
    // How it is signed, by whom, for how long and for whom.
    for _ in 0..4 {
        body.take(tag::SEQUENCE)?;
    }
    body.take_whole(tag::SEQUENCE).map(|(whole, _)| SubjectPublicKeyInfoDer::from(whole))
}

/// The peer's key among the extensions, which has signed the certificate's.
fn proof(extensions: &mut Der<'_>, spki: &[u8]) -> Result<PeerId, CertificateError> {
    let mut found = None;
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.take(tag::SEQUENCE)?);
        let oid = extension.take(tag::OID)?;
        let critical = match extension.0.first() {
            Some(&tag::BOOLEAN) => match extension.take(tag::BOOLEAN)? {
                [0xff] => true,
                _ => return Err(CertificateError::Form("a boolean that is none")),
            },
            _ => false,
        };
        let value = extension.take(tag::BYTES)?;
        extension.end()?;
        if oid == EXTENSION_DER {
            if found.replace(value).is_some() {
                return Err(CertificateError::Form("it holds two keys"));
            }
        } else if critical && !HARMLESS.iter().any(|known| known == oid) {
            return Err(CertificateError::Form("an unknown extension that is critical"));
        }
    }
    let mut value = Der(found.ok_or(CertificateError::NoPeer)?);
    let mut value = {
        let inner = value.take(tag::SEQUENCE)?;
        value.end()?;
        Der(inner)
    };
    let (key, signature) = (value.take(tag::BYTES)?, value.take(tag::BYTES)?);
    value.end()?;
    let key = protobuf::read_public(key)?;
    key.verify(&[CONTEXT, spki].concat(), signature)?;
    Ok(key.peer_id())
}

fn bits(content: &[u8]) -> Result<&[u8], CertificateError> {
    content.strip_prefix(&[0]).ok_or(CertificateError::Form("bits that are no bytes"))
}

/// What is left of DER elements. Only definite lengths in their shortest form are lengths.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must be of that kind.
    fn take(&mut self, tag: u8) -> Result<&'a [u8], CertificateError> {
        self.take_whole(tag).map(|(_, content)| content)
    }

    /// The same, and the whole of it.
    fn take_whole(&mut self, tag: u8) -> Result<(&'a [u8], &'a [u8]), CertificateError> {
        const WRONG: CertificateError = CertificateError::Form("it has another structure");
        let (&first, rest) = self.0.split_first().ok_or(WRONG)?;
        let (&short, rest) = rest.split_first().ok_or(WRONG)?;
        if first != tag {
            return Err(WRONG);
        }
        let (len, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81 => {
                let (&len, rest) = rest.split_first().ok_or(WRONG)?;
                (usize::from(len), rest)
            }
            0x82 => {
                let (len, rest) = rest.split_first_chunk::<2>().ok_or(WRONG)?;
                (usize::from(u16::from_be_bytes(*len)), rest)
            }
            _ => return Err(WRONG),
        };
        let shortest = match short {
            0x81 => len > 0x7f,
            0x82 => len > 0xff,
            _ => true,
        };
        if !shortest {
            return Err(CertificateError::Form("a length that is not the shortest"));
        }
        let content = rest.get(..len).ok_or(WRONG)?;
        let whole = self.0.get(..self.0.len() - rest.len() + len).ok_or(WRONG)?;
        self.0 = rest.get(len..).unwrap_or_default();
        Ok((whole, content))
    }

    /// The content of the one element that there is.
    fn only(&mut self, tag: u8) -> Result<&'a [u8], CertificateError> {
        let content = self.take(tag)?;
        self.end()?;
        Ok(content)
    }

    fn end(&self) -> Result<(), CertificateError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CertificateError::Form("something stands behind its end"))
        }
    }

    /// A moment, in seconds since 1970 (RFC 5280, 4.1.2.5).
    fn time(&mut self) -> Result<i64, CertificateError> {
        const WRONG: CertificateError = CertificateError::Form("a time that is none");
        let (text, is_short) = match self.0.first() {
            Some(&tag::UTC_TIME) => (self.take(tag::UTC_TIME)?, true),
            _ => (self.take(tag::TIME)?, false),
        };
        let digits = text.strip_suffix(b"Z").ok_or(WRONG)?;
        let (year, rest) = digits.split_at_checked(if is_short { 2 } else { 4 }).ok_or(WRONG)?;
        let number = |digits: &[u8]| {
            let all = digits.iter().all(u8::is_ascii_digit);
            all.then(|| digits.iter().fold(0_i64, |n, digit| n * 10 + i64::from(digit - b'0'))).ok_or(WRONG)
        };
        if rest.len() != 10 {
            return Err(WRONG);
        }
        let mut parts = [0; 5];
        for (part, digits) in parts.iter_mut().zip(rest.chunks_exact(2)) {
            *part = number(digits)?;
        }
        let year = match (number(year)?, is_short) {
            (year, false) => year,
            (year @ 50.., true) => 1900 + year,
            (year, true) => 2000 + year,
        };
        let [month, day, hour, minute, second] = parts;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return Err(WRONG);
        }
        Ok(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

/// Days from 1970 to that date.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that leap days come last.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests;
