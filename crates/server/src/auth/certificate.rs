//! Which user a client's certificate names.
//!
//! In nats-server's order (`server/auth.go`, `checkClientTLSCertSubject`): the names that the certificate has beside
//! its subject (e-mail, DNS, URI), then the subject as a distinguished name, in order or in any order, then the
//! subject as a text.

use rustls::pki_types::CertificateDer;
use tracing::debug;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// The user among `names` that the certificate is for.
pub(crate) fn user_of<'a>(
    certificate: &CertificateDer<'_>,
    names: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names: Vec<&str> = names.collect();
    let known = |name: &str| names.contains(&name).then(|| name.to_owned());
    if let Some(user) = alternative_names(&certificate).iter().find_map(|name| known(name)) {
        debug!("Using SAN found in cert for auth [{user:?}]");
        return Some(user);
    }
    let subject = parts(certificate.subject());
    let distinguished: Vec<(&str, Vec<Part>)> =
        names.iter().filter_map(|name| Some((*name, parse(name)?))).collect();
    let in_order = distinguished.iter().find(|(_, parts)| same(parts, &subject));
    let found = in_order.or_else(|| distinguished.iter().find(|(_, parts)| same_set(parts, &subject)));
    if let Some((user, _)) = found {
        debug!("Using DistinguishedNameMatch for auth [{user:?}]");
        return Some((*user).to_owned());
    }
    let text = print(&subject);
    let user = known(&text);
    match &user {
        Some(user) => debug!("Using certificate subject for auth [{user:?}]"),
        None => debug!("User in cert [{text:?}], not found"),
    }
    user
}

/// A certificate's subject as Go's `pkix` prints it.
pub(crate) fn subject_of(certificate: &X509Certificate<'_>) -> String {
    print(&parts(certificate.subject()))
}

/// E-mail addresses, then DNS names, then URIs.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = &extension.value.general_names;
    let of = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().filter_map(pick).collect::<Vec<_>>();
    [
        of(|name| if let GeneralName::RFC822Name(text) = name { Some((*text).to_owned()) } else { None }),
        of(|name| if let GeneralName::DNSName(text) = name { Some((*text).to_owned()) } else { None }),
        of(|name| if let GeneralName::URI(text) = name { Some((*text).to_owned()) } else { None }),
    ]
    .concat()
}

/// One attribute of a distinguished name: its short name in capitals, and its value.
type Part = (String, String);

/// The attributes of a name, the most specific first (RFC 4514), which is the reverse of how certificates hold them.
fn parts(name: &X509Name<'_>) -> Vec<Part> {
    let mut parts: Vec<Part> = name
        .iter_attributes()
        .map(|attribute| {
            let oid = attribute.attr_type().to_id_string();
            (short(&oid), attribute.as_str().unwrap_or_default().to_owned())
        })
        .collect();
    parts.reverse();
    parts
}

/// The short name of an attribute type (RFC 4514, section 3); the number where it has none.
fn short(oid: &str) -> String {
    match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "SERIALNUMBER",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.17" => "POSTALCODE",
        "0.9.2342.19200300.100.1.25" => "DC",
        other => other,
    }
    .to_owned()
}

/// Reads a distinguished name as RFC 4514 writes it. `None` for what is none.
fn parse(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=')?;
        let mut value = String::new();
        let mut chars = behind.char_indices();
        let mut end = behind.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => value.push(chars.next()?.1),
                ',' | '+' | ';' => {
                    end = at + 1;
                    break;
                }
                c => value.push(c),
            }
        }
        parts.push((key.trim().to_uppercase(), value.trim().to_owned()));
        rest = behind.get(end..).unwrap_or_default();
    }
    (!parts.is_empty()).then_some(parts)
}

fn same(a: &[Part], b: &[Part]) -> bool {
    a == b
}

fn same_set(a: &[Part], b: &[Part]) -> bool {
    let sorted = |parts: &[Part]| {
        let mut parts = parts.to_vec();
        parts.sort();
        parts
    };
    a.len() == b.len() && sorted(a) == sorted(b)
}

/// The name as a text, as Go's `pkix` prints it.
fn print(parts: &[Part]) -> String {
    let escape = |value: &str| {
        let mut text = String::new();
        for c in value.chars() {
            if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                text.push('\\');
            }
            text.push(c);
        }
        text
    };
    let texts: Vec<String> = parts.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[SanType], subject: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn alternative_names_come_before_the_subject() {
        let cert = certificate(
            &[
                SanType::DnsName("app.example.com".try_into().unwrap()),
                SanType::Rfc822Name("a@example.com".try_into().unwrap()),
            ],
            &[(DnType::CommonName, "app")],
        );
        let user = |names: &[&str]| user_of(&cert, names.iter().copied());
        assert_eq!(user(&["CN=app", "app.example.com"]).as_deref(), Some("app.example.com"));
        assert_eq!(user(&["app.example.com", "a@example.com"]).as_deref(), Some("a@example.com"));
        assert_eq!(user(&["CN=app"]).as_deref(), Some("CN=app"));
        assert_eq!(user(&["app", "CN=other", "example.com"]), None);
    }

    #[test]
    fn a_subject_matches_in_any_order() {
        let cert = certificate(
            &[],
            &[
                (DnType::CountryName, "US"),
                (DnType::OrganizationName, "NATS, Inc"),
                (DnType::CommonName, "x"),
            ],
        );
        let user = |name: &str| user_of(&cert, std::iter::once(name)).is_some();
        assert!(user("CN=x,O=NATS\\, Inc,C=US"));
        assert!(user("C=US, O=NATS\\, Inc, CN=x"), "another order");
        assert!(user("cn=x,o=NATS\\, Inc,c=US"), "types in small letters");
        assert!(!user("CN=X,O=NATS\\, Inc,C=US"), "values keep their case");
        assert!(!user("CN=x,C=US"), "a part is not enough");
    }
}
